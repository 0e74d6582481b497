"""What every proof has: a seed that is printed, and figures that are shown at the end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def seed() -> int:
    """``TRIO_CHAT_PROOF_SEED``, to repeat a run; else a fresh one."""
    return int(os.environ.get("TRIO_CHAT_PROOF_SEED", random.SystemRandom().getrandbits(32)))


@pytest.fixture
def scale() -> float:
    """``TRIO_CHAT_PROOF_SCALE``: 1 is the portion for every day, larger values reach the full figures."""
    return float(os.environ.get("TRIO_CHAT_PROOF_SCALE", "1"))


@pytest.fixture
def figures(request: pytest.FixtureRequest, seed: int) -> Callable[[str], None]:
    """Takes a line for the summary at the end of the run."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    lines.append(f"{request.node.nodeid.rpartition('/')[2]} (seed {seed})")
    return lambda line: lines.append(f"    {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures."""
    if lines := config.stash.get(_FIGURES, None):
        terminalreporter.section("proofs")
        for line in lines:
            terminalreporter.write_line(line)
