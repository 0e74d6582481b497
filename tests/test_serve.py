"""Listeners: caps, proxies, TLS, what ends a bare server, and how a listener lets its clients go."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_chat import authenticators, wire
from trio_chat.chat import Chat, open_chat
from trio_chat.errors import CloseCode, ConfigurationError
from trio_chat.model import Identity
from trio_chat.serve import handle, serve_listeners, serve_tcp
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server
from trio_chat.transport import front
from trio_chat.transport.http import Request

from .support import UPGRADE, HeldStore, answer, dial, enter, frame, no_task_left, request, send, stored
from .transport.peer import BINARY, CLOSE, CONT, PING, TEXT, Peer
from .transport.peer import frame as client_frame

FAST = Settings(send_rate=None, close_timeout=0.2)


async def whoever(request: Request) -> Identity:
    """Believes everybody, from wherever they are."""
    return Identity(request.parameter("user") or "nobody", request.parameter("device") or "default")


@asynccontextmanager
async def listening(
    chat: Chat, **options: Any
) -> AsyncIterator[tuple[Callable[[], Awaitable[trio.SocketStream]], trio.CancelScope, trio.Nursery]]:
    """A listener on a free port: the way to connect to it, and the scope around it."""
    async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:  # noqa: ASYNC128
            with scope:
                options.setdefault("authenticate", authenticators.demo)
                await serve_tcp(chat, 0, **options, task_status=task_status)

        listener: Any = (await nursery.start(serve))[0]
        transport: Any = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
        address = transport.socket.getsockname()

        async def connect() -> trio.SocketStream:
            stream = await trio.open_tcp_stream(*address)
            clients.push_async_callback(trio.aclose_forcefully, stream)
            return stream

        yield connect, scope, nursery
        scope.cancel()


async def code_of(peer: Peer) -> int:
    """The close code, whatever comes before; 1006 without one."""
    with trio.fail_after(20):  # noqa: ASYNC912
        with suppress(trio.BrokenResourceError):
            for opcode, payload in await peer.read_all():
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")
    return 1006


def says(*frames: wire.ClientFrame) -> bytes:
    return b"".join(client_frame(TEXT, wire.encode(frame)) for frame in frames)


# Caps.


def status(reply: bytes) -> int:
    return int(reply[9:12])


async def test_connections_have_a_cap(autojump_clock: MockClock) -> None:
    """Else a flood of connections takes all memory; or places are not given back (failures 14)."""
    async with open_test_server(settings=Settings(connections=2)) as server:
        one, two = await enter(server, "one"), await enter(server, "two")
        for _ in range(3):
            refused = await answer(await server.stream(), request())
            assert status(refused) == 503
            assert b"Retry-After: " in refused
        await one.aclose()
        with trio.move_on_after(5):
            await trio.sleep_forever()
        await enter(server, "three")
        await two.send(wire.Ping())
        await frame(two, wire.Pong)


async def test_half_open_connections_have_a_cap(autojump_clock: MockClock) -> None:
    """Else connections that say nothing hold tasks and memory without end (failures 15)."""
    async with open_test_server(settings=Settings(half_open=3)) as server:
        alice = await enter(server, "alice")
        silent = [await server.stream() for _ in range(3)]
        await wait_all_tasks_blocked()
        assert server.chat.admission.half_open == 3
        assert status(await answer(await server.stream(), request())) == 503
        for stream in silent:
            assert await stream.receive_some() == b""  # after the handshake's time
            await stream.aclose()
        with trio.move_on_after(2):
            await trio.sleep_forever()
        await enter(server, "bob")
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)


async def test_one_address_has_a_cap() -> None:
    """Else one machine takes all places; behind a proxy that is known, it is the client's address that counts."""
    settings = Settings(per_address=2, close_timeout=0.1)
    async with open_chat(MemoryStore(), settings=settings) as chat:
        async with listening(chat) as (connect, _, _):
            for n in range(2):
                await dial(await connect(), f"/ws?user=user{n}")
            # The header is anybody's: it changes nothing, unless it comes from a proxy that is trusted.
            spoofed = UPGRADE | {"X-Forwarded-For": "192.0.2.9"}
            refused = await answer(await connect(), request(headers=spoofed))
            assert status(refused) == 503
            assert b"Retry-After: " in refused
        await chat.registry.wait_idle()
        async with listening(chat, trusted_proxies=["127.0.0.0/8"], authenticate=whoever) as (connect, _, _):
            for n in range(2):
                for hop in ("192.0.2.1", "192.0.2.2, 192.0.2.3"):
                    await dial(await connect(), f"/ws?user=user{n}-{hop[-1]}", UPGRADE | {"X-Forwarded-For": hop})
            for hop, code in (("192.0.2.1", 503), ("192.0.2.9, 192.0.2.1", 503), ("192.0.2.2", 101)):
                stream = await connect()
                await stream.send_all(request(headers=UPGRADE | {"X-Forwarded-For": hop}))
                assert status(bytes(await stream.receive_some())) == code
                await stream.aclose()
        assert not chat.admission._addresses


