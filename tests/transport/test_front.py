"""The front door: what is answered to whom before anybody is let in, and what an authenticator may do wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_chat import authenticators, wire
from trio_chat.chat import open_chat
from trio_chat.client.raw import RawClient
from trio_chat.errors import ConfigurationError, Refused, StoreBusy, StoreFull, StoreUnavailable
from trio_chat.model import Identity
from trio_chat.serve import handle
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import InMemoryServer, open_test_server
from trio_chat.transport.front import FrontDoor
from trio_chat.transport.http import Request

from ..support import UPGRADE, answer, dial, enter, frame, request, send, silence, stored
from .peer import TEXT, Peer
from .peer import frame as client_frame


def status(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply
    assert b"\r\n\r\n" in reply
    return int(reply[9:12])


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in UPGRADE.items() if key != name}


@asynccontextmanager
async def innocent(server: InMemoryServer) -> AsyncIterator[RawClient]:
    """Somebody who is connected all the while, and is to notice nothing."""
    client = await enter(server, "innocent")
    yield client
    await client.send(send(f"after-{id(client)}", "innocent"))
    await stored(client, 1)
    await silence(client, 6)  # a connection that is closed lingers
    assert server.chat.failure is None
    assert server.chat.admission.half_open == 0


REFUSALS = {
    "no-path": (request("/"), 404),
    "other-path": (request("/chat"), 404),
    "no-upgrade": (request(headers={"Host": "localhost"}), 426),
    "old-version": (request(headers=UPGRADE | {"Sec-WebSocket-Version": "8"}), 426),
    "no-version": (request(headers=without("Sec-WebSocket-Version")), 426),
    "post": (request(method="POST"), 405),
    "head": (request(method="HEAD"), 405),
    "short-key": (request(headers=UPGRADE | {"Sec-WebSocket-Key": "c2hvcnQ="}), 400),
    "no-key": (request(headers=without("Sec-WebSocket-Key")), 400),
    "no-host": (request(headers=without("Host")), 400),
    "body": (request(headers=UPGRADE | {"Content-Length": "5"}), 400),
    "chunked": (request(headers=UPGRADE | {"Transfer-Encoding": "chunked"}), 400),
    "two-hosts": (request().replace(b"Upgrade: ", b"Host: evil.example\r\nUpgrade: "), 400),
    # Each of these ends a bare trio-websocket server: UnicodeError inside of wsproto.
    "host-not-ascii": (request(headers=UPGRADE | {"Host": "b\xfccher.example"}), 400),
    "connection-not-ascii": (request(headers=UPGRADE | {"Connection": "Upgrade, \xff"}), 400),
    "protocol-not-ascii": (request(headers=UPGRADE | {"Sec-WebSocket-Protocol": "\xe9"}), 400),
    "extensions-not-ascii": (request(headers=UPGRADE | {"Sec-WebSocket-Extensions": "\xe9"}), 400),
    "host-bad-idna": (request(headers=UPGRADE | {"Host": "a" * 64 + "..example\x7f"}), 400),
    "not-http": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "many-headers": (request(headers=UPGRADE | {f"X-{n}": "x" for n in range(64)}), 431),
    "large-head": (request(headers=UPGRADE | {"X": "x" * 17_000}), 431),
    "no-user": (request("/ws"), 401),
    "two-users": (request("/ws?user=alice&user=bob"), 400),
    "other-host": (request(headers=UPGRADE | {"Host": "evil.example"}), 403),
    "other-origin": (request(headers=UPGRADE | {"Origin": "https://evil.example"}), 403),
    "null-origin": (request(headers=UPGRADE | {"Origin": "null"}), 403),
    "two-origins": (request().replace(b"Upgrade: ", b"Origin: http://localhost\r\nOrigin: http://x\r\nUpgrade: "), 403),
    "log-alone": (request("/ws?user=alice&log=x"), 400),
    "after-alone": (request("/ws?user=alice&after=1"), 400),
    "after-negative": (request("/ws?user=alice&log=x&after=-1"), 400),
    "after-words": (request("/ws?user=alice&log=x&after=1e3"), 400),
    "after-huge": (request("/ws?user=alice&log=x&after=" + "9" * 16), 400),
    "after-arabic": (request("/ws?user=alice&log=x&after=%D9%A1"), 400),
    "window": (request("/ws?user=alice&window=5"), 400),
}


@pytest.mark.parametrize(("data", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_what_is_not_right_is_refused_and_nobody_else_notices(
    data: bytes, code: int, autojump_clock: MockClock
) -> None:
    """Else one packet ends the server, smuggles a request past a proxy, or lets another site's page in."""
    async with open_test_server() as server, innocent(server):
        before = trio.current_time()
        reply = await answer(await server.stream(), data)
        assert status(reply) == code
        assert b"Traceback" not in reply
        assert b"connection: close" in reply.lower()
        assert trio.current_time() - before < 3


