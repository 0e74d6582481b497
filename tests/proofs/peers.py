"""Lean clients, written down from the protocol and not from this library, so that one mistake is not made twice.

They mask with four zero bytes, which RFC 6455 allows and costs nothing: the server is to be the busy one. As a script this
file is a process of innocent pairs, so that nothing else a test does disturbs their clocks::

    python peers.py PORT PAIRS SECONDS_BETWEEN_TWO_MESSAGES

For every line on its standard input it prints one line of JSON, a `Bill` of what happened since the last; at the end of its
input it stops sending, waits for what is under way, prints the last bill, and leaves.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

import msgspec
import trio

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
CUT_OFF: Final = 1006
READ_BYTES: Final = 256 * 1024

Query: TypeAlias = Mapping[str, str | int]
NOTHING: Final[Query] = {}

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, length: int | None = None
) -> bytes:
    """A client's frame (RFC 6455 §5.2); `length` is what its header claims, if that is not the truth."""
    length = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    if length < 126:
        size = struct.pack("!B", bit | length)
    elif length < 2**16:
        size = struct.pack("!BH", bit | 126, length)
    else:
        size = struct.pack("!BQ", bit | 127, length)
    return bytes([fin << 7 | rsv << 4 | opcode]) + size + (b"\0\0\0\0" if masked else b"") + payload


def text(value: object) -> bytes:
    """A frame with `value` as JSON."""
    return frame(TEXT, _encode(value))


def send(to: str, id: str, words: str) -> bytes:
    """The frame that sends a message."""
    return text({"type": "send", "id": id, "to": to, "text": words})


def head(user: str, device: str = "default", query: Query = NOTHING, *, lines: Sequence[str] = ()) -> bytes:
    """The request head of a WebSocket, with more in its `query` and further header `lines`."""
    target = f"/ws?{urlencode({'user': user, 'device': device, **query})}"
    return "\r\n".join(
        [
            f"GET {target} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
            *lines,
            "",
            "",
        ]
    ).encode()


class Gone(Exception):
    """The connection is over: `code` is the server's close code, 1006 if it sent none."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Frames:
    """Takes apart what a server sends: no masks, no fragments."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> list[tuple[int, bytes]]:
        """The frames that are complete now, as opcode and payload."""
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        at = 0
        while len(buffer) >= at + 2:
            if buffer[at] & 0x70 or buffer[at + 1] & 0x80 or not buffer[at] & 0x80:
                raise AssertionError(f"a frame of a server does not begin with {bytes(buffer[at : at + 2])!r}")
            size, begin = buffer[at + 1], at + 2
            if size == 126:
                begin += 2
            elif size == 127:
                begin += 8
            if len(buffer) < begin:
                break
            if size >= 126:
                size = int.from_bytes(buffer[at + 2 : begin], "big")
            if len(buffer) < begin + size:
                break
            frames.append((buffer[at] & 0x0F, bytes(buffer[begin : begin + size])))
            at = begin + size
        del buffer[:at]
        return frames


async def dial(port: int) -> trio.SocketStream:
    """A TCP connection to the server."""
    return await trio.open_tcp_stream("127.0.0.1", port)


