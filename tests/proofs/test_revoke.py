"""A thousand connections over sockets, some of whose clients do not read, are gone a second after they were revoked."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from trio_chat import Settings, authenticators, open_chat, serve_tcp, wire
from trio_chat.errors import CloseCode

from ..support import dial
from ..transport.peer import CLOSE, TEXT, Peer, frame
from .slow import deaf

CONNECTIONS = 1000
DEAF = 50
SECONDS = 1.0


async def test_a_thousand_connections_are_gone_within_a_second(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, who is locked out stays as long as there are many of them, or as long as they do not read."""
    many = 2 * CONNECTIONS
    settings = Settings(user_connections=many, devices=many, new_devices=many, half_open=CONNECTIONS, send_rate=None)
    async with open_chat(tmp_path / "chat.db", settings=settings) as chat, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticators.demo))
        # What the system takes off the server's hands is no longer waiting: the connections inherit a small buffer.
        listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        port = listeners[0].socket.getsockname()[1]
        peers: list[Peer] = []
        told: list[float] = []

        async def joins(number: int, limiter: trio.CapacityLimiter) -> None:
            async with limiter:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                peer = await dial(stream, f"/ws?user=eve&device=d{number}", None)
                assert await peer.read()
                peers.append(peer)

        async with trio.open_nursery() as joining:
            limiter = trio.CapacityLimiter(50)
            for number in range(CONNECTIONS - DEAF):
                joining.start_soon(joins, number, limiter)
        silent = [await deaf(port, f"deaf{number}") for number in range(DEAF)]
        alice = await dial(await trio.open_tcp_stream("127.0.0.1", port), "/ws?user=alice")
        assert await alice.read()
        for number in range(4 * DEAF):  # more than the buffers hold
            text = wire.encode(wire.Send(id=f"m{number}", to=f"deaf{number % DEAF}", text="x" * 16_000))
            await alice.send(frame(TEXT, text))
        answered = 0
        while answered < 4 * DEAF:
            read = await alice.read()
            assert read is not None
            said = wire.decode_server(read[1])
            answered += len(said.messages) if isinstance(said, wire.Stored) else 0
        assert chat.registry.sessions == CONNECTIONS + 1

        async def hears(peer: Peer) -> None:
            while (read := await peer.read()) is not None:
                if read[0] == CLOSE:
                    assert int.from_bytes(read[1][:2], "big") == CloseCode.UNAUTHORIZED
                    told.append(trio.current_time() - began)
                    await peer.stream.aclose()
                    return
            raise AssertionError("there was no close frame")

        began = trio.current_time()
        for user in ("eve", *(f"deaf{number}" for number in range(DEAF))):
            chat.revoke(user)
        async with trio.open_nursery() as hearing:
            for peer in peers:
                hearing.start_soon(hears, peer)
            while chat.registry.sessions > 1:  # noqa: ASYNC110  (it has no event for this)
                await trio.sleep(0.005)
            gone = trio.current_time() - began
        assert len(told) == CONNECTIONS - DEAF
        for stream in silent:
            await trio.aclose_forcefully(stream)
        told.sort()
        figures(
            f"{CONNECTIONS} connections, {DEAF} of which do not read: half were told after "
            f"{told[len(told) // 2] * 1000:.0f} ms, the last after {told[-1] * 1000:.0f} ms, all sessions gone after "
            f"{gone * 1000:.0f} ms"
        )
        assert told[-1] < SECONDS
        assert gone < SECONDS + 0.5  # the clients' own work is in it, on the same core
        nursery.cancel_scope.cancel()
