"""The guarded stream: slow is not dead, half a write is the end, and the last word is heard."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from trio_chat.transport import stream as guarded
from trio_chat.transport.stream import LINGER_SECONDS, SLICE_BYTES, GuardedStream

TIMEOUT = 10.0


def guard(stream: trio.abc.Stream, alive: Callable[[], None] = lambda: None) -> GuardedStream:
    """A guarded stream with the usual limit."""
    return GuardedStream(stream, write_timeout=TIMEOUT, alive=alive)


class Guarded(GuardedStream):
    """The same as trio's own test of streams makes one."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream, write_timeout=TIMEOUT)


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until EOF."""
    data = b""
    while chunk := await stream.receive_some():
        data += chunk
    return data


def is_cut_short(stream: GuardedStream) -> bool:
    """The property, in a way that mypy does not take for a constant."""
    return stream.cut_short


class Flat(trio.abc.Stream):
    """A stream that cannot be half-closed, and whose ends are as given."""

    def __init__(self, inner: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]) -> None:
        self.inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_alive_is_told_of_every_read_and_slice() -> None:
    """A peer that takes a long write, or sends one, would otherwise be taken for silent and closed with 4408."""
    told: list[int] = []
    ours, theirs = memory_stream_pair()
    stream = guard(ours, lambda: told.append(1))
    await stream.send_all(bytes(SLICE_BYTES * 2 + 1))
    assert len(told) == 3
    await stream.send_all(b"")
    assert len(told) == 3
    await theirs.send_all(b"x")
    assert await stream.receive_some() == b"x"
    assert len(told) == 4
    await theirs.aclose()
    assert await stream.receive_some() == b""
    assert len(told) == 4


async def test_slow_is_not_dead(autojump_clock: MockClock) -> None:
    """One limit for a whole write would throw out a client on a slow link each time it has missed much."""
    ours, theirs = lockstep_stream_pair()
    stream = guard(ours)
    read = bytearray()

    async def crawl() -> None:
        while True:
            await trio.sleep(1)
            read.extend(await theirs.receive_some(SLICE_BYTES // 4))

    data = bytes(range(256)) * (SLICE_BYTES // 256 * 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crawl)
        await stream.send_all(data)
        assert trio.current_time() >= 7 * TIMEOUT
        nursery.cancel_scope.cancel()
    assert read == data


async def test_a_slice_nobody_takes_is_the_end(autojump_clock: MockClock) -> None:
    """A peer that stopped reading would hold its connection, and what waits to be written, for ever."""
    ours, _theirs = lockstep_stream_pair()
    stream = guard(ours)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(bytes(100))
    assert trio.current_time() == pytest.approx(TIMEOUT)
    assert stream.cut_short
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    assert trio.current_time() == pytest.approx(TIMEOUT)


async def test_after_a_cancelled_write_nothing_more_is_written(autojump_clock: MockClock) -> None:
    """The next frame would land inside of the half one, and the peer would read nonsense without an error."""
    ours, theirs = lockstep_stream_pair()
    stream = guard(ours)

    async def write() -> None:
        with trio.move_on_after(1):
            await stream.send_all(bytes(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        assert await theirs.receive_some(10) == bytes(10)
        await trio.sleep(0.5)
        assert not is_cut_short(stream)  # not yet: it may still be taken
    assert is_cut_short(stream)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    before = trio.current_time()
    await stream.aclose()
    assert trio.current_time() == before, "there is nothing left to linger for"
    assert len(await read_to_end(theirs)) <= 90


async def test_a_write_cancelled_before_it_began_breaks_nothing() -> None:
    """A session that is cancelled must still be able to say goodbye."""
    ours, theirs = memory_stream_pair()
    stream = guard(ours)
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.send_all(b"lost")
    assert scope.cancelled_caught
    assert not stream.cut_short
    await stream.send_all(b"bye")
    assert await theirs.receive_some() == b"bye"


async def test_two_writers_are_kept_apart(autojump_clock: MockClock) -> None:
    """Interleaved slices of two frames are neither."""
    ours, theirs = lockstep_stream_pair()
    stream = guard(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"x")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await stream.send_all(b"y")
        assert await theirs.receive_some() == b"x"


async def test_waiting_for_room_is_the_inner_streams() -> None:
    """`trio.abc.SendStream` demands it; a wrapper that lies about it deadlocks its user."""
    ours, _ = memory_stream_pair()
    await guard(ours).wait_send_all_might_not_block()
    await ours.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await guard(ours).wait_send_all_might_not_block()


# Closing.


async def test_closing_says_so_and_reads_to_the_end(autojump_clock: MockClock) -> None:
    """The peer must see the end before the socket is gone, and what it still sends must not become an RST."""
    ours, theirs = memory_stream_pair()
    stream = guard(ours)
    await stream.send_all(b"bye")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        assert await read_to_end(theirs) == b"bye"
        await trio.sleep(LINGER_SECONDS / 2)
        await theirs.send_all(b"not interesting any more")
        await theirs.aclose()
    assert trio.current_time() == pytest.approx(LINGER_SECONDS / 2)
    for use in (stream.receive_some, lambda: stream.send_all(b"x")):
        with pytest.raises(trio.ClosedResourceError):
            await use()
    await stream.aclose()


async def test_lingering_has_a_time_limit(autojump_clock: MockClock) -> None:
    """A peer that never closes would keep the task and the socket."""
    ours, theirs = memory_stream_pair()
    await guard(ours).aclose()
    assert trio.current_time() == pytest.approx(LINGER_SECONDS)
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"x")


async def test_lingering_has_a_byte_limit(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that floods at full speed would be read at full speed, in the name of politeness."""
    monkeypatch.setattr(guarded, "LINGER_BYTES", 100)
    ours, theirs = memory_stream_pair()
    await theirs.send_all(bytes(100))
    await guard(ours).aclose()
    assert trio.current_time() == 0


