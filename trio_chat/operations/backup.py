"""``trio-chat backup`` and ``trio-chat restore``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Final

import click

from ..store.copies import Copied, back_up
from ..store.copies import restore as put_back
from ..terminal.outcome import Failure
from . import progress
from .options import plainly
from .output import encoded
from .users import as_json, db

__all__ = ["backup", "restore"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME: Final = re.compile(r"chat-\d{8}T\d{6}Z\.db")


class _Duration(click.ParamType[float]):
    name = "1h"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", str(value))
        if found is None:
            self.fail("give a number with s, m, h or d, such as 1h", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


@click.command()
@click.argument("to", type=click.Path(path_type=Path))
@db
@click.option("--every", type=_Duration(), help="Again and again, into the folder TO, one file each time.")
@click.option("--keep", type=click.IntRange(1), help="With --every: so many of these files, the newest ones.")
@click.option("--replace", is_flag=True, help="Put the new copy in the place of one that is there.")
@as_json
def backup(to: Path, db: Path, every: float | None, keep: int | None, replace: bool, json: bool) -> None:
    """Copy the database to the file TO, beside a running server as well, and check the copy.

    It holds every message that was acknowledged before the command began.
    """
    if every is None:
        if keep is not None:
            raise Failure("--keep goes with --every", 2)
        _back_up(db, to, json=json, replace=replace)
        return
    if not to.is_dir():
        raise Failure(f"with --every, {to} has to be a folder that is there", 2)
    while True:
        began = time.monotonic()
        _back_up(db, to / time.strftime("chat-%Y%m%dT%H%M%SZ.db", time.gmtime()), json=json, replace=True)
        if keep is not None:
            _forget(to, keep)
        time.sleep(max(0.0, began + every - time.monotonic()))


@click.command()
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@db
@click.option("--replace", is_flag=True, help="Put aside the database that is there.")
@as_json
def restore(source: Path, db: Path, replace: bool, json: bool) -> None:
    """Put the copy FROM where serve finds it. No server may be running on it.

    It becomes another history: clients notice, and begin anew instead of believing that they have what is not there.
    """
    with progress.shown("restoring", unit="pages") as advance:
        copied = plainly(lambda: put_back(source, db, advance, replace=replace))
    _say(f"restored {copied.path}", copied, json=json)


def _back_up(db: Path, to: Path, *, json: bool, replace: bool) -> None:
    with progress.shown("backing up", unit="pages") as advance:
        copied = plainly(lambda: back_up(db, to, advance, replace=replace))
    _say(f"backed up to {copied.path}", copied, json=json)


def _say(what: str, copied: Copied, *, json: bool) -> None:
    click.echo(encoded(copied) if json else f"{what}: {copied.messages:,} messages, {copied.bytes:,} bytes")


def _forget(folder: Path, keep: int) -> None:
    """Remove the oldest of the copies; of other files none."""
    copies = sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name))
    for copy in copies[:-keep]:
        copy.unlink()
