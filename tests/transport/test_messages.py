"""What bounds a connection whose frames somebody else reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_chat import CloseCode, Settings
from trio_chat.session import ConnectionEnded
from trio_chat.transport.messages import AHEAD, Carrier, MessageTransport


class Fake(Carrier):
    """A carrier whose peer is the test."""

    def __init__(self) -> None:
        self.put, self._messages = trio.open_memory_channel[str | bytes](10_000)
        self.sent: list[str] = []
        self.reads = trio.Event()
        self.reads.set()
        self.closed: list[tuple[int, str]] = []
        self.dropped = 0
        self.asked = 0

    async def receive(self) -> str | bytes:
        try:
            return await self._messages.receive()
        except trio.EndOfChannel:
            raise ConnectionEnded("it went") from None

    async def send(self, text: str) -> None:
        await self.reads.wait()
        self.sent.append(text)

    async def ask(self) -> None:
        self.asked += 1
        await self.reads.wait()

    async def close(self, code: CloseCode, reason: str) -> None:
        self.closed.append((int(code), reason))
        await self.reads.wait()

    async def aclose(self) -> None:
        self.dropped += 1
        await trio.lowlevel.checkpoint()

    def waiting(self) -> int:
        return self._messages.statistics().current_buffer_used


class Watched:
    """A transport, its carrier, and how often somebody was alive."""

    def __init__(self) -> None:
        self.carrier = Fake()
        self.signs = 0
        self.transport = MessageTransport(self.carrier, settings=Settings(), alive=self._alive)

    def _alive(self) -> None:
        self.signs += 1


@asynccontextmanager
async def open_watched() -> AsyncIterator[Watched]:
    watched = Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.transport.run)
        yield watched
        nursery.cancel_scope.cancel()


async def test_no_more_is_taken_than_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """Else a client that is slowed down on purpose fills the memory instead."""
    async with open_watched() as watched:
        for n in range(1000):
            watched.carrier.put.send_nowait(str(n))
        await trio.testing.wait_all_tasks_blocked()
        assert watched.carrier.waiting() == 1000 - AHEAD
        got: list[bytes | None] = []
        while len(got) < 1000:
            got += await watched.transport.receive()
        assert got == [b"%d" % n for n in range(1000)]


async def test_large_messages_are_bounded_by_their_bytes(autojump_clock: trio.testing.MockClock) -> None:
    """Else 64 of the largest are 4 MiB for each connection."""
    async with open_watched() as watched:
        for _ in range(10):
            watched.carrier.put.send_nowait("é" * 15_000)
        await trio.testing.wait_all_tasks_blocked()
        assert watched.carrier.waiting() == 7


async def test_what_is_no_text_is_none(autojump_clock: trio.testing.MockClock) -> None:
    """Else a binary message is taken for a frame, or half a surrogate pair ends the connection instead of being refused."""
    async with open_watched() as watched:
        for message in (b"\xff", "\ud800", ""):
            watched.carrier.put.send_nowait(message)
        await trio.testing.wait_all_tasks_blocked()
        assert await watched.transport.receive() == [None, b"\xed\xa0\x80", b""]


async def test_too_large_a_message_is_the_last(autojump_clock: trio.testing.MockClock) -> None:
    """Else the limit of a frame is whatever the host has: 16 MiB, by default."""
    async with open_watched() as watched:
        watched.carrier.put.send_nowait("fine")
        watched.carrier.put.send_nowait("é" * 32_769)
        watched.carrier.put.send_nowait("not heard")
        assert await watched.transport.receive() == [b"fine"]
        with pytest.raises(ConnectionEnded):
            await watched.transport.receive()
        assert watched.carrier.closed == [(1009, "a message is over 65536 bytes")]
        with pytest.raises(ConnectionEnded):
            await watched.transport.send([b"too late"])


async def test_the_peer_goes(autojump_clock: trio.testing.MockClock) -> None:
    """Else what came last is lost, or the session waits for ever."""
    async with open_watched() as watched:
        watched.carrier.put.send_nowait("last")
        watched.carrier.put.close()
        await trio.testing.wait_all_tasks_blocked()
        assert await watched.transport.receive() == [b"last"]
        with pytest.raises(ConnectionEnded):
            await watched.transport.receive()
        with pytest.raises(ConnectionEnded):
            await watched.transport.ping()


async def test_a_peer_that_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Else it holds what is to be sent, and its connection, for ever; and half a frame is followed by a close frame."""
    async with open_watched() as watched:
        watched.carrier.reads = trio.Event()
        began = trio.current_time()
        with pytest.raises(ConnectionEnded):
            await watched.transport.send([b"x" * 40_000])
        assert trio.current_time() - began == pytest.approx(30)  # 10 s for each slice that was begun
        assert watched.signs == 0
        await watched.transport.close(CloseCode.GOING_AWAY, "")
        assert (watched.carrier.closed, watched.carrier.dropped) == ([], 1)


async def test_a_cancelled_write_is_the_last(autojump_clock: trio.testing.MockClock) -> None:
    """Else the next one lands in the half frame that may have been left."""
    async with open_watched() as watched:
        watched.carrier.reads = trio.Event()
        with trio.move_on_after(1):
            await watched.transport.send([b"half"])
        watched.carrier.reads.set()
        with pytest.raises(ConnectionEnded):
            await watched.transport.send([b"whole"])
        assert watched.carrier.sent == []


async def test_pings(autojump_clock: trio.testing.MockClock) -> None:
    """Else asking holds up the writer, or an answer is no sign of life, or silence is one."""
    async with open_watched() as watched:
        watched.carrier.reads = trio.Event()
        await watched.transport.ping()
        await trio.sleep(11)
        assert (watched.carrier.asked, watched.signs) == (1, 0)
        watched.carrier.reads.set()
        await watched.transport.ping()
        await trio.testing.wait_all_tasks_blocked()
        assert (watched.carrier.asked, watched.signs) == (2, 1)


async def test_closing_takes_a_second_at_most(autojump_clock: trio.testing.MockClock) -> None:
    """Else one peer that does not answer a close frame holds up the end of the server."""
    async with open_watched() as watched:
        watched.carrier.reads = trio.Event()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:  # the second waits for the first
            nursery.start_soon(watched.transport.close, CloseCode.GOING_AWAY, "é" * 100)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(watched.transport.close, CloseCode.INTERNAL, "")
        assert trio.current_time() - began == pytest.approx(1)
        assert watched.carrier.closed == [(1001, "é" * 61)]
        assert watched.carrier.dropped == 1


async def test_who_floods_is_held_for_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    """Else a client that floods is back at once."""
    async with open_watched() as watched:
        began = trio.current_time()
        await watched.transport.close(CloseCode.FLOODING, "")
        assert trio.current_time() - began == pytest.approx(1)
