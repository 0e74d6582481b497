"""Taking a file from one schema to another and back: with two more steps, as a later version would have them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch, PageRequest
from trio_chat.errors import ConfigurationError, SchemaMismatch, StoreLocked
from trio_chat.store import migration, schema
from trio_chat.store.lock import FileLock
from trio_chat.store.sqlite import SqliteStore

from .conftest import draft

SECOND = """
def up(db):
    db.execute("ALTER TABLE messages ADD COLUMN topic TEXT")
    db.execute("UPDATE messages SET topic = 'none'")
    db.execute("CREATE INDEX messages_by_topic ON messages (topic)")
    {fault}


def down(db):
    db.execute("DROP INDEX messages_by_topic")
    db.execute("ALTER TABLE messages DROP COLUMN topic")
"""
THIRD = "def up(db):\n    db.execute('CREATE TABLE extra (a)')\n\n\ndef down(db):\n    db.execute('DROP TABLE extra')\n"
BUNDLED = schema.bundled().names
NEWEST = BUNDLED[-1]
TOPIC, EXTRA = (f"m{len(BUNDLED) + n:04}_{name}" for n, name in ((1, "topic"), (2, "extra")))


def steps_in(folder: Path, fault: str = "") -> schema.Schema:
    """The bundled steps and two more."""
    shutil.copytree(schema.folder(), folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    (folder / f"{TOPIC}.py").write_text(SECOND.format(fault=fault))
    (folder / f"{EXTRA}.py").write_text(THIRD)
    return schema.Schema(folder)


@pytest.fixture
def newer(tmp_path: Path) -> schema.Schema:
    return steps_in(tmp_path / "steps")


async def fill(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n)) for n in range(50))), 1000)


def columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute("PRAGMA table_info(messages)")]


def content(path: Path) -> bytes:
    return path.read_bytes()


def copies(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.before-migration-*"))


async def test_up_and_down_keep_the_messages(path: Path, newer: schema.Schema) -> None:
    """An upgrade, or the way back from it, would cost messages; or the second run would change something."""
    await fill(path)
    said: list[str] = []
    assert migration.up(path, said.append, newer) == [TOPIC, EXTRA]
    assert any(f"{TOPIC}: done" in line for line in said)
    assert "topic" in columns(path)
    before = content(path)
    assert migration.up(path, said.append, newer) == []
    assert content(path) == before
    assert migration.down(path, said.append, steps=newer) == [EXTRA]
    assert migration.status(path, newer) == [*((name, True) for name in [*BUNDLED, TOPIC]), (EXTRA, False)]
    assert migration.up(path, said.append, newer) == [EXTRA]
    assert migration.down(path, said.append, NEWEST, newer) == [EXTRA, TOPIC]
    assert migration.down(path, said.append, NEWEST, newer) == []
    assert "topic" not in columns(path)
    async with SqliteStore(path) as store:
        (page,) = await store.pages([PageRequest("bob", 0, 100, 10**6)])
    assert [message.id for message in page.messages] == [str(n) for n in range(50)]


async def test_a_file_with_messages_is_copied_first(path: Path, newer: schema.Schema) -> None:
    """A step that goes wrong would leave nothing to go back to, or the copy could be read by everybody."""
    await fill(path)
    migration.up(path, lambda line: None, newer)
    migration.down(path, lambda line: None, NEWEST, newer)
    first, second = copies(path)
    assert first != second
    assert first.stat().st_mode & 0o777 == 0o600
    assert "topic" not in columns(first)
    assert "topic" in columns(second)
    async with SqliteStore(first) as store:
        (page,) = await store.pages([PageRequest("alice", 0, 100, 10**6)])
    assert len(page.messages) == 50


def test_an_empty_file_needs_no_copy(path: Path, newer: schema.Schema) -> None:
    """Every first start would leave a useless file behind."""
    assert migration.status(path, newer) == [(name, False) for name in newer.names]
    assert not path.exists()
    assert migration.up(path, lambda line: None, newer) == newer.names
    assert copies(path) == []
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_step_that_fails_changes_nothing(path: Path, tmp_path: Path) -> None:
    """A file would be left between two schemas, which no version of the code can serve (failures 9)."""
    await fill(path)
    broken = steps_in(tmp_path / "broken", fault="db.execute('no such statement')")
    with pytest.raises(ConfigurationError, match="nothing of the step under way was kept"):
        migration.up(path, lambda line: None, broken)
    assert migration.status(path) == [(name, True) for name in BUNDLED]
    assert "topic" not in columns(path)


async def test_a_newer_file_is_refused_untouched(path: Path, newer: schema.Schema) -> None:
    """An older version would work on tables it does not know (failures 8)."""
    await fill(path)
    migration.up(path, lambda line: None, newer)
    before = content(path)
    with pytest.raises(SchemaMismatch, match=EXTRA):
        migration.up(path, lambda line: None)
    with pytest.raises(SchemaMismatch, match=EXTRA):
        migration.down(path, lambda line: None)
    with pytest.raises(SchemaMismatch, match=EXTRA):
        migration.status(path)
    assert content(path) == before


def test_a_served_file_is_not_migrated(path: Path, newer: schema.Schema) -> None:
    """The schema would change under a running server."""
    migration.up(path, lambda line: None)
    lock = FileLock(path)
    try:
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            migration.up(path, lambda line: None, newer)
    finally:
        lock.release(clean=True)


def test_there_must_be_something_to_undo(path: Path, newer: schema.Schema) -> None:
    """A typing mistake would undo the wrong step, or make a file."""
    with pytest.raises(ConfigurationError, match="no step to undo"):
        migration.down(path, lambda line: None)
    assert not path.exists()
    migration.up(path, lambda line: None)
    with pytest.raises(ConfigurationError, match=f"does not have the step {TOPIC}"):
        migration.down(path, lambda line: None, TOPIC, newer)
    for name in reversed(BUNDLED):
        assert migration.down(path, lambda line: None) == [name]
    with pytest.raises(ConfigurationError, match="no step to undo"):
        migration.down(path, lambda line: None)


def test_a_path_that_cannot_be_opened_is_said_plainly(tmp_path: Path) -> None:
    """The operator would see a traceback."""
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        migration.up(tmp_path / "missing" / "chat.db", lambda line: None)


def test_steps_are_created_in_order(tmp_path: Path) -> None:
    """Two steps would have one number, or a new one would not be found."""
    folder = tmp_path / "steps"
    shutil.copytree(schema.folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    numbers = len(BUNDLED) + 1, len(BUNDLED) + 2
    names = [migration.create(name, folder).stem for name in ("add_topic", "add_more")]
    assert names == [f"m{numbers[0]:04}_add_topic", f"m{numbers[1]:04}_add_more"]
    assert schema.Schema(folder).names == [*BUNDLED, *names]
    with pytest.raises(ConfigurationError, match="lower-case"):
        migration.create("Add topic", folder)
    with pytest.raises(ConfigurationError, match="No such file"):
        migration.create("x", tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="holds no migrations"):
        schema.Schema(tmp_path)


async def test_what_takes_long_is_reported(path: Path, newer: schema.Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell a long migration from a hanging one."""
    await fill(path)
    monkeypatch.setattr(migration, "_INSTRUCTIONS", 50)
    monkeypatch.setattr(migration, "_BACKUP_PAGES", 2)
    monkeypatch.setattr(migration, "_EVERY", 0.0)
    said: list[str] = []
    migration.up(path, said.append, newer)
    assert any(line.startswith("copying") and line.endswith("%") for line in said)
    assert sum(line.startswith(f"applying {TOPIC}: ") for line in said) > 2


