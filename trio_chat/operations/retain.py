"""``trio-chat retain``: what is old leaves a file that no server holds. A server does so by itself (``retain_days``)."""

from __future__ import annotations

import time
from pathlib import Path

import click
from msgspec.structs import replace

from ..errors import ConfigurationError, StoreError
from ..keeping import Retained, Retention
from ..store.sqlite import SqliteStore
from ..terminal.outcome import USAGE, Failure, run
from . import progress
from .output import encoded
from .users import as_json, db

__all__ = ["opened", "retain"]


@click.command()
@db
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Entries older than this go.")
@click.option("--per-user", type=click.IntRange(1), help="All but so many entries of each log go.")
@click.option("--max-bytes", type=click.IntRange(1), help="The oldest messages go until the rest weighs no more.")
@click.option("--undelivered-days", type=click.FloatRange(0), default=30.0, show_default=True,
              help="What no device has taken stays for so long.")  # fmt: skip
@click.option("--compact", is_flag=True, help="Rewrite the file, so that it is as short as it can be.")
@as_json
def retain(
    db: Path,
    days: float | None,
    per_user: int | None,
    max_bytes: int | None,
    undelivered_days: float,
    compact: bool,
    json: bool,
) -> None:
    """Remove old entries from the logs, and the messages that are in no log any more. No server may be running.

    A server does this by itself, beside its work, if retain_days, retain_per_user or retain_bytes is set.
    """
    try:
        retention = Retention.of(days=days, per_user=per_user, max_bytes=max_bytes, undelivered_days=undelivered_days)
    except ConfigurationError as error:  # what click lets through: not a number
        raise Failure(str(error), USAGE) from None
    if not retention and not compact:
        raise Failure("say what is to go: --days, --per-user or --max-bytes; or --compact", USAGE)
    run(_retain(opened(db), retention, compact=compact, json=json))


def opened(db: Path) -> SqliteStore:
    """The store in this file.

    Raises:
        Failure: there is none; it is not to be made.
    """
    if not db.is_file():
        raise Failure(f"{db}: there is no database of a chat", 1)
    return SqliteStore(db)


async def _retain(store: SqliteStore, retention: Retention, *, compact: bool, json: bool) -> None:
    async with store:
        store.keeping.alone = True
        try:
            with progress.shown("removing", unit="entries") as advance:
                done = await store.keeping.retain(retention, time.time_ns() // 1_000_000, advance)
            if compact:
                with progress.shown("rewriting the file") as advance:
                    advance(0)
                    done = replace(done, bytes=done.bytes + await store.keeping.compact())
        except StoreError as error:
            raise Failure(str(error), 1) from None
    _say(done, json=json)


def _say(done: Retained, *, json: bool) -> None:
    click.echo(
        encoded(done)
        if json
        else f"{done.entries:,} entries left the logs of {done.users:,} users, {done.messages:,} messages were removed, "
        f"{done.bytes:,} bytes given back"
    )
