"""Copies of a database file: taken beside a running server, put back where none runs. Synchronous.

A file that is put back is another history: what was acknowledged after the copy was taken is not in it, and its numbers will
be given again, to other messages. So it gets a new epoch, and every client sees by its ``log`` that its position means
nothing there (C1). Nobody can see that of a copy that was put back by hand: `renew` is for that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from ..errors import ConfigurationError
from . import connection, schema
from .files import remove, sync
from .lock import FileLock

__all__ = ["Copied", "back_up", "renew", "restore"]

Advance = Callable[[int, int], None]
"""Is told how many pages are copied, and of how many."""

_PAGES: Final = 100
"""Pages (400 KiB) between two looks at whoever waits for the disk: a commit waits for no more than these."""
_PAUSE: Final = 0.001
"""Seconds of rest after them, so that a server beside does not feel it."""
_SLICE: Final = 10 * _PAGES
"""Pages (4 MB) after which what was written goes to the disk. All of it at the end would have commits wait for a second."""


class Copied(Struct, frozen=True, kw_only=True):
    """What a copy holds: the file, its size in bytes, and how many messages, edits and deletions there are in it."""

    path: str
    bytes: int
    messages: int


def back_up(path: Path, to: Path, advance: Advance, *, replace: bool = False) -> Copied:
    """Copy the database at `path` to the new file `to`, while a server goes on with it or none does.

    The copy holds every message that was acknowledged before this began, and is of one moment. It has its name only when it
    is complete, checked and on the disk; only its owner can read it. A failure leaves nothing behind.

    Raises:
        ConfigurationError: `path` is no chat's database, `to` is there already and not to be replaced, or it did not work.
    """
    if to.exists() and not replace:
        raise ConfigurationError(f"{to} is there already: name another file, or add --replace")
    with _told(path), _reading(path) as reading:
        # The snapshot is held from here on: otherwise each commit would make the copy begin again.
        reading.execute("BEGIN")
        with _arriving(to) as partial:
            _copy(reading, partial, advance)
            # Not for longer than need be: while it is held, the server's WAL cannot begin anew.
            reading.execute("ROLLBACK")
            messages = _require_sound(partial)
    return Copied(path=str(to), bytes=to.stat().st_size, messages=messages)


def restore(source: Path, path: Path, advance: Advance, *, replace: bool = False) -> Copied:
    """Put the copy `source` where a server will find it, as another history. `source` is left as it is.

    What was at `path` is kept beside it, as ``<name>.before-restore-<time>``.

    Raises:
        StoreLocked: a server runs on `path`.
        ConfigurationError: `source` is damaged or no chat's database, or there is one at `path` and it is to stay.
    """
    with _told(source), _reading(source, still=True) as reading, _locked(path):
        if connection.size_of(path) and not replace:
            raise ConfigurationError(f"{path} holds a database already: add --replace, and it is put aside")
        with _arriving(path, before=lambda: _put_aside(path)) as partial:
            _copy(reading, partial, advance)
            messages = _require_sound(partial)
            with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as writing:
                _renew(writing)
    return Copied(path=str(path), bytes=path.stat().st_size, messages=messages)


def renew(path: Path) -> None:
    """Make the database at `path` another history: for one that was put there by hand.

    Raises:
        StoreLocked: a server runs on it.
        ConfigurationError: it is no chat's database, or cannot be written.
    """
    with _told(path):
        with _reading(path):
            pass  # it is one
        with _locked(path), contextlib.closing(connection.write(Path(os.path.realpath(path)))) as writing:
            _renew(writing)


@contextlib.contextmanager
def _reading(path: Path, *, still: bool = False) -> Iterator[sqlite3.Connection]:
    """The database at `path`; if it is `still`, nobody writes to it meanwhile, and nothing beside it is made."""
    # The WAL lies beside the file itself, whatever name leads there.
    path = Path(os.path.realpath(path))
    if not connection.size_of(path) or not connection.is_database(path):
        raise ConfigurationError(f"{path}: there is no database of a chat")
    opened = connection.look(path) if still else connection.read(path)
    if opened is None:
        raise ConfigurationError(f"{path}: a journal lies beside it, so it is no copy that was completed")
    with contextlib.closing(opened) as reading:
        if schema.bundled().check(schema.wrap(reading)):
            raise ConfigurationError(f"{path} has an older schema: trio-chat migrate up brings it up to date")
        yield reading


@contextlib.contextmanager
def _arriving(path: Path, *, before: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """A new file that has the name `path` once the block is left, and is gone if that raises. `before` is called between."""
    partial = path.with_name(f"{path.name}.partial")
    remove(partial)
    connection.create(partial)
    try:
        yield partial
        sync(partial)
        before()
        partial.replace(path)
    except BaseException:
        remove(partial)
        raise
    sync(path.parent)  # the name, too, is on the disk then


def _copy(reading: sqlite3.Connection, to: Path, advance: Advance) -> None:
    written = 0

    def progress(_: int, left: int, total: int) -> None:
        nonlocal written
        advance(total - left, total)
        pause = _PAUSE
        if total - left >= written + _SLICE:
            written = total - left
            began = time.monotonic()
            os.fsync(file.fileno())
            pause = time.monotonic() - began  # the disk is the server's for as long as it was ours
        time.sleep(pause)

    # Opened before and closed after SQLite's: closing one descriptor of a file drops the locks held by another.
    with to.open("rb") as file, contextlib.closing(sqlite3.connect(to, isolation_level=None)) as target:
        reading.execute("SELECT epoch FROM store").fetchone()  # a snapshot is taken by the first look
        reading.backup(target, pages=_PAGES, progress=progress)
        # One file, without a WAL that whoever copies it could forget; serving it changes that again.
        target.execute("PRAGMA journal_mode = DELETE").fetchone()


def _require_sound(path: Path) -> int:
    """How many messages the file holds, after a look at every page of it."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as looking:
        faults = [fault for (fault,) in looking.execute("PRAGMA integrity_check(1)")]
        if faults != ["ok"]:
            raise ConfigurationError(f"what was copied is damaged ({faults[0]}): the file it comes from is")
        (messages,) = looking.execute("SELECT count(*) FROM messages").fetchone()
    return int(messages)


def _renew(writing: sqlite3.Connection) -> None:
    writing.execute("UPDATE store SET epoch = ?", [secrets.token_hex(8)])


def _put_aside(path: Path) -> None:
    """Keep the file at `path`, if there is one, under a name that no server looks at."""
    if not path.exists():
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connection.write(path.absolute())) as writing:
        writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # then the WAL goes with its last connection
    aside = f"{path}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    for suffix in ("-wal", "-shm", ""):  # a damaged one may have kept its WAL
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        if path.exists():
            lock.hold_file()
        yield
    finally:
        lock.release(clean=not lock.unclean)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system and SQLite say, as one sentence."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{error.filename or path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {error}") from error
