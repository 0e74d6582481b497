"""``backup`` and ``restore`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trio_chat.cli import main
from trio_chat.store.sqlite import SqliteStore
from trio_chat.testing import open_test_server


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


async def test_there_and_back(tmp_path: Path) -> None:
    """Else the two do not fit, or a running server is in the way of the one and not of the other."""
    db, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    async with open_test_server(store=SqliteStore(db)) as server:
        await server.chat.send("alice", "bob", "hi")
        said = run("backup", copy, "--db", db)
        assert said.output == f"backed up to {copy}: 1 messages, {copy.stat().st_size:,} bytes\n"  # noqa: ASYNC240
        refused = run("restore", copy, "--db", db, "--replace")
        assert refused.exit_code == 1
        assert "stop it first" in refused.output
    told = json.loads(run("backup", copy, "--db", db, "--replace", "--json").output)
    assert told == {"path": str(copy), "bytes": copy.stat().st_size, "messages": 1}  # noqa: ASYNC240
    refused = run("restore", copy, "--db", db)
    assert refused.exit_code == 1
    assert "--replace" in refused.output
    assert run("restore", copy, "--db", db, "--replace").output.startswith(f"restored {db}: 1 messages")


async def test_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a disk fills with copies, or one's other files go with them."""
    db, folder = tmp_path / "chat.db", tmp_path / "copies"
    async with open_test_server(store=SqliteStore(db)) as server:
        await server.chat.send("alice", "bob", "hi")
    folder.mkdir()
    (folder / "chat-mine.db").write_text("kept")
    (folder / "chat-20200101T000000Z.db").write_text("old")
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if seconds > 1:  # not the rests within
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    assert run("backup", folder, "--db", db, "--every", "1h", "--keep", "1").exit_code == 1
    assert 3590 < waited[-1] <= 3600
    first, second = sorted(file.name for file in folder.iterdir())
    assert second == "chat-mine.db"
    assert first.startswith("chat-20")
    assert not first.startswith("chat-2020")


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """Else a mistyped option makes no backup, and nobody is told."""
    for arguments in (
        ("--keep", "3"),
        ("--every", "often"),
        ("--every", "1h"),  # the folder is not there
        ("--every", "0h"),
    ):
        assert run("backup", tmp_path / "nowhere", "--db", tmp_path / "chat.db", *arguments).exit_code == 2
