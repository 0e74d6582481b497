"""Refusals in the log: each a line, but for a flood of them."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from trio_chat.sparing import SparingLog


async def test_a_flood_is_not_a_flood_of_lines(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Else whoever can be refused can fill the operator's disk; or the log hides how many there were."""
    log = SparingLog("trio_chat.test")
    with caplog.at_level(logging.INFO):
        for number in range(1000):
            log(logging.INFO, "refused: %d", number, client="::1")
        assert len(caplog.records) == 20
        await trio.sleep(1)
        log(logging.INFO, "refused: %d", 1000, client="::1")
    last = caplog.records[-1]
    assert last.getMessage() == "refused: 1000 (and 980 more were refused since the last line)"
    assert vars(last)["client"] == "::1"
    assert vars(last)["left_out"] == 980


async def test_what_nobody_wants_to_read_costs_no_line(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Lines below the level would use up the room of those above."""
    log = SparingLog("trio_chat.test")
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            log(logging.INFO, "refused")
        log(logging.WARNING, "refused: %s", "too many")
    assert [record.getMessage() for record in caplog.records] == ["refused: too many"]
