"""Which connections are read: each is slowed by what it does itself, and by nothing else (C8)."""

from __future__ import annotations

from collections.abc import Callable

from ..settings import Settings
from .batch import ConnectionId
from .connection import Connection
from .effects import Effect, Pause, Resume

__all__ = ["Pace"]


class Pace:
    """Pauses a connection that has enough unanswered, or whose user sends frames faster than anybody needs to.

    Even a frame that is answered with nothing costs time, and all connections share one processor: without a limit, one
    client that sends small frames as fast as it can makes everybody wait. `emit` takes the effects.
    """

    def __init__(self, settings: Settings, emit: Callable[[Effect], None]) -> None:
        self._settings = settings
        self._emit = emit
        self._slowed: dict[ConnectionId, tuple[Connection, float]] = {}

    @property
    def deadline(self) -> float | None:
        """When somebody may be read again, if nothing else happens until then."""
        return min((until for _, until in self._slowed.values()), default=None)

    def begin(self, connection: Connection) -> None:
        """Read from a connection that was just opened."""
        connection.paused = False
        self._emit(Resume(connection.id))

    def end(self, connection: Connection) -> None:
        """Do not read from it again: it is to be closed."""
        if not connection.paused:
            connection.paused = True
            self._emit(Pause(connection.id))

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self._slowed.pop(connection.id, None)

    def received(self, connection: Connection, frames: int, now: float) -> None:
        """So many frames were taken in."""
        wait = connection.user.buckets.frames.spend(frames, now)
        if wait:
            self._slowed[connection.id] = (connection, now + wait)
        if wait or self._has_enough(connection, 1):
            self.end(connection)

    def lighter(self, connection: Connection) -> None:
        """It has less under way than before: read from it again, if that is all there was to wait for."""
        if (
            connection.paused
            and connection.open
            and connection.closing is None
            and connection.id not in self._slowed
            and not self._has_enough(connection, 2)
        ):
            self.begin(connection)

    def tick(self, now: float) -> None:
        """Read again from those who have waited long enough."""
        for connection, _ in [slowed for slowed in self._slowed.values() if now >= slowed[1]]:
            del self._slowed[connection.id]
            self.lighter(connection)

    def _has_enough(self, connection: Connection, share: int) -> bool:
        """Whether the connection has the limit, or its `share`-th part, of what it asked for unanswered."""
        commands, size = self._settings.uncommitted // share, self._settings.uncommitted_bytes // share
        return connection.unanswered >= max(1, commands) or connection.unanswered_bytes >= max(1, size)
