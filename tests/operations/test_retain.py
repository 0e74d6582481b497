"""``retain`` on the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from trio_chat.cli import main
from trio_chat.core.batch import Batch, Draft
from trio_chat.errors import StoreFull
from trio_chat.store.lock import FileLock
from trio_chat.store.sqlite import SqliteStore
from trio_chat.store.writer import Writer


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["retain", *map(str, arguments)])


async def fill(db: Path, count: int = 10) -> None:
    async with SqliteStore(db) as store:
        drafts = tuple(Draft(1, "alice", "bob", f"{n}", "x" * 2000) for n in range(count))
        await store.append(Batch(drafts=drafts), 1_700_000_000_000)


def test_what_is_old_leaves_the_file(tmp_path: Path) -> None:
    """Who runs the server only now and then could not keep its file small."""
    db = tmp_path / "chat.db"
    trio.run(fill, db)
    said = run("--db", db, "--per-user", "8", "--undelivered-days", "0")
    assert said.output == "4 entries left the logs of 2 users, 2 messages were removed, 0 bytes given back\n"
    assert json.loads(run("--db", db, "--days", "30", "--json").output) == {
        "users": 2, "entries": 16, "messages": 8, "bytes": 0
    }  # fmt: skip


def test_an_older_file_is_rewritten(tmp_path: Path) -> None:
    """One that was made by an earlier version would never become shorter."""
    db = tmp_path / "chat.db"
    trio.run(fill, db, 400)
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    before = db.stat().st_size
    assert json.loads(run("--db", db, "--days", "30", "--json").output)["bytes"] == 0
    done = json.loads(run("--db", db, "--compact", "--json").output)
    assert done["bytes"] > 800_000
    assert done["bytes"] == pytest.approx(before - db.stat().st_size, abs=16_384)  # the retention before moved a page or two
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_cannot_be_done_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip would make an empty database, or take a server's away; or the user would see a traceback."""
    db = tmp_path / "chat.db"
    missing = run("--db", db, "--days", "1")
    assert (missing.exit_code, missing.stderr) == (1, f"Error: {db}: there is no database of a chat\n")
    assert not db.exists()
    trio.run(fill, db)
    assert run("--db", db).exit_code == 2
    assert run("--db", db, "--days", "nan").exit_code == 2
    lock = FileLock(db)
    held = run("--db", db, "--days", "1")
    lock.release(clean=True)
    assert held.exit_code == 1
    assert "stop it first" in held.stderr

    def full(_: Writer) -> int:
        raise StoreFull("there is no space left on its disk")

    monkeypatch.setattr(Writer, "compact", full)
    failed = run("--db", db, "--compact")
    assert (failed.exit_code, failed.stderr) == (1, "Error: there is no space left on its disk\n")
