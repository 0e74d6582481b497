"""kill -9 between the commit and the push, and between the push and its note: at least once, at most once more."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

SERVER = Path(__file__).with_name("push_server.py")


def run(path: Path, what: str, says: str) -> None:
    """Have a server do this until it says so, and kill it."""
    command = [sys.executable, str(SERVER), str(path / "chat.db"), str(path / "sent"), what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith(says)
        finally:
            server.kill()


def test_killed_between_commit_and_push_and_between_push_and_note(tmp_path: Path) -> None:
    """Who is away would not be told of what was acknowledged; or be told again after each restart."""
    sent = tmp_path / "sent"
    run(tmp_path, "commit", "stored")
    assert not sent.exists()
    with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as database:
        database.execute("UPDATE push_jobs SET due = 0")  # as if the delay had passed
    run(tmp_path, "hang", "sent")
    assert len(sent.read_text().splitlines()) == 1
    run(tmp_path, "work", "done")
    run(tmp_path, "work", "done")
    attempts = sent.read_text().splitlines()
    assert len(attempts) == 2
    assert len(set(attempts)) == 1
    assert attempts[0].startswith("alice ")
    assert attempts[0].endswith(" phone")
