"""A connection whose statements fail, or wait, when told to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from trio_chat.store import connection


def fault(name: str) -> sqlite3.OperationalError:
    """What sqlite3 raises for this code of SQLite's."""
    error = sqlite3.OperationalError("broken on purpose")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


class Faults:
    """What happens to the statements of all connections that are opened while this is in place."""

    def __init__(self) -> None:
        self.broken: dict[str, Exception] = {}
        self.ending = False
        """Whether a broken statement ends its transaction by itself, as SQLite does after some errors."""
        self.executed: list[str] = []
        self.held: str | None = None
        self.reached = threading.Event()
        self.released = threading.Event()

    def before(self, statement: str) -> None:
        self.executed.append(statement)
        if self.held is not None and self.held in statement:
            self.reached.set()
            assert self.released.wait(10)
        for part, error in self.broken.items():
            if part in statement:
                raise error

    @contextmanager
    def holding(self, part: str) -> Iterator[None]:
        """Statements with this in them wait until the block is left, at the latest."""
        self.held = part
        self.reached.clear()
        self.released.clear()
        try:
            yield
        finally:
            self.held = None
            self.released.set()

    async def wait_held(self) -> None:
        assert await trio.to_thread.run_sync(self.reached.wait, 10)


def install(monkeypatch: pytest.MonkeyPatch) -> Faults:
    faults = Faults()

    class Faulty(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            try:
                faults.before(sql)
            except Exception:
                if faults.ending:
                    self.rollback()
                raise
            return super().execute(sql, *values)

        def executescript(self, script: str, /) -> sqlite3.Cursor:
            faults.before(script)
            return super().executescript(script)

    monkeypatch.setattr(connection, "Connection", Faulty)
    return faults
