"""The store in one SQLite file."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import trio

from ..core.batch import Batch, Page, PageRequest, Results
from ..errors import ConfigurationError, StoreBusy, StoreFull, StoreUnavailable
from ..retrieval import (
    ConversationsPage,
    ConversationsQuery,
    Device,
    HistoryPage,
    HistoryQuery,
    SearchPage,
    SearchQuery,
    Standing,
)
from ..settings import Settings
from . import connection, schema
from .base import Sizes
from .checkup import Checkup, quick_check
from .conversation_list import read_conversations
from .faults import Health, translate
from .files import sync
from .history import read_history
from .lock import FileLock
from .migration import migrate
from .pages import read_known, read_pages
from .search import read_search
from .sqlite_keeping import Ask, SqliteKeeping
from .sqlite_outbox import SqliteOutbox
from .standings import read_blocked, read_devices, read_standings
from .writer import Writer

__all__ = ["SqliteStore"]

_log = logging.getLogger("trio_chat.store")

READERS = 2
"""Read-only connections for pages: one more than one, so that a slow one does not hold up everybody else's."""

QUERY_CACHE_KIB = 32 * 1024
"""What the connection for queries keeps in memory: they go up and down the same indexes."""

CLOSING_SECONDS = 10.0
"""How long leaving waits for a disk that does not answer."""

T = TypeVar("T")