async def test_a_proxys_tls_makes_the_origin_secure() -> None:
    """Else pages served over https by the proxy in front cannot connect to their own host."""
    secure = UPGRADE | {"Origin": "https://localhost"}
    async with (
        open_chat(MemoryStore(), settings=FAST) as chat,
        listening(chat, trusted_proxies=["127.0.0.1"]) as (connect, _, _),
    ):
        await dial(await connect(), headers=secure | {"X-Forwarded-Proto": "https"})
        assert status(await answer(await connect(), request(headers=secure))) == 403


# What ends a bare server.

OVERSIZE = client_frame(TEXT, b"x" * (64 * 1024 + 1))
ENDINGS = {
    "over-size-and-another-frame": (OVERSIZE + client_frame(TEXT, b"{}"), CloseCode.TOO_BIG),
    "huge-length": (b"\x81\xff" + struct.pack("!Q", 2**40) + b"\0\0\0\0", CloseCode.TOO_BIG),
    "bad-utf8": (client_frame(TEXT, b"\xff\xfe"), CloseCode.INVALID_DATA),
    "bad-opcode": (client_frame(3, b""), CloseCode.PROTOCOL_ERROR),
    "rsv": (client_frame(TEXT, b"{}", rsv=4), CloseCode.PROTOCOL_ERROR),
    "unmasked": (client_frame(TEXT, b"{}", mask=None), CloseCode.PROTOCOL_ERROR),
    "continuation-of-nothing": (client_frame(CONT, b"{}"), CloseCode.PROTOCOL_ERROR),
    "empty-fragments": (client_frame(TEXT, b"", fin=False) + client_frame(CONT, b"", fin=False) * 100, CloseCode.POLICY),
    "ping-flood": (client_frame(PING, b"x") * 500, CloseCode.POLICY),
    "close-without-code": (client_frame(CLOSE), 1005),
    "close": (client_frame(CLOSE, struct.pack("!H", 1000)), 1000),
}


@pytest.mark.parametrize(("data", "code"), ENDINGS.values(), ids=ENDINGS)
async def test_a_hostile_client_hurts_itself_only(data: bytes, code: int, autojump_clock: MockClock) -> None:
    """Else one packet ends the server or another connection; or its sender is not told what was wrong (failures 20, 22)."""
    async with open_test_server() as server:
        innocent = await enter(server, "innocent")
        peer = await dial(await server.stream(), "/ws?user=eve")
        await peer.read()
        await peer.send(data)
        frames = await peer.read_all()
        opcode, payload = frames[-1]
        assert opcode == CLOSE
        assert (int.from_bytes(payload[:2], "big") if payload else 1005) == code
        await peer.stream.aclose()
        await innocent.send(send("a", "eve"))
        await stored(innocent, 1)
        await server.chat.drain()
        assert server.chat.registry.sessions == 0


@pytest.mark.parametrize("data", [client_frame(BINARY, b"\x00"), client_frame(TEXT, b"[" * 5000), client_frame(TEXT)])
async def test_what_is_only_nonsense_is_answered(data: bytes, autojump_clock: MockClock) -> None:
    """Else a client's bug costs it the connection, and what is under way on it (failures 21)."""
    async with open_test_server() as server:
        peer = await dial(await server.stream(), "/ws?user=eve")
        await peer.read()
        await peer.send(data + says(wire.Ping()))
        kinds = []
        for _ in range(2):
            read = await peer.read()
            assert read is not None
            kinds.append(type(wire.decode_server(read[1])))
        assert kinds == [wire.Error, wire.Pong]


