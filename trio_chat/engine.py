"""The WebSocket protocol of an open connection, without I/O: bytes in, messages out, and the reverse.

The opening handshake is somebody else's business: an `Engine` begins where the 101 ends. Frames are taken apart and put
together by `websockets`; what is decided here is what they may add up to. Messages are joined and counted, and all messages
of one read are handed over together, because what decides a server's speed is the number of task wake-ups.

On the server it takes the place of ``wsproto.WSConnection`` inside trio-websocket's ``WebSocketConnection``, which asks for
`Engine.client`, `Engine.state`, `Engine.send`, `Engine.receive_data` and `Engine.events` and does the sending: **every byte
that leaves was returned by** `Engine.send`. Nothing is answered behind its caller's back, so nothing is sent twice or lost.

What the engine does not do: it has no clock (`Engine.under_way` and `Engine.controls` let the owner of one judge), it knows
no extensions and no subprotocols, and it does not send binary messages.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from struct import Struct
from typing import Final

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.frames import apply_mask as _apply_mask  # type: ignore[attr-defined]  # the fast one, if it was built
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from .errors import CloseCode

__all__ = ["CONTROLS_PER_READ", "PINGS_ANSWERED", "Engine"]

CONTROLS_PER_READ: Final = 128
"""Pings and pongs accepted in one `Engine.receive_data`; honest peers send one every few seconds."""

PINGS_ANSWERED: Final = 16
"""Of the pings in one read. RFC 6455 §5.5.3 would be content with the newest one; stock clients count their pongs."""

_CONTROL_BYTES: Final = 125  # RFC 6455 §5.5: all control frames have a payload of this many bytes or less
_REASON_BYTES: Final = 123  # …of which a close frame's code takes two
_WHOLE_TEXT: Final = 0x81  # RFC 6455 §5.2: the first byte of a frame that is a text message by itself
_MASKED: Final = 0x80  # …and of its second byte: a mask comes before the payload
_IN_TWO_BYTES: Final = 126  # …and, in place of a length: it is in the next two bytes
_IN_EIGHT_BYTES: Final = 127  # …or the next eight
_HEAD_OF_TWO: Final = Struct("!BBH")
_HEAD_OF_EIGHT: Final = Struct("!BBQ")
_NO_STATUS: Final = 1005  # RFC 6455 §7.4.1: no code was given; never on the wire
_ABNORMAL: Final = 1006  # RFC 6455 §7.4.1: there was no close frame; never on the wire


class _Violation(Exception):
    """The peer broke a rule; `code` is what it is told."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        self.reason = reason


