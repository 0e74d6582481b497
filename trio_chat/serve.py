"""Listeners, and the connections they take."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any, Final, TypeVar

import trio
from trio_websocket import WebSocketConnection

from .chat import Chat
from .errors import CloseCode
from .model import Identity
from .porch import Opening, Porch
from .revalidation import Revalidate
from .session import Transport
from .transport.front import Admitted, Authenticate, FrontDoor, position
from .transport.http import HttpError, peer_address, request_of
from .transport.messages import MessageTransport
from .transport.pages import Pages
from .transport.stream import GuardedStream
from .transport.upgraded import Upgraded
from .transport.websocket import WebSocketTransport

__all__ = ["handle", "handle_websocket", "serve_listeners", "serve_tcp"]

_Stream = TypeVar("_Stream", bound=trio.abc.Stream)

_FAREWELL: Final = 1.0
"""Seconds for answers and close frames when the scope around a listener is cancelled."""
_TURNING_AWAY: Final = 0.2
"""Seconds for somebody for whom there is no room to hear of it."""
_BUSY: Final = HttpError(503, "too many connections", [("Retry-After", "5")]).response()


class _Knock(Opening):
    """A connection as a listener takes it: a stream on which an HTTP request will come."""

    def __init__(self, chat: Chat, stream: trio.abc.Stream, door: FrontDoor) -> None:
        self._settings = chat.settings
        self._stream = stream
        self._door = door

    @property
    def client(self) -> str | None:
        return peer_address(self._stream)

    async def admit(self, places: ExitStack) -> Admitted | None:
        return await self._door.admit(self._stream, places)

    async def turn_away(self, reason: str) -> None:  # noqa: ARG002  (one answer, made beforehand)
        """Say that there is no room: without a TLS handshake, and without waiting long for anybody."""
        if isinstance(self._stream, trio.SSLStream):
            return
        wire = GuardedStream(self._stream, write_timeout=_TURNING_AWAY)
        with trio.move_on_after(_TURNING_AWAY):
            await wire.send_all(_BUSY)
            await wire.aclose()

    def transport(self, admitted: Admitted, alive: Callable[[], None]) -> Transport:
        return WebSocketTransport(self._stream, settings=self._settings, trailing_data=admitted.trailing_data, alive=alive)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def handle(
    chat: Chat,
    stream: trio.abc.Stream,
    *,
    authenticate: Authenticate,
    revalidate: Revalidate | None = None,
    allowed_origins: Collection[str] = (),
    trusted_proxies: Collection[str] = (),
    pages: Pages | None = None,
) -> None:
    """Serve one connection, from its request head to its end, and close `stream`.

    Nothing that the peer or the application's hooks do raises here. Cancelling tells the peer 1001, for at most a second.
    See `serve_tcp` for the arguments.
    """
    door = FrontDoor(chat, authenticate, allowed_origins=allowed_origins, trusted_proxies=trusted_proxies, pages=pages)
    await Porch(chat, revalidate).serve(_Knock(chat, stream, door))


class _Accepted(Opening):
    """A WebSocket that the application has accepted, knowing whose it is."""

    def __init__(self, chat: Chat, ws: WebSocketConnection, identity: Identity) -> None:
        self._chat = chat
        self._identity = identity
        self._websocket = Upgraded(ws)

    @property
    def client(self) -> str | None:
        return self._websocket.client

    async def admit(self, places: ExitStack) -> Admitted | None:
        chat = self._chat
        try:
            request = request_of("GET", self._websocket.target, (), client=self.client, secure=False, upgrade=True)
            log, after, send_only = position(request)
        except HttpError as error:
            await self._refuse(CloseCode.POLICY, error.message)
            return None
        if request.client is not None:
            places.enter_context(chat.admission.address(request.client))
        expires_at = self._identity.expires_at
        if chat.failure is not None:
            await self._refuse(CloseCode.INTERNAL, "")
        elif chat.draining.is_set():
            await self._refuse(CloseCode.GOING_AWAY, "")
        elif expires_at is not None and expires_at * 1000 <= chat.clock():
            await self._refuse(CloseCode.UNAUTHORIZED, "the authorisation has expired")
        else:
            return Admitted(self._identity, b"", log, after, send_only, request.client)
        return None

    async def turn_away(self, reason: str) -> None:
        await self._refuse(CloseCode.GOING_AWAY, reason)

    def transport(self, admitted: Admitted, alive: Callable[[], None]) -> Transport:  # noqa: ARG002  (all is known)
        return MessageTransport(self._websocket, settings=self._chat.settings, alive=alive)

    async def aclose(self) -> None:
        await self._websocket.aclose()

    async def _refuse(self, code: CloseCode, reason: str) -> None:
        with trio.move_on_after(_TURNING_AWAY):
            await self._websocket.close(code, reason)


async def handle_websocket(
    chat: Chat, ws: WebSocketConnection, identity: Identity, *, revalidate: Revalidate | None = None
) -> None:
    """Serve one WebSocket that the application has accepted with trio-websocket, until it ends, and close it.

    For applications that run trio-websocket already, and know by then who connects::

        async def websocket(request: WebSocketRequest) -> None:
            identity = await who_is(request)
            await handle_websocket(chat, await request.accept(subprotocol="trio-chat.v1"), identity)

    Where the client wants to start (``log``, ``after``, ``window``) is read from the query it connected with. What the peer
    does, and what goes wrong with it, does not raise here. Cancelling tells the peer 1001, for at most a second.

    The request's head, the frames and the pongs are trio-websocket's: which limits hold then is in the page on embedding.

    Args:
        chat: from `open_chat`; its block must enclose this.
        ws: accepted, and read by nobody else. What reads its frames has to outlive this.
        identity: whose connection it is.
        revalidate: see `serve_tcp`.
    """
    await Porch(chat, revalidate).serve(_Accepted(chat, ws, identity))


async def serve_listeners(
    chat: Chat,
    listeners: Sequence[trio.abc.Listener[_Stream]],
    *,
    authenticate: Authenticate,
    revalidate: Revalidate | None = None,
    allowed_origins: Collection[str] = (),
    trusted_proxies: Collection[str] = (),
    pages: Pages | None = None,
    task_status: trio.TaskStatus[list[trio.abc.Listener[_Stream]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve connections from `listeners`, e.g. one for a unix socket, until the chat drains. Closes the listeners.

    Returns when the chat is drained (`Chat.drain`) and every connection is gone. Cancelling stops accepting, lets the
    answers to what was read and a close with 1001 go out for at most a second, then cuts off what is left.

    Out of file descriptors, it pauses accepting and resumes; those who are connected do not notice.
    """
    async with AsyncExitStack() as stack:
        for listener in listeners:  # before anything that may raise
            await stack.enter_async_context(listener)
        door = FrontDoor(chat, authenticate, allowed_origins=allowed_origins, trusted_proxies=trusted_proxies, pages=pages)
        porch, shelter = Porch(chat, revalidate), _Shelter()

        async def serve(stream: trio.abc.Stream) -> None:
            await porch.serve(_Knock(chat, stream, door))

        async with trio.open_nursery() as nursery:
            connections = await nursery.start(shelter.run)
            accept = partial(trio.serve_listeners, serve, list(listeners), handler_nursery=connections)
            try:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(accept)
                    task_status.started(list(listeners))
                    await chat.draining.wait()
                    accepting.cancel_scope.cancel()
                porch.dismiss()
                shelter.leave.set()
                await shelter.empty.wait()  # the chat sees to it that this does not take longer than a drain may
            finally:
                porch.dismiss()
                shelter.leave.set()
                shelter.scope.deadline = trio.current_time() + _FAREWELL


