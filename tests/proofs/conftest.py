"""What every proof has: a seed that is printed, and figures that are shown at the end."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

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


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where thousands of files cost nothing. A process that is killed loses nothing of it."""
    folder = tempfile.mkdtemp(prefix="trio-chat-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)  # noqa: PTH112
    yield Path(folder)
    shutil.rmtree(folder)


class Record(Protocol):
    """Keeps what a proof measured."""

    def __call__(self, name: str, **measured: bool | float | str) -> None:
        """Keep these figures under a name; units stand in their names (``_s``, ``_ms``, ``_bytes``)."""


@pytest.fixture
def record(seed: int, scale: float, figures: Callable[[str], None]) -> Record:
    """Shows figures at the end and, if ``TRIO_CHAT_PROOF_RESULTS`` names a folder, writes them there as ``NAME.json``.

    The files of a run at full scale are kept in ``docs/reliability``; ``docs/reliability.md`` quotes them.
    """

    def keep(name: str, **measured: bool | float | str) -> None:
        figures(", ".join(f"{word} {value}" for word, value in measured.items()))
        if folder := os.environ.get("TRIO_CHAT_PROOF_RESULTS"):
            where = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "kernel": platform.release()}
            Path(folder).mkdir(parents=True, exist_ok=True)
            text = json.dumps({"proof": name, "seed": seed, "scale": scale, **where, "measured": measured}, indent=1)
            Path(folder, f"{name}.json").write_text(text + "\n")

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures."""
    if lines := config.stash.get(_FIGURES, None):
        terminalreporter.section("proofs")
        for line in lines:
            terminalreporter.write_line(line)
