"""What waits for push, in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from ..core.outbox import Job, Preferences, Registered, Waiting
from .push_queries import count_waiting, read_due, read_next, read_preferences, read_targets, read_waiting

__all__ = ["SqliteOutbox"]

T = TypeVar("T")


class _Ask(Protocol):
    def __call__(self, query: Callable[[sqlite3.Connection], T]) -> Awaitable[T]: ...


class SqliteOutbox:
    """`Outbox`, asking on the store's connection for queries. Cancelling waits for the query to end."""

    def __init__(self, ask: _Ask, push: Callable[[int | None], None]) -> None:
        self._ask = ask
        self.open = push

    async def due(self, provider: str, now: int, limit: int) -> tuple[Job, ...]:
        """The jobs that are due; see `Outbox.due`."""
        return await self._ask(lambda reader: read_due(reader, provider, now, limit))

    async def next(self, provider: str) -> int | None:
        """When the next job is due; see `Outbox.next`."""
        return await self._ask(lambda reader: read_next(reader, provider))

    async def length(self) -> tuple[int, int | None]:
        """How many jobs wait; see `Outbox.length`."""
        return await self._ask(count_waiting)

    async def waiting(self, user: str | None, limit: int) -> tuple[Waiting, ...]:
        """What waits; see `Outbox.waiting`."""
        return await self._ask(lambda reader: read_waiting(reader, user, limit))

    async def targets(self, user: str) -> tuple[Registered, ...]:
        """Where the user can be reached; see `Outbox.targets`."""
        return await self._ask(lambda reader: read_targets(reader, user))

    async def preferences(self, user: str) -> Preferences:
        """What the user wants to be told; see `Outbox.preferences`."""
        return await self._ask(lambda reader: read_preferences(reader, user))
