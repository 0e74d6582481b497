"""Promise 8: no packet, no client and no hook ends the server or disturbs another connection.

Every test here runs while innocent pairs talk, whose process notes every message that is late, lost, doubled or not theirs.
Afterwards the server answers, holds no descriptor more than before, and drains when told to.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from .harness import Server
from .peers import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Gone,
    connect,
    connected,
    dial,
    frame,
    head,
    response_head,
    send,
    text,
)
from .sieges import many, siege

pytestmark = pytest.mark.timed


async def ask(port: int, request: bytes) -> int | None:
    """The status that answers the request, or None if the server just closed."""
    stream = await dial(port)
    async with stream:
        try:
            await stream.send_all(request)
            with trio.fail_after(10):
                answer, _ = await response_head(stream)
        except (Gone, trio.BrokenResourceError):
            return None
    return int(answer.split()[1])


async def provoke(port: int, user: str, data: bytes) -> Gone:
    """Connect, write `data`, and read until the end."""
    end = Gone(0, "never")
    async with connected(port, user) as peer, trio.open_nursery() as nursery:

        async def write() -> None:
            with suppress(Gone):  # it may refuse before it has read everything
                await peer.write(data)

        nursery.start_soon(write)
        with trio.fail_after(20):
            end = await peer.read_to_end()
        nursery.cancel_scope.cancel()
    return end


# The front door.


def upgrade(
    *, without: str = "", extra: Sequence[bytes] = (), target: bytes = b"/ws?user=mallory", method: bytes = b"GET"
) -> bytes:
    """A request for a WebSocket `without` one of its headers and with `extra` ones."""
    lines = {
        "host": b"Host: 127.0.0.1",
        "upgrade": b"Upgrade: websocket",
        "connection": b"Connection: Upgrade",
        "key": b"Sec-WebSocket-Key: " + KEY.encode(),
        "version": b"Sec-WebSocket-Version: 13",
    }
    lines.pop(without, None)
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *lines.values(), *extra, b"", b""])


def instead(name: str, value: bytes) -> bytes:
    return upgrade(without=name, extra=[value])


REFUSALS: dict[str, tuple[bytes, set[int | None]]] = {
    # What ends a bare trio-websocket or Hypercorn server with one packet.
    "Host is not ASCII": (instead("host", b"Host: caf\xe9"), {400}),
    "Host is UTF-8": (instead("host", "Host: caf\u00e9".encode()), {400}),
    "Host is bad IDNA": (instead("host", b"Host: xn--\xc3\xbc"), {400}),
    "Host has a label too long for IDNA": (instead("host", b"Host: " + b"a" * 64 + b".com"), {400, 403}),
    "Host has an empty label": (instead("host", b"Host: a..b"), {400, 403}),
    "Host is no punycode": (instead("host", b"Host: xn--a\x80"), {400}),
    "Connection is not ASCII": (instead("connection", b"Connection: Upgrade, \xff"), {400}),
    "Upgrade is not ASCII": (instead("upgrade", b"Upgrade: websocket, \xff"), {400}),
    "the protocol is not ASCII": (upgrade(extra=[b"Sec-WebSocket-Protocol: \xff"]), {400}),
    "the extension is not ASCII": (upgrade(extra=[b"Sec-WebSocket-Extensions: \xff"]), {400}),
    "the key is not ASCII": (instead("key", b"Sec-WebSocket-Key: \xff"), {400}),
    "the version is not ASCII": (instead("version", b"Sec-WebSocket-Version: 13\xff"), {400}),
    "the origin is not ASCII": (upgrade(extra=[b"Origin: http://\xff"]), {403}),
    # What must not get as far as a 101.
    "a body": (upgrade(extra=[b"Content-Length: 5"]) + b"hello", {400}),
    "a chunked body": (upgrade(extra=[b"Transfer-Encoding: chunked"]) + b"0\r\n\r\n", {400}),
    "two lengths": (upgrade(extra=[b"Content-Length: 0", b"Content-Length: 5"]), {400}),
    "two hosts": (upgrade(extra=[b"Host: 127.0.0.1"]), {400}),
    "two keys": (upgrade(extra=[b"Sec-WebSocket-Key: " + KEY.encode()]), {400}),
    "two versions": (upgrade(extra=[b"Sec-WebSocket-Version: 13"]), {400}),
    "two upgrades": (upgrade(extra=[b"Upgrade: websocket"]), {400}),
    "two origins": (upgrade(extra=[b"Origin: http://127.0.0.1", b"Origin: http://127.0.0.1"]), {400, 403}),
    "no host": (upgrade(without="host"), {400}),
    "no key": (upgrade(without="key"), {400}),
    "a short key": (instead("key", b"Sec-WebSocket-Key: c2hvcnQ="), {400}),
    "a key that is no base64": (instead("key", b"Sec-WebSocket-Key: ########################"), {400}),
    "no upgrade": (upgrade(without="upgrade"), {426}),
    "another version": (instead("version", b"Sec-WebSocket-Version: 8"), {426}),
    "no version": (upgrade(without="version"), {426}),
    "a page from elsewhere": (upgrade(extra=[b"Origin: https://evil.example"]), {403}),
    "a page from nowhere": (upgrade(extra=[b"Origin: null"]), {403}),
    "another name for this machine": (instead("host", b"Host: rebound.example"), {403}),
    "POST": (upgrade(method=b"POST"), {405}),
    "HEAD": (upgrade(method=b"HEAD"), {405}),
    "CONNECT": (upgrade(method=b"CONNECT", target=b"127.0.0.1:80"), {400, 405}),
    "no such page": (upgrade(target=b"/nope"), {404}),
    "no such page, plainly": (b"GET /nope HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {404}),
    "a proxy's request": (upgrade(target=b"http://127.0.0.1/ws?user=mallory"), {400}),
    "a way around": (upgrade(target=b"/x/../ws?user=mallory"), {400}),
    "a bad escape": (upgrade(target=b"/ws?user=%zz"), {400}),
    "an escape that is not UTF-8": (upgrade(target=b"/ws?user=%ff"), {400}),
    "a control character": (upgrade(target=b"/ws?user=%00"), {400}),
    "a user twice": (upgrade(target=b"/ws?user=mallory&user=alice"), {400}),
    "no user": (upgrade(target=b"/ws"), {401}),
    "too long a user": (upgrade(target=b"/ws?user=" + b"m" * 129), {401}),
    "too long a device": (upgrade(target=b"/ws?user=mallory&device=" + b"d" * 129), {401}),
    "a log without a position": (upgrade(target=b"/ws?user=mallory&log=x"), {400}),
    "a position without a log": (upgrade(target=b"/ws?user=mallory&after=1"), {400}),
    "a position below zero": (upgrade(target=b"/ws?user=mallory&log=x&after=-1"), {400}),
    "a position beyond all numbers": (upgrade(target=b"/ws?user=mallory&log=x&after=" + b"9" * 5000), {400}),
    "a position in other digits": (upgrade(target=b"/ws?user=mallory&log=x&after=%D9%A1"), {400}),
    "another window": (upgrade(target=b"/ws?user=mallory&window=7"), {400}),
    "a thousand parameters": (upgrade(target=b"/ws?user=mallory" + b"&a=1" * 1000), {400}),
    # What is not even HTTP.
    "many headers": (upgrade(extra=[b"X-%d: y" % number for number in range(100)]), {431}),
    "long headers": (upgrade(extra=[b"X: " + b"y" * 20_000]), {431}),
    "a header without an end": (b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000, {431}),
    "a folded header": (upgrade(extra=[b"X: a", b" b"]), {400, 401, 101}),  # RFC 9112 §5.2: refused, or read as a space
    "a space before the colon": (upgrade(extra=[b"Content-Length : 5"]), {400}),
    "a bare line feed": (upgrade().replace(b"\r\n", b"\n"), {101, 400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), {400}),
    "zeros": (bytes(1000), {400, None}),
    "a WebSocket frame": (frame(TEXT, b"{}"), {400, None}),
}


async def test_the_front_door_refuses_and_lives(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, one malformed request ends the server, or gets past the door."""
    async with siege(tmp_path, figures) as server:
        wrongs = {}
        for name, (request, expected) in REFUSALS.items():
            status = await ask(server.port, request)
            if status not in expected:
                wrongs[name] = (status, expected)
        figures(f"{len(REFUSALS)} requests, {len(wrongs)} answered wrongly")
        assert not wrongs


