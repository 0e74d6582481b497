"""What the load says and hears on one connection, for each system that is measured; without I/O.

A `Peer` gives the bytes of messages that were made ready beforehand, and takes apart what comes back no further than it has
to: the load must never be what is slow. Everything is acknowledged that a client of that system acknowledges.
"""

from __future__ import annotations

import base64
import hashlib
import os
from abc import ABC, abstractmethod
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from websockets.speedups import apply_mask

__all__ = [
    "TEXT_BYTES",
    "Asker",
    "Broken",
    "Echo",
    "Heard",
    "Numbered",
    "Peer",
    "TrioChat",
    "TurnedAway",
    "WebSocketPeer",
    "masked",
    "number",
]

TEXT_BYTES: Final = 100
MASK: Final = b"\x5a\xc3\x17\xe9"
"""Every frame's. The server takes it off like any other; here it is computed once."""

_DIGITS: Final = 10_000
"""Messages are numbered with eight digits, of which four are masked at once: see `Numbered`."""


class Broken(Exception):
    """The server did what no server does when all is well."""


class TurnedAway(Broken):
    """The server has no room now, it says, or hung up."""


class Heard(NamedTuple):
    """What came: messages of this side's that were answered, messages of others that were delivered, and what to reply."""

    answered: int = 0
    delivered: int = 0
    reply: bytes = b""


_NOTHING: Final = Heard()


