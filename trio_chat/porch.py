"""What becomes of every connection, whichever way it comes in; and the boundary around each that no failure passes."""

from __future__ import annotations

import logging
import math
import ssl
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import trio

from .admission import TooMany
from .chat import Chat
from .core.batch import ConnectionId
from .core.events import Connected
from .errors import CloseCode
from .model import Identity
from .revalidation import Revalidate, keep_asking
from .session import Session, Transport
from .transport.front import Admitted

__all__ = ["Opening", "Porch", "guarded"]

_log = logging.getLogger("trio_chat.serve")
_Resource = TypeVar("_Resource", bound=trio.abc.AsyncResource)


async def guarded(connection: _Resource, work: Callable[[_Resource], Awaitable[None]]) -> None:
    """Do `work` for one connection. Whatever goes wrong with it ends here, logged; it is closed in any case."""
    try:
        await work(connection)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
        _log.debug("a connection broke")
    except* Exception as failures:
        _log.error("a connection failed", exc_info=failures)
    finally:
        await trio.aclose_forcefully(connection)


class Opening(trio.abc.AsyncResource):
    """A connection of which nobody knows yet whose it is. Closing it drops what is left, at its end in any case."""

    @property
    @abstractmethod
    def client(self) -> str | None:
        """The address it comes from, where there is one to be known."""

    @abstractmethod
    async def admit(self, places: ExitStack) -> Admitted | None:
        """Find out, and open the connection; or refuse it: then None. The caller sets the deadline.

        `places` takes what is held for as long as the connection lasts.
        """

    @abstractmethod
    async def turn_away(self, reason: str) -> None:
        """Say that there is no room, at little cost."""

    @abstractmethod
    def transport(self, admitted: Admitted, alive: Callable[[], None]) -> Transport:
        """What the session is to use, once it is open. See `Transport`; `alive` is to be called at signs of life."""


class Porch:
    """The connections of one way in: those in the handshake and those that are sessions."""

    def __init__(self, chat: Chat, revalidate: Revalidate | None) -> None:
        self._chat = chat
        self._revalidate = revalidate
        self._handshakes: set[trio.CancelScope] = set()
        self._sessions: set[ConnectionId] = set()

    async def serve(self, opening: Opening) -> None:
        """Serve one connection. Whatever goes wrong with it ends here, logged; the connection is closed in any case."""
        await guarded(opening, self._serve)

    def dismiss(self) -> None:
        """Begin to let everybody go: handshakes at once, sessions with their answers and 1001."""
        for scope in self._handshakes:
            scope.cancel()
        self._chat.dismiss(self._sessions)

    async def _serve(self, opening: Opening) -> None:
        chat = self._chat
        with ExitStack() as places:
            try:
                # Not longer: a set for each connection that lives on would take in every revocation there ever is.
                with chat.handshake() as revoked:
                    places.enter_context(chat.admission.connection())
                    admitted = await self._admit(opening, places)
            except TooMany as refusal:
                chat.admission.turned_away[503] += 1
                chat.refusals(logging.WARNING, "refused: %s", refusal, client=opening.client, status=503)
                await opening.turn_away(str(refusal))
                return
            if admitted is None:
                return
            identity = admitted.identity
            connection = chat.next_connection()
            transport = opening.transport(admitted, partial(chat.registry.alive.add, connection))
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

    async def _admit(self, opening: Opening, places: ExitStack) -> Admitted | None:
        admitted = None
        with trio.move_on_after(self._chat.settings.handshake_timeout) as scope, self._chat.admission.handshake():
            self._handshakes.add(scope)
            try:
                admitted = await opening.admit(places)
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
