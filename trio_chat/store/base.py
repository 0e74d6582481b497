"""What the chat needs of a store."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from ..core.batch import Batch, Page, PageRequest, Results

__all__ = ["Store"]


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
