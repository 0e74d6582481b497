"""A server that is attacked in the midst of innocents, and what must not show afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from .harness import Server, innocents, serving, until

LATE = 500.0
"""Milliseconds that one in a hundred innocent messages may take on a busy machine, while the server is under attack."""
THREADS = 10
"""Of the server, at most: its own, the store's writer and readers, and what the resolver needed."""


@asynccontextmanager
async def siege(
    tmp_path: Path, figures: Callable[[str], None], *options: str, script: bool = False
) -> AsyncIterator[Server]:
    """A server among whose clients are innocents. Checks afterwards that neither has noticed anything."""
    async with serving(tmp_path / "chat.db", *options, script=script) as server:
        assert await server.health() == 200
        descriptors, tasks = server.descriptors, await server.tasks() if script else 0
        async with innocents(server) as good:
            yield server
            assert await server.health() == 200
            bill = await good.finish()
        figures(f"innocents: {bill.had} messages, p50 {bill.p50:.1f} ms, p99 {bill.p99:.1f} ms, worst {bill.worst:.0f} ms")
        assert not bill.wrongs
        assert bill.had > 0
        assert bill.p99 < LATE
        await until(lambda: server.descriptors <= descriptors, "descriptors are left open")
        assert server.threads <= THREADS
        with trio.fail_after(10):
            while script and await server.tasks() > tasks:  # noqa: ASYNC110  (no event comes out of another process)
                await trio.sleep(0.05)
        assert server.process.returncode is None
        assert "Traceback" not in server.log() or script
        server.terminate()
        with trio.fail_after(15):
            assert await server.process.wait() == 0


async def many(count: int, at_once: int, attack: Callable[[int], Awaitable[None]]) -> None:
    """Carry out `attack(0)`, `attack(1)`, … with so many at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            with trio.fail_after(30):
                await attack(number)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