async def test_a_stream_at_its_end_does_not_linger(autojump_clock: MockClock) -> None:
    """After the peer's EOF there is nothing to wait for; ten thousand clients leaving at once would each hold a second."""
    ours, theirs = memory_stream_pair()
    stream = guard(ours)
    await theirs.send_stream.aclose()  # it still reads
    assert await stream.receive_some() == b""
    await stream.aclose()
    assert trio.current_time() == 0
    assert await read_to_end(theirs) == b""


async def test_a_stream_without_half_close_lingers_too(autojump_clock: MockClock) -> None:
    """Unread input makes an RST whatever the stream can do."""
    ours, theirs = memory_stream_pair()
    stream = guard(Flat(ours))
    await stream.send_all(b"bye")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        assert await theirs.receive_some() == b"bye"
        await theirs.send_all(b"unread")
        await theirs.aclose()
    assert trio.current_time() == 0


async def test_a_broken_stream_closes_quietly() -> None:
    """An exception from closing would hide why the connection ended, or end somebody else's."""
    ours, theirs = lockstep_stream_pair()
    await theirs.aclose()
    stream = guard(ours)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()
    ours, _ = lockstep_stream_pair()
    await ours.aclose()
    await guard(ours).aclose()


async def test_closing_while_another_task_reads_drops(autojump_clock: MockClock) -> None:
    """Two readers of one stream are an error; the other task must be woken, not left reading for ever."""
    ours, _theirs = memory_stream_pair()
    stream = guard(ours)

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    assert trio.current_time() == 0


async def test_a_second_closer_waits_for_the_first(autojump_clock: MockClock) -> None:
    """Returning at once, it would let its caller cut off a farewell in progress."""
    ours, theirs = memory_stream_pair()
    stream = guard(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        assert trio.current_time() == pytest.approx(LINGER_SECONDS)
    assert await read_to_end(theirs) == b""


@pytest.mark.parametrize("second", [False, True])
async def test_cancelled_closing_closes_all_the_same(second: bool, autojump_clock: MockClock) -> None:
    """`aclose` always releases: a cancelled server would leak a socket per connection."""
    ours, theirs = memory_stream_pair()
    stream = guard(ours)
    async with trio.open_nursery() as nursery:
        if second:
            nursery.start_soon(stream.aclose)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(LINGER_SECONDS / 4) as scope:
            await stream.aclose()
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await theirs.send_all(b"x")
        assert trio.current_time() == pytest.approx(LINGER_SECONDS / 4)


async def test_dropping_is_immediate_and_may_be_repeated(autojump_clock: MockClock) -> None:
    """What is dropped may be dropped already, by the other task that gave up on it."""
    ours, theirs = memory_stream_pair()
    stream = guard(ours)
    await trio.aclose_forcefully(stream)
    await trio.aclose_forcefully(stream)
    await stream.aclose()
    assert trio.current_time() == 0
    assert await read_to_end(theirs) == b""


async def test_it_is_a_stream_as_trio_defines_one(autojump_clock: MockClock) -> None:
    """The library's own test of streams: which error for which misuse, checkpoints, closing."""

    async def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        ours, theirs = lockstep_stream_pair()
        return Guarded(ours), Guarded(theirs)

    await trio.testing.check_two_way_stream(pair, None)


# Real sockets.


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """The server's and the client's end of a TCP connection on the loopback interface."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        async with client, await listener.accept() as server:
            yield server, client


async def test_unread_input_does_not_swallow_the_last_word() -> None:
    """Without lingering the kernel answers unread input with RST, and the client reads ECONNRESET, not what it did wrong."""
    async with sockets() as (server, client):
        stream = guard(server)
        await client.send_all(bytes(100_000))
        await stream.send_all(b"last word")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.aclose)
            await client.send_all(bytes(100_000))
            assert await read_to_end(client) == b"last word"
            await client.aclose()


async def test_unread_input_does_not_swallow_the_last_word_of_tls() -> None:
    """TLS streams cannot be half-closed, and close their socket by themselves: the lingering has to go in between."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    for https_compatible in (False, True):
        async with sockets() as (server, client):
            stream = guard(trio.SSLStream(server, server_context, server_side=True, https_compatible=https_compatible))
            tls = trio.SSLStream(client, client_context, server_hostname="localhost", https_compatible=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tls.send_all, bytes(100_000))
                assert await stream.receive_some(1) == b"\0"
                await stream.send_all(b"last word")
                nursery.start_soon(stream.aclose)
                assert await read_to_end(tls) == b"last word"
                await tls.aclose()


async def test_a_peer_that_resets_is_a_broken_stream() -> None:
    """An OSError of another kind would not be caught where broken connections are expected."""
    async with sockets() as (server, client):
        stream = guard(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()


async def test_what_there_is_no_room_for_follows() -> None:
    """The first bytes go straight to the kernel, the rest by way of the stream: else some are lost or come twice."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    told: list[int] = []
    data = bytes(range(256)) * 20_000
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as theirs:
        stream = guard(await listener.accept(), lambda: told.append(1))
        await stream.send_all(data[:10])
        assert told == [1]
        taken = [await theirs.receive_some()]
        assert taken == [data[:10]]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            await trio.testing.wait_all_tasks_blocked()
            assert is_cut_short(stream) is False
            received = bytearray()
            while len(received) < len(data):
                received += await theirs.receive_some()
        assert received == data
        assert len(told) > len(data) // SLICE_BYTES
        stream.unnoticed = True
        told.clear()
        await stream.send_all(b"a ping")
        assert told == []
        await trio.aclose_forcefully(stream)
