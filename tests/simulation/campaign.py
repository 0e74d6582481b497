"""Many runs: what came of them all, where a planted bug is found first, and what is left of a script that fails."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from .bugs import planted
from .checker import judge
from .history import Did, Ended, Event, Finished
from .script import ACTS, Act, Script, write
from .world import Run, run

AGAIN: Final = 50
"""One run in so many is played a second time, and has to give the same history."""
_COLLECT: Final = 10


class Figures(Struct):
    """What many runs amount to. `simulated` and `cpu` are seconds; the latter are all the process took, judging included."""

    seeds: int = 0
    acts: int = 0
    taken: int = 0
    faults: int = 0
    events: int = 0
    restarts: int = 0
    again: int = 0
    simulated: float = 0.0
    cpu: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def operations(self) -> int:
        """What clients did: the acts of people, and the messages that programs took and were done with."""
        return self.acts + self.taken


def campaign(first: int, count: int) -> Figures:
    """Play so many seeds and judge each.

    What is wrong is in `Figures.violations`.
    """
    figures, began = Figures(), time.process_time()
    gc.disable()  # a history is all new objects, and none of it is garbage until it was judged
    try:
        for seed in range(first, first + count):
            script = write(seed)
            played = run(script)
            figures.violations += judge_all(seed, played)
            figures.seeds += 1
            figures.simulated += played.seconds
            _count(played.history.events, figures)
            if seed % AGAIN == 0:
                figures.again += 1
                if run(script).history.digest() != played.history.digest():
                    figures.violations.append(f"seed {seed}: the second time its history is another")
            if seed % _COLLECT == 0:
                gc.collect()
    finally:
        gc.enable()
    figures.cpu = time.process_time() - began
    return figures


def judge_all(seed: int, played: Run) -> list[str]:
    """What is wrong with a run, in a few lines that say how to see the rest."""
    found = judge(played)
    return [f"seed {seed}: {one}" for one in found[:3]] + [f"seed {seed}: python -m tests.simulation {seed}"][: len(found)]


def _count(events: Sequence[Event], figures: Figures) -> None:
    kinds = Counter(type(event) for event in events)
    figures.events += len(events)
    figures.taken += kinds[Finished]
    figures.restarts += kinds[Ended] - 1
    for event in events:
        if isinstance(event, Did):
            figures.acts += event.what in ACTS
            figures.faults += event.who == "trouble"


def seeds_until_found(bug: str, first: int, limit: int) -> int | None:
    """In how many seeds a planted bug is found; None if it is not within the limit."""
    with planted(bug):
        for tries in range(1, limit + 1):
            if judge(run(write(first + tries - 1))):
                return tries
    return None


def shrink(script: Script, fails: Callable[[Script], bool]) -> Script:
    """The script without what it fails without: ever smaller parts of its list are left out, as long as it still fails."""
    size = max(1, len(script.acts) // 2)
    while True:
        begin, shorter = 0, False
        while begin < len(script.acts):
            acts: tuple[Act, ...] = script.acts[:begin] + script.acts[begin + size :]
            if acts and fails(tried := replace(script, acts=acts)):
                script, shorter = tried, True
            else:
                begin += size
        if size == 1 and not shorter:
            return script
        size = max(1, size // 2)
