"""Promise 6: who does not acknowledge, read or stop costs little memory, delays nobody, and loses nothing.

How it is measured. Memory is the server's resident set, looked at twenty times a second. It counts from a *warm* server:
25 MB of messages have gone through it to well-behaved recipients, so SQLite's page caches (16 MiB for the writer), the
prepared statements and the allocator's arenas are as full as they get. Latency is that of innocent pairs in a process of
their own, from the moment a message is due to the moment its recipient has it, in alternating stretches with and without
the slow peers and otherwise the same traffic. The medians of the stretches are compared, so that one hiccup of the machine
decides nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import trio

from .feeding import Feeder, behave, warm_up
from .harness import Gauge, Innocents, Server, innocents, serving, until
from .ledger import entries
from .peers import PING, PONG, TEXT, Bill, Gone, connected, frame, send, text
from .slow import deaf

pytestmark = pytest.mark.timed

GROWTH = 10.0
"""MiB that the server may grow beyond its warm state."""


async def never_acknowledge(server: Server, user: str, task_status: trio.TaskStatus[None]) -> None:
    """Read everything and acknowledge nothing, for ever."""
    async with connected(server.port, user) as peer:
        task_status.started()
        while True:
            await peer.read()


async def never_read(server: Server, user: str, task_status: trio.TaskStatus[None]) -> None:
    """Connect, and then do nothing at all."""
    async with await deaf(server.port, user):
        task_status.started()
        await trio.sleep_forever()


async def catch_up(server: Server, user: str, count: int) -> list[str]:
    """Connect as the device that was slow, and take everything: the ids, in order."""
    ids: list[str] = []
    async with connected(server.port, user) as peer:
        with trio.fail_after(60):  # noqa: ASYNC912
            while len(ids) < count:
                for answer in await peer.read():
                    if answer["type"] == "messages":
                        new = entries(answer)
                        assert [entry.seq for entry in new] == list(range(len(ids) + 1, len(ids) + len(new) + 1))
                        ids += [entry.id for entry in new]
                await peer.write(text({"type": "ack", "seq": len(ids)}))
    return ids


class Comparison:
    """The innocents' latencies, in stretches with and without what might disturb them."""

    def __init__(self, good: Innocents) -> None:
        self._good = good
        self.without: list[Bill] = []
        self.with_: list[Bill] = []

    @asynccontextmanager
    async def stretch(self, *, disturbed: bool) -> AsyncIterator[None]:
        await self._good.bill()
        yield
        bill = await self._good.bill()
        assert not bill.wrongs
        assert bill.had
        (self.with_ if disturbed else self.without).append(bill)

    def judge(self, figures: Callable[[str], None]) -> None:
        """Compare the medians of the stretches; the rarer a value, the more it owes to the machine."""
        for what, factor, slack in (("p50", 1.5, 10.0), ("p99", 2.5, 80.0)):
            without, with_ = (median(getattr(bill, what) for bill in bills) for bills in (self.without, self.with_))
            figures(f"innocents' {what}: {without:.1f} ms without, {with_:.1f} ms with")
            assert with_ <= max(factor * without, without + slack)


async def test_slow_recipients_cost_nobody_anything(tmp_path: Path, scale: float, figures: Callable[[str], None]) -> None:
    """If this fails, a phone in a tunnel fills the server's memory, makes others wait, or misses messages afterwards."""
    stretches = 3
    part = -(-min(50_000, int(4_500 * scale)) // stretches)
    good = [Feeder("feeder-good-0", "good-0"), Feeder("feeder-good-1", "good-1")]
    slow = [Feeder("feeder-silent", "silent"), Feeder("feeder-deaf", "deaf")]
    async with serving(tmp_path / "chat.db") as server, innocents(server, pairs=2) as bystanders:
        comparison = Comparison(bystanders)
        warm = await warm_up(server)
        gauge = Gauge(server)
        async with trio.open_nursery() as nursery:
            for feeder in good:
                await nursery.start(behave, server, feeder.to)
            await nursery.start(never_acknowledge, server, "silent")
            await nursery.start(never_read, server, "deaf")
            nursery.start_soon(gauge.watch)
            for _ in range(stretches):
                for feeders in (good, slow):
                    async with comparison.stretch(disturbed=feeders is slow), trio.open_nursery() as feeding:
                        for feeder in feeders:
                            feeding.start_soon(feeder.feed, server, part)
            nursery.cancel_scope.cancel()
        figures(f"{part * stretches} messages to each; RSS {warm:.1f} MiB warm, {gauge.peak:.1f} at most")
        for feeder in slow:
            assert await catch_up(server, feeder.to, len(feeder.sent)) == feeder.sent
        comparison.judge(figures)
        assert gauge.peak - warm <= GROWTH
        assert not (await bystanders.finish()).wrongs


FLOODS = {
    "send": send("flooded", "always-the-same", "and the same text"),
    "ack": text({"type": "ack", "seq": 0}),
    "typing": text({"type": "typing", "to": "flooded", "typing": True}),
    "ping": text({"type": "ping"}),
    "bad": frame(TEXT, b"{}"),
    "worse": frame(TEXT, b""),
    "mixed": text({"type": "ack", "seq": 0}) + frame(PING) + frame(PONG),
}


async def flood(port: int, one: bytes) -> None:
    """Send the same frame as fast as it goes, and read nothing; connect again whenever that ends."""
    many = one * (64 * 1024 // len(one))
    while True:  # noqa: ASYNC913
        try:
            async with await deaf(port, "flooder") as stream:
                while True:
                    await stream.send_all(many)
        except (trio.BrokenResourceError, Gone):
            pass


def _rid_of(server: Server, descriptors: int) -> bool:
    return server.descriptors <= descriptors


@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_cost_nobody_anything(kind: str, tmp_path: Path, scale: float, figures: Callable[[str], None]) -> None:
    """If this fails, a client that sends as fast as it can, and reads nothing, takes the server away from the others."""
    stretches = 3
    seconds = min(30.0, 3.6 * scale) / stretches
    async with serving(tmp_path / "chat.db", limited=True) as server, innocents(server, pairs=8, pace=0.1) as bystanders:
        comparison = Comparison(bystanders)
        async with connected(server.port, "flooded"):
            await trio.sleep(0.5)
            warm = server.rss
            gauge = Gauge(server)
            descriptors = server.descriptors
            for _ in range(stretches):
                await until(partial(_rid_of, server, descriptors), "the flooder's connections are still there")
                async with comparison.stretch(disturbed=False):
                    await trio.sleep(0.8)
                async with comparison.stretch(disturbed=True):
                    with trio.move_on_after(seconds):
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(gauge.watch)
                            nursery.start_soon(flood, server.port, FLOODS[kind])
        figures(f"{kind}: RSS {warm:.1f} MiB before, {gauge.peak:.1f} at most")
        assert not (await bystanders.finish()).wrongs
        comparison.judge(figures)
        assert gauge.peak - warm <= GROWTH
