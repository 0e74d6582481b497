"""The raw client: how it learns that a server refuses, ends or is not there."""

from __future__ import annotations

import socket
from functools import partial

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_chat import authenticators, wire
from trio_chat.chat import open_chat
from trio_chat.client.raw import ClosedByServer, NotConnected, open_raw_client, wrap_stream
from trio_chat.errors import CloseCode
from trio_chat.serve import serve_tcp
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server

from ..support import closed, enter, frame


async def test_a_refusal_does_not_end_the_nursery(autojump_clock: MockClock) -> None:
    """Else one client that is refused takes down whatever runs beside it."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        for _ in range(2):
            with pytest.raises(NotConnected, match="401") as refused:
                await server.connect("")
            assert refused.value.status == 401
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)


async def test_a_server_that_speaks_something_else_is_not_connected(autojump_clock: MockClock) -> None:
    """Else a wrong port shows as a bug of the client."""
    for answer in (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b""):
        here, there = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            await there.send_all(answer)
            await there.send_eof()
            with pytest.raises(NotConnected):
                await wrap_stream(nursery, here, "/ws?user=alice")


async def test_the_close_code_and_reason_are_told(autojump_clock: MockClock) -> None:
    """Else a client cannot know whether to come back (errors.CloseCode)."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        server.chat.revoke("alice")
        end = await closed(alice)
        assert (end.code, end.reason) == (CloseCode.UNAUTHORIZED, "no longer authorised")
        assert "4401" in str(end)
        with pytest.raises(ClosedByServer):
            await alice.send(wire.Ping())
        await bob.aclose()
        with pytest.raises(ClosedByServer):
            await bob.receive()


async def test_over_a_socket() -> None:
    """Else the command line's connection is not the one that is tested."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticators.demo))
        port = listener.socket.getsockname()[1]
        async with open_raw_client(f"ws://127.0.0.1:{port}/ws?user=alice") as client:
            assert (await frame(client, wire.Welcome)).user == "alice"
        with pytest.raises(NotConnected, match="401"):
            async with open_raw_client(f"ws://127.0.0.1:{port}/ws"):
                raise AssertionError("connected")
        with pytest.raises(NotConnected, match="404"):
            async with open_raw_client(f"ws://127.0.0.1:{port}/chat"):
                raise AssertionError("connected")
        with pytest.raises(NotConnected):
            async with open_raw_client(f"wss://127.0.0.1:{port}/ws?user=alice", timeout=2):
                raise AssertionError("connected")
        nursery.cancel_scope.cancel()


async def test_nobody_there_is_not_connected() -> None:
    """Else an unreachable server is a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"ws://127.0.0.1:{port}/ws", "ws://nowhere.invalid/ws", "http://127.0.0.1/ws", "ws://127.0.0.1:99999/ws"):
        with pytest.raises(NotConnected):
            async with open_raw_client(url):
                raise AssertionError("connected")


async def test_a_server_that_never_answers_is_not_waited_for() -> None:
    """Else a command line hangs when something else listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(NotConnected):
            async with open_raw_client(f"ws://127.0.0.1:{port}/ws", timeout=0.1):
                raise AssertionError("connected")


async def test_frames_it_does_not_know_are_passed_over(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an older command line breaks with the first newer server (C1)."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        await alice.send(wire.Ping(), wire.Ping())
        known = wire.decode_server
        seen: list[bytes] = []

        def newer(payload: bytes) -> wire.ServerFrame:
            seen.append(payload)
            return known(payload if len(seen) > 1 else b'{"type":"later","user":"bob"}')

        monkeypatch.setattr(wire, "decode_server", newer)
        assert await alice.receive() == wire.Pong()
    assert len(seen) == 2
