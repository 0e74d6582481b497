"""How long the client waits for what."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

__all__ = ["Timing"]


class Timing(Struct, frozen=True, kw_only=True):
    """The client's times, in seconds. The defaults are for everybody; tests have others."""

    backoff: float = 0.05
    """The longest first pause before another attempt; it doubles with each attempt that brings nothing but a welcome."""
    backoff_cap: float = 60.0
    patience: float = 10.0
    """From the attempt to the ``welcome``, and from an unanswered ping to the next attempt."""
    proven: float = 10.0
    """A connection that lasts this long counts as progress, whatever comes over it."""
    write_timeout: float = 10.0
    """For the server to take each 16 KiB."""
    farewell: float = 1.0
    """For the last acknowledgement, the close frame and its answer, when the block is left."""
    jitter: Callable[[], float] = random.random
    """A number between 0 and 1, by which a pause is multiplied: without it all clients come back in one instant."""

    def pause(self, attempt: int) -> float:
        """The pause before another attempt, after so many that brought nothing: full jitter."""
        longest = min(self.backoff_cap, self.backoff * 2.0 ** min(attempt, 32))
        return longest * self.jitter()
