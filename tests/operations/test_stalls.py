"""Noticing that one task holds up all others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio

from trio_chat.errors import ConfigurationError
from trio_chat.operations import stalls

STALLED = """
import time, trio
from trio_chat.operations.stalls import watched

def held_up(text):
    time.sleep(0.8)

async def main():
    with watched(json=True):
        await trio.sleep(0.5)
        held_up("sEc" + "rEt")
        await trio.sleep(0.3)

trio.run(main)
"""


def test_a_stall_is_told_with_its_place_and_without_its_values() -> None:
    """Else a hook that computes for seconds is looked for everywhere; or the log quotes the message it was computing on."""
    environ = {name: value for name, value in os.environ.items() if name != "PATH"} | {"PATH": "/nowhere"}
    said = subprocess.run(
        [sys.executable, "-c", STALLED], capture_output=True, text=True, timeout=60, check=True, env=environ
    )
    assert '"held_up"' in said.stderr
    assert "Stall detected" in said.stderr
    assert "sEcrEt" not in said.stderr + said.stdout


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who has not installed it sees a traceback."""
    monkeypatch.setitem(sys.modules, "perpetuo", None)
    with pytest.raises(ConfigurationError, match=r"trio-chat\[stalls\]"), stalls.watched(json=False):
        await trio.lowlevel.checkpoint()


async def test_one_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server does not begin, and says nothing of why."""

    def refuse(**_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("perpetuo.instrument_trio", lambda: None)
    monkeypatch.setattr("perpetuo.start_watcher", refuse)
    with pytest.raises(ConfigurationError, match="Operation not permitted"), stalls.watched(json=False):
        await trio.lowlevel.checkpoint()
