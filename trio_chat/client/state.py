"""The client's state file: a small SQLite database with the outbox, the position and what the program is done with.

Everything is synchronous here; `journal` calls it in a thread. A commit is on the disk when it returns
(``synchronous=FULL``): that is what lets `send` promise that a message outlives its process, and an acknowledgement that
nothing comes twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import singledispatchmethod
from os import PathLike, fspath
from typing import Any, Final

from msgspec import Struct

from ..errors import StateFailed, StateUnusable
from .records import Done, Forgotten, Owner, Pending, Position, Record, Seen

__all__ = ["KEYS", "Contents", "StateFile"]

KEYS: Final = 50_000
"""So many messages are remembered by sender and id, in case another history brings them again."""

_VERSION: Final = 1
_APPLICATION: Final = 0x74634353
_SCHEMA: Final = (
    "CREATE TABLE owner (one INTEGER PRIMARY KEY CHECK (one = 1), user TEXT NOT NULL, device TEXT NOT NULL) STRICT",
    "CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), log TEXT NOT NULL, position INTEGER NOT NULL) STRICT",
    "CREATE TABLE done (seq INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE seen (number INTEGER PRIMARY KEY, key BLOB NOT NULL) STRICT",
    "CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, frame BLOB NOT NULL) STRICT",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_BUSY_SECONDS: Final = 1.0


class Contents(Struct, frozen=True):
    """What the file held when it was opened; the frames of the outbox in the order in which they were sent."""

    owner: Owner | None
    log: str | None
    position: int
    done: list[int]
    seen: list[bytes]
    outbox: list[bytes]


class StateFile:
    """The file, held by this client alone. Opened by the first call of `open`.

    Args:
        path: made if it is not there.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = fspath(path)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Contents:
        """Open the file and read it.

        Raises:
            StateUnusable: another client has it, or it is something else.
        """
        try:
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._connection)
            return self._read(self._connection)
        except sqlite3.Error as error:
            self.close()
            why = "another client has it open" if error.sqlite_errorcode in _HELD else str(error)
            raise StateUnusable(f"the state file {self._path} cannot be used: {why}") from error
        except StateUnusable:
            self.close()
            raise

    def apply(self, records: Sequence[Record]) -> None:
        """Write `records`, all or none; they are on the disk when this returns.

        Raises:
            StateFailed: they are not.
        """
        connection = self._connection
        assert connection is not None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for record in records:
                self._apply(record, connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # What is left of the transaction is undone with the connection: after an error nothing more is written here.
            self.close()
            raise StateFailed(f"the state file {self._path} cannot be written: {error}") from error

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second client would send everything twice
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (_APPLICATION, _VERSION):
            raise StateUnusable(f"{self._path} is no state file of this version")  # nothing was written yet
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        if not tables:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute(
            "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?",
            (KEYS,),
        )
        connection.execute("COMMIT")

    def _read(self, connection: sqlite3.Connection) -> Contents:
        owner = connection.execute("SELECT user, device FROM owner").fetchone()
        log, position = connection.execute("SELECT log, position FROM position").fetchone() or (None, 0)
        return Contents(
            owner=owner and Owner(*owner),
            log=log,
            position=position,
            done=_column(connection, "SELECT seq FROM done ORDER BY seq"),
            seen=_column(connection, "SELECT key FROM seen ORDER BY number"),
            outbox=_column(connection, "SELECT frame FROM outbox ORDER BY number"),
        )

    @singledispatchmethod
    def _apply(self, record: Record, connection: sqlite3.Connection) -> None:  # noqa: ARG002
        raise TypeError(record)

    @_apply.register
    def _(self, record: Pending, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR IGNORE INTO outbox (id, frame) VALUES (?, ?)", (record.id, record.frame))

    @_apply.register
    def _(self, record: Forgotten, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM outbox WHERE id = ?", (record.id,))

    @_apply.register
    def _(self, record: Position, connection: sqlite3.Connection) -> None:
        known = connection.execute("SELECT log FROM position").fetchone()
        connection.execute("REPLACE INTO position VALUES (1, ?, ?)", (record.log, record.position))
        if known == (record.log,):
            connection.execute("DELETE FROM done WHERE seq <= ?", (record.position,))
        else:
            connection.execute("DELETE FROM done")

    @_apply.register
    def _(self, record: Done, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR IGNORE INTO done VALUES (?)", (record.seq,))

    @_apply.register
    def _(self, record: Seen, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO seen (key) VALUES (?)", (record.key,))

    @_apply.register
    def _(self, record: Owner, connection: sqlite3.Connection) -> None:
        connection.execute("REPLACE INTO owner VALUES (1, ?, ?)", (record.user, record.device))


_HELD: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _column(connection: sqlite3.Connection, query: str) -> list[Any]:
    return [value for (value,) in connection.execute(query)]
