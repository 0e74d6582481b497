"""What several tests of the running server need: clients that wait for one thing, and a store that can be held."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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
    """The next frame, which is to be of this kind; receipts come when they come, and are passed over by who wants others."""
    got: wire.ServerFrame | None = None
    with trio.fail_after(PATIENCE):  # noqa: ASYNC912  (there is nothing yet)
        while got is None or (isinstance(got, wire.Receipt) and kind is not wire.Receipt):
            got = await client.receive()
    assert isinstance(got, kind), got
    return got


async def silence(client: RawClient, seconds: float) -> None:
    """Nothing comes for so long, receipts apart."""
    with trio.move_on_after(seconds):
        while True:
            got = await client.receive()
            assert isinstance(got, wire.Receipt), f"there was {got}"


async def heard(client: RawClient, seconds: float) -> list[wire.ServerFrame]:
    """Everything that comes for so long."""
    got: list[wire.ServerFrame] = []
    with trio.move_on_after(seconds):
        while True:
            got.append(await client.receive())
    return got


async def ask(client: RawClient, request: wire.ClientFrame, kind: type[Frame]) -> Frame:
    """The answer to a request; entries, receipts and the like that come before it are passed over."""
    await client.send(request)
    with trio.fail_after(PATIENCE):
        while True:
            got = await client.receive()
            if isinstance(got, kind) and getattr(got, "ref", None) == getattr(request, "ref", None):
                return got
            assert not isinstance(got, wire.Error), got


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


class Client(RawClient):
    """A client that looks whether each frame it is sent is for its user, and answers something it has asked (I9)."""

    def __init__(self, client: RawClient, user: str) -> None:
        super().__init__(client._connection)
        self.user = user
        self._refs: set[str] = set()
        self._watched: set[str] = set()

    async def send(self, *frames: wire.ClientFrame) -> None:
        for frame in frames:
            if isinstance(frame, wire.Watch):
                self._watched |= set(frame.users)
            if (ref := getattr(frame, "ref", None)) is not None:
                self._refs.add(ref)
        await super().send(*frames)

    async def receive(self) -> wire.ServerFrame:
        got = await super().receive()
        self._check(got)
        return got

    def _check(self, got: wire.ServerFrame) -> None:
        match got:
            case wire.Messages(messages=messages):
                self._own(messages)
            case wire.HistoryAnswer(messages=messages):
                self._own(messages)
            case wire.SearchAnswer(hits=hits):
                self._own([hit.message for hit in hits])
            case wire.ConversationsAnswer(conversations=talks):
                for talk in talks:
                    if talk.last is not None:
                        self._own([talk.last])
                        assert {talk.last.sender, talk.last.recipient} == {self.user, talk.peer}
            case wire.Presence(user=user):
                assert user in self._watched, got
            case wire.Receipt(peer=peer):
                assert peer != self.user, got
            case wire.Welcome(user=user):
                assert user == self.user, got
        assert getattr(got, "ref", None) is None or getattr(got, "ref", None) in self._refs, got

    def _own(self, messages: Sequence[Message]) -> None:
        for message in messages:
            assert self.user in (message.sender, message.recipient), message


async def enter(server: InMemoryServer, user: str, device: str = "phone", **parameters: str | int) -> Client:
    """A client that has read its ``welcome``."""
    client = Client(await server.connect(user, device, **parameters), user)
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