async def test_an_authenticator_may_fail_in_any_way(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, a bug in the application's hook is everybody's problem, or lets somebody in."""
    statuses = {
        "raises": 500,
        "groups": 500,
        "refuses": 401,
        "forbids": 403,
        "teapot": 418,
        "stops": 500,
        "names": 500,
        "nests": 500,
        "none": 500,
        "string": 500,
        "tuple": 500,
        "true": 500,
        "hangs": 503,
    }
    async with siege(tmp_path, figures, "--authenticate", "hooks", script=True) as server:
        answers: dict[str, int | None] = {}

        async def knock(user: str) -> None:
            answers[user] = await ask(server.port, head(user))

        async with trio.open_nursery() as nursery:
            for user in statuses:
                nursery.start_soon(knock, user)
        assert answers == statuses


# Frames.

FAULTS: dict[str, tuple[bytes, set[int]]] = {
    "over-size, and another frame in the same read": (frame(TEXT, b"x" * 65_537) + text({"type": "ping"}), {1009}),
    "a huge length, from the header alone": (frame(TEXT, length=2**62), {1009}),
    "a length that is just too large, from the header alone": (frame(TEXT, length=65_537), {1009}),
    "a length with the highest bit": (frame(TEXT, length=2**63 + 1), {1002, 1009}),
    "over-size in parts": (frame(TEXT, b"x" * 60_000, fin=False) + frame(CONT, b"x" * 6_000), {1009}),
    "empty fragments": (frame(TEXT, fin=False) + frame(CONT, fin=False) * 300_000, {1008}),
    "a flood of pings": (frame(PING) * 100_000, {1008}),
    "a flood of fat pings": (frame(PING, b"x" * 125) * 20_000, {1008}),
    "a flood of pongs": (frame(PONG) * 100_000, {1008}),
    "not masked": (frame(TEXT, b"{}", masked=False), {1002}),
    "an opcode that is none": (frame(3, b"{}"), {1002}),
    "a control opcode that is none": (frame(11), {1002}),
    "the first reserved bit": (frame(TEXT, b"{}", rsv=4), {1002}),
    "the last reserved bit": (frame(TEXT, b"{}", rsv=1), {1002}),
    "a control frame in parts": (frame(PING, fin=False), {1002}),
    "a control frame too long": (frame(PING, b"x" * 126), {1002}),
    "a continuation of nothing": (frame(CONT, b"{}"), {1002}),
    "a message inside of a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"), {1002}),
    "not UTF-8": (frame(TEXT, b'{"type":"ping\xff"}'), {1007}),
    "half a character": (frame(TEXT, b"\xe2\x82"), {1007}),
    "a surrogate in UTF-8": (frame(TEXT, b"\xed\xa0\x80"), {1007}),
    "a close frame of one byte": (frame(CLOSE, b"\x03"), {1002}),
    "a close code that is none": (frame(CLOSE, struct.pack("!H", 999)), {1002}),
    "a close code that is never sent": (frame(CLOSE, struct.pack("!H", 1006)), {1002}),
    "a close reason that is not UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), {1002, 1007}),
    "a farewell": (frame(CLOSE, struct.pack("!H", 1000)), {1000}),
    "a farewell without a code": (frame(CLOSE), {1000, 1005}),
    "a farewell, and more": (frame(CLOSE, struct.pack("!H", 1000)) + text({"type": "ping"}) * 1000, {1000}),
    "bad frames": (frame(TEXT, b"{}") * 50, {4429}),
    "a read full of bad frames": (frame(TEXT, b"") * 50_000, {4429}),
    "binary frames": (frame(BINARY, b"x") * 50, {4429}),
}


async def test_every_fault_in_frames_ends_its_own_connection(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, bytes of one client end the server, or it does not learn with which code it was refused."""
    async with siege(tmp_path, figures) as server:
        wrongs = {}
        for number, (name, (data, expected)) in enumerate(FAULTS.items()):
            end = await provoke(server.port, f"mallory{number}", data)
            if end.code not in expected:
                wrongs[name] = (str(end), expected)
            # The same, not in the packet of the handshake's end but right behind its beginning.
            peer = await connect(server.port, f"mallory{number}", trailing=data[:60_000])
            async with peer.stream:
                if len(data) <= 60_000 and (end := await peer.read_to_end()).code not in expected:
                    wrongs[f"{name}, with the handshake"] = (str(end), expected)
        figures(f"{len(FAULTS)} faults, {len(wrongs)} answered wrongly")
        assert not wrongs


NONSENSE: list[bytes] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"ping"',
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b'{"type":"ack","seq":NaN}',
    b'{"type":"ack","seq":1e400}',
    b'{"type":"ack","seq":' + b"9" * 5000 + b"}",
    b'{"type":"ack","seq":-1}',
    b'{"type":"ack","seq":1,"seq":2}',
    b'{"type":"send","id":"x","to":"y","text":"\\ud800"}',
    b'{"type":"send","id":"x","to":"y","text":"\\u0000"}',
    b'{"type":"send","id":"x","to":"y\\u0000","text":"z"}',
    b'{"type":"send","id":"x","to":"y"}',
    b'{"type":"send","id":"x","to":"y","text":"z","from":"alice"}',
    b'{"type":"welcome"}',
]


