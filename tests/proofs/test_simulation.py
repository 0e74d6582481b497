"""The real chat and the real client's decisions, simulated by the thousand, and judged from outside.

``tests/simulation`` says what is real and what is not. ``python -m tests.simulation SEED`` plays a seed again and shows all
that happened in it; with ``--shrink`` what it fails without is left out first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from ..simulation.bugs import BUGS
from ..simulation.campaign import campaign, seeds_until_found
from ..simulation.script import write
from ..simulation.world import run
from .conftest import Record

SEEDS: Final = 120
"""Times the scale. The full figures, 10,080 seeds, are those of scale 84."""
EVERY_DAY: Final = 60
"""At scale 1."""
TRIES: Final = 1000
"""Seeds within which a planted bug has to be found."""
ROOT: Final = Path(__file__).parents[2]


def test_every_promise_is_kept(seed: int, scale: float, record: Record) -> None:
    """Else some order of connects, sends, cuts, crashes and refusals loses, doubles or reorders a message, or tells a lie.

    The seeds are those from ``TRIO_CHAT_PROOF_SEED`` on.
    """
    figures = campaign(seed, int(SEEDS * scale) if scale > 1 else EVERY_DAY)
    record(
        "simulation",
        seeds=figures.seeds,
        client_operations=figures.operations,
        acts_of_people=figures.acts,
        messages_taken=figures.taken,
        faults=figures.faults,
        server_restarts=figures.restarts,
        events_judged=figures.events,
        violations=len(figures.violations),
        played_twice_same_history=figures.again,
        simulated_s=round(figures.simulated),
        cpu_s=round(figures.cpu, 1),
        times_faster_than_real=round(figures.simulated / figures.cpu),
    )
    assert not figures.violations, "\n".join(figures.violations[:20])


def test_every_planted_bug_is_found(seed: int, record: Record) -> None:
    """Else the judge is blind to what a promise is about, and that no violation is found says nothing."""
    tries = {bug: seeds_until_found(bug, seed, TRIES) for bug in BUGS}
    found = {bug: number for bug, number in tries.items() if number is not None}
    record(
        "simulation_bugs", planted=len(BUGS), found=len(found), **{f"seeds_{bug}": number for bug, number in found.items()}
    )
    assert found.keys() == BUGS.keys()


def test_a_seed_gives_the_same_history_in_another_process(seed: int, record: Record) -> None:
    """Else a seed that fails cannot be played again: something in it depends on the process, as the order of a set does."""
    expected = run(write(seed)).history.digest()
    played = subprocess.run(
        [sys.executable, "-m", "tests.simulation", str(seed), "--last", "0"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    record("simulation_trace", history=expected)
    assert f"history {expected}" in played.stdout
