"""What keeps an SQLite file in order beside live traffic: in slices, so that no message waits long for any of it."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from functools import partial
from itertools import islice
from typing import Final, Protocol, TypeVar

import trio

from ..errors import StoreBusy
from ..keeping import Advance, Erased, Explanation, Retained, Retention, account
from . import erasure
from . import retention as retaining
from .devices import log_name
from .explaining import read_explanation
from .portrait import portray
from .writer import PAGES_PER_ROW, Writer

__all__ = ["SqliteKeeping"]

T = TypeVar("T")

USERS: Final = 500
"""Users whose logs are looked at in one statement, and whose floors rise in one transaction."""

LOGS: Final = 16
ENTRIES: Final = 512
"""A slice takes entries from so many logs, and so many at most. All logs take turns, as their messages lie side by side."""

FEWEST: Final = 16
"""Entries a slice takes at least."""

SLICE: Final = 0.008
"""Seconds a transaction of a slice should take: what a message waits for it, at most, and half of that on average."""

SPARE: Final = 256
"""Free pages that are left in the file: the next messages take them."""

INCREMENTAL: Final = 2
"""What ``PRAGMA auto_vacuum`` says of a file that can become shorter (SQLite's documentation of pragmas)."""

PAGES: Final = 128
"""Pages that are given back in one transaction, at first."""

TRIES: Final = 40
RETRY: Final = 0.05
"""How often, and after how many seconds each time, is tried to empty the WAL while somebody reads."""


class Ask(Protocol):
    """Runs a query in a reader's thread."""

    def __call__(self, query: Callable[[sqlite3.Connection], T]) -> Awaitable[T]: ...


class _Write(Protocol):
    def __call__(self, work: Callable[[Writer], T]) -> Awaitable[T]: ...


class _Pace:
    """How much a slice does: as much as takes `SLICE`, and then the writer is left to others for as long as it took."""

    def __init__(self, amount: int, least: int, most: int, *, alone: bool) -> None:
        self.amount = amount
        self._least = least
        self._most = most
        self._alone = alone

    async def rest(self, seconds: float) -> None:
        factor = min(2.0, max(0.5, SLICE / max(seconds, 1e-6)))
        self.amount = min(self._most, max(self._least, round(self.amount * factor)))
        await trio.sleep(0 if self._alone else seconds)


class SqliteKeeping:
    """`Keeping`, with the store's readers and its writer, which other transactions use in between.

    Cancelling any of it waits for the slice under way; what is left the next call does. With `alone` set there are no other
    transactions, and it does not rest between the slices.
    """

    def __init__(self, ask: Ask, write: _Write, apart: Callable[[], AbstractAsyncContextManager[Ask]]) -> None:
        self._ask = ask
        self._write = write
        self._apart = apart
        self.alone = False

    async def compact(self) -> int:
        """Rewrite the file, and the index of words, without what is free in it or was removed.

        From then on it can become shorter by itself.

        Nobody else may have the file open. It takes as much space again while it lasts, and can be interrupted. Returns by
        how many bytes the file shrank.

        Raises:
            StoreError: it was not rewritten.
        """
        await self._merge_words()
        return await self._write(Writer.compact)

    async def retain(self, retention: Retention, now: int, advance: Advance) -> Retained:
        """Remove what has to go; see `Keeping.retain`."""
        users, entries = await self._raise_floors(retention, now) if retention else (0, 0)
        messages = await self._sweep(advance)
        return Retained(users=users, entries=entries, messages=messages, bytes=await self._give_back(SPARE))

    async def explain(self, sender: str, id: str) -> Explanation | None:
        """What became of a message; see `Keeping.explain`."""
        return await self._ask(partial(read_explanation, sender=sender, id=id))

    @asynccontextmanager
    async def export(self, user: str, now: int) -> AsyncIterator[AsyncIterator[str]]:
        """All there is about the user; see `Keeping.export`. While the block lasts the WAL cannot begin anew."""
        async with self._apart() as look:
            pieces = await look(partial(portray, user=user, now=now))
            with closing(pieces):
                async with aclosing(_lines(look, pieces)) as lines:
                    yield lines

    async def erase(self, user: str, advance: Advance) -> Erased:
        """Erase a user; see `Keeping.erase`."""
        await self._write(partial(_overwriting, mode="ON"))
        try:
            begun = await self._write(partial(_begin, name=user))
            if begun is None:
                return account(user, None, {}, {})
            id, log, removed = begun
            removed["texts"] = await self._erase_texts(id)
            removed["messages"] = await self._sweep(advance, (id - 1, id))
            await self._merge_words()
            await self._give_back(0)
            await self._empty_wal()
            return account(user, log, removed, await self._ask(partial(erasure.kept, user=id)))
        finally:
            with trio.CancelScope(shield=True):  # one statement
                await self._write(partial(_overwriting, mode="FAST"))

    async def _erase_texts(self, user: int) -> int:
        texts, after = 0, ""
        pace = _Pace(ENTRIES // 4, FEWEST, ENTRIES, alone=self.alone)
        while True:
            work = partial(_erase_texts, user=user, after=after, limit=pace.amount)
            (erased, last), seconds = await self._write(partial(_timed, work))
            if last is None:
                return texts
            texts, after = texts + erased, last
            await pace.rest(seconds)

    async def _merge_words(self) -> None:
        sign = -1  # begins with all segments there are
        pace = _Pace(PAGES, FEWEST, 8 * PAGES, alone=self.alone)
        while True:
            done, seconds = await self._write(partial(_timed, partial(_merge_words, pages=sign * pace.amount)))
            if not done:
                break
            sign = 1
            await pace.rest(seconds)

    async def _empty_wal(self) -> None:
        for _ in range(TRIES):
            if await self._write(Writer.empty_wal):
                return
            await trio.sleep(RETRY)
        raise StoreBusy(
            "the texts are gone from the file, but a backup that reads, or Litestream, holds the log beside it: erase again"
        )

    async def _raise_floors(self, retention: Retention, now: int) -> tuple[int, int]:
        last = await self._ask(retaining.last_user)
        cut = await self._ask(lambda reader: retaining.cut(reader, retention.max_bytes))
        users = entries = 0
        for after in range(0, last, USERS):
            some = after, after + USERS
            found = await self._ask(partial(retaining.plan, retention=retention, now=now, cut=cut, users=some))
            if found:
                await self._write(partial(_raise_floors, raised=found))
            users += len(found)
            entries += sum(then - before for _, before, then in found)
        return users, entries

    async def _sweep(self, advance: Advance, users: tuple[int, int] | None = None) -> int:
        left: dict[int, int] = {}
        first, last = users or (0, await self._ask(retaining.last_user))
        for after in range(first, last, USERS):
            left |= await self._ask(partial(retaining.below, users=(after, min(last, after + USERS))))
        total, messages = sum(left.values()), 0
        pace = _Pace(ENTRIES // 4, FEWEST, ENTRIES, alone=self.alone)
        turns = deque(left)
        while turns:
            chosen = [(user, max(1, pace.amount // LOGS)) for user in islice(turns, LOGS)]
            removed, seconds = await self._write(partial(_timed, partial(_sweep, chosen=chosen)))
            messages += removed
            for user, count in chosen:
                # What went with others' messages leaves holes, so it may be less that was there.
                turns.popleft()
                left[user] = max(0, left[user] - count)
                if left[user]:
                    turns.append(user)
            advance(total - sum(left.values()), total)
            await pace.rest(seconds)
        return messages

    async def _give_back(self, spare: int) -> int:
        """Cut free pages off the end of the file, but for so many; say how many bytes that were."""
        given = 0
        pace = _Pace(PAGES, FEWEST, 16 * PAGES, alone=self.alone)
        while True:
            freed, seconds = await self._write(partial(_timed, partial(_vacuum, pages=pace.amount, spare=spare)))
            if not freed:
                break
            given += freed
            await pace.rest(seconds)
        if given:
            await self._write(Writer.checkpoint)  # until then it is as long as it was
        return given


async def _lines(look: Ask, pieces: Generator[list[str], None, None]) -> AsyncGenerator[str, None]:  # noqa: ASYNC900  (closed in `export`)
    while piece := await look(lambda _: next(pieces, None)):
        for line in piece:
            yield line


def _timed(work: Callable[[Writer], T], writer: Writer) -> tuple[T, float]:
    """What comes of it, and the seconds it took, without those it waited for its turn."""
    began = time.perf_counter()
    return work(writer), time.perf_counter() - began


def _overwriting(writer: Writer, mode: str) -> None:
    erasure.overwriting(writer.connection, mode)


def _begin(writer: Writer, name: str) -> tuple[int, str, dict[str, int]] | None:
    begun = writer.transact(partial(erasure.begin, writer.connection, writer.users, name), PAGES)
    if begun is None:
        return None
    id, epoch, removed = begun
    return id, log_name(writer.epoch, epoch), removed


def _erase_texts(writer: Writer, user: int, after: str, limit: int) -> tuple[int, str | None]:
    work = partial(erasure.erase_texts, writer.connection, user, after, limit)
    return writer.transact(work, PAGES_PER_ROW * limit)


def _merge_words(writer: Writer, pages: int) -> int:
    return writer.transact(partial(erasure.merge_words, writer.connection, pages), 2 * abs(pages))


def _raise_floors(writer: Writer, raised: Sequence[retaining.Raise]) -> None:
    work = partial(retaining.raise_floors, writer.connection, writer.users, raised)
    writer.transact(work, PAGES_PER_ROW * len(raised))


def _sweep(writer: Writer, chosen: Sequence[tuple[int, int]]) -> int:
    pages = PAGES_PER_ROW * sum(count for _, count in chosen)
    return writer.transact(partial(retaining.sweep, writer.connection, chosen), pages)


def _vacuum(writer: Writer, pages: int, spare: int) -> int:
    (possible,) = writer.connection.execute("PRAGMA auto_vacuum").fetchone()
    pages = min(pages, writer.free - spare)
    return writer.vacuum(pages) if pages > 0 and possible == INCREMENTAL else 0
