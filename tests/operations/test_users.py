"""``users`` and ``devices``, and the file they read."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from click.testing import CliRunner, Result

from trio_chat.cli import main
from trio_chat.store.roster import KnownUser, users_in
from trio_chat.store.sqlite import SqliteStore
from trio_chat.testing import open_test_server

from ..support import enter, entries


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


async def filled(path: Path) -> None:
    """A file with three users, one of whom has never been there."""
    async with open_test_server(store=SqliteStore(path), clock=lambda: 1_800_000_000_000) as server:
        alice = await enter(server, "alice")
        await enter(server, "alice", "tab\u202elet")
        await server.chat.send("bob", "alice", "hi")
        await server.chat.send("alice", "eve\u202e", "hi")
        await entries(alice, 2)
        # Beside a server that runs, and without disturbing it.
        assert {user.user for user in users_in(path)} == {"alice", "bob", "eve\u202e"}
        assert run("users", "--db", path).exit_code == 0
        await server.chat.send("bob", "alice", "and on it goes")
        sizes = server.chat.statistics().sizes
        assert sizes.file == path.stat().st_size > 0  # noqa: ASYNC240
        assert sizes.wal == path.with_name("chat.db-wal").stat().st_size > 0  # noqa: ASYNC240


async def test_users(tmp_path: Path) -> None:
    """Else an operator does not find out who has messages waiting, or whom nobody has seen for years."""
    await filled(db := tmp_path / "chat.db")
    assert next(iter(users_in(db))) == KnownUser(
        user="alice", head=3, floor=0, delivered=2, last=1_800_000_000_000, devices=2, seen=1_800_000_000_000
    )
    said = run("users", "--db", db)
    assert said.output.splitlines() == [
        "alice  3 entries, 1 not delivered, 2 devices, last seen 2027-01-15 08:00:00Z",
        "bob  2 entries, 2 not delivered, 0 devices, last seen never",
        "eve\\u202e  1 entries, 1 not delivered, 0 devices, last seen never",
    ]
    lines = run("users", "--db", db, "--json").output.splitlines()
    assert all(line.isprintable() for line in lines)
    assert [json.loads(line)["user"] for line in lines] == ["alice", "bob", "eve\u202e"]


async def test_devices(tmp_path: Path) -> None:
    """Else nobody can tell a user which of their devices does not get anything."""
    await filled(db := tmp_path / "chat.db")
    said = run("devices", "--db", db, "--user", "alice").output.splitlines()
    when = "last seen 2027-01-15 08:00:00Z, first seen 2027-01-15 08:00:00Z"
    assert said == [f"phone  has everything up to 2, {when}", f"tab\\u202elet  has everything up to 0, {when}"]
    (first, _) = run("devices", "--db", db, "--user", "alice", "--json").output.splitlines()
    assert json.loads(first) == {"name": "phone", "cursor": 2, "seen": 1_800_000_000_000, "created": 1_800_000_000_000}
    assert run("devices", "--db", db, "--user", "bob").output == ""
    nobody = run("devices", "--db", db, "--user", "mallory")
    assert nobody.exit_code == 1
    assert "does not know a user 'mallory'" in nobody.output


def test_what_is_no_file_of_a_chat(tmp_path: Path) -> None:
    """Else a mistyped path is a traceback, or worse, makes an empty database there."""
    missing = run("users", "--db", tmp_path / "missing.db")
    assert (missing.exit_code, missing.output.count("\n")) == (1, 1)
    assert not list(tmp_path.iterdir())
    (junk := tmp_path / "junk.db").write_bytes(b"no database at all, and long enough to be one" * 100)
    assert run("users", "--db", junk).exit_code == 1
    assert run("devices", "--db", junk, "--user", "bob").exit_code == 1
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE other (x)")
    foreign.close()
    assert "something else" in run("users", "--db", tmp_path / "foreign.db").output
    (tmp_path / "loop.db").symlink_to(tmp_path / "loop.db")
    assert run("users", "--db", tmp_path / "loop.db").output.startswith("Error: ")


async def test_an_older_file_is_not_touched(tmp_path: Path) -> None:
    """Else a look at a file changes its schema, or fails in the middle of a line."""
    await filled(db := tmp_path / "chat.db")
    assert run("migrate", "down", "--db", db).exit_code == 0
    said = run("users", "--db", db)
    assert said.exit_code == 1
    assert "trio-chat migrate up" in said.output


async def test_another_name_of_the_file(tmp_path: Path) -> None:
    """Else what is not written back yet is missing for who looks by a symbolic link: the WAL lies beside the file itself."""
    (tmp_path / "elsewhere").mkdir()
    async with open_test_server(store=SqliteStore(db := tmp_path / "elsewhere" / "chat.db")) as server:
        await server.chat.send("bob", "alice", "hi")
        (tmp_path / "link.db").symlink_to(db)
        assert [user.user for user in users_in(tmp_path / "link.db")] == ["alice", "bob"]
