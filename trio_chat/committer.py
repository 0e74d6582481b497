"""The tasks that use the store: one commits, one loads pages. They know nothing of connections or frames."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import trio
from msgspec import Struct
from msgspec.structs import replace

from .core.batch import Batch, ConnectionId, Draft, Page, PageRequest, Progress, Refused, Results, Stored
from .core.events import Committed, Event, Loaded, LoadFailed
from .core.outbox import PushChange
from .errors import RowRefused, StoreBusy, StoreError, StoreFull, StoreUnavailable
from .measures import ROWS, SECONDS, Distribution, Measure
from .store.base import Store

__all__ = ["Commits", "Committer", "Loader", "Ride", "unix_ms"]

_log = logging.getLogger("trio_chat.store")

_PAGES_AT_ONCE = 64
"""Pages read in one visit to the store: a reconnect storm must not cost a thread hop for each client."""


_RIDERS = 256
"""Changes of push that share one batch: so many more rows a message waits for at most."""

Onlooker: TypeAlias = Callable[[Batch, Results], None]
"""Is shown each batch that was carried out, before anybody is told of it."""


def unix_ms() -> int:
    """The wall clock, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Commits(Struct, frozen=True, kw_only=True):
    """What was committed so far: a batch is a transaction, if all goes well.

    `rows` are the messages, marks and devices of each, `seconds` from its beginning to the store's word. `failed` batches
    were refused, or tried again row by row.
    """

    rows: Distribution
    seconds: Distribution
    failed: int


class Ride:
    """A change that push has asked for, on its way into a batch. `refused` says why it is not in it, once `done` is set."""

    def __init__(self, change: PushChange) -> None:
        self.change = change
        self.done: trio.Event = trio.Event()
        self.refused: Refused | None = None


class Committer:
    """Commits one batch after the other. While one is under way, the next grows in the core (group commit)."""

    def __init__(
        self,
        store: Store,
        report: Callable[[Event], None],
        clock: Callable[[], int],
        onlookers: Sequence[Onlooker] = (),
    ) -> None:
        self._store = store
        self._report = report
        self._clock = clock
        self._onlookers = tuple(onlookers)
        self._batch: Batch | None = None
        self._ready = trio.Event()
        self._riders: list[Ride] = []
        self._ride_by = math.inf
        self.rode: Callable[[], None] = lambda: None
        """Called when what rode along is done."""
        self._rows = Measure(ROWS)
        self._seconds = Measure(SECONDS)
        self._failed = 0
        self.refused_at: float = -math.inf
        """When the store last refused a batch, for want of space or of a lock; -inf once it took one."""

    def commits(self) -> Commits:
        """What was committed so far."""
        return Commits(rows=self._rows.distribution(), seconds=self._seconds.distribution(), failed=self._failed)

    def submit(self, batch: Batch) -> None:
        """Commit this batch; its `Committed` is reported when it is durable. One at a time."""
        if self._batch is not None:
            raise RuntimeError("a batch is being committed already")
        self._batch = batch
        self._ready.set()

    @property
    def riding(self) -> bool:
        """Whether anything of push's waits, or is in flight."""
        return bool(self._riders)

    def ride(self, change: PushChange, delay: float) -> Ride:
        """Have this committed with the next batch; after `delay` seconds even without one."""
        ride = Ride(change)
        self._riders.append(ride)
        self._ride_by = min(self._ride_by, trio.current_time() + delay)
        self._ready.set()
        return ride

    async def run(self) -> None:
        """Commit what is submitted, until cancelled. A batch under way is finished first.

        Raises whatever the store raises beside its own errors: nobody knows then what is stored, so the server must stop.
        """
        while True:
            with trio.move_on_at(self._ride_by):
                await self._ready.wait()
            self._ready = trio.Event()
            submitted = self._batch
            if submitted is None and trio.current_time() < self._ride_by:
                continue
            riders = self._riders[:_RIDERS]
            batch = submitted or Batch()
            if riders:
                batch = replace(batch, push=tuple(ride.change for ride in riders))
            self._ride_by = trio.current_time() if len(self._riders) > len(riders) else math.inf
            began = trio.current_time()
            results = await self._commit(batch)
            self._seconds.observe(trio.current_time() - began)
            self._rows.observe(_rows(batch))
            if submitted is not None:
                self._batch = None
            for look in self._onlookers:
                look(batch, results)
            self._arrive(riders, results)
            if submitted is not None:
                self._report(Committed(results))

    def _arrive(self, riders: Sequence[Ride], results: Results) -> None:
        if riders:
            del self._riders[: len(riders)]
            for ride, refused in zip(riders, results.push or (None,) * len(riders), strict=True):
                ride.refused = refused
                ride.done.set()
            self.rode()

    async def _commit(self, batch: Batch) -> Results:
        try:
            results = await self._store.append(batch, self._clock())
        except (StoreBusy, StoreUnavailable) as error:
            self._failed += 1
            # Another try would only wait as long again, or retry an fsync that failed.
            _log.error("a batch of %d messages was refused: %s", len(batch.drafts), error)
            self.refused_at = trio.current_time()
            return _all_refused(batch, Refused(error.code))
        except StoreError as error:
            self._failed += 1
            _log.warning("a batch of %d messages is tried one by one: %s", len(batch.drafts), error)
            if isinstance(error, StoreFull):
                self.refused_at = trio.current_time()
            return await self._one_by_one(batch)
        if batch.drafts:
            self.refused_at = -math.inf
        return results

    async def _one_by_one(self, batch: Batch) -> Results:
        """Every row in a transaction of its own, so that only those that cannot be stored are refused (failures 24).

        Marks that cannot be stored are dropped: a device says again what it has, at the latest when it leaves.
        """
        single = _Singly(self._store, self._clock)
        for mark in batch.marks:
            result = await single.append(Batch(marks=(mark,)))
            if isinstance(result, Refused) and result.code is not RowRefused.code:
                break  # it is not about this one
        reads: list[Refused | None] = []
        for read in batch.reads:
            result = await single.append(Batch(reads=(read,)))
            reads.append(result if isinstance(result, Refused) else None)
            if isinstance(result, Refused) and result.code is not RowRefused.code:
                reads += [result] * (len(batch.reads) - len(reads))
                break
        removals = [_only(await single.append(Batch(removals=(removal,))), "removals") for removal in batch.removals]
        openings = [_only(await single.append(Batch(openings=(opening,))), "openings") for opening in batch.openings]
        blocks = [_only(await single.append(Batch(blocks=(block,))), "blocks") for block in batch.blocks]
        push: list[Refused | None] = []
        for change in batch.push:
            result = await single.append(Batch(push=(change,)))
            push.append(result if isinstance(result, Refused) else next(iter(result.push), None))
        drafts: list[Stored | Refused] = []
        stopped: dict[ConnectionId, Refused] = {}  # sources that met a retryable refusal: what follows is refused, too (S4)
        for draft in batch.drafts:
            stored = await single.draft(draft, stopped.get(draft.source))
            if isinstance(stored, Refused) and stored.code.retryable:
                stopped[draft.source] = stored
            drafts.append(stored)
        return Results(
            openings=tuple(openings),
            drafts=tuple(drafts),
            blocks=tuple(blocks),
            removals=tuple(removals),
            reads=tuple(reads),
            push=tuple(push),
            progress=tuple(single.progress.values()),
            at=single.at,
        )


