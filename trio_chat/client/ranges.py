"""A set of numbers that mostly lie side by side."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

__all__ = ["Ranges"]


class Ranges:
    """A set of integers, kept as disjoint intervals: what lies side by side costs nothing, however much it is."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for number in numbers:
            self.add(number, number)

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The intervals, each with its first and last number."""
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._lasts, number)
        return at < len(self._firsts) and self._firsts[at] <= number

    def add(self, first: int, last: int) -> None:
        """Take `first` to `last` in."""
        begin = bisect_left(self._lasts, first - 1)  # the first interval that touches
        end = begin
        while end < len(self._firsts) and self._firsts[end] <= last + 1:
            end += 1
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def discard(self, number: int) -> None:
        """Take one number out, if it is in."""
        at = bisect_left(self._lasts, number)
        if at < len(self._firsts) and self._firsts[at] <= number:
            first, last = self._firsts[at], self._lasts[at]
            rest = [(low, high) for low, high in ((first, number - 1), (number + 1, last)) if low <= high]
            self._firsts[at : at + 1] = [low for low, _ in rest]
            self._lasts[at : at + 1] = [high for _, high in rest]

    def forget(self, number: int) -> None:
        """Forget all up to `number`."""
        end = bisect_left(self._lasts, number + 1)
        del self._firsts[:end], self._lasts[:end]
        if self._firsts:
            self._firsts[0] = max(self._firsts[0], number + 1)

    def pop_through(self, number: int) -> int:
        """Forget all up to `number` and what follows it without a hole; gives the last one that was forgotten."""
        self.forget(number)
        if self._firsts and self._firsts[0] == number + 1:
            del self._firsts[0]
            return self._lasts.pop(0)
        return number

    def clear(self) -> None:
        self._firsts.clear()
        self._lasts.clear()
