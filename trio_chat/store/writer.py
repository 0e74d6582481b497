"""The one connection that writes, and the transaction that carries out a batch. Synchronous: runs in the store's thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..core.batch import Batch, BlockChange, Draft, ReadMark, Refused, Results, Stored
from ..errors import StoreBusy, StoreFull
from ..settings import Settings
from .blocks import change
from .connection import BUSY_SECONDS
from .conversations import Conversations
from .devices import Openings, mark, remove
from .drafts import NEWEST, Drafts
from .faults import Health, translate
from .progress import delivered, told
from .push_changes import announce, clear, named
from .push_changes import change as change_push
from .reads import read
from .users import Users

__all__ = ["CHECKPOINT_PAGES", "Writer"]

CHECKPOINT_PAGES = 4000
"""The WAL is copied into the database after about so many pages (16 MB): seldom, as each time costs tens of milliseconds."""

RESTART_PAGES = 16_000
"""A WAL this much longer than when it last began anew (64 MB) is worth waiting for readers, see `Writer._restart`."""

RESTART_MS = 100
"""How long it may wait: a commit that is due meanwhile comes so much later. Pages take a few, and a backup stays anyhow."""

EMPTY_MS = 50
"""The same where the WAL is to be emptied, which is tried again and again."""

INCREMENTAL = 2
"""What ``PRAGMA auto_vacuum`` says of a file that can become shorter (SQLite's documentation of pragmas)."""

PAGES_PER_BATCH, PAGES_PER_ROW = 8, 3
"""What a transaction adds to the WAL, at most, roughly (measured: 2 pages a message between random users)."""

T = TypeVar("T")


class Writer:
    """Owns the read-write connection and what is remembered of the rows it wrote."""

    def __init__(self, connection: sqlite3.Connection, path: Path, settings: Settings, health: Health) -> None:
        self.connection = connection
        self.path = path
        self.settings = settings
        self.health = health
        self.epoch: str
        self.key: bytes
        self.epoch, self.key = connection.execute("SELECT epoch, digest_key FROM store WHERE one = 1").fetchone()
        self.users: Users = Users()
        self.conversations: Conversations = Conversations()
        self.push_delay: int | None = None  # milliseconds from a message to its push; None: nobody pushes
        self.newest: int = 0  # the highest id of a message, or 0 if that is not known
        self.version: int = -1
        self.pages: int = 0  # in the WAL, by estimate: the true number is not to be had without a checkpoint
        self.restart_at: int = RESTART_PAGES  # when the WAL has so many pages

    def append(self, batch: Batch, now: int) -> Results:
        """`Store.append`, blocking."""
        changes = sum(
            map(len, (batch.marks, batch.openings, batch.drafts, batch.reads, batch.blocks, batch.removals, batch.push))
        )
        return self.transact(lambda: self._carry_out(batch, now), PAGES_PER_BATCH + PAGES_PER_ROW * changes)

    def transact(self, work: Callable[[], T], pages: int) -> T:
        """Do `work` in one transaction, which adds about so many `pages` to the WAL; all of it is durable, or none.

        Raises:
            StoreError: none of it is.
        """
        self.health.require()
        committing = False
        try:
            self._checkpoint_if_due()
            self.connection.execute("BEGIN IMMEDIATE")
            self._notice_others()
            result = work()
            committing = True
            self.connection.execute("COMMIT")
        except BaseException as error:
            self._undo()
            fault = translate(error, self.path, committing=committing)
            if fault is None:
                raise
            self.health.note(fault)
            raise fault from error  # noqa: ASYNC104  (only SQLite's errors become a fault)
        self.users.settle()
        self.conversations.settle()
        self.pages += pages
        return result

    def _checkpoint_if_due(self) -> None:
        """Copy the WAL into the database, before the next transaction so that no answer waits for it.

        Not left to SQLite, which would swallow a failing fsync of the database, try again, and be told that all is well by a
        kernel that has dropped the pages. Here an I/O error makes the store unwritable; a full disk waits for the next time.
        """
        if self.pages < CHECKPOINT_PAGES:
            return
        self.pages = 0
        try:
            _, pages, _ = self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages >= self.restart_at:
                self.restart_at = RESTART_PAGES + (0 if self._restart() else pages)
        except sqlite3.Error as error:
            if not isinstance(translate(error, self.path), StoreFull | StoreBusy):
                raise

    def checkpoint(self) -> None:
        """Copy the WAL into the database now.

        Raises:
            StoreError: it could not be.
        """
        self.pages = CHECKPOINT_PAGES
        with self._outside_transactions():
            self._checkpoint_if_due()

    def vacuum(self, pages: int, spare: int) -> int:
        """Cut so many free pages off the end of the file, in a transaction, but leave `spare`; say how many bytes that were.

        0 if there are no more than that, or if the file is of a version that cannot become shorter.

        Raises:
            StoreError: none of it was done.
        """
        with self._outside_transactions():
            (possible,) = self.connection.execute("PRAGMA auto_vacuum").fetchone()
            (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
            pages = min(pages, free - spare)
            if possible != INCREMENTAL or pages <= 0:
                return 0
            before = self._size()
            self._checkpoint_if_due()
            # A script, as SQLite gives an empty row for each page, and sqlite3's execute() stops at the first of them.
            self.connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            self.pages += 2 * pages
            return before - self._size()

    @contextlib.contextmanager
    def _outside_transactions(self) -> Iterator[None]:
        """For statements that are transactions of their own, or none: their errors mean what those of `transact` mean."""
        self.health.require()
        try:
            yield
        except sqlite3.Error as error:
            fault = translate(error, self.path)
            if fault is None:
                raise
            self.health.note(fault)
            raise fault from error

    def empty_wal(self) -> bool:
        """Copy all of the WAL, and cut it to nothing; False if a reader would not end in time.

        Raises:
            StoreError: it could not be copied.
        """
        with self._outside_transactions():
            return self._checkpoint("TRUNCATE", EMPTY_MS)

    def compact(self) -> int:
        """`SqliteKeeping.compact`, blocking."""
        before = self._size()
        self.checkpoint()
        with self._outside_transactions():
            self.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self.connection.execute("VACUUM")
        return before - self._size()

    def _size(self) -> int:
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        (size,) = self.connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)

    def _restart(self) -> bool:
        """Have the WAL written from its beginning again; False if a reader would not end in time.

        It does so by itself when there is a moment without readers after all of it was copied. In a storm of clients that
        catch up there is none, and the WAL would grow until the disk is full.
        """
        return self._checkpoint("RESTART", RESTART_MS)

    def _checkpoint(self, mode: str, patience: int) -> bool:
        """Whether it was done; not if a reader did not end in so many milliseconds."""
        self.connection.execute(f"PRAGMA busy_timeout = {patience}").fetchone()
        try:
            busy, _, _ = self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}").fetchone()
        return not busy

    def close(self, readers: Sequence[sqlite3.Connection]) -> bool:
        """Close the readers, then this connection; say whether all that is committed is in the database file.

        Whoever closes last copies the WAL, if that connection can write. A disk or file that has failed is not to be
        trusted with that: then the readers, which cannot, close last.
        """
        complete = False
        if not self.health.failure:
            with contextlib.suppress(sqlite3.Error):
                busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                complete = not busy
        for connection in (*readers, self.connection) if complete else (self.connection, *readers):
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        return complete

    def _notice_others(self) -> None:
        """Forget the rows if another process wrote to the file, e.g. an operator with a shell."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if version != self.version:
            self._forget()
            self.version = version

    def _carry_out(self, batch: Batch, now: int) -> Results:
        connection, users = self.connection, self.users
        users.load(connection, _named(batch))
        mark(connection, users, batch.marks, now)
        reached = read(connection, users, batch.reads)
        if self.push_delay is not None:
            clear(connection, users, batch.reads, now)
        remove(connection, users, batch.removals)
        openings = Openings(connection, users, self.settings, self.epoch, now)
        opened = openings.carry_out(batch.openings)
        progress = told(connection, users, delivered(connection, users), reached)
        blocks = change(connection, users, self.settings, batch.blocks) if batch.blocks else []
        push = change_push(connection, users, self.settings, batch.push, now)
        stored = self._store(batch.drafts, now) if batch.drafts else []
        if not batch.drafts:
            users.flush(connection)
        openings.flush()
        removals = (None,) * len(batch.removals)
        return Results(tuple(opened), tuple(stored), tuple(blocks), removals, progress, now, push=push)

    def _store(self, batch: Sequence[Draft], now: int) -> list[Stored | Refused]:
        if not self.newest:
            (self.newest,) = self.connection.execute(NEWEST).fetchone()
        drafts = Drafts(self.connection, self.users, self.conversations, self.settings, self.key, self.newest + 1, now)
        stored = drafts.carry_out(batch)
        self.users.flush(self.connection)
        drafts.flush()
        if self.push_delay is not None and drafts.announced:
            announce(self.connection, drafts.announced, now, self.push_delay)
        self.newest += len(drafts.messages)
        return stored

    def _forget(self) -> None:
        self.users.forget()
        self.conversations.forget()
        self.newest = 0

    def _undo(self) -> None:
        self._forget()
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.health.fail(f"a transaction could not be rolled back: {error}")


def _named(batch: Batch) -> set[str]:
    """All users a batch is about."""
    names = {one.user for one in batch.marks}
    names.update(one.user for one in batch.openings)
    names.update(one.user for one in batch.removals)
    for draft in batch.drafts:
        names.add(draft.sender)
        names.add(draft.recipient)
    between: tuple[ReadMark | BlockChange, ...] = (*batch.reads, *batch.blocks)
    for pair in between:
        names.add(pair.user)
        names.add(pair.peer)
    return names | named(batch.push) if batch.push else names