class _Shelter:
    """A home for connections that a cancellation of their listener does not reach at once, so that they can say goodbye.

    Set `leave` when there will be no more of them. `empty` is set when they are gone; the deadline of `scope` hurries them.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.leave = trio.Event()
        self.empty = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        with self.scope:
            async with trio.open_nursery() as connections:
                task_status.started(connections)
                await trio.lowlevel.checkpoint_if_cancelled()  # or `start`, cancelled, would wait for us for ever
                self.scope.shield = True
                await self.leave.wait()
        self.empty.set()


async def serve_tcp(  # noqa: ASYNC128  (serve_listeners does)
    chat: Chat,
    port: int,
    *,
    host: str | bytes | None = "127.0.0.1",
    backlog: int | None = None,
    ssl_context: ssl.SSLContext | None = None,
    authenticate: Authenticate,
    revalidate: Revalidate | None = None,
    allowed_origins: Collection[str] = (),
    trusted_proxies: Collection[str] = (),
    pages: Pages | None = None,
    task_status: trio.TaskStatus[list[trio.abc.Listener[Any]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen on a TCP port and serve the connections, until the chat drains.

    Start it in a nursery of yours::

        listeners = await nursery.start(partial(serve_tcp, chat, 6662, authenticate=authenticate))

    Args:
        chat: from `open_chat`; its block must enclose this.
        port: 0 lets the system choose; look at the listeners.
        host: the interface; this machine only unless told otherwise. None is all of them.
        backlog: see `trio.open_tcp_listeners`.
        ssl_context: for ``wss://``.
        authenticate: an async function that takes the `Request` and returns an `Identity` or raises `Refused`; it has
            ``settings.hook_timeout`` seconds. `trio_chat.authenticators` has some.
        revalidate: an async function that is given the `Identity` of each connection every ``settings.revalidate_interval``
            seconds, spread over that time, and returns None or raises `Refused`, which closes the connection with 4401. If
            it fails or hangs the connection stays, but not longer than ``settings.revalidate_grace`` seconds after it
            was vouched for last; then it is closed with 1011.
        allowed_origins: origins of pages that may connect beside those of this host, exactly as browsers write them.
        trusted_proxies: addresses or networks of proxies whose ``X-Forwarded-For`` is believed; ``unix`` for those that
            connect by a Unix socket.
        pages: static pages to serve on the same port, by path, such as `demo_pages`; none unless given.
        task_status: is given the listeners once they listen.

    Raises:
        OSError: the port cannot be listened on.

    Ends and is cancelled as `serve_listeners`.
    """
    listeners: list[trio.abc.Listener[Any]] = list(await trio.open_tcp_listeners(port, host=host, backlog=backlog))
    if ssl_context is not None:
        listeners = [trio.SSLListener(listener, ssl_context, https_compatible=True) for listener in listeners]
    await serve_listeners(
        chat,
        listeners,
        authenticate=authenticate,
        revalidate=revalidate,
        allowed_origins=allowed_origins,
        trusted_proxies=trusted_proxies,
        pages=pages,
        task_status=task_status,
    )
