"""Saying no: the error frames, the pause after a retryable refusal (S4), and the end of patience with who ignores it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from .. import wire
from ..errors import CloseCode, ErrorCode
from ..settings import Settings
from .connection import Connection, Refusal
from .effects import Effect, Send
from .tally import Tally

__all__ = ["Closing", "Refusals"]


class Closing(Protocol):
    """Closes a connection."""

    def __call__(self, connection: Connection, now: float, code: CloseCode, reason: str) -> None: ...


class Refusals:
    """Answers what is refused. `emit` takes the effects, `close` ends a connection, `tally` counts."""

    def __init__(self, settings: Settings, emit: Callable[[Effect], None], close: Closing, tally: Tally) -> None:
        self._settings = settings
        self._tally = tally
        self._emit = emit
        self._close = close

    def in_force(self, connection: Connection, id: str, now: float) -> bool:
        """Whether the connection's sends are refused for now; then this one was answered so, and counted (S4)."""
        refusal = connection.refusal
        if refusal is None:
            return False
        if now >= refusal.until:
            connection.refusal = None
            return False
        self.tell(connection, refusal.code, refusal.until - now, id=id)
        self._count(connection, now)
        return True

    def draft(
        self,
        connection: Connection,
        id: str,
        code: ErrorCode,
        now: float,
        wait: float = 0.0,
        *,
        message: str | None = None,
    ) -> None:
        """Refuse a draft. After a retryable code the connection's later ones are refused likewise for a while (S4)."""
        if code.retryable:
            until = now + max(wait, self._settings.retry_after)
            if connection.refusal is None or connection.refusal.until < until:
                connection.refusal = Refusal(code, until)
        self.tell(connection, code, wait, id=id, message=message)

    def request(self, connection: Connection, ref: str, code: ErrorCode, now: float, wait: float = 0.0) -> None:
        """Refuse a request that came too fast, or too many at once."""
        message = "Too many requests; the user's bucket is empty." if code is ErrorCode.RATE_LIMITED else None
        self.tell(connection, code, wait, ref=ref, message=message)
        self._count(connection, now)

    def tell(
        self,
        connection: Connection,
        code: ErrorCode,
        wait: float = 0.0,
        *,
        id: str | None = None,
        ref: str | None = None,
        message: str | None = None,
    ) -> None:
        """Send the error frame."""
        self._tally.refused[code] += 1
        # Rounded up: who comes back a part of a millisecond early is refused for another second.
        retry_after = max(math.ceil(wait * 1000) / 1000, self._settings.retry_after) if code.retryable else None
        error = wire.Error(code=code, message=message or code.meaning, id=id, ref=ref, retry_after=retry_after)
        self._emit(Send(connection.id, error))

    def _count(self, connection: Connection, now: float) -> None:
        if connection.user.buckets.refusals.take(now):
            self._close(connection, now, CloseCode.FLOODING, "kept sending what is refused for now")
