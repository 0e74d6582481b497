"""Two clients that know nothing of this project, against an echo made of the front door's functions and the transport."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import pytest
import trio
import trustme
import websockets.exceptions
import websockets.trio.client
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from websockets.typing import Origin, Subprotocol

from trio_chat.errors import CloseCode
from trio_chat.session import ConnectionEnded
from trio_chat.settings import Settings
from trio_chat.transport.http import HttpError, accept, read_request, require_upgrade
from trio_chat.transport.origins import origin_allowed
from trio_chat.transport.stream import GuardedStream
from trio_chat.transport.websocket import WebSocketTransport
from trio_chat.wire import SUBPROTOCOL

SETTINGS = Settings()


async def echo(stream: trio.abc.Stream) -> None:
    """Serve one connection: every text comes back; "bye" closes."""
    wire = GuardedStream(stream, write_timeout=SETTINGS.write_timeout)
    try:
        request, trailing_data = await read_request(wire)
        require_upgrade(request)
    except HttpError as error:
        await wire.send_all(error.response())
        await wire.aclose()
        return
    if not origin_allowed(request):
        await wire.send_all(HttpError(403, "this origin is not allowed").response())
        await wire.aclose()
        return
    await wire.send_all(accept(request))
    transport = WebSocketTransport(stream, settings=SETTINGS, trailing_data=trailing_data)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.run)
        try:
            while True:
                texts = [text for text in await transport.receive() if text is not None]
                if b"bye" in texts:
                    break
                await transport.send(texts)
        except ConnectionEnded:
            pass
        await transport.close(CloseCode.GOING_AWAY, "you said bye")


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of an echo."""
    async with trio.open_nursery() as nursery:
        serve: Callable[..., Awaitable[object]] = partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
        if context is not None:
            serve = partial(trio.serve_ssl_over_tcp, echo, 0, context, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        socket = listener.socket if context is None else listener.transport_listener.socket
        yield f"{'ws' if context is None else 'wss'}://localhost:{socket.getsockname()[1]}/ws"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def trio_client(url: str, context: ssl.SSLContext | None = None) -> AsyncIterator[WebSocketConnection]:
    """trio-websocket's client. It leaves its stream open when the server closed first, so here the stream is ours."""
    port = int(url.rpartition(":")[2].removesuffix("/ws"))
    stream: trio.abc.Stream = await trio.open_tcp_stream("localhost", port)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    async with stream, trio.open_nursery() as nursery:
        any_stream = cast("trio.SocketStream", stream)
        yield await wrap_client_stream(nursery, any_stream, "localhost", "/ws", subprotocols=["other", SUBPROTOCOL])


async def bye(client: WebSocketConnection) -> tuple[int, str | None]:
    """Make the echo close, and say how it did."""
    await client.send_message("bye")
    with pytest.raises(ConnectionClosed) as closed:
        await client.get_message()
    assert closed.value.reason is not None
    return closed.value.reason.code, closed.value.reason.reason


async def test_trio_websocket() -> None:
    """Its client is what most Trio programs would use."""
    async with serving() as url, trio_client(url) as client:
        assert client.subprotocol == SUBPROTOCOL
        for text in ("", "hello", "ä" * 30_000):
            await client.send_message(text)
            assert await client.get_message() == text
        await client.ping(b"there?")
        assert await bye(client) == (1001, "you said bye")


async def test_trio_websocket_over_tls() -> None:
    """TLS streams close differently, and a browser on an https page can use nothing else."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    async with serving(server_context) as url, trio_client(url, client_context) as client:
        await client.send_message("ä" * 30_000)
        assert await client.get_message() == "ä" * 30_000
        await client.send_message(b"bytes are None here")
        assert await bye(client) == (1001, "you said bye")


async def test_websockets() -> None:
    """It offers compression, which is declined, sends in fragments and answers pings by itself."""
    async with serving() as url:
        async with websockets.trio.client.connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)]) as client:
            assert client.subprotocol == SUBPROTOCOL
            await client.send(["in ", "fragments, ", "ä"])
            assert await client.recv() == "in fragments, ä"
            for number in range(300):
                await client.send(str(number))
            for number in range(300):
                assert await client.recv() == str(number)
            await client.send("x" * (SETTINGS.frame_bytes + 1))
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        async with websockets.trio.client.connect(url) as client:
            pass  # leaving closes with 1000, and must not take the server's second of lingering
        assert client.close_code == 1000


async def test_a_page_from_elsewhere() -> None:
    """Refused before the upgrade, with an answer that a stock client can read."""
    async with serving() as url:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            async with websockets.trio.client.connect(url, origin=Origin("https://evil.example")):
                pass
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"this origin is not allowed\n"
