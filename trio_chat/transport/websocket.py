"""A session's connection over WebSocket: trio-websocket with an engine and a stream of ours.

trio-websocket owns the conversation (who reads, who writes, the closing handshake); `trio_chat.engine` decides what a peer
may send, and `trio_chat.transport.stream` what a broken or slow stream means. The opening handshake is over by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, TextMessage

from ..engine import Engine
from ..errors import CloseCode
from ..session import ConnectionEnded
from ..settings import Settings
from .stream import GuardedStream

if TYPE_CHECKING:
    from wsproto import WSConnection

__all__ = ["WebSocketTransport"]

READ_BYTES: Final = 8 * 1024
"""Asked for at once. Much smaller reads cost a wake-up for a few messages each; larger ones let whoever sends thousands of
tiny messages at once keep everybody else waiting while they are taken apart."""

GROUP_BYTES: Final = 64 * 1024
"""Written at once: a ping or a pong goes between two groups, so that a slow link is not taken for a dead one."""

CONTROLS: Final = 256
CONTROL_SECONDS: Final = 10.0
"""More pings and pongs than this in this time are a flood. Each read's are bounded by the engine already."""

_HEADER_BYTES: Final = 10  # RFC 6455 §5.2: a server's longest frame header
_ABNORMAL: Final = 1006  # RFC 6455 §7.4.1: there was no close frame; what trio-websocket says of a broken stream
_WAKE: Final = b"\0"
_QUEUED: Final = TextMessage(data="")


class _JudgedStream(trio.abc.Stream):
    """What trio-websocket is given for a stream: it enforces the limits that need a clock, and leaves the closing to us."""

    def __init__(self, stream: GuardedStream, engine: Engine, *, message_seconds: float) -> None:
        self._stream = stream
        self._engine = engine
        self._message_seconds = message_seconds
        self.over = False
        """Set when nothing more is to be read; the reader task ends then."""
        self.rung = trio.Event()
        """Set when the engine may have messages to be taken, or never will again. Whoever waits puts a new one here."""
        self.taken = trio.Event()
        """Set when they were taken, or are of no interest any more: then the next ones are read."""
        self._turn = trio.Lock()
        self._message = 0
        self._deadline = math.inf
        self._controls = 0
        self._controls_since = -math.inf

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        engine = self._engine
        while engine.waiting and engine.state is ConnectionState.OPEN:  # one read at a time is handed over
            self.rung.set()
            self.taken = trio.Event()
            await self.taken.wait()
        if self.over or engine.state is ConnectionState.CLOSED:
            raise trio.ClosedResourceError
        if engine.controls - self._controls > CONTROLS:
            now = trio.current_time()
            if now - self._controls_since < CONTROL_SECONDS:
                return await self._refuse("too many control frames")
            self._controls, self._controls_since = engine.controls, now
        message = engine.under_way
        if not message:  # the usual case, without a cancel scope
            return await self._stream.receive_some(max_bytes)
        if message != self._message:
            self._message, self._deadline = message, trio.current_time() + self._message_seconds
        with trio.move_on_at(self._deadline) as scope:
            data = await self._stream.receive_some(max_bytes)
        if not scope.cancelled_caught:
            return data
        return await self._refuse(f"a message took longer than {self._message_seconds:g} s")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.over:  # `close` may be writing its last word, beside the lock by which trio-websocket's tasks take turns
            await trio.lowlevel.checkpoint_if_cancelled()
            raise trio.ClosedResourceError
        # Tasks take turns here and not only in trio-websocket, whose lock costs a wake-up also when it is free.
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            await self._stream.send_all(data)
        finally:
            self._turn.release()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        # The last word is written and the reader task is to end. It may be cancelled any moment: not the one to linger.
        self.over = True
        await trio.lowlevel.checkpoint()

    async def _refuse(self, reason: str) -> bytes:
        self._engine.fail(CloseCode.POLICY, reason)
        await trio.lowlevel.checkpoint()
        # trio-websocket looks at the engine's events only after it has read something; the engine itself is deaf by now.
        return _WAKE


