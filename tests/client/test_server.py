"""The client and the real server: over sockets and over memory, under both event loops."""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trustme

from trio_chat import authenticators
from trio_chat.chat import open_chat
from trio_chat.client import (
    BadQuery,
    Connected,
    Disconnected,
    Event,
    PresenceChanged,
    ReadElsewhere,
    ReceiptChanged,
    Typing,
    Unauthorized,
    open_client,
)
from trio_chat.serve import handle, serve_tcp
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore

from .fake import Connection
from .world import welcome

pytestmark = pytest.mark.anyio

AnyEvent = TypeVar("AnyEvent", bound=Event)


@pytest.fixture
def anyio_backend(real: str) -> str:
    return real


class Elsewhere:
    """A real server, running under Trio in a thread of its own, whatever the client runs under."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        self.port = 0
        self.store = MemoryStore()
        self.revoke: Callable[[str], None] = lambda _: None
        self._ssl_context = ssl_context
        self._started = threading.Event()
        self._stop: Callable[[], None] = lambda: None
        self._open: Callable[[trio.abc.Stream], None] = lambda _: None
        self._token: trio.lowlevel.TrioToken | None = None

    async def serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        # Else a window of messages takes ten seconds, and coming back five.
        async with (
            open_chat(self.store, settings=Settings(send_rate=None, retry_spread=0.1)) as chat,
            trio.open_nursery() as nursery,
        ):
            serving = partial(serve_tcp, chat, self.port, authenticate=authenticators.demo, ssl_context=self._ssl_context)
            (listener,) = await nursery.start(serving)
            inner: Any = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
            self.port = inner.socket.getsockname()[1]
            token = self._token
            self._stop = lambda: token.run_sync_soon(nursery.cancel_scope.cancel)
            self.revoke = lambda user: token.run_sync_soon(chat.revoke, user)
            in_memory = partial(handle, chat, authenticate=authenticators.demo)
            self._open = lambda stream: token.run_sync_soon(nursery.start_soon, in_memory, stream)
            self._started.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._started.clear()
        thread = threading.Thread(target=trio.run, args=(self.serve,))
        thread.start()
        assert self._started.wait(20)
        try:
            yield
        finally:
            with suppress(trio.RunFinishedError):  # a test may have stopped it
                self._stop()
            thread.join()

    async def byte_stream(self) -> anyio.abc.ByteStream:
        """The client's end of a connection in memory, between two event loops."""
        here, there = _Half(), _Half()
        assert self._token is not None
        self._open(_TrioSide(incoming=there, outgoing=here))
        await anyio.lowlevel.checkpoint()
        return _AnyioSide(incoming=here, outgoing=there)


class _Half:
    """Bytes on their way from one event loop to another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.data = bytearray()
        self.ended = False
        self.wake: Callable[[], None] = lambda: None

    def put(self, data: bytes) -> None:
        with self.lock:
            self.data += data
            self.wake()

    def end(self) -> None:
        with self.lock:
            self.ended = True
            self.wake()

    def get(self, wake: Callable[[], None]) -> bytes | None:
        """What is there, b"" at the end; None if nothing is, and then `wake` is called when something may be."""
        with self.lock:
            if not self.data and not self.ended:
                self.wake = wake
                return None
            data = bytes(self.data)
            self.data.clear()
            return data


class _TrioSide(trio.abc.Stream):
    def __init__(self, *, incoming: _Half, outgoing: _Half) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        token = trio.lowlevel.current_trio_token()
        while True:
            event = trio.Event()
            data = self._incoming.get(partial(token.run_sync_soon, event.set))
            if data is not None:
                return data
            await event.wait()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._outgoing.put(bytes(data))
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._incoming.end()
        self._outgoing.end()
        await trio.lowlevel.checkpoint()


class _AnyioSide(anyio.abc.ByteStream):
    def __init__(self, *, incoming: _Half, outgoing: _Half) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        token = anyio.lowlevel.current_token()
        while True:
            event = anyio.Event()
            data = self._incoming.get(partial(_wake, token, event))
            if data == b"":
                raise anyio.EndOfStream
            if data is not None:
                return data
            await event.wait()

    async def send(self, item: bytes) -> None:
        self._outgoing.put(item)
        await anyio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        self._outgoing.end()
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._incoming.end()
        self._outgoing.end()
        await anyio.lowlevel.checkpoint()


def _wake(token: Any, event: anyio.Event) -> None:
    """Set an event of another thread's loop, unless that has ended."""
    native = token.native_token
    with suppress(trio.RunFinishedError, RuntimeError):
        (native.run_sync_soon if isinstance(native, trio.lowlevel.TrioToken) else native.call_soon_threadsafe)(event.set)


