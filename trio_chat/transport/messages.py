"""A session's connection over something that does the WebSocket's framing itself, and hands out whole messages.

An ASGI host is such a thing, and so is a connection that trio-websocket runs for the application. What bounds the bytes of
a frame, and the time and the fragments of a message, is theirs; what is bounded here are the messages they hand out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from ..errors import CloseCode
from ..session import ConnectionEnded
from ..settings import Settings
from .stream import SLICE_BYTES

__all__ = ["Carrier", "MessageTransport"]

AHEAD: Final = 64
AHEAD_BYTES: Final = 64 * 1024
"""Taken from the carrier and not yet by the session. Taking them is what lets pongs through, and makes batches; more would
be memory for somebody who is slowed down on purpose."""

_REASON_BYTES: Final = 123  # RFC 6455 §5.5.1


class Carrier(trio.abc.AsyncResource):
    """A WebSocket that somebody else reads and writes. Closing it drops the connection, as far as that is possible."""

    @abstractmethod
    async def receive(self) -> str | bytes:
        """The next message. Cancelling loses none.

        Raises:
            ConnectionEnded: there are no more.
        """

    @abstractmethod
    async def send(self, text: str) -> None:
        """Write a text message.

        Raises:
            ConnectionEnded: the connection was closed or is broken.
        """

    @abstractmethod
    async def ask(self) -> None:
        """Find out whether the peer is there: returns when it has answered. It may be that nobody can be asked.

        Raises:
            ConnectionEnded: the connection was closed or is broken.
        """

    @abstractmethod
    async def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame, and wait for the peer's if that can be done. The caller limits the time."""


class MessageTransport:
    """A `trio_chat.session.Transport` over a `Carrier`, which it owns: `close` closes it.

    Args:
        carrier: open, and used by nobody else.
        settings: its limits and times are applied to this connection.
        alive: called when a message came, when one was taken, and when the peer answered a ping.
    """

    def __init__(self, carrier: Carrier, *, settings: Settings, alive: Callable[[], None] = lambda: None) -> None:
        self._carrier = carrier
        self._settings = settings
        self._alive = alive
        self._received: list[bytes | None] = []
        self._size = 0
        self._rung = trio.Event()
        self._room = trio.Event()
        self._ping_wanted = trio.Event()
        self._ended = False
        self._writing = trio.Lock()
        self._cut_short = False
        self._closing = False
        self._closed = trio.Event()

    async def run(self) -> None:
        """Take messages from the peer until the connection ends. When it is cancelled no more are taken; `close` works."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_asking)
                with suppress(ConnectionEnded):
                    await self._listen()
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            self._rung.set()

    async def receive(self) -> list[bytes | None]:
        """All messages that are there, at least one. Cancelling loses nothing.

        Raises:
            ConnectionEnded: everything was handed over and there will be no more.
        """
        await trio.lowlevel.checkpoint()
        while not self._received:
            if self._ended:
                raise ConnectionEnded("the connection is closed")
            self._rung = trio.Event()
            await self._rung.wait()
        messages, self._received = self._received, []
        self._size = 0
        self._room.set()
        return messages

    async def send(self, texts: list[bytes]) -> None:
        """Write `texts` as text messages, in order. Cancelling breaks the connection if a write had begun.

        Raises:
            ConnectionEnded: the connection was closed or broken, or the peer took too long to take a message.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        for text in texts:
            await self._write(text)

    async def ping(self) -> None:
        """Have the peer asked whether it is there; does not wait for the answer."""
        self._check_open()
        self._ping_wanted.set()
        await trio.lowlevel.checkpoint()

    async def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame and wait a little for the peer's; then drop the connection. May be called twice.

        After a write that was cut short it only drops the connection. When cancelled, it is dropped all the same.
        """
        if self._closing:
            await self._closed.wait()
            return
        self._closing = True
        try:
            with trio.move_on_after(self._settings.close_timeout):
                async with self._writing:
                    if not self._cut_short:
                        await self._carrier.close(code, _short(reason))
                if code is CloseCode.FLOODING:
                    await trio.sleep_forever()  # held, so as not to be back at once
        finally:
            self._closed.set()
            await trio.aclose_forcefully(self._carrier)

    async def _listen(self) -> None:
        limit = self._settings.frame_bytes
        while True:
            while len(self._received) >= AHEAD or self._size >= AHEAD_BYTES:
                self._room = trio.Event()
                await self._room.wait()
            message = await self._carrier.receive()
            self._alive()
            # A host may let half a surrogate pair through: the decoder of frames refuses it then.
            data = message.encode(errors="surrogatepass") if isinstance(message, str) else message
            if len(data) > limit:
                await self.close(CloseCode.TOO_BIG, f"a message is over {limit} bytes")
                return
            self._received.append(data if isinstance(message, str) else None)
            self._size += len(data)
            self._rung.set()

    async def _keep_asking(self) -> None:
        while True:
            await self._ping_wanted.wait()
            self._ping_wanted = trio.Event()
            # The core judges by its own clock; here this only ends a question that nobody answers.
            with trio.move_on_after(self._settings.ping_timeout), suppress(ConnectionEnded):
                await self._carrier.ask()
                self._alive()

    async def _write(self, text: bytes) -> None:
        seconds = self._settings.write_timeout * (1 + len(text) // SLICE_BYTES)
        async with self._writing:
            self._check_open()
            self._cut_short = True
            with trio.move_on_after(seconds) as scope:
                await self._carrier.send(text.decode())
            if scope.cancelled_caught:
                raise ConnectionEnded(f"the peer did not take a message for {seconds:g} s")
            self._cut_short = False
        self._alive()

    def _check_open(self) -> None:
        if self._ended or self._closing or self._cut_short:
            raise ConnectionEnded("the connection is closed")


def _short(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")
