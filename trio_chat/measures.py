"""Measuring what happens often: counts in classes, so that a million observations take no more room than one."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from msgspec import Struct

__all__ = ["ROWS", "SECONDS", "Distribution", "Measure"]

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of a commit: from a disk that answers at once to one that is about to be given up."""
ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Of a batch."""


class Distribution(Struct, frozen=True, kw_only=True):
    """What was observed: `counts` of the values up to each of `bounds` and above the one before, then of those beyond."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    max: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their mean; 0 if there were none."""
        return self.sum / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """A value that this `share` of them did not exceed, 0.99 for instance: as near above as the bounds tell.

        Beyond the last bound it is the greatest value; 0 if there were none.
        """
        passed, wanted = 0, share * self.count
        for bound, count in zip(self.bounds, self.counts, strict=False):
            passed += count
            if passed >= wanted and passed:
                return min(bound, self.max)
        return self.max


class Measure:
    """Takes values and sorts them into classes."""

    __slots__ = ("_bounds", "_counts", "_max", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._max = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        self._max = max(self._max, value)

    def distribution(self) -> Distribution:
        """What there was so far."""
        return Distribution(bounds=self._bounds, counts=tuple(self._counts), sum=self._sum, max=self._max)
