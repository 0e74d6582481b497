"""The WebSocket transport: what a hostile, slow, silent or dying peer gets, and that closing always ends."""

from __future__ import annotations

import inspect
import math
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing
import trio_websocket
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair
from trio_websocket import WebSocketConnection

from trio_chat.engine import CONTROLS_PER_READ
from trio_chat.errors import CloseCode
from trio_chat.session import ConnectionEnded, Transport
from trio_chat.settings import Settings
from trio_chat.transport.stream import LINGER_SECONDS
from trio_chat.transport.websocket import CONTROL_SECONDS, CONTROLS, WebSocketTransport

from .peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, Peer, close, frame

SETTINGS = Settings()


@asynccontextmanager
async def connected(
    *,
    settings: Settings = SETTINGS,
    trailing_data: bytes = b"",
    alive: Callable[[], None] = lambda: None,
    lockstep: bool = False,
    run: bool = True,
) -> AsyncIterator[tuple[WebSocketTransport, Peer, trio.Nursery]]:
    """A transport whose `run` runs in the nursery, and its peer. Leaving the block cancels `run`."""
    ours, theirs = lockstep_stream_pair() if lockstep else memory_stream_pair()
    transport = WebSocketTransport(ours, settings=settings, trailing_data=trailing_data, alive=alive)
    async with trio.open_nursery() as nursery:
        if run:
            nursery.start_soon(transport.run)
        yield transport, Peer(theirs), nursery
        nursery.cancel_scope.cancel()


async def ends(use: Callable[[], Awaitable[object]]) -> None:
    """Check that the connection has ended for `use`."""
    with pytest.raises(ConnectionEnded):
        await use()


async def collect(transport: WebSocketTransport, texts: list[bytes | None]) -> str:
    """Receive into `texts` until the connection ends, and say how it ended."""

    async def receive() -> None:
        while True:
            texts.extend(await transport.receive())

    with pytest.raises(ConnectionEnded) as ended:
        await receive()
    return str(ended.value)


async def finish(transport: WebSocketTransport) -> None:
    """What a session does: read to the end, then close."""
    await collect(transport, [])
    await transport.close(CloseCode.NORMAL, "")


async def keep_sending(peer: Peer, data: bytes, *, every: float) -> None:
    """Send until the other end is gone."""
    with suppress(trio.BrokenResourceError):
        while True:
            await peer.send(data)
            await trio.sleep(every)


# Messages.


async def test_all_messages_of_a_read_come_as_one_list() -> None:
    """A list per message would cost a factor of four in throughput; mypy checks here that the session's protocol is met."""
    async with connected() as (ours, peer, _):
        transport: Transport = ours
        await peer.send(frame(TEXT, b"1") + frame(BINARY, b"2") + frame(TEXT, b"3", fin=False) + frame(CONT, b"4"))
        assert await transport.receive() == [b"1", None, b"34"]
        await peer.send(frame(TEXT, b"5"))
        assert await transport.receive() == [b"5"]


async def test_frames_that_came_with_the_handshake_are_not_lost() -> None:
    """trio-websocket loses them; a client may send with its last byte of the handshake."""
    text = frame(TEXT, b"early") + frame(TEXT, b"half")
    async with connected(trailing_data=text[:-2]) as (transport, peer, _):
        assert await transport.receive() == [b"early"]
        await peer.send(text[-2:])
        assert await transport.receive() == [b"half"]


async def test_a_fault_that_came_with_the_handshake_is_told() -> None:
    """It is found before the reader task runs."""
    async with connected(trailing_data=frame(3)) as (transport, peer, nursery):
        nursery.start_soon(finish, transport)
        assert (await peer.closed_with())[0] == 1002


async def test_cancelling_receive_loses_nothing() -> None:
    """A session waits for several things at once."""
    async with connected() as (transport, peer, _):
        with trio.CancelScope() as scope:
            await peer.send(frame(TEXT, b"1"))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await transport.receive()
        assert await transport.receive() == [b"1"]