class SqliteStore:
    """Keeps messages in the file `path`, its WAL beside it and ``<path>.lock``; all are created readable by the owner only.

    Entering locks the file against other servers, checks its schema before anything is written, and brings it up to date.
    After an unclean shutdown it is checked for damage in the background while it serves; with `check` before it serves.
    Leaving closes everything, and waits for a disk that does not answer for 10 s at most.

    Args:
        path: the database file; made if there is none. Its directory must exist.
        settings: the limits that a store applies: mailbox and devices.
        check: look for damage first, and refuse to open a damaged file. Takes about 1.4 s per GB.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Settings | None = None, *, check: bool = False) -> None:
        self.path: Path = Path(path)
        self.settings: Settings = settings or Settings()
        self.check = check
        self._health = Health()
        self._file: _OpenFile | None = None
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(READERS)
        self._asking = trio.CapacityLimiter(1)  # queries wait for one another, and no page waits for them
        self.outbox: SqliteOutbox = SqliteOutbox(self._ask, self._push)
        self.keeping: SqliteKeeping = SqliteKeeping(self._ask, self._write, self._apart)

    async def __aenter__(self) -> Self:
        """Open the file. Cancelling waits until it is open, and then closes it.

        Raises:
            StoreLocked: another server holds it.
            SchemaMismatch: its schema is newer than this code, or it is not a chat's database. Nothing was changed.
            ConfigurationError: it cannot be opened, is damaged, or is no database. Nothing was changed.
        """
        if self._file is not None:
            raise RuntimeError("this store is open already")
        self._health = Health()
        opening = partial(_OpenFile, self.path, self.settings, self._health, check=self.check)
        self._file = await trio.to_thread.run_sync(opening, limiter=self._writing)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file: readers, then the writer, then the lock. Not cancellable; takes 10 s at most."""
        file, self._file = self._file, None
        if file is not None:
            # Abandoned after the deadline: a disk that hangs would hold up the whole shutdown for ever.
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await trio.to_thread.run_sync(file.close, limiter=self._writing, abandon_on_cancel=True)

    @property
    def failure(self) -> str | None:
        """Why nothing can be written until a restart, or None while all is well."""
        return self._health.failure

    def space(self) -> Sizes:
        """What the file and its WAL take, in bytes."""
        path = self.path.resolve()
        return Sizes(connection.size_of(path), connection.size_of(path, "-wal"))

    def _opened(self) -> _OpenFile:
        if self._file is None:
            raise RuntimeError("this store is not open: use it in 'async with'")
        return self._file

    async def append(self, batch: Batch, now: int) -> Results:
        """Carry out a batch in one transaction; see `Store.append`.

        Cancelling gives up waiting, not the transaction: it ends by itself, and nobody is told how. The chat does so only
        when everything else has ended and the disk has not answered for seconds: a wait without end would be no end.
        """
        append = self._opened().writer.append
        return await trio.to_thread.run_sync(append, batch, now, limiter=self._writing, abandon_on_cancel=True)

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Read a page for each request, from one snapshot; see `Store.pages`. Cancelling waits for the query to end."""
        reading = partial(self._opened().read, lambda reader: read_pages(reader, requests))
        return await trio.to_thread.run_sync(reading, limiter=self._reading)

    async def known(self, ids: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether a sender's message of an id is held; see `Store.known`. Cancelling waits for the query to end."""
        reading = partial(self._opened().read, lambda reader: read_known(reader, ids))
        return await trio.to_thread.run_sync(reading, limiter=self._reading)

    async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
        """Chosen messages, as they are now; see `Store.history`. Cancelling waits for the query to end.

        Raises:
            BadQuery: there are too many ids, among too many conversations.
        """
        return await self._ask(lambda reader: read_history(reader, user, query, size))

    async def search(self, user: str, query: SearchQuery, *, size: int) -> SearchPage:
        """Messages found by their words; see `Store.search`. Cancelling waits for the query to end."""
        return await self._ask(lambda reader: read_search(reader, user, query, size))

    async def conversations(self, user: str, query: ConversationsQuery, *, size: int) -> ConversationsPage:
        """The user's conversations; see `Store.conversations`. Cancelling waits for the query to end."""
        return await self._ask(lambda reader: read_conversations(reader, user, query, size))

    async def devices(self, user: str) -> tuple[Device, ...]:
        """The devices that are remembered; see `Store.devices`. Cancelling waits for the query to end."""
        return await self._ask(lambda reader: read_devices(reader, user))

    async def blocked(self, user: str) -> tuple[str, ...]:
        """Whom the user blocks; see `Store.blocked`. Cancelling waits for the query to end."""
        return await self._ask(lambda reader: read_blocked(reader, user))

    async def standings(self, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
        """What `viewer` may know of these users; see `Store.standings`. Cancelling waits for the query to end."""
        return await self._ask(lambda reader: read_standings(reader, viewer, users))

    def _push(self, delay: int | None) -> None:
        self._opened().writer.push_delay = delay

    async def _write(self, work: Callable[[Writer], T]) -> T:
        return await trio.to_thread.run_sync(work, self._opened().writer, limiter=self._writing)

    @contextlib.asynccontextmanager
    async def _apart(self) -> AsyncIterator[Ask]:
        """A way to read that has a connection and a thread of its own, for what takes long."""
        file, limiter = self._opened(), trio.CapacityLimiter(1)
        reader = await trio.to_thread.run_sync(file.another, limiter=limiter)

        async def ask(query: Callable[[sqlite3.Connection], T]) -> T:
            return await trio.to_thread.run_sync(file.carry_out, query, reader, limiter=limiter)

        try:
            yield ask
        finally:
            reader.close()

    async def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await trio.to_thread.run_sync(self._opened().ask, query, limiter=self._asking)


class _OpenFile:
    """Everything that is open while the store is. Its methods block."""

    def __init__(self, path: Path, settings: Settings, health: Health, *, check: bool) -> None:
        self.health = health
        self.path = path
        try:
            # Resolved, so that two names of one file are one lock.
            self.path = path.resolve()
            self._open(settings, check=check)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: sqlite3.Error | UnicodeDecodeError) -> ConfigurationError:
        fault = translate(error, self.path)
        match getattr(error, "sqlite_errorname", ""):
            case name if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                advice = f"it is damaged ({error}): restore a backup"
            case "" if isinstance(fault, StoreUnavailable):
                advice = f"it is damaged ({fault}): restore a backup"
            case _ if isinstance(fault, StoreBusy):
                advice = "another process holds it: stop that one first"
            case _ if isinstance(fault, StoreFull):
                advice = "there is no space left on its disk: make some"
            case _:
                advice = f"it cannot be opened: {error}"
        return ConfigurationError(f"{self.path}: {advice}")

    def _open(self, settings: Settings, *, check: bool) -> None:
        if self.path.exists() and not self.path.is_file():
            raise ConfigurationError(f"{self.path}: it is not a file: name another one")
        with contextlib.ExitStack() as undo:
            self.lock = FileLock(self.path)
            undo.callback(lambda: self.lock.release(clean=not self.lock.unclean))
            unclean = self.lock.unclean or connection.size_of(self.path, "-wal") > 0
            checked = self._inspect(check=check)
            self._secure()
            connection.create(self.path)
            self.lock.hold_file()
            writer = connection.write(self.path)
            undo.callback(writer.close)
            migrate(writer, self.path, schema.bundled(), _log.info)
            self._probe(writer)
            # SQLite does so for a WAL that it makes, but goes on as if nothing had happened if it fails: then a power cut
            # would take away the WAL's name, and with it all that was acknowledged.
            sync(self.path.parent)
            self.writer = Writer(writer, self.path, settings, self.health)
            self.readers = []
            for _ in range(READERS):
                self.readers.append(connection.read(self.path))
                undo.callback(self.readers[-1].close)
            self.asker = connection.read(self.path, cache_kib=QUERY_CACHE_KIB)
            undo.callback(self.asker.close)
            self.checkup = Checkup(connection.read(self.path), self.health) if unclean and not checked else None
            undo.pop_all()

    def _inspect(self, *, check: bool) -> bool:
        """Refuse a file that cannot be served, before anything is written. Says whether it was checked for damage."""
        if not connection.size_of(self.path):
            return False
        # With a rollback journal beside it the file may begin in any way: a power cut while it was made has torn its first
        # page, and SQLite rolls that back.
        journal = connection.size_of(self.path, "-journal") > 0
        if self.path.is_file() and not journal and not connection.is_database(self.path):
            raise ConfigurationError(f"{self.path}: it is not a database: name another file, or restore a backup")
        looking = connection.look(self.path)
        if looking is None:
            return False
        with contextlib.closing(looking):
            schema.bundled().check(schema.wrap(looking))
            finding = quick_check(looking) if check else None
        if finding is not None:
            raise ConfigurationError(f"{self.path}: it is damaged ({finding}): restore a backup")
        return check

    def _secure(self) -> None:
        """Make sure that what a crash has left in the WAL is on the disk, before anybody is told of it.

        A process that is killed between writing a commit and synchronising it leaves a WAL that SQLite reads as committed. A
        message found there is answered without another commit when it is sent again, and is delivered; so a power cut would
        take away what was acknowledged.
        """
        wal = Path(f"{self.path}-wal")
        if wal.exists():
            sync(wal)

    @staticmethod
    def _probe(writer: sqlite3.Connection) -> None:
        """Make sure the file can be written: SQLite opens a write-protected one all the same, and fails when it writes."""
        try:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if not isinstance(translate(error, Path()), StoreBusy):
                raise

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Read pages on a connection that is free; the caller's limiter sees to it that there is one."""
        reader = self.readers.pop()
        try:
            return self.carry_out(query, reader)
        finally:
            self.readers.append(reader)

    def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on the connection for queries; the caller's limiter sees to it that it is free."""
        return self.carry_out(query, self.asker)

    def another(self) -> sqlite3.Connection:
        """A connection that reads, which the caller closes."""
        return self.carry_out(lambda _: connection.read(self.path), self.asker)

    def carry_out(self, query: Callable[[sqlite3.Connection], T], reader: sqlite3.Connection) -> T:
        """Run a query; what SQLite says is raised as an error of the store's."""
        try:
            return query(reader)
        except Exception as error:
            fault = translate(error, self.path)
            if fault is None:
                raise
            self.health.note(fault)
            raise fault from error

    def close(self) -> None:
        """Readers, then the writer, then the lock; never raises for what SQLite says."""
        checked = self.checkup is None or self.checkup.stop()
        complete = self.writer.close([*self.readers, self.asker])
        self.lock.release(clean=checked and complete)
