"""How many connections there may be: in all, in the handshake, and from one address (failures 14, 15)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from .settings import Settings

__all__ = ["Admission", "TooMany"]


class TooMany(Exception):
    """One more connection would be too many."""


class Admission:
    """Counts a chat's connections over all its listeners. A place is held for as long as its block lasts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._addresses: Counter[str] = Counter()
        self.turned_away: Counter[int] = Counter()
        """The requests that were refused, by their HTTP status."""
        self.connections: int = 0
        self.half_open: int = 0
        self._fewer = trio.Event()

    @contextmanager
    def connection(self) -> Iterator[None]:
        """A place for a connection.

        Raises:
            TooMany: there is none.
        """
        if self.connections >= self._settings.connections:
            raise TooMany("too many connections")
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    @contextmanager
    def handshake(self) -> Iterator[None]:
        """A place for a connection that nobody knows yet. Raises as `connection`."""
        if self.half_open >= self._settings.half_open:
            raise TooMany("too many handshakes")
        self.half_open += 1
        try:
            yield
        finally:
            self.half_open -= 1
            self._fewer.set()

    async def wait_for_handshakes(self, places: int) -> None:
        """Wait until so many more handshakes may begin, or until none is under way. Not a checkpoint if that is so now."""
        while self.half_open and self.half_open + places > self._settings.half_open:  # noqa: ASYNC913
            self._fewer = trio.Event()
            await self._fewer.wait()

    @contextmanager
    def address(self, address: str) -> Iterator[None]:
        """A place among the connections of one client address. Raises as `connection`."""
        limit = self._settings.per_address
        if limit is not None and self._addresses[address] >= limit:
            raise TooMany("too many connections from this address")
        self._addresses[address] += 1
        try:
            yield
        finally:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
