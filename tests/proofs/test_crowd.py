"""Two hundred good clients, and how long their messages take with a hostile crowd among them and without.

Stretches with and without the crowd alternate, and each makes a pair with the one before it; the median of the pairs'
ratios counts, so that one hiccup of the machine decides nothing. The crowd, the good ones and the server are processes of
their own, on the same cores: what the crowd needs for itself counts against the server, and is reported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import psutil
import pytest
import trio

from .conftest import Record
from .harness import HERE, STARTING, Lines, Server, innocents, serving
from .peers import Bill

pytestmark = pytest.mark.timed

PAIRS = 100
PACE = 2.0
"""Seconds between two messages of a pair: there are fifty a second."""
STRETCHES = 5
GROWTH = 25.0
"""MiB: a hundred hostile clients may cost as much as a hundred others with full buffers."""


class Crowd:
    """The hostile ones, while they are there; what they did, afterwards."""

    def __init__(self) -> None:
        self.cpu_percent = 0.0
        self.attacks: Counter[str] = Counter()


@asynccontextmanager
async def besieging(server: Server, crowd: Crowd) -> AsyncIterator[None]:
    """`crowd.py` at work, from when all of it is there."""
    command = [sys.executable, "-m", "tests.proofs.crowd", str(server.port)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE.parent.parent
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with process.stdin, process.stdout:
            lines = Lines(process.stdout)
            with trio.fail_after(STARTING):
                assert await lines.next() == "ready"
            yield
            await process.stdin.aclose()
            with trio.fail_after(STARTING):
                said = json.loads(await lines.next())
            crowd.cpu_percent = max(crowd.cpu_percent, said["cpu_percent"])
            crowd.attacks.update(said["attacks"])
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_hostile_crowd_delays_nobody(tmp_path: Path, scale: float, record: Record) -> None:
    """If this fails, a hundred clients that behave badly make two hundred others wait."""
    seconds = min(20.0, 2.0 * max(1.0, scale))
    stretches = STRETCHES if scale >= 4 else 2
    crowd = Crowd()
    without: list[Bill] = []
    among: list[Bill] = []
    others = server_share = grown = 0.0
    async with serving(tmp_path / "chat.db", limited=True) as server, innocents(server, pairs=PAIRS, pace=PACE) as good:
        process = psutil.Process(server.process.pid)
        await trio.sleep(3)
        quiet = server.rss
        descriptors = server.descriptors
        for _ in range(stretches):
            with trio.move_on_after(20):  # noqa: ASYNC912  (it may be so already)
                while server.descriptors > descriptors:  # noqa: ASYNC110  (no event comes out of another process)
                    await trio.sleep(0.05)
            await good.bill()
            psutil.cpu_percent()
            await trio.sleep(seconds)
            without.append(await good.bill())
            async with besieging(server, crowd):
                await good.bill()
                spent, began = sum(process.cpu_times()[:2]), time.monotonic()
                await trio.sleep(seconds)
                among.append(await good.bill())
                server_share = (sum(process.cpu_times()[:2]) - spent) / (time.monotonic() - began)
                others = max(others, psutil.cpu_percent())
                grown = max(grown, server.rss - quiet)
        last = await good.finish()
        assert "Traceback" not in server.log()
        assert await server.health() == 200
    ratios = [with_.p99 / bill.p99 for bill, with_ in zip(without, among, strict=True)]
    record(
        "crowd",
        good_clients=2 * PAIRS,
        pairs_of_stretches=stretches,
        stretch_s=seconds,
        p99_ms_without=round(median(bill.p99 for bill in without), 1),
        p99_ms_with=round(median(bill.p99 for bill in among), 1),
        p99_ratio_median=round(median(ratios), 2),
        p99_ratios=", ".join(f"{ratio:.2f}" for ratio in ratios),
        p50_ms_without=round(median(bill.p50 for bill in without), 1),
        p50_ms_with=round(median(bill.p50 for bill in among), 1),
        messages=sum(bill.had for bill in [*without, *among]),
        crowd_cpu_percent=crowd.cpu_percent,
        server_cpu_percent=round(100 * server_share, 1),
        machine_cpu_percent=others,
        rss_mib_grown=round(grown, 1),
        attacks=", ".join(f"{kind}: {times}" for kind, times in crowd.attacks.items()),
    )
    wrongs = [wrong for bill in [*without, *among, last] for wrong in bill.wrongs]
    assert not wrongs, wrongs[:10]
    assert grown <= GROWTH
    assert set(crowd.attacks) >= {"loris", "never_reads", "flood", "fragments", "pings"}
    # At the scale for every day a stretch has a hundred messages, of which the slowest is the p99: only a gross delay shows.
    assert median(ratios) <= (1.3 if scale >= 10 else 3.0) or median(bill.p99 for bill in among) < 60.0