async def test_sent_texts_arrive_in_order() -> None:
    """Whatever their sizes, and however they are grouped."""
    texts = [b"", b"small", bytes(70_000), *[b"x" * 10_000] * 20]
    async with connected() as (transport, peer, _):
        await transport.send(texts)
        await transport.send([])
        for text in texts:
            assert await peer.read() == (TEXT, text)


async def test_pings_and_pongs_go_between_groups(autojump_clock: MockClock) -> None:
    """Behind a long write they would come too late, and a slow link would be taken for a dead one."""
    async with connected(lockstep=True) as (transport, peer, nursery):
        nursery.start_soon(transport.send, [bytes(30_000)] * 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(transport.ping)
        nursery.start_soon(peer.send, frame(PING, b"?"))
        opcodes = []
        for _ in range(12):
            read = await peer.read()
            assert read is not None
            await trio.sleep(0.1)
            opcodes.append(read[0])
        assert set(opcodes[:6]) == {TEXT, PING, PONG}


async def test_every_read_and_slice_is_a_sign_of_life() -> None:
    """Else a client that is busy taking or giving bytes is closed as silent."""
    signs: list[int] = []
    async with connected(alive=lambda: signs.append(1)) as (transport, peer, _):
        await peer.send(frame(PONG))
        await trio.testing.wait_all_tasks_blocked()
        assert len(signs) == 1
        await transport.send([bytes(40_000)])
        assert len(signs) == 4


async def test_a_written_ping_is_no_sign_of_life_but_its_pong_is() -> None:
    """Else a half-open connection lives for ever: each ping into the void would count as activity (failures 12).

    The pong may be read before the ping's write has returned; were it forgotten, idle clients would be closed as silent.
    """
    signs: list[int] = []
    async with connected(alive=lambda: signs.append(1)) as (transport, peer, _):
        await transport.ping()
        assert not signs
        stream = transport._stream.inner
        send_all = stream.send_all

        async def send_and_be_answered(data: bytes) -> None:
            await send_all(data)
            await peer.send(frame(PONG))
            await trio.testing.wait_all_tasks_blocked()

        stream.send_all = send_and_be_answered  # type: ignore[method-assign, assignment]
        await transport.ping()
        assert len(signs) == 1
        stream.send_all = send_all  # type: ignore[method-assign]
        await transport.send([b"x"])
        assert len(signs) == 2


# Hostile peers.

HOSTILE = {
    "opcode": (frame(3), 1002),
    "RSV": (frame(TEXT, b"x", rsv=4), 1002),
    "unmasked": (frame(TEXT, b"x", mask=None), 1002),
    "continuation": (frame(CONT, b"x"), 1002),
    "interleaved": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "long ping": (frame(PING, bytes(126)), 1002),
    "close code": (close(1005), 1002),
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    "text": (frame(TEXT, b"\xff\xfe"), 1007),
    "reason": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "too long": (frame(TEXT, bytes(SETTINGS.frame_bytes + 1)), 1009),
    "too long, and a frame behind it": (frame(TEXT, bytes(SETTINGS.frame_bytes + 1)) + frame(TEXT, b"x"), 1009),
    "header of 2**63": (b"\x81\xff" + bytes([0x7F] + [0xFF] * 7), 1009),
    "fragments": (frame(TEXT, fin=False) + frame(CONT, fin=False) * 10_000, 1008),
    "fragments too long": (frame(TEXT, bytes(40_000), fin=False) + frame(CONT, bytes(40_000)), 1009),
    "pings": (frame(PING) * (CONTROLS_PER_READ + 1), 1008),
    "pongs": (frame(PONG) * (CONTROLS_PER_READ + 1), 1008),
}


@pytest.mark.parametrize(("data", "code"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_peer_is_told_and_gone(data: bytes, code: int, autojump_clock: MockClock) -> None:
    """Each of these has ended a server, filled its memory, or left the client with a bare 1006 to wonder about."""
    async with connected() as (transport, peer, nursery):
        await peer.send(frame(TEXT, b"before") + data + frame(TEXT, b"after"))
        assert await transport.receive() == [b"before"]
        nursery.start_soon(finish, transport)
        assert (await peer.closed_with())[0] == code
        await peer.stream.aclose()
        await ends(lambda: transport.send([b"x"]))
        await ends(transport.ping)


async def test_a_message_must_end_in_time(autojump_clock: MockClock) -> None:
    """A byte a second, for ever, would hold a connection and its buffers (slow-loris)."""
    async with connected() as (transport, peer, nursery):
        nursery.start_soon(finish, transport)

        await peer.send(frame(TEXT, bytes(1000))[:10])
        nursery.start_soon(partial(keep_sending, peer, b"x", every=1))
        assert (await peer.closed_with())[0] == 1008
        assert trio.current_time() == pytest.approx(SETTINGS.message_seconds)


async def test_a_message_that_stops_must_end_in_time(autojump_clock: MockClock) -> None:
    """The same with silence in the middle of a fragmented message, where no read ever returns."""
    async with connected() as (transport, peer, nursery):
        nursery.start_soon(finish, transport)
        await peer.send(frame(TEXT, b"x", fin=False))
        assert (await peer.closed_with())[0] == 1008
        assert trio.current_time() == pytest.approx(SETTINGS.message_seconds)


async def test_each_message_has_its_own_time(autojump_clock: MockClock) -> None:
    """A client whose packets always end inside of some message is busy, not slow."""
    stream = frame(TEXT, bytes(50)) * 100
    texts: list[bytes | None] = []
    async with connected() as (transport, peer, nursery):
        nursery.start_soon(collect, transport, texts)
        for start in range(0, len(stream), 33):
            await peer.send(stream[start : start + 33])
            await trio.sleep(SETTINGS.message_seconds / 4)
        assert len(texts) == 100


async def test_the_time_in_which_we_do_not_read_is_not_the_peers(autojump_clock: MockClock) -> None:
    """A session that is paused reads nothing; the message it interrupted would be closed for our slowness."""
    text = frame(TEXT, b"x" * 100)
    async with connected() as (transport, peer, _):
        await peer.send(text)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(text)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(text + text[:50])
        await trio.sleep(SETTINGS.message_seconds * 10)
        await peer.send(text[50:])
        texts: list[bytes | None] = []
        while len(texts) < 4:
            texts += await transport.receive()
        assert texts == [b"x" * 100] * 4


async def test_a_flood_of_small_pings_is_refused(autojump_clock: MockClock) -> None:
    """One ping per packet costs a wake-up and a write each; no single read is over the engine's limit."""
    async with connected() as (transport, peer, nursery):
        nursery.start_soon(finish, transport)

        nursery.start_soon(partial(keep_sending, peer, frame(PING), every=CONTROL_SECONDS / CONTROLS / 2))
        frames = await peer.read_all()
        assert frames[-1][0] == CLOSE
        assert frames[-1][1].startswith(struct.pack("!H", 1008))
        assert len(frames) < 3 * CONTROLS
    assert trio.current_time() < 2 * CONTROL_SECONDS


async def test_a_ping_a_second_is_no_flood(autojump_clock: MockClock) -> None:
    """Clients measure their latency; one that only listens sends nothing else for days."""
    async with connected() as (_transport, peer, _):
        for number in range(3 * CONTROLS):
            await peer.send(frame(PING, str(number).encode()))
            assert await peer.read() == (PONG, str(number).encode())
            await trio.sleep(1)


async def test_a_session_that_does_not_receive_stops_the_reading() -> None:
    """TCP's own backpressure is what bounds a flooding client: a queue of ours would only hide it and grow."""
    async with connected(lockstep=True) as (transport, peer, nursery):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            chunk = frame(TEXT, bytes(1000)) * 60
            while True:
                await peer.send(chunk)
                sent += len(chunk)

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked()
        assert sent < 5 * 64 * 1024
        before = sent
        while sent == before:
            await transport.receive()
            await trio.testing.wait_all_tasks_blocked()


async def test_a_peer_that_stops_reading_is_cut_off(autojump_clock: MockClock) -> None:
    """Its connection would hold a task and what is being written, for ever."""
    async with connected(lockstep=True) as (transport, _peer, _):
        await ends(lambda: transport.send([bytes(100)]))
        assert trio.current_time() == pytest.approx(SETTINGS.write_timeout)
        before = trio.current_time()
        await transport.close(CloseCode.SILENT, "")
        assert trio.current_time() == before
        await ends(transport.receive)


# The peer ends it.


async def test_a_peer_that_closes_is_answered_after_its_messages(autojump_clock: MockClock) -> None:
    """What it sent before closing is as good as what it sent earlier."""
    async with connected() as (transport, peer, nursery):
        await peer.send(frame(TEXT, b"1"))
        await peer.send(frame(TEXT, b"2") + close(3000, "done") + frame(TEXT, b"3"))
        messages: list[bytes | None] = []
        assert "3000" in await collect(transport, messages)
        assert messages == [b"1", b"2"]
        nursery.start_soon(transport.close, CloseCode.NORMAL, "")
        assert await peer.closed_with() == (3000, "done")


@pytest.mark.parametrize("inside", [False, True])
async def test_a_peer_that_vanishes_ends_the_connection(inside: bool, autojump_clock: MockClock) -> None:
    """Most connections end like this: a phone without signal, a closed laptop."""
    async with connected() as (transport, peer, _):
        await peer.send(frame(TEXT, b"1") + frame(TEXT, b"half")[: 3 if inside else 0])
        await peer.stream.aclose()
        assert await transport.receive() == [b"1"]
        await ends(transport.receive)
        await ends(lambda: transport.send([b"x"]))
        await transport.close(CloseCode.NORMAL, "")
    assert trio.current_time() == 0


@asynccontextmanager
async def over_tcp() -> AsyncIterator[tuple[WebSocketTransport, trio.SocketStream, trio.Nursery]]:
    """The same over the loopback interface; nothing is read ahead of the transport there."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        transport = WebSocketTransport(await listener.accept(), settings=SETTINGS)
        nursery.start_soon(transport.run)
        async with client:
            yield transport, client, nursery
        nursery.cancel_scope.cancel()


async def test_a_peer_that_resets_ends_the_connection() -> None:
    """An OSError that escapes here ends the server's nursery in trio-websocket."""
    async with over_tcp() as (transport, client, _):
        await client.send_all(frame(TEXT, b"x"))
        assert await transport.receive() == [b"x"]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await ends(transport.receive)
        await transport.close(CloseCode.NORMAL, "")


async def test_the_close_code_reaches_a_peer_that_is_still_sending() -> None:
    """Unread bytes turn a plain close of the socket into an RST, and the peer's kernel drops the close frame unread."""
    async with over_tcp() as (transport, client, nursery):
        nursery.start_soon(finish, transport)
        await client.send_all(frame(3) + bytes(300_000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await client.send_all(bytes(300_000))
        assert (await Peer(client).closed_with())[0] == 1002
        await client.aclose()


# We end it.


async def test_closing_waits_for_the_peers_close_frame(autojump_clock: MockClock) -> None:
    """RFC 6455 §7.1.1; a TCP connection closed first may take the peer's last frames with it."""
    async with connected() as (transport, peer, nursery):
        nursery.start_soon(transport.close, CloseCode.GOING_AWAY, "ä" * 100)
        assert await peer.read() == (CLOSE, struct.pack("!H", 1001) + "ä".encode() * 61)
        await peer.send(frame(TEXT, b"late") + close(1001))
        await ends(lambda: transport.send([b"x"]))
        assert await peer.read() is None
        await peer.stream.aclose()
        await transport.close(CloseCode.NORMAL, "")
        await ends(transport.receive)
    assert trio.current_time() == 0


async def test_a_receiver_does_not_learn_of_the_end_before_closing_is_done(autojump_clock: MockClock) -> None:
    """A session ends when its reader does, and would cut off its own goodbye: a replaced device would never see its 4409."""
    async with connected() as (transport, peer, nursery):
        times = []

        async def receive() -> None:
            await ends(transport.receive)
            times.append(trio.current_time())

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(transport.close, CloseCode.REPLACED, "")
        await trio.sleep(0.5)
        assert await peer.read() == (CLOSE, struct.pack("!H", 4409))
        await peer.send(close(4409))
        await trio.sleep(0.25)
        await peer.stream.aclose()
        await trio.sleep(1)
    assert times == [pytest.approx(0.75)]


@pytest.mark.parametrize("flood", [False, True])
async def test_closing_is_bounded_when_the_peer_does_not_answer(flood: bool, autojump_clock: MockClock) -> None:
    """trio-websocket would wait for ever; a drain has ten seconds for ten thousand connections."""
    async with connected() as (transport, peer, nursery):
        if flood:
            nursery.start_soon(partial(keep_sending, peer, frame(TEXT, b"still here") * 100, every=0.01))
        await transport.close(CloseCode.GOING_AWAY, "")
        assert trio.current_time() <= SETTINGS.close_timeout + LINGER_SECONDS + 0.1
        assert (await peer.closed_with())[0] == 1001


async def test_closing_is_bounded_when_the_peer_does_not_read(autojump_clock: MockClock) -> None:
    """The close frame itself may not get through."""
    async with connected(lockstep=True) as (transport, _peer, _):
        await transport.close(CloseCode.GOING_AWAY, "")
        assert trio.current_time() <= SETTINGS.close_timeout + LINGER_SECONDS + 0.1


async def test_closing_while_another_task_is_stuck_in_a_write(autojump_clock: MockClock) -> None:
    """The close frame waits for its turn, but not for the whole write timeout."""
    async with connected(lockstep=True) as (transport, _peer, nursery):
        nursery.start_soon(ends, lambda: transport.send([bytes(100)]))
        await trio.testing.wait_all_tasks_blocked()
        await transport.close(CloseCode.SILENT, "")
        assert trio.current_time() <= SETTINGS.close_timeout + LINGER_SECONDS + 0.1


@pytest.mark.parametrize("started", [False, True])
async def test_closing_works_without_the_reader(started: bool, autojump_clock: MockClock) -> None:
    """trio-websocket's own aclose burns its whole shield when a cancelled nursery has taken the reader task away."""
    async with connected(run=False) as (transport, peer, nursery):
        if started:
            with trio.move_on_after(1):
                await transport.run()
            await ends(transport.receive)
            await ends(lambda: transport.send([b"x"]))
            await ends(transport.ping)
        nursery.start_soon(transport.close, CloseCode.GOING_AWAY, "bye")
        assert await peer.closed_with() == (1001, "bye")
        await peer.stream.aclose()


async def test_messages_read_before_the_reader_was_cancelled_are_handed_over() -> None:
    """What the reader has announced does not die with it."""
    async with connected(run=False) as (transport, peer, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.run)
                for text in (b"1", b"2", b"3"):
                    await peer.send(frame(TEXT, text))
                    await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        messages: list[bytes | None] = []
        await collect(transport, messages)
        assert messages == [b"1"]  # the others were not read: the session had not taken this one


async def test_messages_behind_a_ping_that_cannot_be_answered_are_handed_over(autojump_clock: MockClock) -> None:
    """The pong goes first; a peer that sent both and vanished would lose its last messages to the failed write."""
    async with connected(lockstep=True) as (transport, peer, _):
        await peer.send(frame(PING) + frame(TEXT, b"last"))
        assert await transport.receive() == [b"last"]
        await ends(transport.receive)
        assert trio.current_time() == pytest.approx(SETTINGS.write_timeout)


async def test_a_writer_cut_off_while_the_reader_is_gone(autojump_clock: MockClock) -> None:
    """After half a frame there is no goodbye, and no waiting for one."""
    async with connected(lockstep=True, run=False) as (transport, peer, nursery):

        async def write() -> None:
            with trio.move_on_after(1):
                await transport.send([bytes(1000)])

        nursery.start_soon(write)
        await peer.stream.receive_some(10)
        await trio.sleep(2)
        before = trio.current_time()
        await transport.close(CloseCode.GOING_AWAY, "")
        assert trio.current_time() == before
        await ends(lambda: transport.send([b"x"]))


@pytest.mark.parametrize("run", [False, True])
async def test_cancelled_closing_closes_all_the_same(run: bool, autojump_clock: MockClock) -> None:
    """A server that is told to stop must not leave sockets open."""
    async with connected(run=run) as (transport, peer, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await transport.close(CloseCode.GOING_AWAY, "")
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await peer.send(b"x")


async def test_closing_while_another_task_writes_without_a_reader(autojump_clock: MockClock) -> None:
    """There is no lock between them then; neither may hang or raise anything strange."""
    async with connected(lockstep=True, run=False) as (transport, _peer, nursery):
        nursery.start_soon(ends, lambda: transport.send([b"x"]))
        await trio.testing.wait_all_tasks_blocked()
        await transport.close(CloseCode.GOING_AWAY, "")
        assert trio.current_time() <= SETTINGS.close_timeout + LINGER_SECONDS + 0.1


# What it stands on.


async def test_what_is_used_of_trio_websocket() -> None:
    """The engine and `run` rely on the inside of trio-websocket 0.12.

    If this fails after an update, read `WebSocketConnection` again: the reader task must still do nothing but feed the
    connection object, handle its events one by one, send what `send` returns under one lock, and end when its stream ends or
    is closed. Then adapt `trio_chat.engine` to the names below, and raise the bound in pyproject.toml.
    """
    assert trio_websocket.__version__.startswith("0.12.")
    source = inspect.getsource(WebSocketConnection)
    assert set(re.findall(r"self\._wsproto\.(\w+)", source)) == {"client", "state", "send", "events", "receive_data"}
    assert set(re.findall(r"\bws_connection\.(\w+)", source)) == {"client"}
    assert set(re.findall(r"await self\._stream\.(\w+)", source)) == {"aclose", "receive_some", "send_all"}
    assert inspect.iscoroutinefunction(WebSocketConnection._reader_task)
    assert list(inspect.signature(WebSocketConnection._reader_task).parameters) == ["self"]
    async with connected() as (transport, _, _nursery):
        assert transport._connection._send_channel.statistics().max_buffer_size == 0


async def test_a_flooding_peer_is_not_heard_to_the_end(autojump_clock: MockClock) -> None:
    """Taking the rest of a flood apart costs everybody, and a peer let go at once is back at once."""
    async with connected() as (transport, peer, nursery):
        await peer.send(frame(TEXT, b"flood") * 10)
        nursery.start_soon(partial(keep_sending, peer, frame(TEXT, b"flood") * 100, every=0.01))
        await transport.close(CloseCode.FLOODING, "")
        assert trio.current_time() == pytest.approx(SETTINGS.close_timeout)
        assert (await peer.closed_with())[0] == 4429
        await ends(transport.receive)


async def test_a_flooding_peer_that_pings_is_no_failure(autojump_clock: MockClock) -> None:
    """Else answering its ping while it is told to go is logged as a failure of the server's, and it is not told."""
    autojump_clock.autojump_threshold = math.inf
    async with connected(lockstep=True) as (transport, peer, nursery):
        await trio.testing.wait_all_tasks_blocked()  # it reads
        nursery.start_soon(transport.close, CloseCode.FLOODING, "")
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(frame(PING, b"are you there?"))
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.autojump_threshold = 0
        assert (await peer.closed_with())[0] == 4429
        await ends(transport.receive)


async def test_who_is_refused_and_gone_at_once_is_no_failure() -> None:
    """Else a peer that breaks a rule, and then the connection, is logged as a failure of the server's, with a traceback.

    Many times, for whether anybody learns of the breach first depends on which task is the first of its turn.
    """
    ended: list[ConnectionEnded] = []

    async def write(transport: WebSocketTransport) -> None:
        with pytest.raises(ConnectionEnded) as end:
            await transport.send([b"nobody takes this"])
        ended.append(end.value)

    for _ in range(40):
        async with connected(lockstep=True) as (transport, peer, nursery):
            nursery.start_soon(write, transport)
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(frame(TEXT, b"{}") + frame(TEXT, b"{}", mask=None))  # the close has to wait for the write
            await trio.testing.wait_all_tasks_blocked()
            await peer.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
    assert {end.code for end in ended} <= {None, CloseCode.PROTOCOL_ERROR}
    assert len(ended) == 40