class _Singly:
    """Appends batches of one row, until the store says that nothing can be appended, and gathers what is common to them."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._hopeless: Refused | None = None
        self.progress: dict[tuple[str, str], Progress] = {}
        self.at = 0

    async def append(self, batch: Batch) -> Results | Refused:
        if self._hopeless is not None:
            return self._hopeless
        try:
            results = await self._store.append(batch, self._clock())
        except StoreError as error:
            refused = Refused(error.code)
            if isinstance(error, StoreBusy | StoreUnavailable):
                self._hopeless = refused  # each row would wait as long again, or retry an fsync that failed
            return refused
        self.at = max(self.at, results.at)
        for new in results.progress:
            old = self.progress.get((new.user, new.peer), new)
            further = max(old.delivered, new.delivered), max(old.read, new.read)
            self.progress[new.user, new.peer] = Progress(new.user, new.peer, *further)
        return results

    async def draft(self, draft: Draft, stop: Refused | None) -> Stored | Refused:
        """What becomes of a draft. `stop` is what one before it met: that is for those alone that are not stored already.

        Who resends a message that is stored must not be told that it is not (S2, S5).
        """
        if stop is not None and self._hopeless is None:
            try:
                (known,) = await self._store.known([(draft.sender, draft.id)])
            except StoreError as error:
                return Refused(error.code)  # not `stop`: that would say what nobody knows
            if not known:
                return stop
        result: Stored | Refused = _only(await self.append(Batch(drafts=(draft,))), "drafts")
        return result


def _rows(batch: Batch) -> int:
    parts = (batch.marks, batch.openings, batch.drafts, batch.reads, batch.blocks, batch.removals, batch.push)
    return sum(map(len, parts))


def _only(results: Results | Refused, rows: str) -> Any:
    """What became of the only row of a batch."""
    return results if isinstance(results, Refused) else getattr(results, rows)[0]


def _all_refused(batch: Batch, refused: Refused) -> Results:
    return Results(
        openings=(refused,) * len(batch.openings),
        drafts=(refused,) * len(batch.drafts),
        blocks=(refused,) * len(batch.blocks),
        removals=(refused,) * len(batch.removals),
        reads=(refused,) * len(batch.reads),
        push=(refused,) * len(batch.push),
    )


class Loader:
    """Reads the pages that feed connections which are behind. Each asks for one at a time, so the queue is bounded."""

    def __init__(self, store: Store, report: Callable[[Event], None]) -> None:
        self._store = store
        self._report = report
        self._waiting: list[tuple[ConnectionId, PageRequest]] = []
        self._ready = trio.Event()

    @property
    def waiting(self) -> int:
        """How many pages wait for the store."""
        return len(self._waiting)

    def submit(self, connection: ConnectionId, request: PageRequest) -> None:
        """Read this page; `Loaded` or `LoadFailed` is reported."""
        self._waiting.append((connection, request))
        self._ready.set()

    async def run(self) -> None:
        """Read what is submitted, until cancelled."""
        while True:
            await self._ready.wait()
            asked, self._waiting = self._waiting[:_PAGES_AT_ONCE], self._waiting[_PAGES_AT_ONCE:]
            if not self._waiting:
                self._ready = trio.Event()
            if not asked:
                continue
            try:
                pages: list[Page] = await self._store.pages([request for _, request in asked])
            except StoreError as error:
                _log.error("%d pages could not be read: %s", len(asked), error)
                for connection, _ in asked:
                    self._report(LoadFailed(connection))
            else:
                for (connection, _), page in zip(asked, pages, strict=True):
                    self._report(Loaded(connection, page))