class Peer(ABC):
    """One side of a connection. `opened` once messages may be sent; `first` and `last` number what was delivered."""

    ALONE = False
    """Whether there are no recipients: every message comes back to its sender, as its answer."""

    TELLS = False
    """Whether the sender hears how much of it was delivered: `told`."""

    def __init__(self, user: str, to: str) -> None:
        self.user = user
        self.to = to
        self.opened = False
        self.buffer = b""
        self.acknowledging = True
        """Whether what is delivered is acknowledged; a slow reader leaves it."""
        self.told = 0
        self.behind = 0
        """How many messages this user has missed and does not have yet."""

    def again(self) -> Self:
        """Of the same user, for another connection."""
        return type(self)(self.user, self.to)

    @abstractmethod
    def open(self) -> bytes:
        """The first bytes to send."""

    @abstractmethod
    def send(self, count: int) -> bytes:
        """The next messages, each with an id of its own."""

    @abstractmethod
    def receive(self, data: bytes) -> Heard:
        """Take what came."""

    def ask(self) -> bytes:
        """A page of history, to be answered by `Heard.answered`; for those that have one."""
        raise NotImplementedError


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame (RFC 6455 §5.2)."""
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
    return head + MASK + apply_mask(payload, MASK)


class Numbered:
    """Frames that differ in eight digits only. These stand at a multiple of four: masked, they are two ready-made pieces."""

    PIECES: Final = [apply_mask(b"%04d" % number, MASK) for number in range(_DIGITS)]

    def __init__(self, before: bytes, after: bytes) -> None:
        before = before + b"0" * (-len(before) % 4)
        size = len(before) + 8 + len(after)
        head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        self._before = head + MASK + apply_mask(before, MASK)
        self._after = apply_mask(after, MASK)  # it begins at a multiple of four, too
        self._next = 0

    def take(self, count: int) -> bytes:
        """The next frames."""
        pieces, before, after = self.PIECES, self._before, self._after
        first = self._next
        self._next += count
        frames: list[bytes] = []
        for number in range(first, first + count):
            high, low = divmod(number, _DIGITS)
            frames += (before, pieces[high], pieces[low], after)
        return b"".join(frames)


class WebSocketPeer(Peer):
    """A client of a WebSocket server."""

    PATH = "/"
    HEADERS = ""

    def __init__(self, user: str, to: str) -> None:
        super().__init__(user, to)
        self._key = base64.b64encode(os.urandom(16)).decode()
        self._upgraded = False
        self._frames = self.frames()

    def open(self) -> bytes:
        path = self.PATH.format(user=quote(self.user))
        return (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key}\r\nSec-WebSocket-Version: 13\r\n{self.HEADERS}\r\n"
        ).encode()

    def send(self, count: int) -> bytes:
        return self._frames.take(count)

    def frames(self) -> Numbered:
        """The messages of this connection."""
        text = b"x" * TEXT_BYTES
        begun = b'{"type":"send","to":"%b","text":"%b","id":"%b' % (self.to.encode(), text, os.urandom(12).hex().encode())
        return Numbered(begun, b'"}')

    def upgraded(self) -> bytes:
        """The WebSocket is open; what to say first."""
        self.opened = True
        return b""

    @abstractmethod
    def text(self, data: bytes, start: int, stop: int) -> Heard:
        """Take the text message that lies there."""

    def receive(self, data: bytes) -> Heard:
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        at, end = 0, len(data)
        replies: list[bytes] = []
        if not self._upgraded:
            if (at := data.find(b"\r\n\r\n") + 4) == 3:
                self.buffer = data
                return _NOTHING
            replies.append(self._upgrade(data[:at]))
        answered = delivered = 0
        while end - at >= 2:
            length, start = data[at + 1], at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                if start > end:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            stop = start + length
            if stop > end:
                break
            opcode = data[at]
            if opcode == 0x81:
                heard = self.text(data, start, stop)
                answered += heard.answered
                delivered += heard.delivered
                if heard.reply:
                    replies.append(heard.reply)
            elif opcode == 0x89:
                replies.append(masked(0xA, data[start:stop]))
            elif opcode != 0x8A:
                raise Broken(f"{self.user} is closed: {data[at:stop]!r}")
            at = stop
        self.buffer = data[at:]
        replies.append(self.read())
        return Heard(answered, delivered, b"".join(replies))

    def _upgrade(self, head: bytes) -> bytes:
        accept = base64.b64encode(hashlib.sha1(f"{self._key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())  # noqa: S324
        if head.startswith(b"HTTP/1.1 503"):
            raise TurnedAway(self.user)
        if not head.startswith(b"HTTP/1.1 101") or accept not in head:
            raise Broken(f"no WebSocket: {head!r}")
        self._upgraded = True
        return self.upgraded()

    def read(self) -> bytes:
        """All that came at once was taken; what there is to say to that."""
        return b""


class TrioChat(WebSocketPeer):
    """trio-chat, version 1 of its protocol: acknowledges everything that it has, its own messages too ([A2])."""

    TELLS = True
    PATH = "/ws?user={user}&device=laptop"
    HEADERS = "Sec-WebSocket-Protocol: trio-chat.v1\r\n"
    _acks: Final[dict[int, bytes]] = {}

    def __init__(self, user: str, to: str) -> None:
        super().__init__(user, to)
        self._seq = self._acknowledged = self._head = 0

    def text(self, data: bytes, start: int, stop: int) -> Heard:
        if data.startswith(b'{"type":"stored"', start):
            self._note(data, start, stop)
            return Heard(answered=data.count(b'"seq":', start, stop))
        if data.startswith(b'{"type":"messages"', start):
            self._note(data, start, stop)
            return Heard(delivered=data.count(b'"seq":', start, stop))
        if data.startswith(b'{"type":"receipt"', start):
            self.told = max(self.told, number(data, data.index(b'"delivered":', start) + 12))
        elif data.startswith(b'{"type":"welcome"', start):
            self.opened = True
            self._seq = self._acknowledged = number(data, data.index(b'"cursor":', start) + 9)
            self._head = number(data, data.index(b'"head":', start) + 7)
            self.behind = max(self._head - self._seq, 0)
        elif data.startswith(b'{"type":"history"', start):
            return Heard(answered=1)
        elif data.startswith((b'{"type":"error"', b'{"type":"gap"'), start):
            raise Broken(data[start:stop].decode())
        return _NOTHING

    def upgraded(self) -> bytes:
        return b""  # `welcome` opens

    def _note(self, data: bytes, start: int, stop: int) -> None:
        self._seq = max(self._seq, number(data, data.rindex(b'"seq":', start, stop) + 6))
        self.behind = max(self._head - self._seq, 0)

    def read(self) -> bytes:
        if self._seq == self._acknowledged or not self.acknowledging:
            return b""
        seq = self._acknowledged = self._seq
        if (ack := self._acks.get(seq)) is None:
            ack = self._acks[seq] = masked(1, b'{"type":"ack","seq":%d}' % seq)
        return ack

    def ask(self) -> bytes:
        return masked(1, b'{"type":"history","ref":"h","limit":50}')


class Asker(TrioChat):
    """The same user's window on the past: a connection that gets nothing but what it asks for."""

    PATH = "/ws?user={user}&window=0"


def number(data: bytes, at: int) -> int:
    """The decimal number that stands there."""
    stop = at
    while 0x30 <= data[stop] <= 0x39:
        stop += 1
    return int(data[at:stop])


class Echo(WebSocketPeer):
    """A server that sends every message back: the same frames as trio-chat's, without any work in between."""

    ALONE = True

    def text(self, data: bytes, start: int, stop: int) -> Heard:  # noqa: ARG002
        return Heard(answered=1)
