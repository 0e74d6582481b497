"""Whether a provider, or a host of its, is to be asked at all: one that answers nobody is left alone for a while."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Breaker", "Breakers", "backoff"]

FAILURES: Final = 5
"""So many in a row, and it is left alone."""
REST: Final = 30.0
"""Seconds it is left alone; then one attempt says whether it is back."""
FIRST: Final = 10.0
"""Seconds before a second attempt, at least: what FCM asks for after a 500 or 503."""
LONGEST: Final = 600.0
REMEMBERED: Final = 1024
"""Hosts that failed lately. Anybody can name new ones."""


def backoff(attempts: int, chance: Callable[[], float]) -> float:
    """Seconds until the next try after so many: exponential, with full jitter above the least wait."""
    return FIRST + chance() * min(LONGEST, FIRST * 2.0 ** min(attempts, 16))


class Breaker:
    """Counts failures in a row. Knows no clock: `now` is in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self.open_until: float = -math.inf

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
        """It did what it is there for."""
        self._failures = 0
        self.open_until = -math.inf


class Breakers:
    """One for each host that failed since it answered last. Whose the trouble is bears it alone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Breaker] = OrderedDict()
        self._trying: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def wait(self, host: str, now: float) -> float:
        """Seconds for which the host is not to be asked; 0 if it may be."""
        breaker = self._kept.get(host)
        if breaker is None or not breaker.tripped:
            return 0.0
        if breaker.open_until > now:
            return breaker.open_until - now
        return FIRST if self._trying.get(host) else 0.0  # another attempt is finding out

    def resting(self, now: float) -> int:
        """How many hosts are left alone."""
        return sum(breaker.open_until > now for breaker in self._kept.values())

    def begin(self, host: str) -> None:
        """An attempt begins."""
        self._trying[host] = self._trying.get(host, 0) + 1

    def end(self, host: str) -> None:
        """An attempt has ended, whatever came of it."""
        self._trying[host] -= 1
        if not self._trying[host]:
            del self._trying[host]

    def failed(self, host: str, now: float) -> None:
        """An attempt failed. Of too many hosts, that which failed longest ago is forgotten."""
        breaker = self._kept.setdefault(host, Breaker())
        self._kept.move_to_end(host)
        breaker.failed(now)
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)

    def answered(self, host: str) -> None:
        """The host did what it is there for."""
        self._kept.pop(host, None)
