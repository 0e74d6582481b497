"""The virtual clock, which is also the world: when no task of the server can go on, it brings what happens next."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

import trio

_A_WHILE: Final = 0.05
"""Real seconds: Trio wakes itself by a socket now and then, at its end for one."""
RESOLUTION: Final = 100.0
"""Things happen at whole hundredths of a second: what happens in the same one shares the server's turns."""


class WorldClock(trio.abc.Clock):
    """Stands still while a task can run; else it moves to what comes first, a deadline of the server's or a callback.

    Trio asks a clock how long to sleep when nothing can run. This one has the callbacks run there and then, which costs a
    twentieth of a task that sleeps, and says that there is no need to sleep.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def start_clock(self) -> None:
        self._runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner

    def current_time(self) -> float:
        return self.now

    def jump(self, seconds: float) -> None:
        """The machine was suspended for so long."""
        self.now += seconds

    def stop(self) -> None:
        """Nothing happens any more."""
        self._heap.clear()

    def schedule(self, time: float, call: Callable[[], None]) -> None:
        """Have this called at a time."""
        time = max(time, math.ceil(time * RESOLUTION) / RESOLUTION)  # rounded down it would have to be done again at once
        heapq.heappush(self._heap, (time, next(self._count), call))

    def deadline_to_sleep_time(self, deadline: float) -> float:
        heap, runq = self._heap, self._runner.runq
        while heap and heap[0][0] <= deadline and not (runq and heap[0][0] > self.now):
            time, _, call = heapq.heappop(heap)
            self.now = max(self.now, time)
            call()
        if runq or deadline <= self.now:
            return 0.0
        if deadline == math.inf:
            return _A_WHILE
        self.now = deadline
        return 0.0
