"""One live connection: reads without ever waiting for anybody, writes what the dialogue has to say, and notices silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from .. import wire
from ..engine import Engine
from ..errors import CloseCode, ConnectionClosed
from .dialogue import Dialogue, Effect, Fault
from .handshake import Cut, Wire
from .timing import Timing

__all__ = ["Connection", "Ended"]

_MESSAGE_BYTES: Final = 1024 * 1024  # C6: a client's limit SHOULD be 1 MiB
_FRAGMENTS: Final = 4096  # a proxy may cut messages up; nobody cuts them into single bytes
_SLICE_BYTES: Final = 16 * 1024
_PING_INTERVAL: Final = 25.0  # if the server names none


class Ended(Struct, frozen=True):
    """How a connection ended, or an attempt at one. `code` is 1006 if there was no close frame."""

    reason: str
    code: int = 1006
    status: int | None = None
    retry_after: float = 0.0
    resume: bool = False
    """The client itself wanted another connection."""


class Connection:
    """A WebSocket over `stream`, which stays the caller's.

    Args:
        stream: after the opening handshake.
        dialogue: takes what comes, and says what is to be sent.
        timing: how long to wait for what.
        carry_out: is given the effects of what came, in order. It must not wait.
    """

    def __init__(
        self, stream: Wire, dialogue: Dialogue, timing: Timing, carry_out: Callable[[Sequence[Effect]], None]
    ) -> None:
        self._stream = stream
        self._dialogue = dialogue
        self._timing = timing
        self._carry_out = carry_out
        self._engine = Engine(client=True, message_bytes=_MESSAGE_BYTES, fragments=_FRAGMENTS)
        self._awake = anyio.Event()
        self._pongs: list[Ping] = []
        self._ping_due = False
        self._half_written = False
        self._written = anyio.Event()
        self._unwritten = b""
        """What was taken out of the dialogue to be written, and is not begun."""
        self.fruitful: bool = False
        """Whether anything came after the first frame: then the server is there, and it is the line that is bad."""
        self._frames: list[wire.ServerFrame] = []
        self._closing: CloseConnection | None = None
        self._ended: Ended | None = None
        self._fault: ConnectionClosed | None = None

    def wake(self) -> None:
        """There may be something to send."""
        self._awake.set()

    async def open(self) -> wire.Welcome:
        """Wait for the first frame.

        Raises:
            Cut: it is no welcome, or the connection broke.
        """
        while not self._frames and self._closing is None:
            self._take(await self._stream.receive())
        if not self._frames:
            raise Cut("closed before the welcome")
        welcome = self._frames.pop(0)
        if not isinstance(welcome, wire.Welcome):
            raise Cut("the first frame is no welcome")
        return welcome

    @property
    def refused(self) -> Ended | None:
        """How the server closed in place of a welcome, if it did."""
        return None if self._closing is None else self._how(self._closing)

    async def run(self, welcome: wire.Welcome) -> Ended:
        """Converse until the connection ends. When cancelled, say goodbye within a moment.

        Raises:
            ConnectionClosed: the client is to close for good.
        """
        try:
            self._carried(self._dialogue.begin(welcome))
            if self._fault is None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write, tasks.cancel_scope)
                    await self._read(welcome)
                    tasks.cancel_scope.cancel()
        finally:
            if self._ended is None or self._ended.resume or self._closing is not None:  # else there is nobody to tell
                await self.leave()  # noqa: ASYNC102  (shielded in there)
            self._dialogue.end()
        if self._fault is not None:
            raise self._fault
        assert self._ended is not None
        return self._ended

    async def settle(self) -> None:
        """Wait for a write that has begun: cut short, it would leave half a frame, and no goodbye could follow it."""
        if self._half_written:
            await self._written.wait()

    async def leave(self) -> None:
        """Send what is due of acknowledgements and the close frame, and hear the answer, if that takes a moment only."""
        if self._half_written or self._engine.state is ConnectionState.CLOSED:
            return
        with anyio.move_on_after(self._timing.farewell, shield=True):  # noqa: ASYNC912
            try:
                if self._dialogue.welcome is not None and (seq := self._dialogue.inbox.due()) is not None:
                    self._engine.queue(wire.encode(wire.Ack(seq=seq)))
                answering = self._engine.state is ConnectionState.REMOTE_CLOSING
                goodbye = self._engine.send(CloseConnection(code=CloseCode.NORMAL, reason=""))
                await self._stream.send(self._unwritten + goodbye)
                # A socket that is closed with something unread in it is reset, and takes what we wrote last with it.
                while not answering and self._closing is None and (data := await self._stream.receive()):
                    self._engine.receive_data(data)
                    self._closing = next((e for e in self._engine.events() if isinstance(e, CloseConnection)), None)
            except Cut:
                pass  # there is nobody to take leave of

    # Reading.

    async def _read(self, welcome: wire.Welcome) -> None:
        """Read until the connection ends; `_ended` or `_fault` says how."""
        interval = welcome.limits.get("ping_interval", _PING_INTERVAL)
        limit, pinged = interval, False
        try:
            self.fruitful = bool(self._frames)
            self._deliver()
            while self._ended is None and self._fault is None:
                data: bytes | None = None
                with anyio.move_on_after(limit):
                    data = await self._stream.receive()
                if data is not None:
                    limit, pinged = interval, False
                    self._take(data)
                    self.fruitful = True
                    self._deliver()
                elif pinged:
                    self._ended = Ended(f"the server was silent for {interval + limit:g} s")
                else:
                    limit, pinged = self._timing.patience, True
                    self._ping_due = True
                    self.wake()
        except Cut as cut:
            self._ended = self._ended or Ended(str(cut))

    def _take(self, data: bytes) -> None:
        """Take apart what was read."""
        if not data:
            raise Cut("the server hung up")
        self._engine.receive_data(data)
        for event in self._engine.events():
            if isinstance(event, Ping):
                self._pongs.append(event)
                self.wake()
            elif isinstance(event, CloseConnection):
                self._closing = event
        for text in self._engine.take():
            if text is None:
                raise Cut("the server sent a binary message")
            try:
                self._frames.append(wire.decode_server(text))
            except wire.UnknownFrame:
                pass  # a newer server's
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Cut(f"the server sent what is no frame: {error}") from None

    def _deliver(self) -> None:
        frames, self._frames = self._frames, []
        now = anyio.current_time()
        for frame in frames:
            self._carried(self._dialogue.receive(frame, now))
            if self._fault is not None:
                return
        self.wake()
        if self._closing is not None:
            self._ended = self._how(self._closing)

    def _how(self, closing: CloseConnection) -> Ended:
        if self._engine.failed:  # it is us who refuse the server
            return Ended(f"the server broke the protocol: {closing.reason}")
        return Ended(closing.reason or "", int(closing.code))

    def _carried(self, effects: Sequence[Effect]) -> None:
        self._fault = next((effect.error for effect in effects if isinstance(effect, Fault)), self._fault)
        self._carry_out(effects)

    # Writing.

    async def _write(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                self._awake = anyio.Event()
                if data := self._output():
                    self._unwritten = data
                    await anyio.lowlevel.checkpoint_if_cancelled()  # while it is known that none of it is out
                    self._unwritten = b""
                    await self._transmit(data)
                    continue
                if self._dialogue.inbox.starved:
                    self._ended = Ended("for the rest of the backlog", resume=True)
                    break
                deadline = self._dialogue.deadline()
                pause = math.inf if deadline is None else max(0.0, deadline - anyio.current_time())
                with anyio.move_on_after(pause):
                    await self._awake.wait()
        except Cut as cut:
            self._ended = self._ended or Ended(str(cut))
        scope.cancel()

    def _output(self) -> bytes:
        engine = self._engine
        frames, effects = self._dialogue.next(anyio.current_time())
        self._carried(effects)
        for frame in frames:
            engine.queue(wire.encode(frame))
        pongs, self._pongs = self._pongs, []
        data = b"".join(engine.send(Pong(payload=ping.payload)) for ping in pongs)
        if self._ping_due:
            self._ping_due = False
            engine.queue(wire.encode(wire.Ping()))  # no WebSocket ping: a host of applications keeps those to itself
        return data + engine.send(TextMessage(data=""))

    async def _transmit(self, data: bytes) -> None:
        self._half_written, self._written = True, anyio.Event()  # unless this gets to its end
        for start in range(0, len(data), _SLICE_BYTES):
            with anyio.move_on_after(self._timing.write_timeout) as scope:
                await self._stream.send(data[start : start + _SLICE_BYTES])
            if scope.cancelled_caught:
                raise Cut(f"the server took no bytes for {self._timing.write_timeout:g} s")
        self._half_written = False
        self._written.set()