async def test_a_copy_that_fails_leaves_nothing(path: Path, newer: schema.Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each restart of a server that cannot migrate would leave another half of a copy, until the disk is full."""
    await fill(path)
    half = path.with_name(f"{path.name}.before-migration.partial")
    half.write_bytes(b"of one that was killed")
    journal = path.with_name(f"{half.name}-journal")
    journal.write_bytes(b"likewise")
    before = set(path.parent.iterdir()) - {half, journal}

    def fails(path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(migration, "sync", fails)
        with pytest.raises(ConfigurationError, match="Input/output error"):
            migration.up(path, lambda line: None, newer)
    assert set(path.parent.iterdir()) == before
    half.write_bytes(b"of one that was killed")
    migration.up(path, lambda line: None, newer)
    assert set(path.parent.iterdir()) - before == set(copies(path))


async def test_a_step_that_breaks_references_changes_nothing(path: Path, tmp_path: Path) -> None:
    """A step that forgets half of what it has to move would leave messages of nobody."""
    await fill(path)
    broken = steps_in(tmp_path / "broken", fault="db.execute('DELETE FROM conversations')")
    with pytest.raises(ConfigurationError, match="references to what is not there"):
        migration.up(path, lambda line: None, broken)
    assert migration.status(path) == [(name, True) for name in BUNDLED]
