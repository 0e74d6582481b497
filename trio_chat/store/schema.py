"""The database's schema: which numbered steps exist, which a file has, and whether it may be served at all."""

from __future__ import annotations

import contextlib
import functools
import runpy
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database, Migrations

from ..errors import ConfigurationError, SchemaMismatch

__all__ = ["Schema", "Step", "bundled", "folder", "wrap"]


class Step(NamedTuple):
    """One numbered file of the migrations folder. Both functions run inside a transaction that is not theirs to end."""

    name: str
    up: Callable[[Database], None]
    down: Callable[[Database], None]


def folder() -> Path:
    """Where the numbered files are: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


class Schema:
    """The numbered steps of a folder, on sqlite-utils' `Migrations`, which keeps the record of those a file has.

    Raises:
        ConfigurationError: the folder holds no steps.
    """

    def __init__(self, folder: Path) -> None:
        try:
            found = runpy.run_path(str(folder / "migrations.py"))
        except FileNotFoundError:
            raise ConfigurationError(f"{folder} holds no migrations") from None
        self._migrations: Migrations = found["migrations"]
        self.steps: tuple[Step, ...] = tuple(Step(name, step["up"], step["down"]) for name, step in found["steps"].items())
        """All steps, the first one first."""

    @property
    def names(self) -> list[str]:
        """The names of all steps."""
        return [step.name for step in self.steps]

    def applied(self, db: Database) -> list[str]:
        """The names of the steps this database has, in the order in which they were applied. Writes nothing."""
        return [step.name for step in self._migrations.applied(db)]

    def check(self, db: Database) -> list[str]:
        """Make sure this code can serve the database, or can after applying the steps that are returned. Writes nothing.

        Raises:
            SchemaMismatch: the database has a step this code does not know, or holds something else altogether.
        """
        had, known = self.applied(db), self.names
        if had != known[: len(had)]:
            unknown = [name for name in had if name not in known]
            raise SchemaMismatch(
                f"this database has the schema step {unknown[-1]}, made by a newer version: install that one or a later one"
                if unknown
                else "the schema steps of this database are out of order: restore a backup"
            )
        if not had and any(name for name in db.table_names() if name != Migrations.migrations_table):
            raise SchemaMismatch("this database holds something else: name a file of its own for the chat")
        return known[len(had) :]

    def apply(self, db: Database, name: str) -> None:
        """Apply the step `name`, the next one, in one transaction with the record of it.

        Raises:
            sqlite3.Error: nothing was changed.
        """
        later = self.names[self.names.index(name) + 1 :]
        # sqlite-utils begins deferred and makes its own table outside of any transaction; inside of ours it uses savepoints.
        with _transaction(db.conn):
            self._migrations.apply(db, stop_before=later)
            _require_references(db)

    def undo(self, db: Database, name: str) -> None:
        """Undo the step `name`, the newest one applied, and forget that it was, in one transaction.

        Raises:
            sqlite3.Error: nothing was changed.
        """
        with _transaction(db.conn):
            self.steps[self.names.index(name)].down(db)
            record = db.table(Migrations.migrations_table)
            record.delete_where("migration_set = ? AND name = ?", [self._migrations.name, name])
            _require_references(db)


def _require_references(db: Database) -> None:
    """What a step refers to must be there: they run with foreign keys off, as SQLite wants it for rebuilding a table."""
    row = db.execute("PRAGMA foreign_key_check").fetchone()
    if row is not None:
        raise sqlite3.IntegrityError(f"the step leaves {row[0]} with references to what is not there")


@functools.cache
def bundled() -> Schema:
    """The steps that belong to this code."""
    return Schema(folder())


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def wrap(connection: sqlite3.Connection) -> Database:
    """The connection as sqlite-utils sees it; without plugins, which an unrelated package may have installed."""
    return Database(connection, recursive_triggers=False, execute_plugins=False)
