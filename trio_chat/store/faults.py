"""What an exception of SQLite's means for the store, and the state of health that follows from it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ..errors import RowRefused, StoreBusy, StoreError, StoreFull, StoreUnavailable

__all__ = ["Health", "translate"]

PRIMARY = 0xFF
"""SQLite's extended error codes carry the primary one in their low byte."""

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
BROKEN = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
}
ROW = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
GROWING = {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
"""I/O errors of making a file longer. Growing the WAL's index on a full disk is reported so, and not as SQLITE_FULL."""

NO_SPACE = 64 * 1024
"""Less free space than this, in bytes, is a full disk."""


class Health:
    """Whether the store may still be written. Once it may not, that stays so until a restart (failures R2)."""

    def __init__(self) -> None:
        self.failure: str | None = None

    def fail(self, reason: str) -> None:
        """Nothing is written from now on. The first reason is kept: the others follow from it."""
        self.failure = self.failure or reason

    def note(self, fault: StoreError) -> None:
        """A transaction failed: if for good, nothing is written from now on."""
        if isinstance(fault, StoreUnavailable):
            self.fail(str(fault))

    def require(self) -> None:
        """Raises `StoreUnavailable` if nothing may be written."""
        if self.failure:
            raise StoreUnavailable(self.failure)


def full(path: Path) -> bool:
    """Whether the file system of `path` has no space left."""
    try:
        space = os.statvfs(path)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < NO_SPACE


def translate(error: BaseException, path: Path, *, committing: bool = False) -> StoreError | None:
    """The `StoreError` that says what `error` means for a transaction on the database `path`, or None if it is not one.

    `committing` says that COMMIT itself failed: then an I/O error leaves open what a restart will find, whatever caused it.
    """
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return RowRefused(f"a value cannot be stored: {type(error).__name__}")
    if isinstance(error, UnicodeDecodeError) or _undecodable(error):
        return StoreUnavailable("a text in the database is damaged: it is not UTF-8")
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)  # the module's own exceptions have none
    if code is None:
        return RowRefused(str(error)) if isinstance(error, sqlite3.DataError) else None
    fault = _fault(code, grows=code in GROWING and not committing and full(path))
    return None if fault is None else fault(f"{error} ({error.sqlite_errorname})")


def _undecodable(error: BaseException) -> bool:
    """Whether it says that what was read is no text. The module says so by itself, without a code of SQLite's.

    Only what has passed as text is ever written: it is the disk that has changed it, where SQLite looks at no bit.
    """
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode to UTF-8")


def _fault(code: int, *, grows: bool) -> type[StoreError] | None:
    primary = code & PRIMARY
    if grows or primary == sqlite3.SQLITE_FULL:
        return StoreFull
    if primary in BROKEN:
        return StoreUnavailable
    if primary in BUSY:
        return StoreBusy
    return RowRefused if primary in ROW else None