async def response_head(stream: trio.abc.ReceiveStream) -> tuple[bytes, bytes]:
    """What the server answers to a request, up to the empty line, and what came behind it.

    Raises:
        Gone: it closed without answering.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            raise Gone(CUT_OFF, "no answer to the request")
        data += more
    answer, _, rest = data.partition(b"\r\n\r\n")
    return answer, rest


class Peer:
    """A client after its opening handshake."""

    def __init__(self, stream: trio.SocketStream, rest: bytes = b"") -> None:
        self.stream = stream
        self._frames = Frames()
        self._early = self._frames.feed(rest)
        self._end: Gone | None = None

    async def write(self, data: bytes) -> None:
        """Send raw bytes.

        Raises:
            Gone: the connection is broken.
        """
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._end or Gone(CUT_OFF, "broken while writing") from None

    async def read(self) -> list[dict[str, Any]]:
        """The JSON frames of at least one read. Pings are answered.

        Raises:
            Gone: there are no more.
        """
        if self._end is not None:
            raise self._end
        found, self._early = self._early, []
        if not found:
            try:
                data = await self.stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self._end = Gone(CUT_OFF, "cut off")
                raise self._end
            found = self._frames.feed(data)
        messages: list[dict[str, Any]] = []
        for opcode, payload in found:
            if opcode == TEXT:
                messages.append(_decode(payload))
            elif opcode == PING:
                with suppress(trio.BusyResourceError):  # whoever floods need not be polite
                    await self.write(frame(PONG, payload))
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self._end = Gone(code, payload[2:].decode())
                # It need not wait for the answer, nor need who floods be polite.
                with suppress(trio.BrokenResourceError, trio.BusyResourceError):
                    await self.stream.send_all(frame(CLOSE, payload[:2]))
        return messages

    async def read_to_end(self) -> Gone:
        """Read until the connection is over, and say how it ended."""
        try:
            while True:
                await self.read()
        except Gone as end:
            return end


async def connect(port: int, user: str, device: str = "default", query: Query = NOTHING, *, trailing: bytes = b"") -> Peer:
    """A connection whose handshake is done; the ``welcome`` is still to be read. `trailing` leaves with the request.

    Raises:
        Gone: the server did not let us in.
    """
    try:
        stream = await dial(port)
    except OSError:
        raise Gone(CUT_OFF, "nobody listens") from None
    try:
        await stream.send_all(head(user, device, query) + trailing)
        answer, rest = await response_head(stream)
    except (trio.BrokenResourceError, Gone):
        await trio.aclose_forcefully(stream)
        raise Gone(CUT_OFF, "broken in the handshake") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    if not answer.startswith(b"HTTP/1.1 101 "):
        await trio.aclose_forcefully(stream)
        raise Gone(CUT_OFF, answer.decode("latin-1").partition("\r\n")[0])
    return Peer(stream, rest)


@asynccontextmanager
async def connected(port: int, user: str, device: str = "default", query: Query = NOTHING) -> AsyncIterator[Peer]:
    """A connection that is dropped when the block is left."""
    peer = await connect(port, user, device, query)
    try:
        yield peer
    finally:
        await trio.aclose_forcefully(peer.stream)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed; 0.0 if there are none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Bill(msgspec.Struct):
    """What innocent pairs went through: messages, milliseconds from sending to having, and what should not have been."""

    sent: int
    had: int
    p50: float
    p99: float
    worst: float
    wrongs: list[str]


class _Pair:
    """Two users, one of whom writes to the other at a steady pace, whether or not the answers come."""

    def __init__(self, port: int, number: int, pace: float, name: str) -> None:
        self._port = port
        self._pace = pace
        self._names = (f"{name}-a{number}", f"{name}-b{number}")
        self._under_way: dict[str, float] = {}
        self._unanswered: set[str] = set()
        self._had = 0
        self._numbers = random.Random(number)
        self._settled = trio.Event()
        self.stopping = False
        self.sent = 0
        self.milliseconds: list[float] = []
        self.wrongs: list[str] = []

    @property
    def settled(self) -> bool:
        return not self._under_way and not self._unanswered

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        writer_name, reader_name = self._names
        try:
            async with (
                connected(self._port, writer_name) as writer,
                connected(self._port, reader_name) as reader,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._answers, writer)
                nursery.start_soon(self._entries, reader)
                task_status.started()
                await self._write(writer)
                await self._settled.wait()
                nursery.cancel_scope.cancel()
        except* Gone as ends:
            self.wrongs.append(f"{self._names}: disconnected: {[str(end) for end in ends.exceptions]}")

    async def _write(self, peer: Peer) -> None:
        due = trio.current_time() + self._numbers.random() * self._pace
        while True:
            await trio.sleep_until(due)
            if self.stopping:
                break
            id = f"{self._numbers.getrandbits(128):032x}"
            # From when it was due: a server that stands still must not be flattered by the messages it kept us from sending.
            self._under_way[id] = time.perf_counter() - (trio.current_time() - due)
            self._unanswered.add(id)
            self.sent += 1
            due += self._pace
            await peer.write(send(self._names[1], id, "an innocent message of about a hundred bytes " * 2))

        self._look()

    def _look(self) -> None:
        if self.stopping and self.settled:
            self._settled.set()

    async def _answers(self, peer: Peer) -> None:
        while True:
            self._look()
            for answer in await peer.read():
                if answer["type"] == "stored":
                    self._unanswered -= {item["id"] for item in answer["messages"]}
                elif answer["type"] not in ("welcome", "receipt"):
                    self.wrongs.append(f"{self._names[0]}: was told {answer}")

    async def _entries(self, peer: Peer) -> None:
        while True:
            self._look()
            for message in await peer.read():
                if message["type"] == "messages":
                    now = time.perf_counter()
                    for entry in message["messages"]:
                        self._entry(entry, now)
                    await peer.write(text({"type": "ack", "seq": self._had}))
                elif message["type"] != "welcome":
                    self.wrongs.append(f"{self._names[1]}: was told {message}")

    def _entry(self, entry: dict[str, Any], now: float) -> None:
        since = self._under_way.pop(entry["id"], None)
        self._had += 1
        if since is None or entry["seq"] != self._had or entry["from"] != self._names[0]:
            self.wrongs.append(f"{self._names[1]}: was given {entry} as number {self._had}")
        else:
            self.milliseconds.append((now - since) * 1000)


def _bill(pairs: Iterable[_Pair]) -> bytes:
    sent, milliseconds, wrongs = 0, list[float](), list[str]()
    for pair in pairs:
        sent += pair.sent
        milliseconds += pair.milliseconds
        wrongs += pair.wrongs
        pair.sent, pair.milliseconds, pair.wrongs = 0, [], []
    return _encode(
        Bill(
            sent,
            len(milliseconds),
            percentile(milliseconds, 0.5),
            percentile(milliseconds, 0.99),
            max(milliseconds, default=0.0),
            wrongs[:10],
        )
    )


async def _innocents(port: int, count: int, pace: float) -> None:
    pairs = [_Pair(port, number, pace, "innocent") for number in range(count)]
    commands = deque[bytes]()
    with trio.CancelScope() as patience:
        async with trio.open_nursery() as nursery:
            for pair in pairs:
                await nursery.start(pair.run)
            print("ready", flush=True)  # noqa: T201  (that is the interface)
            stream = trio.lowlevel.FdStream(0)
            while data := await stream.receive_some():
                commands.extend(data.splitlines())
                while commands:
                    commands.popleft()
                    print(_bill(pairs).decode(), flush=True)  # noqa: T201
            for pair in pairs:
                pair.stopping = True
            patience.deadline = trio.current_time() + 10
    for pair in pairs:
        if not pair.settled:
            pair.wrongs.append("not everything that was sent has come and been answered in 10 s")
    print(_bill(pairs).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    trio.run(_innocents, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
