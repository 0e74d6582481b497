"""A WebSocket that an application runs with trio-websocket, as it comes: with that library's engine and through its API."""

from __future__ import annotations

import trio
from trio_websocket import ConnectionClosed, Endpoint, WebSocketConnection

from ..errors import CloseCode
from ..session import ConnectionEnded
from .messages import Carrier

__all__ = ["Upgraded"]


class Upgraded(Carrier):
    """Owns `ws`; the application's nursery goes on running the task that reads its frames."""

    def __init__(self, ws: WebSocketConnection) -> None:
        self._ws = ws

    @property
    def target(self) -> str:
        """What the client asked for, its query included."""
        return self._ws.path or "/"

    @property
    def client(self) -> str | None:
        """The address of the client, where there is one to be known."""
        try:
            remote = self._ws.remote
        except OSError:  # it has sent RST in the meantime
            return None
        return str(remote.address) if isinstance(remote, Endpoint) else None

    async def receive(self) -> str | bytes:
        try:
            return await self._ws.get_message()
        except ConnectionClosed as closed:
            raise _ended(closed) from None

    async def send(self, text: str) -> None:
        try:
            await self._ws.send_message(text)
        except ConnectionClosed as closed:
            raise _ended(closed) from None

    async def ask(self) -> None:
        try:
            await self._ws.ping()
        except ConnectionClosed as closed:
            raise _ended(closed) from None

    async def close(self, code: CloseCode, reason: str) -> None:
        await self._ws.aclose(int(code), reason)

    async def aclose(self) -> None:
        if self._ws.closed is None:
            await self._ws.aclose()  # the caller has cancelled it: nothing is said any more
        else:
            await trio.lowlevel.checkpoint()


def _ended(closed: ConnectionClosed) -> ConnectionEnded:
    return ConnectionEnded("the connection was cut off" if closed.reason is None else f"closed with {closed.reason.code}")
