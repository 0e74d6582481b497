"""How one talks with the systems that are measured beside trio-chat."""

from __future__ import annotations

import base64
from typing import Final

from peers import TEXT_BYTES, Broken, Echo, Heard, Numbered, Peer, TrioChat, WebSocketPeer, masked, number

__all__ = ["PEERS"]

_NOTHING: Final = Heard()
_TEXT: Final = b"x" * TEXT_BYTES


class OneCommit(WebSocketPeer):
    """`rivals/one_commit.py`: the sender is told ``stored``, the recipient acknowledges the last message of each read."""

    PATH = "/{user}"

    def __init__(self, user: str, to: str) -> None:
        super().__init__(user, to)
        self._last = self._acknowledged = 0

    def text(self, data: bytes, start: int, stop: int) -> Heard:
        if data.startswith(b'{"type": "stored"', start):
            return Heard(answered=1)
        self._last = number(data, data.index(b'"n": ', start, stop) + 5)
        return Heard(delivered=1)

    def read(self) -> bytes:
        if self._last == self._acknowledged or not self.acknowledging:
            return b""
        self._acknowledged = self._last
        return masked(1, b'{"type": "ack", "n": %d}' % self._last)


class SocketIo(WebSocketPeer):
    """`rivals/socketio_aiosqlite.py`: Engine.IO 4 over a WebSocket; an event is a message, its ack the answer."""

    PATH = "/socket.io/?EIO=4&transport=websocket"

    def __init__(self, user: str, to: str) -> None:
        super().__init__(user, to)
        self._last = self._acknowledged = 0

    def frames(self) -> Numbered:
        return Numbered(b"4200", b'["message",{"to":"%b","text":"%b"}]' % (self.to.encode(), _TEXT))

    def upgraded(self) -> bytes:
        return b""

    def text(self, data: bytes, start: int, stop: int) -> Heard:
        kind = data[start : start + 2]
        if kind == b"43":
            return Heard(answered=1)
        if kind == b"42":
            self._last = number(data, data.index(b'"n":', start, stop) + 4)
            return Heard(delivered=1)
        if kind == b"40":
            self.opened = True
        elif kind[:1] == b"0":
            return Heard(reply=masked(1, b'40{"user":"%b"}' % self.user.encode()))
        elif kind[:1] == b"2":
            return Heard(reply=masked(1, b"3"))
        else:
            raise Broken(data[start:stop].decode())
        return _NOTHING

    def read(self) -> bytes:
        if self._last == self._acknowledged or not self.acknowledging:
            return b""
        self._acknowledged = self._last
        return masked(1, b'42["ack",%d]' % self._last)


class Mqtt(Peer):
    """Mosquitto: MQTT 3.1.1, QoS 1, a session that outlives the connection; each user subscribes to one topic."""

    _IDS: Final = 32_768

    def __init__(self, user: str, to: str) -> None:
        super().__init__(user, to)
        topic = to.encode()
        size = 2 + len(topic) + 2 + TEXT_BYTES
        self._before = b"\x32" + _remaining(size) + len(topic).to_bytes(2, "big") + topic
        self._next = 0

    def open(self) -> bytes:
        name = self.user.encode()
        # CONNECT: protocol 4, no clean session, no keep-alive; then SUBSCRIBE with QoS 1.
        connect = b"\x00\x04MQTT\x04\x00\x00\x00" + len(name).to_bytes(2, "big") + name
        subscribe = b"\xff\xff" + len(name).to_bytes(2, "big") + name + b"\x01"
        return b"\x10" + _remaining(len(connect)) + connect + b"\x82" + _remaining(len(subscribe)) + subscribe

    def send(self, count: int) -> bytes:
        frames: list[bytes] = []
        for _ in range(count):
            self._next = self._next % self._IDS + 1
            frames += (self._before, self._next.to_bytes(2, "big"), _TEXT)
        return b"".join(frames)

    def receive(self, data: bytes) -> Heard:
        if self.buffer:
            data = self.buffer + data
        at, end = 0, len(data)
        answered = delivered = 0
        replies: list[bytes] = []
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size & 0x80:
                if end - at < 3:
                    break
                size, start = size & 0x7F | data[at + 2] << 7, at + 3  # nothing here is longer than two bytes can say
            stop = start + size
            if stop > end:
                break
            kind = data[at] & 0xF0
            if kind == 0x40:
                answered += 1
            elif kind == 0x30:
                delivered += 1
                after = start + 2 + int.from_bytes(data[start : start + 2], "big")
                replies.append(b"\x40\x02" + data[after : after + 2])
            elif kind == 0x20:
                if data[stop - 1]:
                    raise Broken(f"{self.user} is refused: {data[stop - 1]}")
            elif kind == 0x90:
                self.opened = True
            at = stop
        self.buffer = data[at:]
        return Heard(answered, delivered, b"".join(replies) if self.acknowledging else b"")


def _remaining(size: int) -> bytes:
    """MQTT's variable length (3.1.1, 2.2.3)."""
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


class Xmpp(Peer):
    """Prosody and ejabberd: XMPP. Stream management (XEP-0198) is how a client hears that the server has what it sent."""

    _HEAD: Final = (
        b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client'"
        b" xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    _ASK: Final = b"<r xmlns='urn:xmpp:sm:3'/>"

    def __init__(self, user: str, to: str) -> None:
        super().__init__(user, to)
        self._sent = self._handled = self._count = 0
        login = base64.b64encode(b"\0%b\0secret" % user.encode())
        # What the server says, and what is said to that, until messages may be sent.
        self._opening = [
            (b"</stream:features>", b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%b</auth>" % login),
            (b"<success", self._HEAD),
            (b"</stream:features>", b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"),
            (b"</iq>", b"<enable xmlns='urn:xmpp:sm:3'/>"),
            (b"<enabled", b"<presence/>"),
        ]

    def open(self) -> bytes:
        return self._HEAD

    def send(self, count: int) -> bytes:
        message = b"<message to='%b@localhost' type='chat' id='%%08d'><body>%b</body></message>" % (self.to.encode(), _TEXT)
        frames = [message % number for number in range(self._sent, self._sent + count)]
        self._sent += count
        return b"".join([*frames, self._ASK])

    def receive(self, data: bytes) -> Heard:
        data = self.buffer + data
        if self._opening:
            awaited, reply = self._opening[0]
            if b"<failure" in data or b"<stream:error" in data:
                raise Broken(data.decode())
            if (at := data.find(awaited)) < 0:
                self.buffer = data
                return _NOTHING
            del self._opening[0]
            self.opened = not self._opening
            self.buffer = data[at + len(awaited) :] if b">" in awaited else b""
            return Heard(reply=reply)
        end = data.rfind(b">") + 1
        self.buffer = data[end:]
        data = data[:end]
        delivered = data.count(b"</message>")
        self._count += delivered
        reply = b""
        if b"<r " in data and self.acknowledging:
            reply = b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % self._count
        answered = 0
        if (at := data.rfind(b"<a ")) >= 0:
            handled = number(data, _after_quote(data, data.index(b" h=", at) + 3)) - 1  # the presence was the first
            answered, self._handled = handled - self._handled, handled
        return Heard(answered, delivered, reply)


def _after_quote(data: bytes, at: int) -> int:
    return at + 1 if data[at : at + 1] in (b"'", b'"') else at


PEERS: Final[dict[str, type[Peer]]] = {
    "trio-chat": TrioChat,
    "echo": Echo,
    "one commit each": OneCommit,
    "socketio": SocketIo,
    "mosquitto": Mqtt,
    "prosody": Xmpp,
    "ejabberd": Xmpp,
}
