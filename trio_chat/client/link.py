"""One connection after the other, for as long as the client is open: when to come back, and when not."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import httpx2

from ..errors import CloseCode, ClosedForGood, ConnectionClosed, Replaced, Unauthorized
from .connection import Connection, Ended
from .dialogue import Dialogue, Effect, Notice, wrong_owner
from .handshake import Address, Connect, Cut, Declined, open_http, upgrade
from .records import Owner
from .timing import Timing
from .values import Disconnected

__all__ = ["Link"]

_HINT: Final = re.compile(r"retry_after=([0-9]{1,6}(?:\.[0-9]+)?)")
_HINTED: Final = (CloseCode.GOING_AWAY, CloseCode.INTERNAL)
_FOR_GOOD: Final = {CloseCode.UNAUTHORIZED: Unauthorized, CloseCode.REPLACED: Replaced}


class Link:
    """Keeps a dialogue connected.

    Args:
        address: where, and as whom.
        dialogue: what to converse.
        timing: how long to wait for what.
        carry_out: is given what comes of it.
        connect: opens a stream, in place of a connection to the address.
        ssl_context: for ``wss:``, in place of the usual one.
    """

    def __init__(
        self,
        address: Address,
        dialogue: Dialogue,
        timing: Timing,
        carry_out: Callable[[Sequence[Effect]], None],
        *,
        connect: Connect | None,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._address = address
        self._dialogue = dialogue
        self._timing = timing
        self._carry_out = carry_out
        self._connect = connect
        self._ssl_context = ssl_context
        self._connection: Connection | None = None
        self._identified = dialogue.owner is None or dialogue.inbox.log is None
        self._abandoned = False
        self._fruitful = False
        self._since = math.inf  # when the present connection was welcomed
        self.connections: int = 0

    def wake(self) -> None:
        """There may be something to send."""
        if self._connection is not None:
            self._connection.wake()

    async def settle(self) -> None:
        """Wait a moment for a write that has begun, before all of it is cancelled."""
        if self._connection is not None:
            with anyio.move_on_after(self._timing.farewell):
                await self._connection.settle()

    async def run(self) -> ConnectionClosed:
        """Connect again and again, until that makes no sense any more; gives the reason."""
        attempt = 0
        async with open_http(self._address, self._connect, self._ssl_context) as http:
            while True:
                self._fruitful, self._since = False, math.inf
                try:
                    ended = await self._attempt(http)
                except ConnectionClosed as error:
                    return error
                if ended.resume:
                    continue
                if (closed := self._for_good(ended)) is not None:
                    return closed
                if self._fruitful or anyio.current_time() - self._since >= self._timing.proven:
                    attempt = 0
                pause = self._pause(ended, attempt)
                attempt += 1
                gone = Disconnected(ended.reason or f"closed with {ended.code}", pause, ended.code, ended.status)
                self._carry_out([Notice(gone)])
                await anyio.sleep(pause)

    def _pause(self, ended: Ended, attempt: int) -> float:
        if ended.code in _HINTED and (hint := _HINT.fullmatch(ended.reason)):
            return float(hint[1])
        return max(self._timing.pause(attempt), ended.retry_after)

    def _for_good(self, ended: Ended) -> ConnectionClosed | None:
        code = next((known for known in CloseCode if known == ended.code), None)
        if code is None or code.reconnect:
            return None
        if code is CloseCode.REPLACED and self._abandoned:
            # An earlier attempt of ours was given up without an answer, and may have been let in after this one.
            self._abandoned = False
            return None
        kind = _FOR_GOOD.get(code, ClosedForGood)
        return kind(f"closed with {int(code)}: {ended.reason or code.meaning}", code=int(code), reason=ended.reason)

    async def _attempt(self, http: httpx2.AsyncClient) -> Ended:
        """One connection, or one attempt at it."""
        ended = Ended(f"no welcome within {self._timing.patience:g} s")
        with anyio.CancelScope(deadline=anyio.current_time() + self._timing.patience) as patience:  # noqa: ASYNC912
            try:
                if not self._identified:
                    await self._identify(http)
                ended = await self._converse(http, patience)
            except Declined as declined:
                ended = Ended(str(declined), status=declined.status, retry_after=declined.retry_after)
            except Cut as cut:
                ended = Ended(str(cut))
        return ended

    async def _identify(self, http: httpx2.AsyncClient) -> None:
        """Ask whom the server takes us for before telling it a position: another's would acknowledge what was never seen.

        A connection that only sends changes nothing there.
        """
        async with upgrade(http, self._address.with_query(window=0), self._address.headers) as stream:
            connection = Connection(stream, self._dialogue, self._timing, self._carry_out)
            welcome = await connection.open()
            await connection.leave()
        owner = self._dialogue.owner
        assert owner is not None
        if owner != (here := Owner(welcome.user, welcome.device)):
            raise wrong_owner(here, owner)
        self._identified = True

    async def _converse(self, http: httpx2.AsyncClient, patience: anyio.CancelScope) -> Ended:
        inbox = self._dialogue.inbox
        url = self._address.url
        if inbox.log is not None and not self._address.send_only:
            url = self._address.with_query(log=inbox.log, after=inbox.position)
        self._abandoned, abandoned = True, self._abandoned
        async with upgrade(http, url, self._address.headers) as stream:
            connection = Connection(stream, self._dialogue, self._timing, self._carry_out)
            try:
                welcome = await connection.open()
            except Cut:
                if connection.refused is None:
                    raise
                self._abandoned = abandoned
                return connection.refused
            self._abandoned = abandoned
            patience.deadline = math.inf
            self._since = anyio.current_time()
            self._identified = True
            self.connections += 1
            self._connection = connection
            try:
                return await connection.run(welcome)
            finally:
                self._connection = None
                self._fruitful = connection.fruitful
