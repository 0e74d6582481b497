"""`ChatEndpoint` without a host, and what becomes of its promises on real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anycorn.config
import hypercorn.config
import pytest
import trio
import trio.testing

from trio_chat import Chat, ConfigurationError, Identity, Settings, authenticators, open_chat, wire
from trio_chat.asgi import ChatEndpoint
from trio_chat.client.raw import NotConnected
from trio_chat.store.memory import MemoryStore
from trio_chat.transport.http import Request

from .support import UPGRADE, answer, request, send
from .transport import peer
from .ways import running

Event = MutableMapping[str, Any]


def scope(query: str = "user=alice", headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    raw = {"host": "localhost"} | (headers or {})
    return {
        "type": "websocket",
        "path": "/chat",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in raw.items()],
        "client": ("127.0.0.1", 1),
    } | more


class Call:
    """A call of the application by a host that is the test."""

    def __init__(self) -> None:
        self.say, self._heard = trio.open_memory_channel[Event](100)
        self._told, self.answers = trio.open_memory_channel[Event](100)
        self.say.send_nowait({"type": "websocket.connect"})

    async def receive(self) -> Event:
        return await self._heard.receive()

    async def send(self, event: Event) -> None:
        await self._told.send(event)

    async def next(self) -> Event:
        with trio.fail_after(10):
            return await self.answers.receive()


@asynccontextmanager
async def calling(chat: Chat, asked: dict[str, Any], **options: Any) -> AsyncIterator[Call]:
    call = Call()
    endpoint = ChatEndpoint(chat, **{"authenticate": authenticators.demo, **options})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint, asked, call.receive, call.send)
        yield call
        nursery.cancel_scope.cancel()


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with open_chat(MemoryStore(Settings())) as opened:
        yield opened


async def test_cancelled_it_says_goodbye(chat: Chat) -> None:
    """Hosts cancel their applications when they stop: else clients see 1006, and wait longer than they need."""
    async with calling(chat, scope()) as call:
        assert await call.next() == {"type": "websocket.accept", "subprotocol": None}
        assert '"welcome"' in (await call.next())["text"]
    assert await call.next() == {"type": "websocket.close", "code": 1001, "reason": ""}


async def test_a_host_that_cannot_refuse_with_a_status(chat: Chat) -> None:
    """Else a host without the extension for it is sent what it does not understand."""
    async with calling(chat, scope("user=")) as call:
        assert await call.next() == {"type": "websocket.close", "code": 1008}


async def test_refused_with_a_status(chat: Chat) -> None:
    """Else a client that is told to come back later, or not at all, does not hear it."""
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    async with calling(chat, scope("user=alice&user=bob", extensions=extensions)) as call:
        start, body = await call.next(), await call.next()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 400)
        assert (b"cache-control", b"no-store") in start["headers"]
        assert body == {"type": "websocket.http.response.body", "body": b"the parameter user is given more than once\n"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"a"), (b"host", b"b")], 400),
        ([(b"host", b"localhost"), (b"x", b"caf\xe9")], 400),
        ([(b"host", b"localhost"), (b"origin", b"https://a.example"), (b"origin", b"https://b.example")], 403),
        ([(b"x", b"y")] * 65, 431),
    ],
)
async def test_heads_that_no_host_should_let_through(chat: Chat, headers: list[tuple[bytes, bytes]], status: int) -> None:
    """Else an authenticator sees two of what it believes there is one of."""
    asked = scope(extensions={"websocket.http.response": {}}) | {"headers": headers}
    async with calling(chat, asked) as call:
        assert (await call.next())["status"] == status


async def test_what_the_authenticator_is_shown(chat: Chat) -> None:
    """Else an authenticator that works with `serve_tcp` does not work here."""
    seen: list[Request] = []

    async def authenticate(request: Request) -> Identity:
        seen.append(request)
        return Identity("alice")

    headers = {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https", "authorization": "Bearer x"}
    asked = scope("a=%C3%A9", headers, raw_path=b"/tenants/caf%C3%A9/chat", scheme="ws")
    async with calling(chat, asked, authenticate=authenticate, trusted_proxies=["127.0.0.1"]) as call:
        assert (await call.next())["type"] == "websocket.accept"
    (shown,) = seen
    assert (shown.method, shown.path, shown.client, shown.secure) == ("GET", "/tenants/café/chat", "192.0.2.7", True)
    assert (shown.parameter("a"), shown.header("Authorization")) == ("é", "Bearer x")


async def test_a_hook_that_fails(chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    """Else an exception of the application's gets into the host, and the client hears nothing."""

    async def authenticate(request: Request) -> Identity:
        raise RuntimeError("the database is away")

    asked = scope(extensions={"websocket.http.response": {}})
    async with calling(chat, asked, authenticate=authenticate) as call:
        assert (await call.next())["status"] == 500
    assert "the database is away" in caplog.text


async def test_the_peer_goes(chat: Chat) -> None:
    """Else a session outlives its peer, and writes to nobody; or a host that says so by OSError sees it as a failure."""
    async with calling(chat, scope()) as call:
        assert (await call.next())["type"] == "websocket.accept"
        assert '"welcome"' in (await call.next())["text"]
        call.say.send_nowait({"type": "websocket.receive", "text": wire.encode(send("1", "bob")).decode()})
        assert '"stored"' in (await call.next())["text"]
        call.say.send_nowait({"type": "websocket.disconnect", "code": 1006})
        while chat.statistics().connections:
            await trio.testing.wait_all_tasks_blocked()
        assert call.answers.statistics().current_buffer_used == 0