@pytest.fixture(params=["tcp", "tls", "memory"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(way: str) -> Iterator[tuple[Elsewhere, Callable[..., Any]]]:
    """A server, and how to open a client of it."""
    authority = trustme.CA()
    context = None
    if way == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    elsewhere = Elsewhere(context)
    options: dict[str, Any] = {}
    if way == "tls":
        options["ssl_context"] = ssl.create_default_context()
        authority.configure_trust(options["ssl_context"])
    if way == "memory":
        options["connect"] = elsewhere.byte_stream

    def client(user: str, **more: Any) -> Any:
        scheme = "wss" if way == "tls" else "ws"
        return open_client(f"{scheme}://127.0.0.1:{elsewhere.port}/ws?user={user}", **{"device": "phone", **options, **more})

    with elsewhere.running():
        yield elsewhere, client


async def test_a_conversation(server: tuple[Elsewhere, Callable[..., Any]]) -> None:
    """Else the client speaks with the tests' own server only."""
    _, client = server
    with anyio.fail_after(30):
        async with client("alice") as alice, client("bob") as bob:
            assert (await alice.send("bob", "hi")).seq == 1
            stream = bob.messages()
            message = await anext(stream)
            assert (message.sender, message.text) == ("alice", "hi")
            assert (await bob.send("alice", "hello " * 1000)).seq == 2
            assert (await anext(alice.messages())).text == "hello " * 1000
            events = alice.events()
            bob.typing("alice", on=True)
            assert isinstance(await anext(events), Connected)
            assert await anext(events) == Typing("bob", typing=True)
            many = 300  # more than a window
            async with anyio.create_task_group() as tasks:
                for number in range(many):
                    tasks.start_soon(partial(alice.send, "bob", "more", id=str(number)))
                came = [(await anext(stream)).id for _ in range(many)]
            assert sorted(came) == sorted(map(str, range(many)))


async def test_what_can_be_asked(server: tuple[Elsewhere, Callable[..., Any]]) -> None:
    """Else a request is known to the tests' own server only: another name of a field, and no program can use it."""
    _, client = server
    with anyio.fail_after(30):
        async with client("alice") as alice, client("bob") as bob:
            first = await alice.send("bob", "where is the harbour?")
            answer = await bob.send("alice", "by the sea", reply_to=first.id)
            wrong = await alice.send("bob", "helo")
            await alice.edit("bob", wrong.id, "thanks")
            slip = await alice.send("bob", "who are you?")
            await alice.delete("bob", slip.id)

            page = await alice.history(peer="bob", direction="in")
            assert [(message.id, message.text, message.reply_to) for message in page.messages] == [
                (answer.id, "by the sea", first.id)
            ]
            page = await alice.history(peer="bob", order="asc", limit=3)
            assert [message.text for message in page.messages] == ["where is the harbour?", "by the sea", "thanks"]
            assert page.more
            (last,) = (await alice.history(after=page.next, order="asc")).messages
            assert last.deleted
            assert not last.text
            with pytest.raises(BadQuery):
                await alice.history(before=5, around=3)

            (hit,) = (await bob.search("harb")).hits
            assert hit.message.id == first.id
            assert not (await bob.search("helo")).hits
            assert not (await bob.search('"AND ( NEAR*')).hits

            (conversation,) = (await bob.conversations()).conversations
            assert (conversation.peer, conversation.unread) == ("alice", 2)
            with pytest.raises(BadQuery):
                await bob.edit("alice", first.id, "not mine to edit")


async def test_devices_and_peers(server: tuple[Elsewhere, Callable[..., Any]]) -> None:
    """Else receipts, presence, blocks and devices work in the page alone."""
    _, client = server
    with anyio.fail_after(30):
        async with client("alice") as alice, client("bob") as bob, client("bob", device="laptop") as laptop:
            told, elsewhere = alice.events(), laptop.events()
            await alice.send("bob", "hi")
            message = await anext(bob.messages())
            await bob.send("alice", "hello")
            alice.watch(["bob", "eve"])
            seen = {change.user: change.online for change in [await _next(told, PresenceChanged) for _ in range(2)]}
            assert seen == {"bob": True, "eve": False}

            bob.read("alice", message.seq)
            receipt = await _next(told, ReceiptChanged)
            while not receipt.read:
                receipt = await _next(told, ReceiptChanged)
            assert receipt == ReceiptChanged("bob", delivered=1, read=1)
            assert await _next(elsewhere, ReadElsewhere) == ReadElsewhere("alice", message.seq)

            assert [(device.name, device.connected) for device in await bob.devices()] == [("laptop", True), ("phone", True)]
            assert [device.name for device in await bob.remove_device("laptop")] == ["phone"]

            assert await bob.block("alice") == ("alice",)
            assert await bob.blocked() == ("alice",)
            await alice.send("bob", "can you hear me?")
            assert [message.text for message in (await bob.history(peer="alice", direction="in")).messages] == ["hi"]
            assert await bob.unblock("alice") == ()


async def _next(events: AsyncIterator[Event], kind: type[AnyEvent]) -> AnyEvent:
    """The next event of this kind."""
    while True:
        event = await anext(events)
        if isinstance(event, kind):
            return event


async def test_the_end_for_good(server: tuple[Elsewhere, Callable[..., Any]]) -> None:
    """Else a client whose login was taken away knocks for ever."""
    elsewhere, client = server
    with anyio.fail_after(30):
        async with client("alice") as alice:
            await alice.wait_connected()
            elsewhere.revoke("alice")
            with pytest.raises(Unauthorized) as closed:
                await anext(alice.messages())
            assert closed.value.code == 4401
        async with client("") as nobody:
            with pytest.raises(Unauthorized) as closed:
                await nobody.wait_connected()
            assert closed.value.status == 401


@pytest.mark.parametrize("way", ["tcp", "tls"])  # one in memory is gone with its memory
async def test_a_server_that_is_restarted(server: tuple[Elsewhere, Callable[..., Any]]) -> None:
    """Else a deployment loses messages, or gives them twice."""
    elsewhere, client = server
    with anyio.fail_after(60):
        async with client("alice") as alice, client("bob") as bob:
            stream = bob.messages()
            await alice.send("bob", "one")
            assert (await anext(stream)).text == "one"
            events = alice.events()
            await anext(events)
            await anyio.to_thread.run_sync(elsewhere._stop)
            away = await anext(events)
            assert isinstance(away, Disconnected)
            assert away.code == 1001
            second = Elsewhere(elsewhere._ssl_context)
            second.store, second.port = elsewhere.store, elsewhere.port
            with second.running():
                assert (await alice.send("bob", "two")).seq == 2
                assert (await anext(stream)).text == "two"


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A server that lets in and then reads nothing, for as long as the block lasts."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, _swallow)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def _swallow(stream: anyio.abc.SocketStream) -> None:
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            head += await stream.receive()
        connection = Connection(stream, head.rstrip(b"\r\n"), 0)  # type: ignore[arg-type]
        await connection.accept()
        await connection.send(welcome())
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)


async def test_leaving_a_socket_that_is_not_read() -> None:
    """Else leaving hangs where the socket's buffers are full, which no memory stream shows."""
    async with black_hole() as port:
        with anyio.fail_after(20):
            async with open_client(f"ws://127.0.0.1:{port}/ws?user=alice", device="phone") as chat:
                await chat.wait_connected()
                with anyio.move_on_after(0.5):
                    await chat.send("bob", "x" * 20_000_000)
                began = anyio.current_time()
            assert anyio.current_time() - began < 3
