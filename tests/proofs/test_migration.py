"""A migration that is killed leaves the old schema or the new one, and every message (failures 9)."""

from __future__ import annotations

import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from trio_chat.store import migration, schema

PAIRS: Final = 1000
STEP: Final = """
def up(db):
    db.execute("ALTER TABLE messages ADD COLUMN topic TEXT")
    db.execute("UPDATE messages SET topic = 'none'")
    db.execute("CREATE INDEX messages_by_topic ON messages (topic)")


def down(db):
    db.execute("DROP INDEX messages_by_topic")
    db.execute("ALTER TABLE messages DROP COLUMN topic")
"""
SYSCALLS: Final = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink"


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The steps of a version that adds a column to every message, and an index."""
    folder = tmp_path / "steps"
    shutil.copytree(schema.folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "m9999_topic.py").write_text(STEP)
    return folder


def make(path: Path, messages: int) -> None:
    """A database with so many messages between pairs of users, by SQL: through the server it would take minutes."""
    migration.up(path, lambda line: None)
    with closing(sqlite3.connect(path)) as database, database:
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        head = messages // PAIRS
        database.execute(
            f"{numbers} INSERT INTO users (id, name, head, received) SELECT i, 'user' || i, ?, ? FROM n",
            (2 * PAIRS, head, head),
        )
        database.execute(
            f"{numbers} INSERT INTO conversations (id, a, b, last_a, last_b) SELECT i, 2 * i - 1, 2 * i, ?, ? FROM n",
            (PAIRS, head, head),
        )
        database.execute(
            f"{numbers} INSERT INTO messages"
            " (id, conversation, sender, client_id, digest, seq, peer_seq, sent_at, size, text)"
            " SELECT i, (i - 1) % 1000 + 1, 2 * ((i - 1) % 1000) + 1, printf('%032x', i), x'00', (i - 1) / 1000 + 1,"
            " (i - 1) / 1000 + 1, 1000 + i, 40, 'Nobody has ever said this to anybody else.' FROM n",
            (head * PAIRS,),
        )
        for user in ("2 * conversation - 1", "2 * conversation"):
            database.execute(f"INSERT INTO log SELECT {user}, seq, id, seq - 1, 40 * (seq - 1) FROM messages")


def command(path: Path, steps: Path, what: str) -> list[str]:
    return [sys.executable, "-m", "trio_chat", "migrate", what, "--db", str(path), "--steps", str(steps)]


def judge(path: Path, steps: Path, messages: int) -> str:
    """Which schema the file has; it is whole, and nothing is missing."""
    names = [name for name, applied in migration.status(path, schema.Schema(steps)) if applied]
    with closing(sqlite3.connect(path)) as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(messages)")}
        indexes = {row[1] for row in database.execute("PRAGMA index_list(messages)")}
        assert ("topic" in columns) is ("messages_by_topic" in indexes) is ("m9999_topic" in names)
        assert database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        assert database.execute("SELECT count(*), count(text) FROM messages").fetchone() == (messages, messages)
        assert database.execute("SELECT count(*) FROM log").fetchone() == (2 * messages,)
    return "new" if "topic" in columns else "old"


def test_killed_at_any_system_call(
    tmp_path: Path, newer: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, there is a moment in which a kill leaves a file that no version can serve."""
    assert shutil.which("strace"), "strace is needed: apt-get install strace"
    source = tmp_path / "chat.db"
    make(source, PAIRS)
    stride = max(1, round(12 / scale))
    found = {"old": 0, "new": 0}
    when = 1 + random.Random(seed).randrange(stride)
    while True:
        path = tmp_path / "killed" / "chat.db"
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        shutil.copy(source, path)
        inject = f"inject={SYSCALLS}:signal=SIGKILL:when={when}"
        ended = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYSCALLS}", "-e", inject, *command(path, newer, "up")],
            check=False,
            capture_output=True,
        )
        found[judge(path, newer, PAIRS)] += 1
        if ended.returncode == 0:
            break
        assert ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), ended.stderr
        migration.up(path, lambda line: None, schema.Schema(newer))
        assert judge(path, newer, PAIRS) == "new"
        when += stride
    figures(f"killed at every {stride}. of {when - 1} system calls: {found['old']} old, {found['new']} new, 0 between")
    assert found["old"] > 1


def test_a_large_database_is_killed_half_way(
    tmp_path: Path, newer: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, a large file loses something when its migration is ended, or nobody can see that it goes on."""
    messages, kills = (5_000_000, 20) if scale >= 4 else (round(120_000 * scale) // PAIRS * PAIRS, 4)
    path = tmp_path / "chat.db"
    make(path, messages)
    size = path.stat().st_size
    seconds = {}
    said = ""
    for what in ("up", "down"):
        began = time.monotonic()
        said += subprocess.run(command(path, newer, what), check=True, capture_output=True, text=True).stderr
        seconds[what] = time.monotonic() - began
        assert judge(path, newer, messages) == {"up": "new", "down": "old"}[what]
    progress = len(re.findall(r"^(?:applying|undoing) m9999_topic: \d+ s$|^copying .*: \d+ %$", said, re.MULTILINE))
    assert re.search(r"applying m9999_topic: done in", said)
    assert progress >= (2 if scale >= 4 else 0)
    numbers = random.Random(seed)
    found = {"old": 0, "new": 0}
    for _ in range(kills):
        what = "up" if judge(path, newer, messages) == "old" else "down"
        process = subprocess.Popen(command(path, newer, what), stderr=subprocess.DEVNULL)
        try:
            process.wait(numbers.uniform(0.3, 1.1) * seconds[what])
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        found[judge(path, newer, messages)] += 1
        for copy in path.parent.glob("chat.db.before-migration-*"):
            copy.unlink()
    figures(
        f"{messages} messages, {size / 2**20:.0f} MiB: up in {seconds['up']:.1f} s, down in {seconds['down']:.1f} s,"
        f" {progress} lines of progress; {kills} kills left {found['old']} old, {found['new']} new, 0 between"
    )
