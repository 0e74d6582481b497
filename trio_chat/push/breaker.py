"""Whether a provider is to be asked at all: one that answers nobody is left alone for a while."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

__all__ = ["Breaker", "backoff"]

FAILURES: Final = 5
"""So many in a row, and the provider is left alone."""
REST: Final = 30.0
"""Seconds it is left alone; then one attempt says whether it is back."""
FIRST: Final = 10.0
"""Seconds before a second attempt, at least: what FCM asks for after a 500 or 503."""
LONGEST: Final = 600.0


def backoff(attempts: int, chance: Callable[[], float]) -> float:
    """Seconds until the next try after so many: exponential, with full jitter above the least wait."""
    return FIRST + chance() * min(LONGEST, FIRST * 2.0 ** min(attempts, 16))


class Breaker:
    """Counts failures in a row. Knows no clock: `now` is in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self.open_until = -math.inf

    @property
    def tripped(self) -> bool:
        """Whether the last attempts failed: then one at a time is enough."""
        return self._failures >= FAILURES

    def failed(self, now: float) -> None:
        """An attempt failed, and not because of the target."""
        self._failures += 1
        if self.tripped:
            self.open_until = now + REST

    def answered(self) -> None:
        """The provider did what it is there for."""
        self._failures = 0
        self.open_until = -math.inf
