"""One authenticated connection: a reader and a writer between a transport and the registry."""

from __future__ import annotations

from typing import Protocol

from .errors import CloseCode

__all__ = ["ConnectionEnded", "Transport"]


class ConnectionEnded(Exception):
    """The connection is no more: the peer closed it or vanished, or it was closed or broken from this side."""


class Transport(Protocol):
    """What a session needs of a connection. Batched both ways: what decides the speed is the number of task wake-ups."""

    async def run(self) -> None:
        """Read from the peer until the connection ends. Runs in a task of its own beside everything else.

        Ends the connection at once when it is cancelled.
        """
        ...

    async def receive(self) -> list[bytes | None]:
        """All complete messages of at least one read: a text message's bytes, None for a binary one. May be empty.

        Cancelling is safe: no message is lost.

        Raises:
            ConnectionEnded: all messages were handed over and there will be no more.
        """
        ...

    async def send(self, texts: list[bytes]) -> None:
        """Write these as text messages, in order. Cancelling breaks the connection if a write had begun.

        Raises:
            ConnectionEnded: the connection was closed or broken, or the peer took too long to take a slice.
        """
        ...

    async def ping(self) -> None:
        """Write a ping; does not wait for the answer. Raises and is cancelled as `send`."""
        ...

    async def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame, wait a little for the peer's, then close the stream gracefully. May be called twice.

        Works without `run`, and whatever state the connection is in; needs at most the close timeout twice. After a write
        that was cut short it only drops the stream. When cancelled, the stream is closed all the same.
        """
        ...
