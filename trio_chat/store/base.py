"""What the chat needs of a store."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from ..core.batch import Batch, Page, PageRequest, Results
from ..core.outbox import Job, Preferences, Registered, Waiting
from ..keeping import Advance, Retained, Retention
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

__all__ = ["Keeping", "Outbox", "Sizes", "Store"]


class Outbox(Protocol):
    """What waits for push. Written by `Store.append` alone; each method raises StoreError if it cannot be read."""

    def open(self, delay: int | None) -> None:
        """From now on a message is announced `delay` milliseconds after it; with None, as at first, no message is."""
        ...

    async def due(self, provider: str, now: int, limit: int) -> tuple[Job, ...]:
        """The jobs for a provider's targets that are due at `now`, the first one first, as everything stands now."""
        ...

    async def next(self, provider: str) -> int | None:
        """When the next job for the provider's targets is due, Unix milliseconds; None if none waits."""
        ...

    async def length(self) -> tuple[int, int | None]:
        """How many jobs wait, and since when the oldest of them does."""
        ...

    async def waiting(self, user: str | None, limit: int) -> tuple[Waiting, ...]:
        """Jobs that wait, by provider and due time; of one user also those of which only the last answer is left."""
        ...

    async def targets(self, user: str) -> tuple[Registered, ...]:
        """Where the user can be reached, by device."""
        ...

    async def preferences(self, user: str) -> Preferences:
        """What the user wants to be told."""
        ...


class Keeping(Protocol):
    """What keeps a store in order for years. Each method raises StoreError if it cannot be done now.

    What writes does so in slices, between which other batches are carried out. Cancelled or failed, it is done in part, and
    the next call goes on with it.
    """

    async def retain(self, retention: Retention, now: int, advance: Advance) -> Retained:
        """Remove from the logs what has to go at `now` (Unix milliseconds), and the messages that are in no log any more.

        Each log's floor rises once; the logs' heads do not move (L3).
        """
        ...


class Sizes(Struct, frozen=True):
    """What a store takes of its disk, in bytes: the file, and what was written lately and is not in it yet (the WAL)."""

    file: int = 0
    wal: int = 0


class Store(Protocol):
    """Where messages are kept. An async context manager: entering opens it, leaving closes it, whatever happened.

    A store is used by one chat. `append` is called by one task at a time; `pages` may run beside it. Implementations pass
    the contract tests in ``tests/store``.
    """

    async def __aenter__(self) -> Self:
        """Open the store; create or check what it needs.

        Raises:
            ConfigurationError: it cannot be served, e.g. another server holds it (`StoreLocked`) or its schema is newer than
                this code (`SchemaMismatch`). Nothing was changed.
        """
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store. Never raises for a store that has failed before."""
        ...

    @property
    def failure(self) -> str | None:
        """Why nothing can be written until a restart, or None while all is well."""
        ...

    @property
    def outbox(self) -> Outbox:
        """What waits for push."""
        ...

    @property
    def keeping(self) -> Keeping:
        """What keeps it in order."""
        ...

    def space(self) -> Sizes:
        """What the store takes of its disk; zeros where there is none. Blocks for microseconds at most."""
        ...

    async def append(self, batch: Batch, now: int) -> Results:
        """Carry out a batch in one transaction: all of it is durable when this returns; if it raises, none of it is.

        Numbers, de-duplicates and tests blocks inside the transaction (L2, S2, B1). `now` is Unix milliseconds. Cancelled,
        it is carried out as a whole or not at all, and nobody learns which; leaving the store waits for it a while.

        Raises:
            RowRefused: something in the batch can never be stored; tried one by one, the rest can.
            StoreFull, StoreBusy: may succeed later.
            StoreUnavailable: will not succeed until a restart; `failure` says why from now on.
        """
        ...

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Read a page for each request, from one snapshot that holds every batch whose `append` has returned.

        Raises:
            StoreError: they could not be read.
        """
        ...

    async def known(self, ids: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the sender's log holds the sender's message of this id, for each (sender, id). Reads as `pages` does.

        Raises:
            StoreError: they could not be read.
        """
        ...

    # What follows reads a snapshot that holds every batch whose `append` has returned, delays no commit and no page, and
    # concerns the log of `user` only. Each raises StoreError if it cannot be read. A page holds about `size` bytes of JSON
    # at most, but one item at least if there is one, unless so much was looked at in vain that it ends before: `more` and
    # `next` are right then, too.

    async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
        """Chosen messages, as they are now.

        Raises:
            BadQuery: it would take too long: so many ids among so many conversations.
        """
        ...

    async def search(self, user: str, query: SearchQuery, *, size: int) -> SearchPage:
        """Messages found by their words."""
        ...

    async def conversations(self, user: str, query: ConversationsQuery, *, size: int) -> ConversationsPage:
        """The user's conversations, the latest first. Those without a single entry in the user's log are none."""
        ...

    async def devices(self, user: str) -> tuple[Device, ...]:
        """The devices that are remembered, by name; `connected` is not the store's to know."""
        ...

    async def blocked(self, user: str) -> tuple[str, ...]:
        """Whom the user blocks, by name."""
        ...

    async def standings(self, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
        """What `viewer` may know of each of these users, in the order given."""
        ...
