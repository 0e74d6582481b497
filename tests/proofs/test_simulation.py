"""The real chat and the real client's decisions, simulated by the thousand, and judged from outside.

``tests/simulation`` says what is real and what is not. A run that fails is repeated, with its trace, by the command that it
prints.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from trio_chat import wire

from ..simulation.bugs import BUGS, planted
from ..simulation.checker import judge
from ..simulation.history import Did, Given, Said, Started, Told
from ..simulation.script import ACTS, write
from ..simulation.world import run
from .conftest import Record

pytestmark = pytest.mark.proof

SEEDS = 150
"""At scale 1; see `test_every_promise_is_kept`."""
FULL_SCALE = 70
AGAIN = 50
"""One run in so many is played a second time."""
TRIES = 600
"""Seeds in which a bug has to be found."""


def test_every_promise_is_kept(seed: int, scale: float, record: Record) -> None:
    """Else some order of connects, sends, cuts, crashes and refusals loses, doubles or reorders a message, or tells a lie.

    Scale 1 is 150 seeds; the full figures are those of scale 70.
    """
    did, faults, seconds, again, restarts, events, failed = Counter[str](), Counter[str](), 0.0, 0, 0, 0, 0
    began = time.process_time()
    last = ""
    for number in range(seed, seed + int(SEEDS * scale)):
        script = write(number)
        played = run(script)
        if found := judge(played):
            failed += 1
            pytest.fail("\n".join([f"seed {number}, see: python -m tests.simulation {number}", *found[:10]]))
        for event in played.history.events:
            if isinstance(event, Did):
                did.update([event.what] if event.what in ACTS else [])
                faults.update([event.what.partition(" ")[0]] if event.who == "trouble" else [])
            elif isinstance(event, Given):
                did["take a message"] += 1
            elif isinstance(event, Started):
                restarts += 1
        events += len(played.history.events)
        seconds += played.seconds
        if number % AGAIN == 0:
            again += 1
            last = played.history.digest()
            assert run(script).history.digest() == last, f"seed {number} gives another trace the second time"
    cpu = time.process_time() - began
    record(
        "simulation",
        seeds=int(SEEDS * scale),
    )