class Engine:
    """One side of an open WebSocket connection.

    Nothing that the peer sends raises: a fault closes the connection, with a `CloseConnection` event and `state` saying
    whether it is still to be answered. After that further input is ignored.

    Args:
        client: whether this is the client's side, which masks what it sends (RFC 6455 §5.3).
        message_bytes: the longest message accepted; a longer one is refused with 1009 from its header alone.
        fragments: the most parts a message may come in; more are refused with 1008.

    Whatever the peer sends, at most `message_bytes` and one control frame are held between two reads, beside the messages
    that wait for `take`.
    """

    def __init__(self, *, client: bool = False, message_bytes: int, fragments: int) -> None:
        self.client = client
        self.state: ConnectionState = ConnectionState.OPEN
        self.controls: int = 0
        """How many pings and pongs have come so far. Who has a clock bounds their rate."""
        self.failed: bool = False
        """Whether it was this side that refused the peer (`fail`), and not the peer that closed."""
        self._message_bytes = message_bytes
        self._fragments = fragments
        self._writes: list[bytes] = []
        # Input: bytes that are no whole frame yet, and the message that is no whole message yet.
        self._buffer = bytearray()
        self._frame_begun = False
        self._opcode: Opcode | None = None
        self._joined = bytearray()
        self._parts = 0
        self._messages_begun = 1
        self._deaf = False
        self._parser = self._parse()
        # What `take` and `events` will give.
        self._messages: list[bytes | None] = []
        self._controls_at_read = 0
        self._pings: list[bytes] = []
        self._closing: CloseConnection | None = None
        self._answer: CloseConnection | None = None

    @property
    def under_way(self) -> int:
        """The number of the message that has begun and not ended, 0 if there is none.

        The same number after two reads means the same message: this is how the time a message takes is measured. A control
        frame that is cut in two counts as a message of its own here.
        """
        begun = self._buffer or self._frame_begun or self._opcode is not None
        return self._messages_begun if begun else 0

    @property
    def waiting(self) -> bool:
        """Whether there are messages to `take`."""
        return bool(self._messages)

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take what was read from the peer. `events` and `take` tell what it was."""
        if self._deaf:
            return
        self._buffer += data
        self._controls_at_read = self.controls
        try:
            next(self._parser, None)
        except PayloadTooBig:
            self.fail(CloseCode.TOO_BIG, f"a message is longer than {self._message_bytes} bytes")
        except ProtocolError as error:
            self.fail(CloseCode.PROTOCOL_ERROR, str(error))
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
        except _Violation as violation:
            self.fail(violation.code, violation.reason)

    def events(self) -> Iterator[Event]:
        """What happened since the last call and is to be answered, in wsproto's terms. Messages are not in it: see `take`.

        The newest pings, each as a `Ping`, then `CloseConnection` if the peer closed or was refused.
        """
        events: list[Event] = [Ping(payload=payload) for payload in self._pings]
        self._pings.clear()
        if self._closing is not None:
            events.append(self._closing)
            self._closing = None
        return iter(events)

    def take(self) -> list[bytes | None]:
        """The messages completed since the last call: a text's bytes, None for a binary message."""
        messages, self._messages = self._messages, []
        return messages

    def queue(self, text: bytes) -> None:
        """Have `text` (UTF-8) sent as a text message by the next `send`."""
        if self.client:
            self._write(Opcode.TEXT, text)
        elif self.state is ConnectionState.OPEN:  # as `Frame.serialize` would have it, in a fourth of the time
            size = len(text)
            if size < _IN_TWO_BYTES:
                head = bytes((_WHOLE_TEXT, size))
            elif size < 1 << 16:
                head = _HEAD_OF_TWO.pack(_WHOLE_TEXT, _IN_TWO_BYTES, size)
            else:
                head = _HEAD_OF_EIGHT.pack(_WHOLE_TEXT, _IN_EIGHT_BYTES, size)
            self._writes += head, text

    def queue_ping(self) -> None:
        """Have a ping sent by the next `send`."""
        self._write(Opcode.PING, b"")

    def send(self, event: Event) -> bytes:
        """The bytes to write: everything queued, then the event.

        An empty `TextMessage` is no message, it only fetches what is queued. Unless the connection is open nothing but the
        answer to the peer's close frame or fault is sent, whatever code the event asks for, and else b"" is returned.

        Raises:
            LocalProtocolError: the event is none that this engine sends.
        """
        if isinstance(event, CloseConnection):
            self._write_close(event.code, event.reason or "")
        elif isinstance(event, TextMessage):
            if event.data:
                self._write(Opcode.TEXT, event.data.encode())
        elif isinstance(event, Ping):
            self._write(Opcode.PING, event.payload)
        elif isinstance(event, Pong):
            self._write(Opcode.PONG, event.payload)
        else:
            raise LocalProtocolError(f"cannot send {type(event).__name__}")
        data = b"".join(self._writes)
        self._writes.clear()
        return data

    def fail(self, code: CloseCode, reason: str) -> None:
        """Refuse the peer: nothing more is read from it, and it is told `code` (RFC 6455 §7.1.7)."""
        if not self._deaf:
            self.failed = True
            self._end(code, reason)

    # Output.

    def _write(self, opcode: Opcode, payload: bytes | bytearray) -> None:
        if self.state is ConnectionState.OPEN:
            self._writes.append(Frame(opcode, payload).serialize(mask=self.client))

    def _write_close(self, code: int, reason: str) -> None:
        if self.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return
        if code == _ABNORMAL:  # the stream is gone, says trio-websocket
            self._writes.clear()
            self.state = ConnectionState.CLOSED
            return
        if self._answer is not None:  # whoever closes: the peer hears its own code, or what it did wrong
            code, reason = self._answer.code, self._answer.reason or ""
        payload = b""
        if code != _NO_STATUS:
            # Cut between characters: the reason must be UTF-8 (RFC 6455 §5.5.1).
            payload = Close(code, reason.encode()[:_REASON_BYTES].decode(errors="ignore")).serialize()
        self._writes.append(Frame(Opcode.CLOSE, payload).serialize(mask=self.client))
        opened = self.state is ConnectionState.OPEN
        self.state = ConnectionState.LOCAL_CLOSING if opened else ConnectionState.CLOSED

    # Input.

    def _parse(self) -> Generator[None, None, None]:
        """Take frames from the buffer for ever; yields when it needs more bytes, returns after a close frame."""
        while not self._deaf:
            self._frame_begun = False
            if self._opcode is None:
                self._take_whole()
            if not self._buffer:
                yield
                continue
            room = self._message_bytes - len(self._joined)
            frame = yield from Frame.parse(
                self._read_exact,
                mask=not self.client,
                # A ping may come inside of a message that has no room left (RFC 6455 §5.4).
                max_size=max(room, _CONTROL_BYTES),
            )
            if frame.opcode is Opcode.CLOSE:
                close = Close.parse(frame.data)
                self._end(close.code, close.reason)
            elif frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
                self._receive_control(frame)
            elif len(frame.data) > room:
                raise PayloadTooBig(len(frame.data), room)
            else:
                self._receive_part(frame)
            if self._opcode is None:
                self._messages_begun += 1

    def _take_whole(self) -> None:
        """Take the text messages at the head of the buffer that came in one frame each, and in one read, as nearly all do.

        Whatever else there is, and whatever is wrong, is left to `Frame.parse`. It takes these just as well, and thrice the
        time: what arrives by dozens in a read is most of what a server has to take apart.
        """
        buffer, at, end = self._buffer, 0, len(self._buffer)
        masked = 0 if self.client else _MASKED
        while end - at > 1 and buffer[at] == _WHOLE_TEXT:
            length = buffer[at + 1] ^ masked
            start = at + 2
            if length == _IN_TWO_BYTES:
                length = int.from_bytes(buffer[start : start + 2], "big")
                start += 2
            elif length > _IN_TWO_BYTES:  # longer; or masked and should not be, or the reverse
                break
            if masked:
                start += 4
            if start + length > end or length > self._message_bytes:
                break
            payload = buffer[start : start + length]
            at = start + length
            self._messages_begun += 1
            self._receive_message(Opcode.TEXT, _apply_mask(payload, buffer[start - 4 : start]) if masked else bytes(payload))
        del buffer[:at]

    def _read_exact(self, count: int) -> Generator[None, None, bytearray]:
        while len(self._buffer) < count:
            yield
        self._frame_begun = True
        data = self._buffer[:count]
        del self._buffer[:count]
        return data

    def _receive_control(self, frame: Frame) -> None:
        self.controls += 1
        if self.controls - self._controls_at_read > CONTROLS_PER_READ:
            raise _Violation(CloseCode.POLICY, "too many control frames")
        if frame.opcode is Opcode.PING:
            self._pings.append(bytes(frame.data))
            del self._pings[:-PINGS_ANSWERED]

    def _receive_part(self, frame: Frame) -> None:
        # RFC 6455 §5.4: a message is one frame, or a first one, continuations and a last one; messages do not interleave.
        if (frame.opcode is Opcode.CONT) is (self._opcode is None):
            raise ProtocolError("a continuation belongs to a message, and a message is ended before the next")
        if self._opcode is None:
            if frame.fin:
                self._receive_message(frame.opcode, bytes(frame.data))
                return
            self._opcode = frame.opcode
        self._parts += 1
        if self._parts > self._fragments:
            raise _Violation(CloseCode.POLICY, f"a message has more than {self._fragments} fragments")
        self._joined += frame.data
        if frame.fin:
            opcode, payload = self._opcode, bytes(self._joined)
            self._opcode, self._parts, self._joined = None, 0, bytearray()
            self._receive_message(opcode, payload)

    def _receive_message(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.TEXT and not payload.isascii():
            payload.decode()  # RFC 6455 §8.1: text that is not UTF-8 fails the connection
        # After our close frame nobody takes messages any more; they must not pile up.
        if self.state is ConnectionState.OPEN:
            self._messages.append(payload if opcode is Opcode.TEXT else None)

    def _end(self, code: int, reason: str) -> None:
        """The peer closed, or is refused: hear nothing more of it, and have the close frame answered if it is the first."""
        self._deaf = True
        self._pings.clear()  # RFC 6455 §5.5.2: a ping is not answered after a close frame
        self._buffer.clear()
        self._joined.clear()
        self._frame_begun, self._opcode = False, None
        opened = self.state is ConnectionState.OPEN
        self.state = ConnectionState.REMOTE_CLOSING if opened else ConnectionState.CLOSED
        self._closing = self._answer = CloseConnection(code=code, reason=reason)