@pytest.mark.parametrize("when", ["at once", "after half a head", "after the head", "while chatting"])
async def test_a_reset_hurts_nobody(when: str) -> None:
    """Else a client that vanishes with an RST ends the server: its address cannot be asked for any more."""
    async with open_chat(MemoryStore(), settings=FAST) as chat, listening(chat) as (connect, _, _):
        innocent = await dial(await connect(), "/ws?user=innocent")
        await innocent.read()
        for _ in range(5):
            stream = await connect()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends RST
            if when == "after half a head":
                await stream.send_all(request()[:50])
            elif when == "after the head":
                await stream.send_all(request("/ws?user=eve"))
            elif when == "while chatting":
                peer = await dial(stream, "/ws?user=eve")
                await peer.send(says(send("x", "eve")) * 20)
            await stream.aclose()
        await innocent.send(says(send("a", "innocent")))
        read = await innocent.read()
        assert read is not None
        assert isinstance(wire.decode_server(read[1]), wire.Stored)


async def test_a_bug_behind_the_door_is_logged_and_stays_there(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else one connection's failure ends all others (promise 8)."""

    def bug(request: Request) -> bytes:
        raise RuntimeError("planted")

    async with open_test_server() as server:
        alice = await enter(server, "alice")
        with monkeypatch.context() as patched:
            patched.setattr(front, "accept", bug)
            assert await answer(await server.stream(), request("/ws?user=eve")) == b""
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)
        assert server.chat.admission.connections == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "a connection failed"
    assert record.exc_info


