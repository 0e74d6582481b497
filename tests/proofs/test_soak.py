"""A server that has been busy for long is as it was before: nothing grows but the database.

Measured at rest, with nobody connected: once after a stretch of the same traffic, when caches, prepared statements and
arenas are as full as they get, and once after the whole of it.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import psutil
import trio

from .conftest import Record
from .feeding import warm_up
from .harness import Server, serving
from .sieges import THREADS
from .wanderers import Wanderer, audited

PEOPLE = 20
SECONDS = 15.0
"""Times the scale; at 120 it is the half hour of the page."""
SHORTEST = 6.0
"""Seconds at scale 1, which is for every day."""
GROWTH = 10.0
"""MiB that the server may be larger after it than before."""


class Rest:
    """What a server holds while nobody is connected."""

    def __init__(self, server: Server, tasks: int) -> None:
        self.rss = server.rss
        self.tasks = tasks
        self.descriptors = server.descriptors
        self.threads = server.threads

    def covers(self, other: Rest) -> bool:
        """Whether the other has no more. Trio keeps a thread that has nothing to do for ten seconds."""
        return (
            other.tasks <= self.tasks
            and other.descriptors <= self.descriptors
            and other.threads <= max(self.threads, THREADS)
        )


async def at_rest(server: Server, before: Rest | None = None) -> Rest:
    """Give it time to notice that everybody has gone: until it is as before, or, the first time, until nothing changes."""
    seen = Rest(server, await server.tasks())
    with trio.move_on_after(20):
        while True:
            await trio.sleep(0.5)
            last, seen = seen, Rest(server, await server.tasks())
            settled = (last.tasks, last.descriptors) == (seen.tasks, seen.descriptors)
            if settled and (before is None or before.covers(seen)):
                break
    return seen


async def busy(server: Server, wanderers: list[Wanderer], seconds: float) -> list[float]:
    """Let everybody come and go for so long. Returns the server's memory, looked at twice a second."""
    seen = []
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for wanderer in wanderers:
                nursery.start_soon(wanderer.wander, server.port)
                nursery.start_soon(wanderer.wander, server.port)
            while True:
                await trio.sleep(0.5)
                seen.append(server.rss)
    return seen


async def test_what_is_over_leaves_nothing_behind(tmp_path: Path, seed: int, scale: float, record: Record) -> None:
    """If this fails, a server that runs for weeks ends for want of memory, descriptors or threads, or loses messages."""
    numbers = random.Random(seed)
    names = [f"wanderer{number}" for number in range(PEOPLE)]
    wanderers = [Wanderer(name, [n for n in names if n != name], random.Random(numbers.random())) for name in names]
    seconds = min(1800.0, SECONDS * scale) if scale > 1 else SHORTEST
    async with serving(tmp_path / "chat.db", script=True) as server:
        await warm_up(server)
        await busy(server, wanderers, min(60.0, max(5.0, seconds / 10)))
        before = await at_rest(server)
        began, process = time.monotonic(), psutil.Process(server.process.pid)
        spent = sum(process.cpu_times()[:2])
        seen = await busy(server, wanderers, seconds)
        share = (sum(process.cpu_times()[:2]) - spent) / (time.monotonic() - began)
        after = await at_rest(server, before)
        wrongs = await audited(server.port, wanderers)
        again = await at_rest(server, before)
        heard = Counter[str]()
        for wanderer in wanderers:
            heard += wanderer.heard
        third = max(1, len(seen) // 3)
        record(
            "soak",
            seconds=seconds,
            people=PEOPLE,
            visits=sum(wanderer.visits for wanderer in wanderers),
            acknowledged=sum(len(wanderer.stored) for wanderer in wanderers),
            server_cpu_percent=round(100 * share),
            rss_mib_before=round(before.rss, 1),
            rss_mib_after=round(after.rss, 1),
            rss_mib_busy_first_third=round(sum(seen[:third]) / third, 1),
            rss_mib_busy_last_third=round(sum(seen[-third:]) / third, 1),
            rss_mib_most=round(max(seen), 1),
            tasks_before=before.tasks,
            tasks_after=again.tasks,
            descriptors_before=before.descriptors,
            descriptors_after=again.descriptors,
            threads_before=before.threads,
            threads_after=again.threads,
            heard=", ".join(f"{what} {times}" for what, times in sorted(heard.items())),
        )
        assert not wrongs, wrongs[:10]
        assert after.rss - before.rss <= GROWTH
        assert again.tasks <= before.tasks
        assert again.descriptors <= before.descriptors
        assert again.threads <= max(before.threads, THREADS)
        assert heard["internal"] == 0
        assert "Traceback" not in server.log()
        server.terminate()
        with trio.fail_after(15):
            assert await server.process.wait() == 0
