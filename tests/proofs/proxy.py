"""A proxy that cuts connections at random bytes, in front of a server that may be another one after every restart."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class CuttingProxy:
    """Passes bytes on until a connection has had as many as chance gives it; then both of its sides are gone.

    Args:
        numbers: chance.
        cuts: each user's connections are cut so many times, and left alone after that.
        mean: about so many bytes, both directions together, a connection gets.
    """

    def __init__(self, numbers: random.Random, *, cuts: int, mean: int) -> None:
        self.port = 0
        self.server: int | None = None
        """The port of the server; None while there is none, when connections are refused."""
        self.cut: Counter[str] = Counter()
        self._numbers = numbers
        self._cuts = cuts
        self._mean = mean

    async def pass_on(self, client: trio.SocketStream) -> None:
        """Serve one connection."""
        try:
            async with client:
                if self.server is None:
                    return
                server = await trio.open_tcp_stream("127.0.0.1", self.server)
                async with server:
                    await self._between(client, server)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one side is gone, and so is the other now

    async def _between(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        head = b""
        while b"\r\n" not in head:
            data = await client.receive_some()
            if not data:
                return
            head += data
        named = re.search(rb"[?&]user=(\w+)", head)
        user = named[1].decode() if named else "?"
        budget = self._numbers.randrange(1, 2 * self._mean) if self.cut[user] < self._cuts else math.inf
        left = [budget]

        async def forward(data: bytes, to: trio.SocketStream) -> None:
            part = data if len(data) < left[0] else data[: int(left[0])]
            left[0] -= len(part)
            if part:
                await to.send_all(part)
            if left[0] <= 0:
                self.cut[user] += 1
                nursery.cancel_scope.cancel()

        async def copy(source: trio.SocketStream, to: trio.SocketStream) -> None:
            async for data in source:
                await forward(bytes(data), to)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            await forward(head, server)
            nursery.start_soon(copy, client, server)
            nursery.start_soon(copy, server, client)


@asynccontextmanager
async def cutting(numbers: random.Random, *, cuts: int, mean: int) -> AsyncIterator[CuttingProxy]:
    """A proxy that runs for as long as the block lasts."""
    proxy = CuttingProxy(numbers, cuts=cuts, mean=mean)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.pass_on, listeners)  # noqa: ASYNC113  (it listens already)
        yield proxy
        nursery.cancel_scope.cancel()
