"""One authenticated connection: a reader and a writer between a transport and the registry."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, Protocol

import trio

from . import wire
from .chat import Chat
from .core.batch import ConnectionId
from .core.events import Connected, Disconnected, Received
from .errors import CloseCode, InvalidFrame
from .settings import Settings

__all__ = ["ConnectionEnded", "Session", "Transport"]

_log = logging.getLogger("trio_chat.session")

_TOLD: Final = 1024
"""The most that may wait of what others cause: a peer that does not read must not make it any number (C8)."""

_FAREWELL: Final = 1.0
"""Seconds for the close frame of a session that is cancelled: long enough for a peer that reads."""
_UNAUTHORIZED: Final = 0.8
"""Seconds in which who is no longer authorised has to have taken what was being written: gone within a second, if not."""


class ConnectionEnded(Exception):
    """The connection is no more: the peer closed it or vanished, or it was closed or broken from this side.

    `code` is what the peer was told if it was refused for what it sent; None if nobody was told anything by this side.
    """

    def __init__(self, message: str = "", code: CloseCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class Transport(Protocol):
    """What a session needs of a connection. Batched both ways: what decides the speed is the number of task wake-ups."""

    async def run(self) -> None:
        """Read from the peer until the connection ends. Runs in a task of its own beside everything else.

        Ends the connection at once when it is cancelled.
        """
        ...

    async def receive(self) -> list[bytes | None]:
        """All complete messages of at least one read: a text message's bytes, None for a binary one.

        Does not wait if there are some. Cancelling is safe: no message is lost.

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
        """Write a ping; does not wait for the answer, and is no sign of life. Raises and is cancelled as `send`."""
        ...

    async def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame, wait a little for the peer's, then close the stream gracefully. May be called twice.

        Works without `run`, and whatever state the connection is in; needs at most the close timeout twice. After a write
        that was cut short it only drops the stream. When cancelled, the stream is closed all the same.
        """
        ...


class _Outbox:
    """The frames to be written, and roughly how many bytes they are, those of the write under way included.

    Behind them, and not counted, is what others cause and only the newest of which matters. Its peer must not be slowed for
    it: the bound is their number.
    """

    def __init__(self) -> None:
        self._frames: list[wire.ServerFrame] = []
        self._told: dict[tuple[str, str], wire.ServerFrame] = {}
        self._written = 0
        self._writing = False
        self.size = 0

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._frames or self._told)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being written."""
        return not (self._writing or self.waits)

    def put(self, frame: wire.ServerFrame) -> None:
        self._frames.append(frame)
        self.size += wire.weight(frame)

    def tell(self, key: tuple[str, str], frame: wire.ServerFrame) -> None:
        """Put a frame in the place of the one of this key that waits. It is dropped if too many of other keys do."""
        if key in self._told or len(self._told) < _TOLD:
            self._told[key] = frame

    def take(self) -> list[wire.ServerFrame]:
        """All frames that wait, what was told last. They count until `done`."""
        frames, self._frames = [*self._frames, *self._told.values()], []
        self._told.clear()
        self._written = self.size
        self._writing = True
        return frames

    def done(self) -> None:
        """What was taken is written."""
        self.size -= self._written
        self._written = 0
        self._writing = False


