"""``export``, ``erase`` and ``explain`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from trio_chat.cli import main
from trio_chat.core.batch import Batch, Draft, Mark, Opening, ReadMark
from trio_chat.core.outbox import Note, Register
from trio_chat.errors import StoreFull
from trio_chat.store.lock import FileLock
from trio_chat.store.sqlite import SqliteStore
from trio_chat.store.writer import Writer

SENT = 1_700_000_000_000


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "chat.db"

    async def fill() -> None:
        async with SqliteStore(path) as store:
            store.outbox.open(0)
            push = (Register("bob", "phone", "fcm", "token", "t"),)
            await store.append(Batch(openings=(Opening(1, "bob", "phone"),), push=push), SENT)
            drafts = (
                Draft(1, "alice", "bob", "a1", "confidential"),
                Draft(1, "alice", "bob", "e1", "confidential, too", "edit", "a1"),
                Draft(1, "alice", "alice", "n1", "a note"),
            )
            await store.append(Batch(drafts=drafts), SENT)
            (job,) = await store.outbox.due("fcm", SENT, 9)
            note = Note(job.key, "alice", job.id, job.seq, "later", SENT + 60_000, "503")
            await store.append(Batch(push=(note,)), SENT + 1000)

    trio.run(fill)
    return path


async def mark(db: Path, *, read: bool = False) -> None:
    async with SqliteStore(db) as store:
        reads = (ReadMark("bob", "alice", 1),) if read else ()
        await store.append(Batch(marks=(Mark("bob", "phone", 1),), reads=reads), SENT + 2000)


def test_an_export_is_lines_of_json(db: Path) -> None:
    """Whoever has to hand it over would have to read a database."""
    said = [json.loads(line) for line in run("export", "--user", "alice", "--db", db).output.splitlines()]
    assert [line["type"] for line in said] == ["export", "conversation", "conversation", *["entry"] * 3, "end"]
    assert (said[0]["version"], said[0]["user"]) == (1, "alice")
    missing = run("export", "--user", "eve", "--db", db)
    assert (missing.exit_code, missing.output) == (1, f"Error: {db} does not know a user 'eve'\n")


def test_a_user_is_erased(db: Path) -> None:
    """What was said would be in the file, or nobody would know what is."""
    before = db.stat().st_size
    assert b"confidential" in db.read_bytes()
    told = json.loads(run("erase", "--user", "alice", "--db", db, "--json").output)
    assert {one["table"]: one["removed"] for one in told["tables"] if one["removed"]} == {
        "texts": 3,
        "log": 3,
        "messages": 1,
    }
    assert b"confidential" not in db.read_bytes()
    assert db.stat().st_size <= before
    again = run("erase", "--user", "alice", "--db", db)
    assert again.exit_code == 0
    first, *rest = again.output.splitlines()
    assert first.startswith("alice is erased; the log is ")
    assert "  devices: 0 removed, 0 kept" in rest
    assert "  users: 0 removed, 1 kept: the name, which the logs of others give" in again.output


def test_what_cannot_be_erased_is_said(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip would look like success; or a server's file would be written under its feet."""
    missing = run("erase", "--user", "eve", "--db", db)
    assert (missing.exit_code, missing.output) == (1, f"Error: {db} does not know a user 'eve'\n")
    lock = FileLock(db)
    held = run("erase", "--user", "alice", "--db", db)
    lock.release(clean=True)
    assert (held.exit_code, "stop it first" in held.output) == (1, True)

    def full(_: Writer) -> int:
        raise StoreFull("there is no space left on its disk")

    monkeypatch.setattr(Writer, "compact", full)
    failed = run("erase", "--user", "alice", "--db", db)
    assert (failed.exit_code, failed.output) == (1, "Error: there is no space left on its disk\n")


def test_a_message_is_explained(db: Path) -> None:
    """Whoever is asked where a message is would have to read a database."""
    push = (
        "waits since 2023-11-14 22:13:20.000Z, due 2023-11-14 22:14:20.000Z, 1 attempts, answered 2023-11-14 22:13:21.000Z"
    )
    assert run("explain", "alice", "a1", "--db", db).output.splitlines() == [
        "message a1 from alice to bob",
        "  12 bytes",
        "  accepted 2023-11-14 22:13:20.000Z as 1 of the sender's log",
        "  edited by e1",
        "  1 of the recipient's log: not delivered",
        "  bob's device phone does not have it: acknowledged up to 0, last seen 2023-11-14 22:13:20.000Z",
        f"  push to phone by fcm: {push}: 503",
    ]
    trio.run(mark, db)
    told = run("explain", "alice", "a1", "--db", db).output
    assert "log: delivered\n  bob's device phone has it: acknowledged up to 1" in told
    trio.run(lambda: mark(db, read=True))
    assert "log: read\n" in run("explain", "alice", "a1", "--db", db).output
    assert "  about a1\n  2 of the recipient's log: not delivered\n" in run("explain", "alice", "e1", "--db", db).output
    note = run("explain", "alice", "n1", "--db", db).output
    assert "recipient" not in note
    assert json.loads(run("explain", "alice", "n1", "--db", db, "--json").output)["peer_seq"] == 0
    missing = run("explain", "bob", "a1", "--db", db)
    assert (missing.exit_code, missing.output) == (1, f"Error: {db} holds no message 'a1' of 'bob'\n")


def test_what_has_left_the_logs_or_was_blocked_says_so(db: Path) -> None:
    """It would look as if the message were lost."""

    async def change() -> None:
        async with SqliteStore(db) as store:
            await store.append(Batch(drafts=(Draft(1, "alice", "bob", "d1", None, "delete", "a1"),)), SENT)

    trio.run(change)
    told = run("explain", "alice", "a1", "--db", db).output
    assert "12 bytes, deleted\n" in told
    assert run("retain", "--db", db, "--per-user", "2", "--undelivered-days", "0").exit_code == 0
    assert "as 2 of the sender's log, which has it no longer\n" in run("explain", "alice", "e1", "--db", db).output
