"""A server in the client's own event loop, that does as it should, or whatever else a test wants of it.

It sleeps; that is for tests on a virtual clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc
import anyio.lowlevel
from wsproto.events import CloseConnection, Ping, TextMessage
from wsproto.utilities import generate_accept_token

from trio_chat import wire
from trio_chat.client import ChatClient, Timing, open_client
from trio_chat.client.background import open_background
from trio_chat.engine import Engine

from .world import FEATURES, Line, Server

NO_JITTER = Timing(jitter=lambda: 1.0)
_ROOM = 65536


class Pipe(anyio.abc.ByteStream):
    """One end of a connection in memory. Whoever writes more than 64 KiB ahead of the reader waits."""

    def __init__(self) -> None:
        self.peer = self
        self._buffer = bytearray()
        self._changed = anyio.Event()
        self._ended = self._closed = False

    @classmethod
    def pair(cls) -> tuple[Pipe, Pipe]:
        here, there = cls(), cls()
        here.peer, there.peer = there, here
        return here, there

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while not self._buffer:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._change()
        return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        for start in range(0, len(item), _ROOM):
            while len(self.peer._buffer) >= _ROOM and not (self._closed or self.peer._closed):
                await self.peer._changed.wait()
            if self._closed:
                raise anyio.ClosedResourceError
            if self.peer._closed:
                raise anyio.BrokenResourceError
            self.peer._buffer += item[start : start + _ROOM]
            self.peer._change()

    async def send_eof(self) -> None:
        self.peer._ended = True
        self.peer._change()
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._closed = self.peer._ended = True
        self._change()
        self.peer._change()
        await anyio.lowlevel.checkpoint()


class Gone(Exception):
    """The client has closed: `code` is 1006 if it did not say so."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Connection:
    """The server's side of a connection, from its request on."""

    def __init__(self, stream: Pipe, head: bytes, number: int) -> None:
        self.number = number
        """How many there were before it."""
        request, *lines = head.decode().split("\r\n")
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(request.split(" ")[1]).query).items()}
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.at = anyio.current_time()
        self.pings = 0
        self.pongs = 0
        self._stream = stream
        self._engine = Engine(message_bytes=1 << 20, fragments=64)
        self._frames: list[wire.ClientFrame] = []

    async def answer(self, status: int, *headers: str) -> None:
        """Refuse."""
        lines = [f"HTTP/1.1 {status} No", "Content-Length: 0", *headers, "", ""]
        await self._stream.send("\r\n".join(lines).encode())
        await self._stream.aclose()

    async def accept(self, *, token: str | None = None, subprotocol: str | None = wire.SUBPROTOCOL) -> None:
        """Answer with 101."""
        token = token or generate_accept_token(self.headers["sec-websocket-key"].encode()).decode()
        lines = ["HTTP/1.1 101 Yes", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {token}"]
        lines += [f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []
        await self._stream.send(("\r\n".join([*lines, "", ""])).encode())

    async def write(self, text: bytes) -> None:
        """Send any text."""
        self._engine.queue(text)
        await self._stream.send(self._engine.send(TextMessage(data="")))

    async def send(self, *frames: wire.ServerFrame) -> None:
        for frame in frames:
            await self.write(wire.encode(frame))

    async def ping(self) -> None:
        await self._stream.send(self._engine.send(Ping(payload=b"?")))

    async def receive(self) -> wire.ClientFrame:
        """The next frame.

        Raises:
            Gone: there is none.
        """
        while not self._frames:
            await self.read()
        return self._frames.pop(0)

    async def read(self) -> None:
        """Take in what comes next, whatever it is."""
        try:
            data = await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise Gone(1006) from None
        self._engine.receive_data(data)
        events = list(self._engine.events())
        for text in self._engine.take():
            frame = wire.decode(text, text_bytes=1 << 20)
            if isinstance(frame, wire.Ping):
                self.pings += 1
                await self.send(wire.Pong())
            else:
                self._frames.append(frame)
        for event in events:
            if isinstance(event, CloseConnection):
                await self._stream.send(self._engine.send(CloseConnection(code=1000)))
                raise Gone(event.code)

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, wait for the answer, and hang up."""
        await self._stream.send(self._engine.send(CloseConnection(code=code, reason=reason)))
        try:
            while True:
                await self.read()
        except Gone:
            await self.drop()

    async def drop(self) -> None:
        """Hang up without a word."""
        await self._stream.aclose()


class FakeServer:
    """Serves one user, alice on her phone. `model` is what it knows.

    `behave` serves a connection as a server should. `script`, if it is set, decides about every connection instead; it is
    given the connection and may call `behave`.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.model = Server()
        self.script: Callable[[Connection], Awaitable[None]] | None = None
        self.connections: list[Connection] = []
        self.refuse: Callable[[Any], str | None] = lambda _: None
        self.window = 256
        self.limits: dict[str, float] = {"text_bytes": 100, "frame_bytes": 1000, "ping_interval": 25.0}
        self.read_marks: list[wire.Read] = []
        self._tasks = tasks
        self._changed = anyio.Event()

    async def connect(self) -> anyio.abc.ByteStream:
        """The seam of the client."""
        here, there = Pipe.pair()
        self._tasks.start_soon(self._serve, there)
        await anyio.lowlevel.checkpoint()
        return here

    def client(self, **options: Any) -> AbstractAsyncContextManager[ChatClient]:
        options = {"connect": self.connect, "timing": NO_JITTER, "device": "phone", **options}
        return open_client("ws://chat.example.com/ws?user=alice", **options)

    def append(self, id: str, sender: str = "bob", kind: str = "message") -> None:
        """Somebody sends something."""
        self.model.append(id, sender, kind)
        self._changed.set()

    async def _serve(self, stream: Pipe) -> None:
        head = b""
        try:
            while b"\r\n\r\n" not in head:
                head += await stream.receive()
            connection = Connection(stream, head.rstrip(b"\r\n"), len(self.connections))
            self.connections.append(connection)
            await (self.script or self.behave)(connection)
        except (Gone, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass
        finally:
            await anyio.aclose_forcefully(stream)

    async def greet(self, connection: Connection, features: Sequence[str] = FEATURES, **changes: Any) -> Line:
        """Let a client in, and welcome it."""
        await connection.accept()
        line = Line(self.model, connection.query.get("log"), int(connection.query.get("after", 0)))
        if connection.query.get("window") == "0":
            line.start = line.sent = line.acked = self.model.head
        line.window = self.window
        facts: dict[str, Any] = {
            "user": connection.query["user"],
            "device": connection.query.get("device", "default"),
            "log": line.log,
            "head": self.model.head,
            "floor": self.model.floor,
            "cursor": line.start,
            "new": False,
            "features": list(features),
            "limits": {"window": self.window, **self.limits},
        }
        await connection.send(wire.Welcome(**{**facts, **changes}))
        return line

    async def behave(  # noqa: C901  (one conversation, from its beginning to its end)
        self, connection: Connection, *, frames: float = float("inf"), times: int = 1, pause: float = 0.0
    ) -> None:
        """Serve a connection.

        Args:
            connection: before it is accepted.
            frames: hang up after so many, in both directions together, the welcome included.
            times: send every frame but the welcome so many times.
            pause: before every frame.
        """
        line = await self.greet(connection)
        send_only = connection.query.get("window") == "0"

        async def read() -> None:
            while True:
                received.append(await connection.receive())
                self._changed.set()

        async def spend() -> None:
            nonlocal frames
            frames -= 1
            if frames < 0:
                await connection.drop()
                raise Gone(1006)

        received: list[wire.ClientFrame] = []
        gone: Gone | None = None
        try:
            await spend()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                while True:  # noqa: ASYNC913
                    self._changed = anyio.Event()
                    while received:
                        await spend()
                        self._take(line, received.pop(0))
                    if not send_only:
                        line.push(3)
                    if not line.to_client:
                        await self._changed.wait()
                    while line.to_client:
                        await anyio.sleep(pause)
                        await spend()
                        for _ in range(times):
                            await connection.send(line.to_client[0])
                        line.to_client.pop(0)
        except* Gone as group:
            gone = Gone(group.exceptions[0].code if isinstance(group.exceptions[0], Gone) else 1006)
        except* (anyio.ClosedResourceError, anyio.BrokenResourceError):
            gone = Gone(1006)
        if gone is not None:
            raise gone

    def _take(self, line: Line, frame: wire.ClientFrame) -> None:
        match frame:
            case wire.Read():
                self.read_marks.append(frame)
            case wire.Typing() | wire.Watch():
                pass
            case wire.Blocks(ref=ref):
                line.to_client.append(wire.Blocked(ref=ref, users=("eve",)))
            case _:
                line.read(frame, self.refuse(frame), anyio.current_time())


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """A server that is there for as long as the block lasts."""
    async with open_background() as tasks:
        yield FakeServer(tasks)