class Session:
    """A reader and a writer for one connection. Lives as long as `run`; the other methods return at once.

    The reader hands all frames of one read to the registry, and those of the next only when they are taken in, when the
    connection has not too much uncommitted, and when its outbox is small: a connection is slowed by itself only. The writer
    takes all that waits in the outbox and writes it at once.

    At `expires`, a time of Trio's clock, all of it ends with 4401.
    """

    def __init__(
        self, connection: ConnectionId, transport: Transport, settings: Settings, *, expires: float = math.inf
    ) -> None:
        self.connection = connection
        self._expires = self._end_by = expires
        self._transport = transport
        self._settings = settings
        self._outbox = _Outbox()
        self._ping_wanted = False
        self._closing: tuple[CloseCode, str] | None = None
        self._write_wanted = trio.Event()
        self._paused = True  # until welcome is queued (C9)
        self._handed_over = False
        self._reading = True
        self._read_wanted = trio.Event()
        self._scope = trio.CancelScope(deadline=expires)
        self._left: ConnectionEnded | None = None
        self.closed: CloseCode | None = None
        """With what the server has closed it, once it has ended; None if the peer went by itself."""

    # What the registry calls.

    def send(self, frame: wire.ServerFrame) -> None:
        """Put a frame at the end of the outbox, unless the session is closing: the registry may not know yet."""
        if self._closing is None:
            self._outbox.put(frame)
            self._write_wanted.set()

    def offer(self, frame: wire.ServerFrame) -> None:
        """Send an ephemeral frame if nothing else waits; else it is dropped (C8)."""
        if self._outbox.idle:
            self.send(frame)

    def tell(self, key: tuple[str, str], frame: wire.ServerFrame) -> None:
        """Send a frame behind the outbox, in the place of one of the same `key` that still waits (C8)."""
        if self._closing is None:
            self._outbox.tell(key, frame)
            self._write_wanted.set()

    def ping(self) -> None:
        """Send a WebSocket ping when the write under way is done."""
        self._ping_wanted = True
        self._write_wanted.set()

    def pause(self) -> None:
        """Stop reading."""
        self._paused = True

    def resume(self) -> None:
        """Read again, as far as this is up to the core."""
        self._paused = False
        self._read_wanted.set()

    def taken(self) -> None:
        """The frames handed over last were taken in."""
        self._handed_over = False
        self._read_wanted.set()

    def close(self, code: CloseCode, reason: str) -> None:
        """Write what is in the outbox, then close. The first reason to close is the one that is told.

        A peer that does not take what is in the outbox within the write timeout is cut off; one that is no longer
        authorised, within a second. From then on nothing of the peer's is taken in.
        """
        if self._closing is None:
            self._closing = (code, reason)
        self._reading = False
        self._write_wanted.set()
        self._read_wanted.set()
        seconds = self._settings.write_timeout
        if code is CloseCode.UNAUTHORIZED:
            seconds = min(seconds, _UNAUTHORIZED)
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)

    # What the chat calls.

    def stop_reading(self, *, end_by: float = math.inf) -> None:
        """Take nothing more from the peer; what was read goes its way. The session is cut off at `end_by` at the latest."""
        self._reading = False
        self._read_wanted.set()
        self._end_by = min(self._end_by, end_by)
        self._scope.deadline = min(self._scope.deadline, end_by)

    def cancel(self) -> None:
        """End now. The peer gets a close frame if it takes it within a second."""
        self._scope.cancel()

    # The session itself.

    async def run(self, chat: Chat, event: Connected) -> None:
        """Serve the connection until either side closes it. The transport is closed when this returns, however it does.

        Cancelling sends the peer a close frame, for at most a second, and ends.
        """
        registry = chat.registry
        chat.join(self, event)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._transport.run)
                    nursery.start_soon(self._write, nursery.cancel_scope)
                    await self._read(chat)
        except* Exception:  # a bug: the peer did nothing wrong
            self._closing = CloseCode.INTERNAL, ""
            raise
        finally:
            registry.put(Disconnected(self.connection))
            if self._closing is None and trio.current_time() >= self._expires:
                self._closing = CloseCode.UNAUTHORIZED, "the authorisation has expired"
            code, reason = self._closing or chat.farewell
            self.closed = self._left.code if self._left and self._closing is None else code
            try:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL):
                    await self._transport.close(code, reason)
            finally:
                chat.leave(self)

    def _may_read(self) -> bool:
        return not self._paused and self._outbox.size < self._settings.outbox_bytes

    async def _until(self, may: Callable[[], bool]) -> bool:
        """Wait until reading may go on; False if it is to stop. Does not wait if it may."""
        while self._reading and not may():
            self._read_wanted = trio.Event()
            await self._read_wanted.wait()
        return self._reading

    async def _read(self, chat: Chat) -> None:
        """Read until the connection ends, and then end the session; or until reading is stopped: the writer goes on."""
        put = chat.registry.put
        while await self._until(self._may_read):
            try:
                texts = await self._transport.receive()
            except ConnectionEnded as ended:
                self._left = ended
                self._scope.cancel()
                return
            # Only now, with the next read in hand: who writes slowly is woken once for each, and who writes fast waits.
            if not await self._until(lambda: not self._handed_over and self._may_read()):
                return
            self._handed_over = True
            put(Received(self.connection, tuple(self._decoded(texts))))

    def _decoded(self, texts: list[bytes | None]) -> list[wire.ClientFrame | InvalidFrame]:
        """The frames of one read, up to the bad one for which the core closes the connection: a flood is not worth more."""
        frames: list[wire.ClientFrame | InvalidFrame] = []
        bad = 0
        for text in texts:
            try:
                frames.append(wire.decode(text, text_bytes=self._settings.text_bytes))
            except InvalidFrame as refusal:
                frames.append(refusal)
                bad += 1
                if bad > self._settings.bad_frames:
                    break
        return frames

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                if self._ping_wanted:
                    self._ping_wanted = False
                    await self._transport.ping()
                elif self._outbox.waits:
                    await self._transport.send(wire.pack(self._outbox.take(), self._settings.server_frame_bytes))
                    self._outbox.done()
                    self._read_wanted.set()
                elif self._closing is not None:
                    # All was taken. That a busy server came to this late is no reason to be cut off without a word.
                    self._scope.deadline = min(self._end_by, trio.current_time() + self._settings.write_timeout)
                    await self._transport.close(*self._closing)
                    break
                else:
                    self._write_wanted = trio.Event()
                    await self._write_wanted.wait()
        except ConnectionEnded as ended:
            self._left = self._left or ended
            _log.debug("connection %d: %s", self.connection, ended)
        scope.cancel()