async def test_a_head_has_no_body(autojump_clock: MockClock) -> None:
    """Else a health check by HEAD breaks the connection of its proxy."""
    async with open_test_server() as server:
        reply = await answer(await server.stream(), request("/healthz", {"Host": "x"}, method="HEAD"))
        assert status(reply) == 200
        assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"", b"GET /ws?user=al", b"G"])
async def test_half_a_head_is_given_up(data: bytes, autojump_clock: MockClock) -> None:
    """Else dead handshakes pile up (failures 15, 19)."""
    async with open_test_server() as server, innocent(server):
        stream = await server.stream()
        await stream.send_all(data)
        before = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - before <= 5


async def test_a_head_that_drips_is_given_up(autojump_clock: MockClock) -> None:
    """Else a byte a second holds a place for ever (slow loris)."""
    async with open_test_server() as server, innocent(server):
        stream = await server.stream()
        before = trio.current_time()

        async def drips() -> None:
            for byte in request():
                await stream.send_all(bytes([byte]))
                await trio.sleep(1)

        with pytest.raises(trio.BrokenResourceError):
            await drips()
        assert trio.current_time() - before <= 7


async def test_frames_sent_with_the_handshake_are_not_lost(autojump_clock: MockClock) -> None:
    """Else a client that does not wait for the 101 loses its first message, silently."""
    async with open_test_server() as server:
        peer = Peer(await server.stream())
        await peer.send(request() + client_frame(TEXT, wire.encode(send("early", "bob"))))
        while b"\r\n\r\n" not in peer._buffer:
            peer._buffer += await peer.stream.receive_some()
        peer._buffer = peer._buffer.partition(b"\r\n\r\n")[2]
        kinds = []
        for _ in range(2):
            read = await peer.read()
            assert read is not None
            kinds.append(type(wire.decode_server(read[1])))
        assert kinds == [wire.Welcome, wire.Stored]


async def test_a_full_disk_is_no_good_health(autojump_clock: MockClock) -> None:
    """Else a proxy sends users to a server whose disk is full, or never again to one that has space (failures R2)."""
    store = MemoryStore()
    async with open_test_server(store=store) as server:

        async def health() -> int:
            return status(await answer(await server.stream(), request("/healthz", {"Host": "x"})))

        alice = await enter(server, "alice")
        store.fail_next(StoreFull("no space"), StoreFull("no space"))
        await alice.send(send("a", "bob"))
        assert (await frame(alice, wire.Error)).code == "store_full"
        assert await health() == 503
        await enter(server, "bob")  # who only reads is let in
        await silence(alice, 2)
        await alice.send(send("a", "bob"))
        await frame(alice, wire.Stored)
        assert await health() == 200
        store.fail_next(StoreBusy("held"))
        await alice.send(send("b", "bob"))
        assert (await frame(alice, wire.Error)).code == "overloaded"
        assert await health() == 503
        await silence(alice, 11)
        assert await health() == 200


