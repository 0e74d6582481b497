"""All ways in to a chat, for the tests that ask them the same: what differs is named there, never skipped."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import anycorn
import anycorn.config
import hypercorn.config
import hypercorn.trio
import trio
import trio.testing
import trio_websocket

from trio_chat import Chat, Identity, Settings, authenticators, handle, handle_websocket, open_chat, serve_tcp, wire
from trio_chat.asgi import ChatEndpoint
from trio_chat.client.raw import RawClient, open_background, wrap_stream
from trio_chat.store.memory import MemoryStore
from trio_chat.transport.http import request_of

from .support import frame

TARGET = "/ws"
PAGE = "https://app.example"
"""An origin that is allowed to connect, everywhere where one can say so."""


class Running:
    """A chat with one way in."""

    def __init__(self, chat: Chat, nursery: trio.Nursery, dial: Callable[[], Any], stop: Callable[[], None]) -> None:
        self.chat = chat
        self._nursery = nursery
        self._dial = dial
        self._streams: list[trio.abc.Stream] = []
        self.stop = stop
        """End the way in, as its host does that is told to stop: the chat goes on."""

    async def stream(self) -> trio.abc.Stream:
        """The client's end of a fresh connection, before any byte was sent. It is dropped with the server."""
        stream: trio.abc.Stream = await self._dial()
        self._streams.append(stream)
        return stream

    async def hang_up(self) -> None:
        """Drop the clients; at once, so also when it is cancelled."""
        with trio.CancelScope(shield=True):  # noqa: ASYNC912  (there may be none)
            for stream in self._streams:
                await trio.aclose_forcefully(stream)

    async def connect(self, user: str, device: str = "phone", **parameters: str | int) -> RawClient:
        """A client that is connected, before its ``welcome``."""
        query = urlencode({"user": user, "device": device, **parameters})
        return await wrap_stream(self._nursery, await self.stream(), f"ws://localhost{TARGET}?{query}")

    async def enter(self, user: str, device: str = "phone", **parameters: str | int) -> RawClient:
        """A client that has read its ``welcome``."""
        client = await self.connect(user, device, **parameters)
        await frame(client, wire.Welcome)
        return client


async def _identify(request: trio_websocket.WebSocketRequest) -> Identity:
    """What an application of trio-websocket's does itself: here, as the demo does."""
    headers = [(b"host", b"localhost")]
    asked = request_of("GET", request.path, headers, client="127.0.0.1", secure=False, upgrade=True)
    return await authenticators.demo(asked)


@asynccontextmanager
async def in_memory(chat: Chat, nursery: trio.Nursery) -> AsyncIterator[Running]:
    async with trio.open_nursery() as connections:

        async def dial() -> trio.abc.Stream:
            here, there = trio.testing.memory_stream_pair()
            serve = partial(handle, chat, authenticate=authenticators.demo, allowed_origins=[PAGE])
            connections.start_soon(serve, there)
            return here

        yield Running(chat, nursery, dial, connections.cancel_scope.cancel)
        connections.cancel_scope.cancel()


def dialling(port: int) -> Callable[[], Any]:
    return partial(trio.open_tcp_stream, "127.0.0.1", port)


@asynccontextmanager
async def by_tcp(chat: Chat, nursery: trio.Nursery) -> AsyncIterator[Running]:
    async with trio.open_nursery() as listening:
        serve = partial(serve_tcp, chat, 0, authenticate=authenticators.demo, allowed_origins=[PAGE])
        (listener,) = await listening.start(serve)
        yield Running(chat, nursery, dialling(listener.socket.getsockname()[1]), listening.cancel_scope.cancel)
        listening.cancel_scope.cancel()


@asynccontextmanager
async def by_trio_websocket(chat: Chat, nursery: trio.Nursery) -> AsyncIterator[Running]:
    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        try:
            identity = await _identify(request)
        except Exception:
            await request.reject(401)
            return
        offered = wire.SUBPROTOCOL in request.proposed_subprotocols
        ws = await request.accept(subprotocol=wire.SUBPROTOCOL if offered else None)
        await handle_websocket(chat, ws, identity)

    async with trio.open_nursery() as listening:
        server = await listening.start(partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None))
        yield Running(chat, nursery, dialling(server.port), listening.cancel_scope.cancel)
        listening.cancel_scope.cancel()


@asynccontextmanager
async def hosted(
    chat: Chat, nursery: trio.Nursery, *, serve: Any, config: Any, mounted: Callable[[ChatEndpoint], Any] = lambda one: one
) -> AsyncIterator[Running]:
    endpoint = ChatEndpoint(chat, authenticate=authenticators.demo, allowed_origins=[PAGE])
    config.bind = ["127.0.0.1:0"]
    config.errorlog = config.accesslog = logging.getLogger("tests.host")
    config.graceful_timeout = 0.1
    over = trio.Event()
    async with trio.open_nursery() as hosting:
        (bind,) = await hosting.start(partial(serve, mounted(endpoint), config, shutdown_trigger=over.wait))
        port = urlsplit(bind).port
        assert port is not None
        yield Running(chat, nursery, dialling(port), over.set)
        over.set()


def on_hypercorn(chat: Chat, nursery: trio.Nursery) -> AbstractAsyncContextManager[Running]:
    return hosted(chat, nursery, serve=hypercorn.trio.serve, config=hypercorn.config.Config())


def on_anycorn(chat: Chat, nursery: trio.Nursery) -> AbstractAsyncContextManager[Running]:
    return hosted(chat, nursery, serve=anycorn.serve, config=anycorn.config.Config())


WAYS = {
    "memory": in_memory,
    "serve_tcp": by_tcp,
    "handle_websocket": by_trio_websocket,
    "hypercorn": on_hypercorn,
    "anycorn": on_anycorn,
}


@asynccontextmanager
async def running(name: str, **settings: Any) -> AsyncIterator[Running]:
    """A chat in memory, open by one way."""
    settled = Settings(**settings)
    with trio.fail_after(60):
        async with (
            open_chat(MemoryStore(settled), settings=settled) as chat,
            open_background() as nursery,
            WAYS[name](chat, nursery) as server,
        ):
            try:
                yield server
            finally:
                await server.hang_up()  # noqa: ASYNC102  (at once)
