"""``trio-chat export``, ``erase`` and ``explain``: what a file holds about one user, or about one message."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import click

from ..errors import StoreError
from ..keeping import Erased, Explanation
from ..store.roster import reading
from ..store.sqlite import SqliteStore
from ..terminal.options import User
from ..terminal.outcome import FAILED, Failure, run
from ..terminal.visible import visible
from . import progress
from .options import plainly
from .output import encoded
from .retain import opened
from .users import as_json, db

__all__ = ["erase", "explain", "export"]

_user = click.option("--user", type=User(), required=True, help="Whom.")


@click.command()
@_user
@db
def export(user: str, db: Path) -> None:
    """Print all that is held about a user, as JSON, one value a line. A server may be running.

    It is of one moment, and complete if its last line says end. The format is documented under "Keep it".
    """

    def work() -> int:
        with reading(db) as file, progress.shown("exporting", unit="lines") as advance:
            printed = 0
            for lines in file.portray(user, time.time_ns() // 1_000_000):
                for line in lines:
                    click.echo(line)
                printed += len(lines)
                advance(printed)
            return printed

    if not plainly(work):
        raise Failure(f"{db} does not know a user {user!r}", FAILED)


@click.command()
@_user
@db
@as_json
def erase(user: str, db: Path, json: bool) -> None:
    """Erase a user: what the user said, for everybody, and whatever is the user's alone. No server may be running.

    It tells what was removed and what stays, and why. The file is rewritten, so that nothing of it is left there; copies
    that were made before hold it still. It may be repeated, and has to be if it was interrupted.
    """
    run(_erase(opened(db), user, json=json))


async def _erase(store: SqliteStore, user: str, *, json: bool) -> None:
    async with store:
        store.keeping.alone = True
        try:
            with progress.shown("erasing", unit="entries") as advance:
                erased = await store.keeping.erase(user, advance)
            if erased.log is None:
                raise Failure(f"{store.path} does not know a user {user!r}", FAILED)
            with progress.shown("rewriting the file") as advance:
                advance(0)
                await store.keeping.compact()
        except StoreError as error:
            raise Failure(str(error), FAILED) from None
    _account(erased, json=json)


def _account(erased: Erased, *, json: bool) -> None:
    if json:
        click.echo(encoded(erased))
        return
    click.echo(f"{visible(erased.user)} is erased; the log is {erased.log} from now on")
    for one in erased.tables:
        click.echo(f"  {one.table}: {one.removed:,} removed, {one.kept:,} kept{': ' if one.why else ''}{one.why}")


@click.command()
@click.argument("sender", type=User())
@click.argument("id")
@db
@as_json
def explain(sender: str, id: str, db: Path, json: bool) -> None:
    """Tell what became of the message ID of SENDER: where it is, which devices have it, what push came to.

    A server may be running. What the message says is not told.
    """

    def work() -> Explanation | None:
        with reading(db) as file:
            return file.explain(sender, id)

    explanation = plainly(work)
    if explanation is None:
        raise Failure(f"{db} holds no message {id!r} of {sender!r}", FAILED)
    if json:
        click.echo(encoded(explanation))
        return
    for line in _told(explanation):
        click.echo(line)


def _told(one: Explanation) -> list[str]:
    lines = [
        f"{one.kind} {visible(one.id)} from {visible(one.sender)} to {visible(one.recipient)}",
        f"  {one.size:,} bytes{', deleted' if one.deleted else ''}",
        f"  accepted {_when(one.sent_at)} as {one.seq} of the sender's log{'' if one.held else ', which has it no longer'}",
    ]
    if one.target is not None:
        lines.append(f"  about {visible(one.target)}")
    lines += [f"  edited by {visible(edit)}" for edit in one.edits]
    if one.peer_seq:
        state = "read" if one.read else "delivered" if one.delivered else "not delivered"
        gone = "" if one.peer_held else ", which has it no longer"
        lines.append(f"  {one.peer_seq} of the recipient's log{gone}: {state}")
    elif one.sender != one.recipient:
        lines.append("  not in the recipient's log, who blocked the sender")
    for device in one.devices:
        has = "has it" if device.delivered else "does not have it"
        lines.append(
            f"  {visible(device.user)}'s device {visible(device.device)} {has}: acknowledged up to {device.cursor}, "
            f"last seen {_when(device.seen)}"
        )
    for push in one.push:
        waits = "nothing waits" if push.due is None else f"waits since {_when(push.since)}, due {_when(push.due)}"
        answer = f", answered {_when(push.answered)}: {visible(push.answer)}" if push.answered else ""
        lines.append(f"  push to {visible(push.device)} by {push.provider}: {waits}, {push.attempts} attempts{answer}")
    return lines


def _when(milliseconds: int) -> str:
    when = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
    return when.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