async def test_health(autojump_clock: MockClock) -> None:
    """Else a proxy sends users to a server that cannot store, or takes a well one out; or strangers learn of its files."""
    store = MemoryStore()
    async with open_test_server(store=store) as server:
        stream = server.stream
        plain = {"Host": "whatever.example"}
        assert status(await answer(await stream(), request("/healthz", plain))) == 200
        alice = await enter(server, "alice")
        store.fail_next(StoreUnavailable("/var/secret/chat.db: I/O error"))
        await alice.send(send("a", "bob"))
        await frame(alice, wire.Error)
        sick = await answer(await stream(), request("/healthz", plain))
        assert status(sick) == 503
        assert b"secret" not in sick
        assert status(await answer(await stream(), request())) == 503
        await alice.send(wire.Ping())  # who is connected stays
        await frame(alice, wire.Pong)


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://localhost", True),
        ("http://localhost:80", True),
        ("https://app.example", True),
        ("https://app.example:443", False),  # compared exactly, as browsers write it
        ("https://APP.example", False),
        ("https://app.example.evil", False),
        ("http://app.example", False),
        ("https://localhost", False),
        ("", False),
    ],
)
async def test_pages_of_this_host_and_of_the_list_may_connect(origin: str, let_in: bool, autojump_clock: MockClock) -> None:
    """Else a page of another site chats in its visitor's name (cross-site WebSocket hijacking)."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(
            partial(handle, chat, ours, authenticate=authenticators.demo, allowed_origins=["https://app.example"])
        )
        await theirs.send_all(request(headers=UPGRADE | {"Origin": origin}))
        reply = await theirs.receive_some()
        assert status(bytes(reply)) == (101 if let_in else 403)
        nursery.cancel_scope.cancel()


async def test_a_proxy_that_is_none_is_told() -> None:
    """Else a typing mistake believes everybody's X-Forwarded-For, or nobody's, without a word."""
    async with open_chat(MemoryStore()) as chat:
        FrontDoor(chat, authenticators.demo, trusted_proxies=["10.0.0.0/8", "::1", "unix"])
        with pytest.raises(ConfigurationError, match=r"10\.0\.0\.0/33"):
            FrontDoor(chat, authenticators.demo, trusted_proxies=["10.0.0.0/33"])


# Authenticators.

Hook = Callable[[Request], Awaitable[Identity]]


def hook(act: Callable[[], object]) -> Hook:
    """An authenticator that does so with strangers, and believes the others."""

    async def authenticate(request: Request) -> Identity:
        if request.parameter("user") == "stranger":
            result = act()
            if isinstance(result, Awaitable):
                result = await result
            return result  # type: ignore[return-value]
        return await authenticators.demo(request)

    return authenticate


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


async def fails_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise KeyError("planted")


async def swallows_its_deadline_and_fails() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("planted")


async def fails_while_it_is_cancelled() -> None:
    async with trio.open_nursery() as nursery:

        async def fails() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("planted")

        nursery.start_soon(fails)
        await trio.sleep_forever()


FAILURES: dict[str, tuple[Callable[[], object], int]] = {
    "refuses": (raising(Refused("no")), 401),
    "forbids": (raising(Refused("no", status=403)), 403),
    "raises": (raising(ValueError("planted")), 500),
    "raises-group": (raising(ExceptionGroup("planted", [ValueError(), ExceptionGroup("more", [OSError()])])), 500),
    "raises-refused-in-a-group": (raising(ExceptionGroup("planted", [Refused("no")])), 500),
    "raises-stop-iteration": (raising(StopAsyncIteration()), 500),
    "raises-asyncio's-cancelled": (raising(asyncio.CancelledError()), 500),
    "raises-generator-exit": (raising(GeneratorExit()), 500),
    "raises-broken": (raising(trio.BrokenResourceError()), 500),
    "fails-in-a-nursery": (fails_in_a_nursery, 500),
    "hangs": (trio.sleep_forever, 503),
    "fails-when-it-takes-too-long": (swallows_its_deadline_and_fails, 500),
    "fails-while-cancelled": (fails_while_it_is_cancelled, 500),
    "returns-none": (lambda: None, 500),
    "returns-a-string": (lambda: "alice", 500),
    "returns-a-tuple": (lambda: ("alice", "phone"), 500),
    "returns-true": (lambda: True, 500),
    "returns-the-class": (lambda: Identity, 500),
    "returns-a-bad-name": (lambda: Identity("bad\x00name"), 500),
}


@pytest.mark.parametrize(("act", "code"), FAILURES.values(), ids=FAILURES)
async def test_whatever_an_authenticator_does_refuses_one_request(
    act: Callable[[], object], code: int, autojump_clock: MockClock
) -> None:
    """Else a bug in an application's hook lets somebody in, ends the server, or tells a stranger what went wrong."""
    async with open_test_server(authenticate=hook(act)) as server, innocent(server):
        before = trio.current_time()
        reply = await answer(await server.stream(), request("/ws?user=stranger"))
        assert status(reply) == code
        assert b"planted" not in reply
        assert trio.current_time() - before < 6.5


