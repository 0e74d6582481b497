"""One behaviour, whichever way a client comes in. `DIFFERENCES` has the exceptions, with their reasons."""

from __future__ import annotations

import msgspec
import pytest
import trio

from trio_chat import wire

from .support import UPGRADE, answer, ask, closed, entries, frame, request, send, silence, stored
from .transport.peer import CLOSE, Peer
from .ways import PAGE, WAYS, Running, running

DIFFERENCES: dict[tuple[str, str], tuple[object, str]] = {
    ("foreign origin", "handle_websocket"): ("welcome", "the application has accepted already: origins are its business"),
    ("bad position", "handle_websocket"): (1008, "the application has accepted already: there is no status any more"),
    ("drained", "handle_websocket"): (1001, "the application has accepted already: there is no status any more"),
    ("full", "handle_websocket"): (1001, "the application has accepted already: there is no status any more"),
    ("only pongs", "hypercorn"): (4408, "a host shows its applications no pongs: clients say `ping` themselves"),
    ("only pongs", "anycorn"): (4408, "a host shows its applications no pongs: clients say `ping` themselves"),
    ("plain", "handle_websocket"): (400, "trio-websocket answers nothing but WebSockets"),
}

every_way = pytest.mark.parametrize("way", WAYS)


def expected(what: str, way: str, usual: object) -> object:
    """What happens here: the usual, or the difference that has a reason."""
    return DIFFERENCES.get((what, way), (usual, ""))[0]


async def outcome(server: Running, target: str = "/ws?user=alice", headers: dict[str, str] | None = None) -> object:
    """``welcome``, or the status or the close code in its place."""
    stream = await server.stream()
    await stream.send_all(request(target, UPGRADE | (headers or {})))
    peer = Peer(stream)
    while b"\r\n\r\n" not in peer._buffer:
        data = await stream.receive_some()
        assert data, peer._buffer
        peer._buffer += data
    head, _, peer._buffer = peer._buffer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status != 101:
        return status
    read = await peer.read()
    assert read is not None
    opcode, payload = read
    return int.from_bytes(payload[:2], "big") if opcode == CLOSE else msgspec.json.decode(payload)["type"]


@every_way
async def test_a_conversation(way: str) -> None:
    """The least that a chat is: stored, delivered, acknowledged, kept for who is away, and asked for again."""
    async with running(way) as server:
        alice = await server.enter("alice")
        await alice.send(send("1", "bob"), send("2", "bob", "é" * 8000))
        assert [item.seq for item in await stored(alice, 2)] == [1, 2]
        bob = await server.enter("bob")
        assert [message.text for message in await entries(bob, 2)] == ["hi", "é" * 8000]
        assert (await frame(alice, wire.Receipt)).delivered == 2
        await bob.aclose()
        await alice.send(send("3", "bob", "again"))
        await stored(alice, 1)
        bob = await server.enter("bob")
        assert [message.text for message in await entries(bob, 1)] == ["again"]
        page = await ask(bob, wire.History(ref="h", peer="alice"), wire.HistoryAnswer)
        assert [message.seq for message in page.messages] == [3, 2, 1]


