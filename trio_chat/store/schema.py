"""The database's schema: which numbered steps exist, which a file has, and whether it may be served at all."""

from __future__ import annotations

import functools
import runpy
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database, Migrations

from ..errors import SchemaMismatch

__all__ = ["Step", "applied", "apply", "check", "folder", "pending", "steps"]


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


@functools.cache
def _load() -> tuple[Migrations, tuple[Step, ...]]:
    found = runpy.run_path(str(folder() / "migrations.py"))
    return found["migrations"], tuple(Step(name, step["up"], step["down"]) for name, step in found["steps"].items())


def steps() -> tuple[Step, ...]:
    """All steps this code knows, the first one first."""
    return _load()[1]


def applied(db: Database) -> list[str]:
    """The names of the steps this database has, in the order in which they were applied. Writes nothing."""
    return [step.name for step in _load()[0].applied(db)]


def pending(db: Database) -> list[str]:
    """The names of the steps this database lacks, in order. Writes nothing."""
    return [step.name for step in _load()[0].pending(db)]


def check(db: Database) -> list[str]:
    """Make sure this code can serve the database, or can after applying the steps that are returned. Writes nothing.

    Raises:
        SchemaMismatch: the database has a step this code does not know, or holds something else altogether.
    """
    had = applied(db)
    known = [step.name for step in steps()]
    if had != known[: len(had)]:
        unknown = [name for name in had if name not in known]
        raise SchemaMismatch(
            f"this database has the schema step {unknown[-1]}, made by a newer version: install that version or a later one"
            if unknown
            else "the schema steps of this database are out of order: restore a backup"
        )
    if not had and any(name for name in db.table_names() if name != Migrations.migrations_table):
        raise SchemaMismatch("this database holds something else: name a file of its own for the chat")
    return known[len(had) :]


def apply(db: Database) -> None:
    """Apply the pending steps in one transaction: the database has the old schema or the new one, never one between.

    Raises:
        sqlite3.Error: nothing was changed.
    """
    # sqlite-utils begins deferred and makes its own table outside of any transaction; inside of ours it uses savepoints.
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        _load()[0].apply(db)
        db.conn.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:
            db.conn.execute("ROLLBACK")
        raise


def wrap(connection: sqlite3.Connection) -> Database:
    """The connection as sqlite-utils sees it; without plugins, which an unrelated package may have installed."""
    return Database(connection, recursive_triggers=False, execute_plugins=False)