async def test_an_authenticator_that_is_not_async_is_a_bug_that_refuses(autojump_clock: MockClock) -> None:
    """Else ``def`` in place of ``async def`` ends the server at the first request."""

    def authenticate(request: Request) -> Identity:
        return Identity("alice")

    async with open_test_server(authenticate=authenticate) as server:  # type: ignore[arg-type]
        assert status(await answer(await server.stream(), request())) == 500


async def test_a_cancelled_server_does_not_wait_for_an_authenticator(autojump_clock: MockClock) -> None:
    """Else a hook that fails at the moment of the shutdown turns it into a failure, or swallows the cancellation."""
    with trio.move_on_after(2) as scope:
        async with open_test_server(authenticate=hook(fails_while_it_is_cancelled)) as server:
            stream = await server.stream()
            await stream.send_all(request("/ws?user=stranger"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() < 4


async def test_a_clients_mistake_is_no_error_of_ours(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Else strangers fill the log with tracebacks."""
    with caplog.at_level(logging.INFO):
        async with open_test_server() as server:
            for data, _ in REFUSALS.values():
                await answer(await server.stream(), data)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_the_answer_to_a_hanging_authenticator_comes_with_every_setting(autojump_clock: MockClock) -> None:
    """Else the client of a slow authenticator sees a connection that breaks, and no reason."""
    for handshake, hook_seconds in ((5.0, 5.0), (5.0, 1.0), (2.0, 60.0)):
        settings = Settings(handshake_timeout=handshake, hook_timeout=hook_seconds, ping_interval=60.0)
        async with open_test_server(settings=settings, authenticate=hook(trio.sleep_forever)) as server:
            before = trio.current_time()
            assert status(await answer(await server.stream(), request("/ws?user=stranger"))) == 503
            assert trio.current_time() - before <= min(handshake, hook_seconds) + 1


async def test_any_peer_is_let_in_that_asks_rightly(autojump_clock: MockClock) -> None:
    """Else clients in other languages do not get in: none of these differences means anything."""
    variants = [
        UPGRADE | {"Connection": "keep-alive, Upgrade"},
        UPGRADE | {"Upgrade": "WebSocket", "Connection": "upgrade"},
        UPGRADE | {"Sec-WebSocket-Protocol": "other, trio-chat.v1", "Sec-WebSocket-Extensions": "permessage-deflate"},
        UPGRADE | {"Content-Length": "0"},
    ]
    async with open_test_server() as server:
        for headers in variants:
            peer = await dial(await server.stream(), headers=headers)
            read = await peer.read()
            assert read is not None
            assert isinstance(wire.decode_server(read[1]), wire.Welcome)
