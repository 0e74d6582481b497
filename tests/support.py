"""What several tests of the running server need: clients that wait for one thing, and a store that can be held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import trio

from trio_chat import wire
from trio_chat.client.raw import ClosedByServer, RawClient
from trio_chat.core.batch import Batch, Results
from trio_chat.model import Message
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import InMemoryServer

from .transport.peer import Peer

Frame = TypeVar("Frame", bound=wire.ServerFrame)

PATIENCE = 120.0
"""Seconds after which what has not come will not; mostly virtual ones."""


def send(id: str, to: str, text: str = "hi") -> wire.Send:
    return wire.Send(id=id, to=to, text=text)


async def frame(client: RawClient, kind: type[Frame]) -> Frame:
    """The next frame, which is to be of this kind."""
    with trio.fail_after(PATIENCE):
        got = await client.receive()
    assert isinstance(got, kind), got
    return got


async def silence(client: RawClient, seconds: float) -> None:
    """Nothing comes for so long."""
    with trio.move_on_after(seconds):
        raise AssertionError(f"there was {await client.receive()}")


async def closed(client: RawClient) -> ClosedByServer:
    """How the server closes, whatever it says before."""
    with trio.fail_after(PATIENCE):
        while True:  # noqa: ASYNC913
            try:
                await client.receive()
            except ClosedByServer as end:
                return end


async def entries(client: RawClient, count: int, *, acknowledge: bool = True) -> list[Message]:
    """The next `count` entries; nothing but entries may come."""
    got: list[Message] = []
    while len(got) < count:
        messages = (await frame(client, wire.Messages)).messages
        got += messages
        if acknowledge:
            await client.send(wire.Ack(seq=messages[-1].seq))
    assert len(got) == count, got
    return got


async def stored(client: RawClient, count: int) -> list[wire.StoredItem]:
    """The next `count` items of `stored` frames; nothing else may come."""
    got: list[wire.StoredItem] = []
    while len(got) < count:
        got += (await frame(client, wire.Stored)).messages
    assert len(got) == count, got
    return got


async def enter(server: InMemoryServer, user: str, device: str = "phone", **parameters: str | int) -> RawClient:
    """A client that has read its ``welcome``."""
    client = await server.connect(user, device, **parameters)
    await frame(client, wire.Welcome)
    return client


class HeldStore(MemoryStore):
    """A store whose commits wait while it is held, as on a slow disk. Cancelling does not abandon one that has begun."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.batches: list[Batch] = []
        self.begun = trio.Event()
        """Set when a commit has begun since the last `hold`."""
        self._released = trio.Event()
        self._released.set()
        self.closed = 0

    def hold(self) -> None:
        self.begun = trio.Event()
        self._released = trio.Event()

    def release(self) -> None:
        self._released.set()

    async def append(self, batch: Batch, now: int) -> Results:
        self.batches.append(batch)
        self.begun.set()
        outcome: list[Results] = []
        with trio.CancelScope(shield=True):
            await self._released.wait()
            outcome.append(await super().append(batch, now))
        return outcome[0]

    async def __aexit__(self, *exc_info: object) -> None:
        self.closed += 1

    def texts(self, user: str) -> list[str | None]:
        """What stands in a user's log, numbered without a hole."""
        log = self.log(user)
        assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
        return [entry.text for entry in log]

    def ids(self, user: str) -> list[str]:
        return [entry.id for entry in self.log(user)]


UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # RFC 6455 §1.3
    "Sec-WebSocket-Version": "13",
}


def request(target: str = "/ws?user=alice", headers: dict[str, str] | None = None, *, method: str = "GET") -> bytes:
    """A request head as it goes over the wire."""
    lines = [f"{name}: {value}" for name, value in (UPGRADE if headers is None else headers).items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


async def dial(stream: trio.abc.Stream, target: str = "/ws?user=alice", headers: dict[str, str] | None = None) -> Peer:
    """A client without a library, that answers no ping: after its opening handshake."""
    await stream.send_all(request(target, headers))
    peer = Peer(stream)
    while b"\r\n\r\n" not in peer._buffer:
        data = await stream.receive_some()
        assert data, peer._buffer
        peer._buffer += data
    head, _, peer._buffer = peer._buffer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return peer


async def answer(stream: trio.abc.Stream, data: bytes) -> bytes:
    """Everything the server says to `data` until it closes."""
    got = b""
    with suppress(trio.BrokenResourceError):  # it may have closed before all of it was written
        await stream.send_all(data)
        while more := await stream.receive_some():
            got += more
    return got


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """Everything that was started in the block is gone when it is left."""
    before = trio.lowlevel.current_statistics().tasks_living
    yield
    assert trio.lowlevel.current_statistics().tasks_living == before
