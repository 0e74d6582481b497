"""Listening on a socket whose backlog has a crowd waiting in it."""

from __future__ import annotations

from typing import Final, Protocol

import trio

__all__ = ["PatientListener", "Room"]

_MARGIN: Final = 8
"""Places that are left free: who was accepted a moment ago has not taken theirs yet."""


class Room(Protocol):
    """How many more handshakes there may be."""

    async def wait_for_handshakes(self, places: int) -> None:
        """Wait until so many more could begin, or until none is under way."""
        ...


class PatientListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts nobody while there is no room for their handshake: they wait in the backlog, and are not refused.

    A server that begins on a socket that was there before it finds everybody in the backlog who has connected since the
    last one ended, all at once: more, maybe, than may be in the handshake at a time. For a socket of the server's own it is
    the other way round: a quick refusal tells a crowd, or a flood, that it is one.

    Args:
        socket: the listener on the socket; closed with this one.
        room: for instance the chat's `Admission`.
    """

    def __init__(self, socket: trio.SocketListener, room: Room) -> None:
        self._listener = socket
        self._room = room
        self.socket: trio.socket.SocketType = socket.socket

    async def accept(self) -> trio.SocketStream:
        """The next connection. Cancelling leaves it in the backlog."""
        await self._room.wait_for_handshakes(_MARGIN)
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Close this process's hold on the socket; who holds it, too, keeps it, and its backlog."""
        await self._listener.aclose()
