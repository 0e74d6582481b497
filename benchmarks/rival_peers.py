"""How one talks with the systems that are measured beside trio-chat."""

from __future__ import annotations

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


PEERS: Final[dict[str, type[Peer]]] = {
    "trio-chat": TrioChat,
    "echo": Echo,
    "one commit each": OneCommit,
    "socketio": SocketIo,
    "mosquitto": Mqtt,
}
