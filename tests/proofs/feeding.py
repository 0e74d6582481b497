"""Many messages at once, and somebody well-behaved who takes them."""

from __future__ import annotations

import trio

from .harness import Gauge, Server
from .ledger import words
from .peers import connected, send, text


class Feeder:
    """Sends messages to one user, 32 in flight, and waits until all of them are stored."""

    def __init__(self, user: str, to: str) -> None:
        self.user = user
        self.to = to
        self.sent: list[str] = []

    async def feed(self, server: Server, count: int, padding: str = "") -> None:
        """Send so many, and return when all are stored."""
        async with connected(server.port, self.user, "default", {"window": 0}) as peer:
            fresh = [f"{self.user}-{len(self.sent) + number}" for number in range(count)]
            self.sent += fresh
            at = stored = 0
            while stored < count:
                room = 32 - (at - stored)
                await peer.write(b"".join(send(self.to, id, words(id) + padding) for id in fresh[at : at + room]))
                at = min(count, at + room)
                stored += sum(len(answer["messages"]) for answer in await peer.read() if answer["type"] == "stored")


async def behave(server: Server, user: str, task_status: trio.TaskStatus[None]) -> None:
    """Read and acknowledge everything, for ever."""
    async with connected(server.port, user) as peer:
        task_status.started()
        while True:
            last = [answer["messages"][-1]["seq"] for answer in await peer.read() if answer["type"] == "messages"]
            if last:
                await peer.write(text({"type": "ack", "seq": last[-1]}))


async def warm_up(server: Server, megabytes: int = 25) -> float:
    """Have 25 MB of messages go through it: page caches, statements and arenas are then as full as they get.

    Returns the server's memory, in MiB.
    """
    gauge = Gauge(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(behave, server, "warm")
        nursery.start_soon(gauge.watch)
        await Feeder("warmer", "warm").feed(server, megabytes * 500, padding="x" * 1900)
        nursery.cancel_scope.cancel()
    return gauge.peak
