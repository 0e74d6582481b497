"""Opening the database file: for looking, for writing, for reading."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

__all__ = ["BUSY_SECONDS", "create", "is_database", "look", "read", "size_of", "write"]

BUSY_SECONDS = 2.0
"""How long a statement waits, in its thread, for another process to let go of the database."""

CACHE_KIB = 16 * 1024
"""Pages a connection keeps in memory."""

READER_KIB = 2 * 1024
"""The same of one that reads: pages of a log are read once."""

WAL_BYTES = 64 * 1024 * 1024
"""The WAL is cut back to this after a reader had kept it growing."""

STATEMENTS = 256
"""Prepared statements a connection keeps: multi-row statements come in several sizes each."""


MAGIC = b"SQLite format 3\0"
"""The first bytes of a database file (SQLite file format, 1.3.1)."""

Connection: type[sqlite3.Connection] = sqlite3.Connection
"""What opening makes; tests put a faulty one here."""


def _connect(path: Path, parameters: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?{parameters}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions begin and end where this code says so
        check_same_thread=False,  # Trio's worker threads take turns
        cached_statements=STATEMENTS,
        factory=Connection,
    )


def size_of(path: Path, suffix: str = "") -> int:
    """The size of the database file or of one beside it, in bytes; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(f"{path}{suffix}").st_size  # noqa: PTH116  (a name beside it, not a path of ours)
    return 0


def is_database(path: Path) -> bool:
    """Whether the file begins as an SQLite database does. SQLite itself takes a file of a few bytes for an empty one."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def create(path: Path) -> None:
    """Make an empty database file that only its owner can read, if there is none. SQLite gives WAL and shm the same mode."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def look(path: Path) -> sqlite3.Connection | None:
    """A connection that changes nothing, not even by making a WAL; None if the file cannot be read without changing it.

    That is so after a crash in the moment of the file's creation only, when a rollback journal is left.
    """
    if size_of(path, "-journal"):
        return None
    # Even a read-only connection makes the WAL and its index, unless told that the file does not change. If there is a WAL,
    # what it holds counts, and both files are there already.
    return _connect(path, "mode=ro" if size_of(path, "-wal") else "mode=ro&immutable=1")


def _use_wal(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":  # no error of SQLite's; in any other mode FULL alone does not make a commit durable
        raise sqlite3.OperationalError(f"its file system cannot hold a WAL, it stays in mode {mode}")


def write(path: Path) -> sqlite3.Connection:
    """The connection that writes, in WAL mode.

    Raises:
        sqlite3.Error: the file cannot be written, or not in WAL mode.
    """
    connection = _connect(path, "mode=rw")
    try:
        if not size_of(path):
            # So free pages can be given back to the file system little by little. A file that is not empty would have to be
            # rewritten (retention's --compact); and the next statement fills the first page.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _use_wal(connection)
        # What is deleted is overwritten where that costs no further page: see erasure.py for the pages that are freed.
        connection.execute("PRAGMA secure_delete = FAST")
        # Not NORMAL: that one acknowledges what a power loss takes away again.
        connection.execute("PRAGMA synchronous = FULL")
        # SQLite ignores it if the checkpoint it makes by itself fails, and syncs again later: see writer.py.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def read(path: Path, *, cache_kib: int = READER_KIB) -> sqlite3.Connection:
    """A connection that reads. The writer must be open: it has made the WAL, which this one cannot."""
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        # From its first read to its end it takes part in the WAL: a writer that closes before it leaves the WAL alone.
        connection.execute("PRAGMA schema_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
