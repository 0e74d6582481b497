"""A server that is asked to stop answers what it took, says goodbye to everybody, and is gone in time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from .harness import serving
from .ledger import Entry, audit, judge, make_talkers
from .peers import send
from .slow import deaf

pytestmark = pytest.mark.timed

LIMIT = 10.0
"""Seconds: the default of the setting ``drain_timeout``."""
MARGIN = 3.0
"""Seconds for the farewells after it, closing the store, and the end of a Python process on a busy machine."""


@pytest.mark.parametrize("never_reads", [False, True], ids=["everybody-reads", "one-never-reads"])
async def test_sigterm_under_load(
    never_reads: bool, tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, a deployment loses messages, leaves senders in the dark, or hangs."""
    numbers = random.Random(seed)
    talkers = make_talkers(numbers)
    logs: dict[str, list[Entry]] = {}
    took = []
    rounds = 1 if never_reads else max(3, round(3 * scale))
    for number in range(rounds):
        async with serving(tmp_path / "chat.db") as server, trio.open_nursery() as nursery:
            for talker in talkers:
                await nursery.start(talker.talk, server.port)
            if never_reads:
                # Its own answers, far more than the system buffers, are what it does not read.
                stream = await deaf(server.port, "deaf")
                nursery.start_soon(_write_for_ever, stream)
            await trio.sleep(2 if never_reads else numbers.uniform(0.05, 0.8))
            began = trio.current_time()
            server.terminate()
            with trio.fail_after(LIMIT + MARGIN + 5):
                status = await server.process.wait()
            took.append(trio.current_time() - began)
            nursery.cancel_scope.deadline = trio.current_time() + 5  # all of them have their ends already
        assert status == 0
        assert took[-1] < LIMIT + MARGIN
        for talker in talkers:
            assert talker.end is not None, talker.user
            assert talker.end.code == 1001, f"{talker.user} in round {number}: {talker.end}"
            assert re.fullmatch(r"retry_after=\d+\.\d", talker.end.reason)
        async with serving(tmp_path / "chat.db") as server:
            await audit(server.port, talkers, logs)
        assert not judge(talkers, logs)
        for talker in talkers:
            stored = {entry.id for entry in logs[talker.user]}
            dark = stored & set(talker.unanswered)
            assert not dark, f"{talker.user} was not told that these are stored: {dark}"
    acknowledged = sum(len(talker.stored) for talker in talkers)
    figures(f"{rounds} drains under load, {acknowledged} messages acknowledged, none lost or left unanswered")
    figures(f"SIGTERM to exit 0: {max(took):.2f} s at most")


async def _write_for_ever(stream: trio.SocketStream) -> None:
    async with stream:
        number = 0
        try:
            while True:
                await stream.send_all(b"".join(send("x" * 100, f"{number + n:060}", "x") for n in range(100)))
                number += 100
        except trio.BrokenResourceError:
            pass


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, seed: int, figures: Callable[[str], None]) -> None:
    """If this fails, an operator in a hurry has only SIGKILL left; or being in a hurry loses what was acknowledged."""
    numbers = random.Random(seed)
    talkers = make_talkers(numbers)
    async with serving(tmp_path / "chat.db") as server, trio.open_nursery() as nursery:
        for talker in talkers:
            await nursery.start(talker.talk, server.port)
        stream = await deaf(server.port, "deaf")
        nursery.start_soon(_write_for_ever, stream)
        await trio.sleep(2)
        server.terminate()
        with trio.fail_after(5):  # until it drains; it waits for the one who does not read  # noqa: ASYNC912
            for talker in talkers:
                await talker.ended.wait()
        assert server.process.returncode is None
        began = trio.current_time()
        server.terminate()
        with trio.fail_after(5):
            await server.process.wait()
        figures(f"second SIGTERM to the end: {trio.current_time() - began:.2f} s, status {server.process.returncode}")
        nursery.cancel_scope.deadline = trio.current_time() + 5
    assert server.process.returncode != 0
    async with serving(tmp_path / "chat.db") as server:
        logs: dict[str, list[Entry]] = {}
        await audit(server.port, talkers, logs)
    assert not judge(talkers, logs)
