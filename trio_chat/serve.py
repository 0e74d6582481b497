"""Listeners, and the one boundary around each connection that no failure passes."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any, Final, TypeVar

import trio

from .admission import TooMany
from .chat import Chat
from .core.batch import ConnectionId
from .core.events import Connected
from .errors import CloseCode
from .model import Identity
from .revalidation import Revalidate, keep_asking
from .session import Session
from .transport.front import Admitted, Authenticate, FrontDoor
from .transport.http import HttpError, peer_address
from .transport.pages import Pages
from .transport.stream import GuardedStream
from .transport.websocket import WebSocketTransport

__all__ = ["guarded", "handle", "serve_listeners", "serve_tcp"]

_log = logging.getLogger("trio_chat.serve")
_Stream = TypeVar("_Stream", bound=trio.abc.Stream)

_FAREWELL: Final = 1.0
"""Seconds for answers and close frames when the scope around a listener is cancelled."""
_TURNING_AWAY: Final = 0.2
"""Seconds for somebody for whom there is no room to hear of it."""
_BUSY: Final = HttpError(503, "too many connections", [("Retry-After", "5")]).response()


async def guarded(stream: _Stream, work: Callable[[_Stream], Awaitable[None]]) -> None:
    """Do `work` for one connection. Whatever goes wrong with it ends here, logged; the stream is closed in any case."""
    try:
        await work(stream)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
        _log.debug("a connection broke")
    except* Exception as failures:
        _log.error("a connection failed", exc_info=failures)
    finally:
        await trio.aclose_forcefully(stream)


class _Porch:
    """The connections of one listener, or of one `handle`: those in the handshake and those that are sessions."""

    def __init__(self, chat: Chat, door: FrontDoor, revalidate: Revalidate | None) -> None:
        self._chat = chat
        self._door = door
        self._revalidate = revalidate
        self._handshakes: set[trio.CancelScope] = set()
        self._sessions: set[ConnectionId] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection. Whatever goes wrong with it ends here, logged; the stream is closed in any case."""
        await guarded(stream, self._serve)

    def dismiss(self) -> None:
        """Begin to let everybody go: handshakes at once, sessions with their answers and 1001."""
        for scope in self._handshakes:
            scope.cancel()
        self._chat.dismiss(self._sessions)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        chat = self._chat
        with ExitStack() as places:
            try:
                # Not longer: a set for each connection that lives on would take in every revocation there ever is.
                with chat.handshake() as revoked:
                    places.enter_context(chat.admission.connection())
                    admitted = await self._admit(stream, places)
            except TooMany as refusal:
                chat.admission.turned_away[503] += 1
                chat.refusals(logging.WARNING, "refused: %s", refusal, client=peer_address(stream), status=503)
                await _turn_away(stream)
                return
            if admitted is None:
                return
            identity = admitted.identity
            connection = chat.next_connection()
            transport = WebSocketTransport(
                stream,
                settings=chat.settings,
                trailing_data=admitted.trailing_data,
                alive=partial(chat.registry.alive.add, connection),
            )
            if revoked & {(identity.user, None), (identity.user, identity.device)}:
                chat.closed[CloseCode.UNAUTHORIZED] += 1
                _tell_of(connection, admitted, 0.0, CloseCode.UNAUTHORIZED)
                await transport.close(CloseCode.UNAUTHORIZED, "no longer authorised")
                return
            event = Connected(
                connection,
                identity.user,
                identity.device,
                log=admitted.log,
                after=admitted.after,
                send_only=admitted.send_only,
            )
            session = Session(connection, transport, chat.settings, expires=_expiry(identity, chat))
            self._sessions.add(connection)
            began = trio.current_time()
            try:
                await self._run(session, event, identity)
            finally:
                self._sessions.discard(connection)
                _tell_of(connection, admitted, trio.current_time() - began, session.closed)

    async def _run(self, session: Session, event: Connected, identity: Identity) -> None:
        if self._revalidate is None:
            await session.run(self._chat, event)
            return
        chat = self._chat
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_asking, self._revalidate, identity, session, chat.settings, chat.revalidations)
            await session.run(chat, event)
            nursery.cancel_scope.cancel()

    async def _admit(self, stream: trio.abc.Stream, places: ExitStack) -> Admitted | None:
        admitted = None
        with trio.move_on_after(self._chat.settings.handshake_timeout) as scope, self._chat.admission.handshake():
            self._handshakes.add(scope)
            try:
                admitted = await self._door.admit(stream, places)
            finally:
                self._handshakes.discard(scope)
        return admitted


def _tell_of(connection: ConnectionId, admitted: Admitted, seconds: float, closed: CloseCode | None) -> None:
    """The one line of a connection, when it has ended: who, from where, for how long, and who ended it."""
    identity = admitted.identity
    _log.info(
        "connection %d of %r, device %r, from %s: %s after %.1f s",
        connection,
        identity.user,
        identity.device,
        admitted.client or "nowhere",
        "it left" if closed is None else f"closed with {int(closed)}",
        seconds,
        extra={
            "connection": connection,
            "user": identity.user,
            "device": identity.device,
            "client": admitted.client,
            "closed": None if closed is None else int(closed),
            "seconds": round(seconds, 3),
        },
    )


def _expiry(identity: Identity, chat: Chat) -> float:
    """When the connection of this identity ends, by Trio's clock. A wall clock that is set later moves it no more."""
    if identity.expires_at is None:
        return math.inf
    return trio.current_time() + (identity.expires_at - chat.clock() / 1000)


async def _turn_away(stream: trio.abc.Stream) -> None:
    """Say that there is no room, at little cost: without a TLS handshake, and without waiting long for anybody."""
    if isinstance(stream, trio.SSLStream):
        return
    wire = GuardedStream(stream, write_timeout=_TURNING_AWAY)
    with trio.move_on_after(_TURNING_AWAY):
        await wire.send_all(_BUSY)
        await wire.aclose()


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
    await _Porch(chat, door, revalidate).serve(stream)


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
        porch, shelter = _Porch(chat, door, revalidate), _Shelter()
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(shelter.run)
            accept = partial(trio.serve_listeners, porch.serve, list(listeners), handler_nursery=connections)
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