async def test_a_failure_together_with_a_cancellation_is_only_the_cancellation(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a shutdown turns into a failure when some connection fails at the same moment (failures 29)."""

    async def bug(*args: object) -> None:
        async with trio.open_nursery() as nursery:

            async def fails() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise RuntimeError("planted")

            nursery.start_soon(fails)
            await trio.sleep_forever()

    monkeypatch.setattr(front.FrontDoor, "admit", bug)
    async with open_chat(MemoryStore()) as chat:
        ours, _ = memory_stream_pair()
        with trio.move_on_after(1) as scope:
            await handle(chat, ours, authenticate=authenticators.demo)
        assert scope.cancelled_caught
    assert "a connection failed" in caplog.text


# Sockets of all kinds.


async def test_over_tls() -> None:
    """Else ``wss://`` does not work without a proxy; or who speaks plain HTTP to it hurts others."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    async with (
        open_chat(MemoryStore(), settings=FAST) as chat,
        listening(chat, ssl_context=server_context) as (connect, _, nursery),
    ):

        async def secure() -> trio.SSLStream[trio.SocketStream]:
            return trio.SSLStream(await connect(), client_context, server_hostname="localhost", https_compatible=True)

        peer = await dial(await secure(), "/ws?user=alice", UPGRADE | {"Origin": "https://localhost"})
        await peer.read()
        plain = await answer(await connect(), request())
        assert b"101" not in plain
        assert status(await answer(await secure(), request("/nowhere"))) == 404
        stranger = trio.SSLStream(await connect(), ssl.create_default_context(), server_hostname="localhost")
        with pytest.raises(trio.BrokenResourceError):  # it does not know the authority
            await stranger.do_handshake()
        await trio.aclose_forcefully(stranger)
        await peer.send(says(send("a", "alice")))
        read = await peer.read()
        assert read is not None
        assert isinstance(wire.decode_server(read[1]), wire.Stored)
        nursery.start_soon(chat.drain)
        assert await code_of(peer) == CloseCode.GOING_AWAY
        await peer.stream.aclose()


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    """Else a proxy on the same machine needs a port; there is no address to count then."""
    name = str(tmp_path / "chat.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(name)
        bound.listen()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        async with open_chat(MemoryStore(), settings=Settings(per_address=1)) as chat, trio.open_nursery() as nursery:
            serving = partial(serve_listeners, chat, [listener], authenticate=authenticators.demo)
            assert await nursery.start(serving) == [listener]
            peers = [await dial(await trio.open_unix_socket(name), f"/ws?user=user{n}") for n in range(2)]
            nursery.start_soon(chat.drain)
            for peer in peers:
                assert await code_of(peer) == CloseCode.GOING_AWAY
                await peer.stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


async def test_what_cannot_be_served_closes_its_listeners() -> None:
    """Else the port stays taken although nobody serves it."""
    async with open_chat(MemoryStore()) as chat:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        with pytest.raises(ConfigurationError):
            await serve_listeners(chat, [listener], authenticate=authenticators.demo, trusted_proxies=["nonsense"])
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        with trio.CancelScope() as scope:
            scope.cancel()
            await serve_listeners(chat, [listener], authenticate=authenticators.demo)
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


async def test_a_port_that_is_taken_is_an_oserror() -> None:
    """Else the application cannot tell its user what is wrong."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="in use") as refused:
                await nursery.start(partial(serve_tcp, chat, taken.getsockname()[1], authenticate=authenticators.demo))
            assert refused.value.errno == errno.EADDRINUSE


class FaultyListener(trio.abc.Listener[trio.abc.Stream]):
    """Gives streams and failures in the order it was given them, then nothing more."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](100)
        self.closed = False

    def give(self, what: Any) -> None:
        self._send.send_nowait(what)

    async def accept(self) -> Any:
        what = await self._receive.receive()
        if isinstance(what, Exception):
            raise what
        return what

    async def aclose(self) -> None:
        self.closed = True
        self._send.close()
        self._receive.close()
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_out_of_descriptors_accepting_pauses_and_resumes(
    code: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else running out of file descriptors once ends the server, or those who are connected (failures 31)."""
    listener = FaultyListener()
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_listeners, chat, [listener], authenticate=authenticators.demo))
        peers = []
        for user in ("alice", "bob"):
            ours, theirs = memory_stream_pair()
            listener.give(ours)
            peers.append(await dial(theirs, f"/ws?user={user}"))
            await peers[-1].read()
            for _ in range(3):
                listener.give(OSError(code, os.strerror(code)))
        await peers[0].send(says(wire.Ping()))
        assert await peers[0].read() is not None
        nursery.start_soon(chat.drain)
    assert listener.closed


async def test_a_listener_that_fails_is_reported_and_clients_are_told(autojump_clock: MockClock) -> None:
    """Else a server goes on that nobody can connect to; or its clients see 1006."""
    listener = FaultyListener()
    ours, theirs = memory_stream_pair()
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="planted"), flatten_subgroups=True):
        async with open_chat(MemoryStore()) as chat:
            listener.give(ours)
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve_listeners, chat, [listener], authenticate=authenticators.demo))
                peer = await dial(theirs)
                await peer.read()
                listener.give(OSError(errno.EBADF, "planted"))
                await trio.sleep_forever()
    assert await code_of(peer) == CloseCode.GOING_AWAY
    assert listener.closed


# Letting go.


async def under_load(tmp_path: Path, end: str) -> None:
    """Ten clients send as fast as they are answered; then the listener is cancelled, or the chat drained."""
    acknowledged: dict[str, list[str]] = {}
    codes: list[int] = []
    path = tmp_path / "chat.db"

    async def chats(peer: Peer, user: str) -> None:
        mine = acknowledged[user] = []
        number = 0
        with suppress(trio.BrokenResourceError):
            await peer.send(says(*[send(f"{user}-{number + n}", "bob") for n in range(8)]))
            while (read := await peer.read()) is not None:
                opcode, payload = read
                if opcode == CLOSE:
                    codes.append(int.from_bytes(payload[:2], "big"))
                    with suppress(trio.BrokenResourceError):
                        await peer.send(client_frame(CLOSE, payload[:2]))
                elif opcode == TEXT and isinstance(got := wire.decode_server(payload), wire.Stored):
                    mine += [item.id for item in got.messages]
                    if not codes:
                        number += 8
                        await peer.send(says(*[send(f"{user}-{number + n}", "bob") for n in range(len(got.messages))]))
        await peer.stream.aclose()

    async with open_chat(path, settings=Settings(send_rate=None)) as chat:
        async with trio.open_nursery() as clients, listening(chat) as (connect, scope, _):
            for n in range(10):
                clients.start_soon(chats, await dial(await connect(), f"/ws?user=user{n}"), f"user{n}")
            with trio.fail_after(20):  # noqa: ASYNC912
                while sum(len(ids) for ids in acknowledged.values()) < 500:  # noqa: ASYNC110
                    await trio.lowlevel.checkpoint()
            before = trio.current_time()
            if end == "cancel":
                scope.cancel()
            else:
                await chat.drain()
        assert trio.current_time() - before < 3
    assert codes == [CloseCode.GOING_AWAY] * 10
    async with open_chat(path, settings=Settings(send_rate=None, window=100_000, window_bytes=2**30)) as chat:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(handle, chat, ours, authenticate=authenticators.demo))
            bob = await dial(theirs, "/ws?user=bob")
            read = await bob.read()
            assert read is not None
            welcome = wire.decode_server(read[1])
            assert isinstance(welcome, wire.Welcome)
            log: list[str] = []
            while len(log) < welcome.head:
                read = await bob.read()
                assert read is not None
                got = wire.decode_server(read[1])
                assert isinstance(got, wire.Messages)
                assert [entry.seq for entry in got.messages] == list(range(len(log) + 1, len(log) + 1 + len(got.messages)))
                log += [entry.id for entry in got.messages]
            await bob.stream.aclose()
    assert len(set(log)) == len(log)
    for ids in acknowledged.values():
        assert set(ids) <= set(log)
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("end", ["cancel", "drain"])
async def test_ended_under_load_nothing_acknowledged_is_lost(end: str, tmp_path: Path) -> None:
    """Else answers are cut off, clients see 1006 and come back as a herd, or messages they believe stored are not."""
    await under_load(tmp_path, end)


async def test_a_cancelled_listener_answers_what_was_read(autojump_clock: MockClock) -> None:
    """Else cancelling the scope around `serve_tcp` loses the answers to what is being committed."""
    listener, store = FaultyListener(), HeldStore()
    async with no_task_left(), open_chat(store) as chat, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:  # noqa: ASYNC128
            with scope:
                await serve_listeners(chat, [listener], authenticate=authenticators.demo, task_status=task_status)

        await nursery.start(serve)
        ours, theirs = memory_stream_pair()
        listener.give(ours)
        alice = await dial(theirs)
        await alice.read()
        silent, half_open = memory_stream_pair()
        listener.give(silent)
        await wait_all_tasks_blocked()
        store.hold()
        await alice.send(says(*[send(f"a{n}", "bob") for n in range(5)]))
        await store.begun.wait()
        before = trio.current_time()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert await half_open.receive_some() == b""
        store.release()
        read = await alice.read()
        assert read is not None
        answered = wire.decode_server(read[1])
        assert isinstance(answered, wire.Stored)
        assert len(answered.messages) == 5
        assert (await alice.closed_with())[0] == CloseCode.GOING_AWAY
        await chat.registry.wait_idle()
        assert trio.current_time() - before <= 2
        assert not chat.draining.is_set()


@pytest.mark.parametrize("draining", [False, True])
async def test_a_cancelled_listener_waits_for_nobody_long(draining: bool, autojump_clock: MockClock) -> None:
    """Else a disk that hangs, or a client that does not read, holds up a cancelled server; also one that was draining."""
    listener, store = FaultyListener(), HeldStore()
    settings = Settings(drain_timeout=1000.0, write_timeout=1000.0)
    async with open_chat(store, settings=settings) as chat, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:  # noqa: ASYNC128
            with scope:
                await serve_listeners(chat, [listener], authenticate=authenticators.demo, task_status=task_status)
            assert trio.current_time() - before <= 2.1

        before = trio.current_time()
        await nursery.start(serve)
        ours, theirs = memory_stream_pair()
        listener.give(ours)
        alice = await dial(theirs)
        await alice.read()
        store.hold()
        await alice.send(says(send("a", "bob")))
        await store.begun.wait()
        if draining:
            nursery.start_soon(chat.drain)
            await wait_all_tasks_blocked()
        scope.cancel()
        assert (await alice.closed_with())[0] == CloseCode.GOING_AWAY
        await alice.stream.aclose()
        store.release()


async def test_many_listeners_are_one_chat() -> None:
    """Else users of one port do not reach those of another, or cancelling one listener takes the other's clients along."""
    async with (
        open_chat(MemoryStore(), settings=FAST) as chat,
        listening(chat) as (one, scope, _),
        listening(chat) as (two, _, _),
    ):
        alice, bob = await dial(await one(), "/ws?user=alice"), await dial(await two(), "/ws?user=bob")
        await alice.read()
        await bob.read()
        await alice.send(says(send("a", "bob")))
        read = await bob.read()
        assert read is not None
        assert isinstance(wire.decode_server(read[1]), wire.Messages)
        scope.cancel()
        while (read := await alice.read()) is not None and read[0] != CLOSE:
            pass
        assert read is not None
        assert int.from_bytes(read[1][:2], "big") == CloseCode.GOING_AWAY
        await alice.stream.aclose()
        await bob.send(says(wire.Ping()))
        read = await bob.read()
        assert read is not None
        assert isinstance(wire.decode_server(read[1]), wire.Pong)


async def test_handshakes_end_with_their_listener(autojump_clock: MockClock) -> None:
    """Else a drain waits for clients that have not even asked for anything."""
    listener = FaultyListener()
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_listeners, chat, [listener], authenticate=authenticators.demo))
        ours, theirs = memory_stream_pair()
        listener.give(ours)
        await wait_all_tasks_blocked()
        before = trio.current_time()
        await chat.drain()
        assert await theirs.receive_some() == b""
        assert trio.current_time() == before