async def test_its_own_lifespan(chat: Chat) -> None:
    """Else the endpoint cannot be the whole application of a host."""
    async with calling(chat, {"type": "lifespan"}) as call:
        assert await call.next() == {"type": "lifespan.startup.complete"}
        call.say.send_nowait({"type": "lifespan.shutdown"})
        assert await call.next() == {"type": "lifespan.shutdown.complete"}


def test_under_asyncio() -> None:
    """Else an application on uvicorn fails in the middle of Trio, in words that help nobody."""
    made: list[ChatEndpoint] = []

    async def make() -> None:
        async with open_chat(MemoryStore(Settings())) as chat:
            made.append(ChatEndpoint(chat, authenticate=authenticators.demo))

    trio.run(make)
    (endpoint,) = made
    told: list[Event] = []

    async def receive() -> Event:
        return {"type": "lifespan.startup"}

    async def tell(event: Event) -> None:
        told.append(event)

    async def host() -> None:
        await endpoint({"type": "lifespan"}, receive, tell)
        with pytest.raises(ConfigurationError, match="trio-chat serve"):
            await endpoint(scope(), receive, tell)
        with pytest.raises(ConfigurationError, match="trio-chat serve"):
            await open_chat(MemoryStore(Settings())).__aenter__()

    asyncio.run(host())
    (failed,) = told
    assert failed["type"] == "lifespan.startup.failed"
    assert "hypercorn -k trio" in failed["message"]


# What the page on embedding says of the hosts.

WELL = request()
BODY = request(headers=UPGRADE | {"Content-Length": "5"}) + b"hello"
SHORT_KEY = request(headers=UPGRADE | {"Sec-WebSocket-Key": "c2hvcnQ="})
HEADS = {
    ("serve_tcp", WELL): 101,
    ("serve_tcp", BODY): 400,
    ("serve_tcp", SHORT_KEY): 400,
    ("hypercorn", WELL): 101,
    ("hypercorn", SHORT_KEY): 101,
    ("anycorn", WELL): 101,
    ("anycorn", SHORT_KEY): 101,
}


@pytest.mark.parametrize(("way", "head"), HEADS)
async def test_heads_belong_to_the_host(way: str, head: bytes) -> None:
    """Else the page promises for a host what only the front door does, or the host has become better than the page."""
    async with running(way) as server, await server.stream() as stream:
        await stream.send_all(head)
        said = b""
        while b"\r\n\r\n" not in said:
            said += await stream.receive_some()
        assert int(said.split()[1]) == HEADS[way, head]


SURVIVES = [("serve_tcp", True), ("handle_websocket", False), ("hypercorn", False), ("anycorn", False)]
NOT_ASCII = request(headers=UPGRADE | {"Sec-WebSocket-Protocol": "caf\xe9"})


@pytest.mark.parametrize(("way", "survives"), SURVIVES)
async def test_a_packet_of_a_strangers(way: str, survives: bool) -> None:
    """Else the page warns of what is repaired, does not warn of what is not, or anybody ends a server of ours."""
    ended = True
    try:
        async with running(way) as server:
            await server.enter("alice")
            await answer(await server.stream(), NOT_ASCII)
            await server.enter("bob")
            ended = False
    except* (UnicodeDecodeError, OSError, NotConnected):
        assert ended
    assert ended is not survives


def test_what_hosts_let_pass_by_default() -> None:
    """Else the settings that the page recommends are no longer those that matter."""
    for config in (hypercorn.config.Config(), anycorn.config.Config()):
        assert config.websocket_max_message_size == 16 * 1024 * 1024
        assert config.websocket_ping_interval is None
        assert config.graceful_timeout == 3


@pytest.mark.parametrize("way", ["serve_tcp", "hypercorn", "anycorn"])
async def test_the_write_limit_belongs_to_the_host(way: str) -> None:
    """Else the page is wrong on who throws out a client that takes nothing: on a host it stays until it goes itself."""
    async with running(way, write_timeout=0.3, request_burst=1000, server_frame_bytes=1024 * 1024) as server:
        for n in range(50):
            await server.chat.send("bob", "alice", "x" * 16_000, id=str(n))
        stream = await server.stream()
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(request("/ws?user=alice&window=0"))
        await stream.receive_some(64)  # of the 101: what comes before it ends Hypercorn
        asked = b"".join(
            peer.frame(peer.TEXT, wire.encode(wire.History(ref=str(n), peer="bob", limit=100))) for n in range(60)
        )
        with trio.move_on_after(3) as scope:  # noqa: ASYNC912  (there may be none)
            with suppress(trio.BrokenResourceError):
                await stream.send_all(asked)
            while server.chat.statistics().connections:
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert scope.cancelled_caught is (way != "serve_tcp")
        await trio.aclose_forcefully(stream)
        while server.chat.statistics().connections:
            await trio.testing.wait_all_tasks_blocked(0.05)