async def test_nonsense_is_refused_and_the_connection_stays(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, JSON of a strange kind ends the connection or worse, instead of being answered ``bad_frame``."""
    async with siege(tmp_path, figures) as server, connected(server.port, "mallory") as peer:
        for nonsense in NONSENSE:
            await peer.write(frame(TEXT, nonsense))
        await peer.write(text({"type": "ping"}))
        heard: list[str] = []
        with trio.fail_after(10):  # noqa: ASYNC912
            while "pong" not in heard:
                heard += [answer.get("code", answer["type"]) for answer in await peer.read()]
        assert heard == ["welcome", *["bad_frame"] * len(NONSENSE), "pong"]


async def test_frames_that_came_with_the_handshake_are_not_lost(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, a client that does not wait for the 101 loses its first messages without a word."""
    async with siege(tmp_path, figures) as server:
        sends = b"".join(send("bob", f"early{number}", "hi") for number in range(20))
        peer = await connect(server.port, "mallory", trailing=sends)
        async with peer.stream:
            stored: list[str] = []
            with trio.fail_after(10):  # noqa: ASYNC912
                while len(stored) < 20:
                    for answer in await peer.read():
                        stored += [item["id"] for item in answer.get("messages", [])]
        assert stored == [f"early{number}" for number in range(20)]


# Time.


async def test_who_takes_for_ever_is_shown_out(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, a few hundred sockets that send a byte a second keep everybody else out (slow-loris)."""
    ends: list[float] = []
    busy: list[int | None] = []

    async def dribble(server: Server, data: bytes) -> None:
        began = trio.current_time()
        stream = await dial(server.port)
        async with stream, trio.open_nursery() as nursery:

            async def write() -> None:
                try:
                    for at in range(len(data)):
                        await stream.send_all(data[at : at + 1])
                        await trio.sleep(1)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(write)
            try:
                with trio.fail_after(15):
                    while await stream.receive_some():
                        pass
            except trio.BrokenResourceError:
                pass
            ends.append(trio.current_time() - began)
            nursery.cancel_scope.cancel()

    async def one_too_many(server: Server) -> None:
        busy.append(await ask(server.port, b""))

    async with siege(tmp_path, figures) as server, trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(dribble, server, head("loris"))
        for _ in range(50):
            nursery.start_soon(dribble, server, b"")
        await trio.sleep(1)
        for _ in range(100):
            nursery.start_soon(one_too_many, server)
    figures(
        f"150 dribbling handshakes closed after {min(ends):.1f} to {max(ends):.1f} s; {busy.count(503)} of 100 more told 503"
    )
    assert min(ends) > 4
    assert max(ends) < 8
    assert busy.count(503) >= 50 - 1  # 200 may be in the handshake at once; the health check is one


async def test_a_message_that_never_ends_is_ended(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, a frame of which a byte comes now and then keeps its connection and its buffer for ever."""
    ends: dict[str, Gone] = {}
    beginnings = {
        "header": frame(TEXT, length=60_000)[:1],
        "payload": frame(TEXT, length=60_000),
        "fragments": frame(TEXT, b"x", fin=False),
        "fragment and pings": frame(TEXT, b"x", fin=False),
    }

    async def never_end(server: Server, name: str) -> None:
        async with connected(server.port, f"mallory {name}") as peer, trio.open_nursery() as nursery:

            async def write() -> None:
                try:
                    await peer.write(beginnings[name])
                    while True:
                        await trio.sleep(0.1)
                        await peer.write({"payload": b"x", "fragment and pings": frame(PING)}.get(name, b""))
                except Gone:
                    pass

            nursery.start_soon(write)
            with trio.fail_after(10):
                ends[name] = await peer.read_to_end()
            nursery.cancel_scope.cancel()

    async with siege(tmp_path, figures, "--message-seconds", "1.5", script=True) as server:
        async with trio.open_nursery() as nursery:
            for name in beginnings:
                nursery.start_soon(never_end, server, name)
        assert {name: end.code for name, end in ends.items()} == dict.fromkeys(beginnings, 1008)


# Chance.


def rst(stream: trio.SocketStream) -> None:
    """Have the socket's close send an RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_who_vanishes_leaves_nothing_behind(
    tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, clients that are cut off at a bad moment end the server, or leave tasks and descriptors in it."""
    chance = random.Random(seed)
    script = head("mallory") + text({"type": "ping"}) + b"".join(send("bob", f"v{n}", "hi") for n in range(50))
    script += frame(CLOSE, struct.pack("!H", 1000))

    async with siege(tmp_path, figures, script=True) as server:
        threads = server.threads

        async def reset(number: int) -> None:
            stream = await dial(server.port)
            async with stream:
                rst(stream)
                cut = chance.choice([0, len(head("mallory")), chance.randrange(len(script))])
                await stream.send_all(script[:cut])
                if chance.random() < 0.7:
                    with trio.move_on_after(chance.random() * 0.01):
                        await stream.receive_some()

        async def vanish(number: int) -> None:
            stream = await dial(server.port)
            async with stream:
                await stream.send_all(head(f"mallory{number % 7}")[: chance.choice([0, 10, 10_000])])

        await many(int(200 * scale), 10, reset)
        await many(int(500 * scale), 50, vanish)
        figures(f"{int(200 * scale)} resets, {int(500 * scale)} vanished; threads {threads} before, {server.threads} after")