@every_way
async def test_many_messages_at_once(way: str) -> None:
    """Else a carrier of messages loses, doubles or reorders what comes in one read, or stops at its own bound."""
    async with running(way, send_rate=None) as server:
        alice, bob = await server.enter("alice"), await server.enter("bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.send, *(send(str(n), "bob", "x" * 900) for n in range(300)))
            got = await entries(bob, 300)
        assert [message.id for message in got] == [str(n) for n in range(300)]


@every_way
async def test_a_newer_connection_takes_over(way: str) -> None:
    """Else a phone that has lost its network is kept out by its own ghost (C3)."""
    async with running(way) as server:
        older = await server.enter("alice")
        await server.enter("alice")
        assert (await closed(older)).code == 4409


@every_way
async def test_bad_frames(way: str) -> None:
    """Else a client that is wrong in one frame loses its connection, or one that is far too large keeps it."""
    async with running(way) as server:
        alice = await server.enter("alice")
        for text in ("nonsense", '{"type":"send","id":"1","to":"bob","text":""}'):
            await alice.send_text(text)
            assert (await frame(alice, wire.Error)).code == "bad_frame"
        await alice.send_text("x" * 70_000)
        assert (await closed(alice)).code == 1009


@every_way
async def test_who_is_not_let_in(way: str) -> None:
    """Else strangers come in by one of the doors, or are not told why they do not."""
    async with running(way) as server:
        assert await outcome(server, "/ws?user=") == 401
        assert await outcome(server, headers={"Origin": "https://evil.example"}) == expected("foreign origin", way, 403)
        assert await outcome(server, headers={"Origin": PAGE}) == "welcome"
        assert await outcome(server, "/ws?user=alice&after=3") == expected("bad position", way, 400)


@every_way
async def test_asked_plainly(way: str) -> None:
    """Else a page cannot tell whether it is not let in or the network is down: a script sees no status of a WebSocket."""
    async with running(way) as server:
        plain = {"Host": "localhost", "Connection": "close"}
        said = await answer(await server.stream(), request(headers=plain))
        assert int(said.split()[1]) == expected("plain", way, 426)


@every_way
async def test_the_subprotocol_is_named(way: str) -> None:
    """Else browsers that offer it, to send their token beside it, close the connection at once."""
    async with running(way) as server, await server.stream() as stream:
        await stream.send_all(request(headers=UPGRADE | {"Sec-WebSocket-Protocol": "bearer.x, trio-chat.v1"}))
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        assert b"sec-websocket-protocol: trio-chat.v1\r\n" in head.lower()


@every_way
async def test_revoked(way: str) -> None:
    """Else somebody who was thrown out goes on reading."""
    async with running(way) as server:
        alice = await server.enter("alice")
        server.chat.revoke("alice")
        assert (await closed(alice)).code == 4401


@every_way
async def test_a_client_that_only_answers_pings(way: str) -> None:
    """Else quiet clients are thrown out, or dead ones kept; and whoever mounts the chat in a host does not know which."""
    async with running(way, ping_interval=0.2, ping_timeout=0.3, hook_timeout=0.1) as server:
        alice = await server.enter("alice")
        if (code := expected("only pongs", way, None)) is None:
            await silence(alice, 1.5)
        else:
            assert (await closed(alice)).code == code


@every_way
async def test_a_client_that_says_ping(way: str) -> None:
    """Else a client that does what the protocol asks of it is closed where nobody hears its pongs."""
    async with running(way, ping_interval=0.5, ping_timeout=1.5, hook_timeout=0.1) as server:
        alice = await server.enter("alice")
        until = trio.current_time() + 3.0
        while trio.current_time() < until:
            await alice.send(wire.Ping())
            await frame(alice, wire.Pong)
            await silence(alice, 0.4)


@every_way
async def test_drained(way: str) -> None:
    """Else clients of a chat that ends are cut off, or come back all at once."""
    async with running(way) as server:
        alice = await server.enter("alice")
        await server.chat.drain()
        end = await closed(alice)
        assert (end.code, "retry_after" in end.reason) == (1001, True)
        if way == "serve_tcp":  # nobody listens any more
            with pytest.raises(OSError, match="all attempts to connect"):
                await server.stream()
        else:
            assert await outcome(server) == expected("drained", way, 503)


@every_way
async def test_the_way_in_ends(way: str) -> None:
    """Else clients whose server is cancelled see nothing but a broken line, 1006."""
    async with running(way) as server:
        alice = await server.enter("alice")
        server.stop()
        assert (await closed(alice)).code == 1001


@every_way
async def test_a_full_house(way: str) -> None:
    """Else one more connection costs those who are in, or is not told to come back."""
    async with running(way, connections=1) as server:
        await server.enter("alice")
        assert await outcome(server, "/ws?user=bob") == expected("full", way, 503)
