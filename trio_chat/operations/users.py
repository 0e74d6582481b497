"""``trio-chat users`` and ``trio-chat devices``: who is in a database file, beside a running server or without one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

import click
import msgspec

from ..errors import ConfigurationError
from ..store.roster import devices_in, users_in
from ..terminal.options import User
from ..terminal.outcome import FAILED, Failure
from ..terminal.visible import visible
from .output import encoded

__all__ = ["as_json", "db", "devices", "users"]

db: Final = click.option("--db", type=click.Path(dir_okay=False, path_type=Path), default=Path("chat.db"),
                         show_default=True, help="The SQLite file.")  # fmt: skip
as_json: Final = click.option("--json", "json", is_flag=True, help="Print JSON, one value a line.")


@click.command()
@db
@as_json
def users(db: Path, json: bool) -> None:
    """List the users: how long their logs are, what of it nobody has taken yet, and when they were last seen."""
    try:
        for user in users_in(db):
            if json:
                click.echo(encoded(user))
            else:
                waits = user.head - max(user.delivered, user.floor)
                click.echo(
                    f"{visible(user.user)}  {user.head} entries, {waits} not delivered, {user.devices} devices, "
                    f"last seen {_when(user.seen)}"
                )
    except ConfigurationError as error:
        raise Failure(str(error), FAILED) from None


@click.command()
@click.option("--user", type=User(), required=True, help="Whose.")
@db
@as_json
def devices(user: str, db: Path, json: bool) -> None:
    """List a user's devices: up to where each has the user's log, and when it was last seen."""
    try:
        for device in devices_in(db, user):
            if json:
                # Who is connected a file does not know.
                told = {name: value for name, value in msgspec.structs.asdict(device).items() if name != "connected"}
                click.echo(encoded(told))
            else:
                click.echo(
                    f"{visible(device.name)}  has everything up to {device.cursor}, last seen {_when(device.seen)}, "
                    f"first seen {_when(device.created)}"
                )
    except ConfigurationError as error:
        raise Failure(str(error), FAILED) from None


def _when(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    when = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
    return when.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
