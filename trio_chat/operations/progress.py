"""How far long work is: one line on a terminal that is written over again and again, and nothing at all in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

from ..store.migration import Passing, Report
from ..terminal.visible import visible

__all__ = ["Advance", "shown", "told"]

_EVERY: Final = 0.1
"""Seconds between two looks: often enough to be seen moving, too seldom to cost anything."""
_SETTLED: Final = 3.0
"""Seconds after which it makes sense to say how long the rest will take."""


class Advance(Protocol):
    """Is told how much is done, as often as one likes, from any thread."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """So much is `done` by now, of `total` if that is known; it may change while the work goes on."""
        ...


@contextmanager
def shown(
    what: str, *, unit: str = "", stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Advance]:
    """Show how far `what` is for as long as the block lasts: ``backing up: 1,200 of 4,000 pages, 30 %, 12 s left``.

    The line is wiped away at the end, so what the command has to say itself stands where nothing else does. If `stream`,
    which is standard error if it is not given, is no terminal, nothing is written to it.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _unseen
        return
    line = _Line(what, unit, stream, clock)
    try:
        yield line
    finally:
        line.wipe()


def told(stream: TextIO | None = None) -> Report:
    """Takes what a migration reports: what was done is a line in any case, how far it is only if somebody watches."""
    stream = stream or sys.stderr
    watched = stream.isatty()

    def report(line: str) -> None:
        passing = isinstance(line, Passing)
        if watched or not passing:
            stream.write(f"\r{visible(line)}\x1b[K" if watched else visible(line))
            stream.write("" if passing else "\n")
            stream.flush()

    return report


def _unseen(done: int, total: int | None = None) -> None:
    """Nobody looks."""


class _Line:
    def __init__(self, what: str, unit: str, stream: TextIO, clock: Callable[[], float]) -> None:
        self._what = visible(what)
        self._unit = f" {unit}" if unit else ""
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._last = -_EVERY + self._began

    def __call__(self, done: int, total: int | None = None) -> None:
        now = self._clock()
        if now - self._last < _EVERY:
            return
        self._last = now
        text = f"{self._what}: {self._told(done, total, now - self._began)}"
        width = max(1, shutil.get_terminal_size().columns - 1)  # a line that is full wraps, and then stays
        self._stream.write(f"\r{text[:width]}\x1b[K")
        self._stream.flush()

    def _told(self, done: int, total: int | None, seconds: float) -> str:
        if not total:
            return f"{done:,}{self._unit}"
        text = f"{done:,} of {total:,}{self._unit}, {min(100, 100 * done // total)} %"
        if done and seconds >= _SETTLED:
            text += f", {max(0.0, seconds * (total - done) / done):.0f} s left"
        return text

    def wipe(self) -> None:
        self._stream.write("\r\x1b[K")
        self._stream.flush()