class WebSocketTransport:
    """A `trio_chat.session.Transport` over a stream on which the opening handshake is done.

    Owns the stream: `close` closes it.

    Args:
        stream: a socket, TLS or memory stream.
        settings: its limits and times are applied to this connection.
        trailing_data: what was read from the stream after the opening handshake.
        alive: called when anything came from the peer, and when it took a slice of a write that is no `ping`.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        settings: Settings,
        trailing_data: bytes = b"",
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._close_timeout = settings.close_timeout
        self._engine = Engine(message_bytes=settings.frame_bytes, fragments=settings.fragments)
        self._stream = GuardedStream(stream, write_timeout=settings.write_timeout, alive=alive)
        self._judged = _JudgedStream(self._stream, self._engine, message_seconds=settings.message_seconds)
        self._connection = WebSocketConnection(
            self._judged,
            cast("WSConnection", self._engine),  # it has what WebSocketConnection uses of one
            message_queue_size=0,  # it hands over no messages: they are taken from the engine
            max_message_size=2**62,  # the engine's business
            receive_buffer_size=READ_BYTES,
        )
        self._running = False
        self._ended = trio.Event()
        self._closed: trio.Event | None = None
        if trailing_data:
            self._engine.receive_data(trailing_data)

    async def run(self) -> None:
        """Read from the peer until the connection ends. When it is cancelled `receive` and `send` raise; `close` works."""
        self._running = True
        try:
            # The one private name of trio-websocket's that is used; tests/transport/test_websocket.py guards it.
            await self._connection._reader_task()  # noqa: SLF001
        finally:
            self._running = False
            self._ended.set()
            self._judged.rung.set()

    async def receive(self) -> list[bytes | None]:
        """All messages of at least one read. Without waiting if there are some; cancelling loses nothing.

        While `close` is at work this waits for it: the end of the messages is no reason to interrupt it.

        Raises:
            ConnectionEnded: everything was handed over and there will be no more.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not (messages := self._engine.take()):
            if self._ended.is_set():
                ended = self._end()
                if self._closed is not None:
                    await self._closed.wait()
                raise ended
            self._judged.rung = trio.Event()
            await self._judged.rung.wait()
        self._judged.taken.set()
        return messages

    async def send(self, texts: list[bytes]) -> None:
        """Write `texts` as text messages, in order. Cancelling breaks the connection if a write had begun.

        Raises:
            ConnectionEnded: the connection was closed or broken, or the peer took too long to take a slice.
        """
        self._check_open()
        if not texts:
            await trio.lowlevel.checkpoint()
        size = 0
        for text in texts:
            length = len(text) + _HEADER_BYTES
            if size and size + length > GROUP_BYTES:
                await self._flush()
                size = 0
            self._engine.queue(text)
            size += length
        if size:
            await self._flush()

    async def ping(self) -> None:
        """Write a ping; does not wait for the answer. Raises and is cancelled as `send`.

        Calls no `alive`: that a ping could be written says nothing of whoever is to answer it.
        """
        self._check_open()
        self._engine.queue_ping()
        self._stream.unnoticed = True
        try:
            await self._flush()
        finally:
            self._stream.unnoticed = False

    async def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame, wait a little for the peer's, then close the stream gently. May be called twice.

        Works without `run`. Takes at most the close timeout for the handshake, and a second to linger. After a write that
        was cut short it only drops the stream. When cancelled, the stream is closed all the same.

        Args:
            code: what the peer is told.
            reason: likewise; cut to 123 bytes.
        """
        closed = self._closed = trio.Event() if self._closed is None else self._closed
        try:
            if not self._stream.cut_short:
                with trio.move_on_after(self._close_timeout):
                    if self._running and code is not CloseCode.FLOODING:
                        self._judged.taken.set()  # the peer's own close frame comes behind what nobody takes any more
                        await self._connection.aclose(int(code), reason)
                        # The peer's own close frame may just be being answered.
                        await self._ended.wait()
                    else:
                        self._judged.over = True  # `run` may be about to begin, or is to end
                        await self._stream.send_all(self._engine.send(CloseConnection(code=int(code), reason=reason)))
                    if code is CloseCode.FLOODING:
                        # Not heard to the end: its answer lies behind all the rest. Held, so as not to be back at once.
                        await trio.sleep_forever()
            if code is not CloseCode.FLOODING:
                await self._stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass  # closed already, nobody there to be told, or another task is writing to somebody who does not read
        finally:
            closed.set()
            await trio.aclose_forcefully(self._stream)

    def _check_open(self) -> None:
        if self._ended.is_set() or self._engine.state is not ConnectionState.OPEN:
            raise ConnectionEnded("the connection is closed")

    async def _flush(self) -> None:
        """Write what is queued, in turn with trio-websocket's tasks."""
        self._check_open()
        try:
            await self._judged.send_all(self._engine.send(_QUEUED))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        else:
            return
        with suppress(ConnectionClosed):
            await self._connection.send_message("")  # fails likewise, and so trio-websocket knows that it is over
        raise self._end()

    def _end(self) -> ConnectionEnded:
        reason = self._connection.closed
        if reason is None:
            return ConnectionEnded("the connection was cut off")
        # Who was refused may be gone before it could be told: then it was cut off, which is no code of anybody's.
        told = self._engine.failed and reason.code != _ABNORMAL
        return ConnectionEnded(f"closed with {reason.code}", CloseCode(reason.code) if told else None)
