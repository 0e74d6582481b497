"""The chat as an ASGI application, for hosts that run one under Trio: Hypercorn's and Anycorn's trio workers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from contextlib import ExitStack, suppress
from typing import Any, TypeAlias
from urllib.parse import quote

import trio

from .chat import NO_TRIO, Chat
from .errors import CloseCode, ConfigurationError
from .porch import Opening, Porch
from .revalidation import Revalidate
from .session import ConnectionEnded, Transport
from .transport.front import Admitted, Authenticate, FrontDoor
from .transport.http import HttpError, Request, request_of
from .transport.messages import Carrier, MessageTransport
from .wire import SUBPROTOCOL

__all__ = ["ChatEndpoint"]

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ChatEndpoint:
    """An ASGI 3 application of one WebSocket, to be mounted where the chat is to be found.

    Make it where the chat is opened, in the application's lifespan, e.g. Starlette's::

        async with open_chat("chat.db") as chat:
            app.mount("/chat", ChatEndpoint(chat, authenticate=authenticate))
            yield {}

    It answers at every path it is given; with that mount clients connect to ``/chat/ws``.

    Origins are checked and the application is asked who it is before the WebSocket is accepted. A plain GET is answered as
    the front door does, so that a page can tell 401 from 426. Cancelled by its host, a connection is told 1001, for at most
    a second. Nothing that a client or a hook does raises into the host.

    The host reads the bytes: what it promises instead, and what it does not, is in the page on embedding. A host shows its
    applications no pongs, so only what a client says itself is a sign of life: one that has had nothing to say for
    ``ping_interval`` and ``ping_timeout`` together, not even the frame ``ping``, is closed with 4408.

    Args:
        chat: from `open_chat`; its block must enclose the serving.
        authenticate: see `serve_tcp`.
        revalidate: see `serve_tcp`.
        allowed_origins: see `serve_tcp`.
        trusted_proxies: see `serve_tcp`. Leave it alone where the host evaluates ``X-Forwarded-For`` itself.

    Raises:
        ConfigurationError: an origin or a proxy is none. Called under asyncio, it raises this, too; given a lifespan of
            its own, it says so there.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        authenticate: Authenticate,
        revalidate: Revalidate | None = None,
        allowed_origins: Collection[str] = (),
        trusted_proxies: Collection[str] = (),
    ) -> None:
        self._chat = chat
        self._door = FrontDoor(chat, authenticate, allowed_origins=allowed_origins, trusted_proxies=trusted_proxies)
        self._porch = Porch(chat, revalidate)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one connection of the host's."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if not trio.lowlevel.in_trio_run():
            raise ConfigurationError(NO_TRIO)
        await self._porch.serve(_Call(self._chat, self._door, scope, receive, send))


async def _lifespan(receive: _Receive, send: _Send) -> None:
    """Say at the start, under any event loop, whether there can be a chat here."""
    await receive()
    if not trio.lowlevel.in_trio_run():
        await send({"type": "lifespan.startup.failed", "message": NO_TRIO})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


class _Call(Opening):
    """One call of the application: a WebSocket, or somebody who asks plainly."""

    def __init__(self, chat: Chat, door: FrontDoor, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        self._chat = chat
        self._door = door
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def client(self) -> str | None:
        return _address(self._scope)

    async def admit(self, places: ExitStack) -> Admitted | None:
        await self._receive()  # "websocket.connect": the host waits for the answer from then on
        readable: list[tuple[str, str]] = []
        try:
            request = self._door.forwarded(_request(self._scope))
            readable = self._door.readable(request)
            if request.client is not None:
                places.enter_context(self._chat.admission.address(request.client))
            admitted = await self._door.judge(request)
        except HttpError as error:
            self._door.turned_away(logging.INFO, error.status, error.why or str(error), self.client)
            await self._refuse(error, readable)
            return None
        named = SUBPROTOCOL if SUBPROTOCOL in request.tokens("sec-websocket-protocol") else None
        await self._send({"type": "websocket.accept", "subprotocol": named})
        return admitted

    async def turn_away(self, reason: str) -> None:
        await self._refuse(HttpError(503, reason, [("Retry-After", "5")]))

    def transport(self, admitted: Admitted, alive: Callable[[], None]) -> Transport:  # noqa: ARG002  (all is known)
        return MessageTransport(_Hosted(self._receive, self._send), settings=self._chat.settings, alive=alive)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()  # the host closes when the call returns

    async def _refuse(self, error: HttpError, readable: Collection[tuple[str, str]] = ()) -> None:
        if self._scope["type"] == "http":
            kind = "http.response"
        elif "websocket.http.response" in (self._scope.get("extensions") or {}):
            kind = "websocket.http.response"
        else:
            await self._send({"type": "websocket.close", "code": int(CloseCode.POLICY)})  # a 403, whatever the code
            return
        body = f"{error.message}\n".encode()
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *error.headers,
            *readable,
        ]
        raw = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers]
        await self._send({"type": f"{kind}.start", "status": error.status, "headers": raw})
        await self._send({"type": f"{kind}.body", "body": body})


class _Hosted(Carrier):
    """A WebSocket that the host reads and writes."""

    def __init__(self, receive: _Receive, send: _Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = False

    async def receive(self) -> str | bytes:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._gone = True
            raise ConnectionEnded(f"the host says {message['type']}")
        text, data = message.get("text"), message.get("bytes")
        return text if text is not None else bytes(data or b"")

    async def send(self, text: str) -> None:
        if self._gone:
            raise ConnectionEnded("the peer is gone")
        try:
            await self._send({"type": "websocket.send", "text": text})
        except OSError as error:  # what a host is to raise whose peer is gone, since version 2.4 of the specification
            raise ConnectionEnded(str(error)) from None

    async def ask(self) -> None:
        await trio.sleep_forever()  # the host sends pings, if any, and keeps the answers to itself

    async def close(self, code: CloseCode, reason: str) -> None:
        if self._gone:
            await trio.lowlevel.checkpoint()
            return
        with suppress(OSError):  # there is nobody to be told
            await self._send({"type": "websocket.close", "code": int(code), "reason": reason})

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()  # the host closes when the call returns


def _address(scope: Mapping[str, Any]) -> str | None:
    client = scope.get("client")
    return str(client[0]) if client else None


def _request(scope: Mapping[str, Any]) -> Request:
    """What the authenticator is shown.

    Raises:
        HttpError: the host has let through what the front door would not.
    """
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"])
    query = scope.get("query_string", b"").decode("latin-1")
    return request_of(
        scope.get("method", "GET"),
        f"{path}?{query}" if query else path,
        [(bytes(name), bytes(value)) for name, value in scope["headers"]],
        client=_address(scope),
        secure=scope.get("scheme") in ("https", "wss"),
        upgrade=scope["type"] == "websocket",
    )
