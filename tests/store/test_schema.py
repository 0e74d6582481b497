"""The numbered steps: found, applied, taken back, and run by sqlite-utils' own command."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlite_utils import Database
from sqlite_utils.cli import cli

from trio_chat.core.batch import Batch
from trio_chat.store import schema
from trio_chat.store.sqlite import SqliteStore

from .conftest import draft

SCHEMA = schema.bundled()
NAMES = SCHEMA.names


def apply_all(database: Database) -> None:
    for name in SCHEMA.check(database):
        SCHEMA.apply(database, name)


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield schema.wrap(connection)


def columns(database: Database) -> dict[str, list[str]]:
    return {name: [column.name for column in database[name].columns] for name in sorted(database.table_names())}


def test_steps_are_applied_in_order(database: Database) -> None:
    """A server would start on a file without its tables, or apply a step twice."""
    assert SCHEMA.applied(database) == []
    assert SCHEMA.check(database) == NAMES == sorted(NAMES)
    apply_all(database)
    assert SCHEMA.applied(database) == NAMES
    assert SCHEMA.check(database) == []
    apply_all(database)
    assert SCHEMA.applied(database) == NAMES


def test_every_step_can_be_taken_back(database: Database) -> None:
    """A downgrade would find that the way down was never walked."""
    apply_all(database)
    before = columns(database)
    with database.atomic():
        for step in reversed(SCHEMA.steps):
            step.down(database)
    assert [*columns(database)] == ["_sqlite_migrations"]
    with database.atomic():
        for step in SCHEMA.steps:
            step.up(database)
    assert columns(database) == before


def test_every_column_says_what_it_is_for(database: Database) -> None:
    """Whoever opens the file with a shell would have to guess."""
    apply_all(database)
    tables = database.query(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view')"
        " AND name NOT LIKE '%sqlite%' AND name NOT GLOB 'search_*'"  # what FTS5 makes for itself
    )
    for table in tables:
        explained = [line.split()[0].rstrip(",") for line in table["sql"].splitlines() if "-- " in line]
        for column in database[table["name"]].columns:
            assert column.name in explained, (table["name"], column)


def test_two_files_are_two_histories(tmp_path: Path) -> None:
    """A client could not tell a restored or replaced file from its own (C1), nor would digests be secret."""
    rows = set()
    for name in ("one.db", "two.db"):
        with closing(sqlite3.connect(tmp_path / name, isolation_level=None)) as connection:
            apply_all(schema.wrap(connection))
            epoch, key = connection.execute("SELECT epoch, digest_key FROM store").fetchone()
            assert len(epoch) == 16
            assert len(key) == 32
            rows |= {epoch, key}
    assert len(rows) == 4


async def test_sqlite_utils_can_migrate_for_us(path: Path) -> None:
    """The standard tool would not find the steps, or leave a file that the server does not know."""
    folder = str(schema.folder())
    runner = CliRunner()
    for _ in range(2):
        result = runner.invoke(cli, ["migrate", str(path), folder])
        assert result.exit_code == 0, result.output
    assert NAMES[0] in runner.invoke(cli, ["migrate", str(path), folder, "--list"]).output
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=(draft("alice", "bob", "1"),)), 1000)


def test_the_steps_are_found_in_a_wheel_and_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed server would not find its own schema."""
    assert (schema.folder() / "migrations.py").is_file()
    package = tmp_path / "trio_chat"
    monkeypatch.setattr(schema, "__file__", str(package / "store" / "schema.py"))
    assert schema.folder() == tmp_path / "migrations"
    (package / "migrations").mkdir(parents=True)
    assert schema.folder() == package / "migrations"
