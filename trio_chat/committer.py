"""The tasks that use the store: one commits, one loads pages. They know nothing of connections or frames."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import trio

from .core.batch import Batch, ConnectionId, Opened, Page, PageRequest, Refused, Results, Stored
from .core.events import Committed, Event, Loaded, LoadFailed
from .errors import RowRefused, StoreBusy, StoreError, StoreFull, StoreUnavailable
from .store.base import Store

__all__ = ["Committer", "Loader", "unix_ms"]

_log = logging.getLogger("trio_chat.store")

_PAGES_AT_ONCE = 64
"""Pages read in one visit to the store: a reconnect storm must not cost a thread hop for each client."""


def unix_ms() -> int:
    """The wall clock, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Committer:
    """Commits one batch after the other. While one is under way, the next grows in the core (group commit)."""

    def __init__(self, store: Store, report: Callable[[Event], None], clock: Callable[[], int]) -> None:
        self._store = store
        self._report = report
        self._clock = clock
        self._batch: Batch | None = None
        self._ready = trio.Event()
        self.refused_at = -math.inf
        """When the store last refused a batch, for want of space or of a lock; -inf once it took one."""

    def submit(self, batch: Batch) -> None:
        """Commit this batch; its `Committed` is reported when it is durable. One at a time."""
        if self._batch is not None:
            raise RuntimeError("a batch is being committed already")
        self._batch = batch
        self._ready.set()

    async def run(self) -> None:
        """Commit what is submitted, until cancelled. A batch under way is finished first.

        Raises whatever the store raises beside its own errors: nobody knows then what is stored, so the server must stop.
        """
        while True:
            await self._ready.wait()
            self._ready = trio.Event()
            if self._batch is not None:
                results = await self._commit(self._batch)
                self._batch = None
                self._report(Committed(results))

    async def _commit(self, batch: Batch) -> Results:
        try:
            results = await self._store.append(batch, self._clock())
        except (StoreBusy, StoreUnavailable) as error:
            # Another try would only wait as long again, or retry an fsync that failed.
            _log.error("a batch of %d messages was refused: %s", len(batch.drafts), error)
            self.refused_at = trio.current_time()
            refused = Refused(error.code)
            return Results(openings=(refused,) * len(batch.openings), drafts=(refused,) * len(batch.drafts))
        except StoreError as error:
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
        hopeless: Refused | None = None
        for mark in batch.marks:
            results = await self._alone(Batch(marks=(mark,)))
            if isinstance(results, Refused) and results.code is not RowRefused.code:
                hopeless = _hopeless(results)
                break
        openings: list[Opened | Refused] = []
        for opening in batch.openings:
            results = hopeless or await self._alone(Batch(openings=(opening,)))
            hopeless = _hopeless(results)
            openings.append(results if isinstance(results, Refused) else results.openings[0])
        drafts: list[Stored | Refused] = []
        stopped: dict[ConnectionId, Refused] = {}  # sources that met a retryable refusal: what follows is refused, too (S4)
        for draft in batch.drafts:
            result: Stored | Refused
            if draft.source in stopped:
                result = stopped[draft.source]
            else:
                results = hopeless or await self._alone(Batch(drafts=(draft,)))
                hopeless = _hopeless(results)
                result = results if isinstance(results, Refused) else results.drafts[0]
            if isinstance(result, Refused) and result.code.retryable:
                stopped[draft.source] = result
            drafts.append(result)
        return Results(openings=tuple(openings), drafts=tuple(drafts))

    async def _alone(self, batch: Batch) -> Results | Refused:
        try:
            return await self._store.append(batch, self._clock())
        except StoreError as error:
            return Refused(error.code)


def _hopeless(results: Results | Refused) -> Refused | None:
    """The refusal after which the rest is not tried, either: each row would wait as long again, or retry an fsync."""
    if isinstance(results, Refused) and results.code in (StoreBusy.code, StoreUnavailable.code):
        return results
    return None


class Loader:
    """Reads the pages that feed connections which are behind. Each asks for one at a time, so the queue is bounded."""

    def __init__(self, store: Store, report: Callable[[Event], None]) -> None:
        self._store = store
        self._report = report
        self._waiting: list[tuple[ConnectionId, PageRequest]] = []
        self._ready = trio.Event()

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
