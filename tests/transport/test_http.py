"""The front door's HTTP: what is let in, what is refused with which status, and what is believed."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from trio_chat.session import ConnectionEnded
from trio_chat.transport.http import (
    HEAD_BYTES,
    HEADERS,
    HttpError,
    Request,
    accept,
    client_address,
    forwarded,
    peer_address,
    read_request,
    require_upgrade,
    respond,
)
from trio_chat.transport.origins import origin_allowed
from trio_chat.transport.stream import GuardedStream

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455 §1.3
UPGRADE = {
    "Host": "chat.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def head(
    line: str = "GET /ws HTTP/1.1", headers: dict[str, str | None] | None = None, *, extra: Iterable[str] = ()
) -> bytes:
    """A request for a WebSocket, with some of its headers replaced, left out (None) or added (as they are)."""
    fields = {**UPGRADE, **(headers or {})}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None), *extra, "", ""]
    return "\r\n".join(lines).encode("latin-1")


class Canned(trio.abc.Stream):
    """A stream that yields some bytes and then ends, at most `chunk` at a time."""

    def __init__(self, data: bytes, chunk: int) -> None:
        self._data = data
        self._chunk = chunk

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.lowlevel.checkpoint()
        size = min(max_bytes or self._chunk, self._chunk)
        data, self._data = self._data[:size], self._data[size:]
        return data

    async def aclose(self) -> None:
        raise NotImplementedError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError


async def read(data: bytes, *, chunk: int = 2**20) -> tuple[Request, bytes]:
    """What `read_request` makes of `data`, sent in chunks."""
    return await read_request(Canned(data, chunk))


async def refusal(data: bytes) -> HttpError:
    """The refusal that `data` gets."""
    try:
        request, _ = await read(data)
    except HttpError as error:
        return error
    pytest.fail(f"let in: {request!r}")


def plain(headers: dict[str, str], *, client: str | None = None, secure: bool = False) -> Request:
    """A request as the front door would have read it."""
    lowered = tuple((name.lower(), value) for name, value in headers.items())
    return Request("GET", "/ws", (), lowered, client, secure, upgrade=True)


def test_a_compression_that_is_offered_is_not_taken() -> None:
    """What is not inflated cannot be inflated past a limit (websockets CVE-2018-1000518)."""
    offered = {**UPGRADE, "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"}
    assert b"extensions" not in accept(plain(offered)).lower()


# What is let in.


@pytest.mark.parametrize("chunk", [2**20, 1, 7])
async def test_an_upgrade_and_the_bytes_behind_it(chunk: int) -> None:
    """A client may send frames with the last byte of its request; lost, its first message would never be answered."""
    data = head("GET /ws?device=web&after=3 HTTP/1.1", {"Origin": "https://chat.example"})
    request, trailing = await read(data + b"\x81\x80frames", chunk=chunk)
    assert request.upgrade
    assert (request.method, request.path, request.query) == ("GET", "/ws", (("device", "web"), ("after", "3")))
    assert request.parameter("device") == "web"
    assert request.parameter("log") is None
    assert request.header("HOST") == "chat.example"
    assert request.header("authorization") is None
    assert request.origin == "https://chat.example"
    assert request.client is None
    assert not request.secure
    assert b"\x81\x80frames".startswith(trailing)
    assert trailing or chunk == 1


def test_the_answer_to_an_upgrade() -> None:
    """RFC 6455 §1.3 gives key and answer; a subprotocol that was not offered fails the handshake in every browser."""
    answer = accept(plain(UPGRADE)).decode()
    assert answer.startswith("HTTP/1.1 101 ")
    assert answer.endswith("\r\n\r\n")
    assert "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert "Protocol: " not in answer
    assert "Protocol: " not in accept(plain({**UPGRADE, "Sec-WebSocket-Protocol": "trio-chat.v2, TRIO-CHAT.V1"})).decode()
    assert "\r\nSec-WebSocket-Protocol: trio-chat.v1\r\n" in accept(
        plain({**UPGRADE, "Sec-WebSocket-Protocol": "chat,trio-chat.v1"})
    ).decode("ascii")
    with pytest.raises(ValueError, match="no upgrade"):
        accept(plain({}))


async def test_names_and_tokens_in_any_case_and_in_lists() -> None:
    """RFC 9110 §7.6.1 and §7.8; Firefox sends ``Connection: keep-alive, Upgrade``."""
    data = head(headers={"Upgrade": "h2c, WebSocket", "Connection": None}, extra=["CONNECTION: keep-alive, UPGRADE"])
    request, _ = await read(data)
    assert request.upgrade
    data = head(headers={"Connection": "keep-alive"}, extra=["Connection: upgrade", "X-Twice: a", "X-Twice: b"])
    request, _ = await read(data)
    assert request.upgrade
    assert request.header("x-twice") == "a, b"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_plain_requests_are_read_and_nothing_behind_them_is(data: bytes) -> None:
    """A second request on the connection is never looked at: it cannot smuggle anything past a proxy."""
    request, trailing = await read(data + b"GET /ws HTTP/1.1\r\nHost: y\r\n\r\n")
    assert request.path == "/healthz"
    assert not request.upgrade
    assert trailing == b""
    with pytest.raises(HttpError) as refused:
        require_upgrade(request)
    assert refused.value.status == 426


async def test_an_upgrade_passes_where_an_upgrade_is_required() -> None:
    """The counterpart of the test before."""
    request, _ = await read(head())
    require_upgrade(request)


async def test_an_upgrade_of_http_1_0_is_ignored() -> None:
    """RFC 9110 §7.8: a proxy that speaks 1.0 would not know what follows."""
    request, _ = await read(head("GET /ws HTTP/1.0"))
    assert not request.upgrade


async def test_an_upgrade_to_something_else_is_ignored() -> None:
    """The curl of today offers h2c by itself with ``--http2``."""
    request, _ = await read(head(headers={"Upgrade": "h2c"}))
    assert not request.upgrade
    request, _ = await read(head(headers={"Connection": "close"}))
    assert not request.upgrade


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ()),
        ("/%77s?", "/ws", ()),
        ("/caf%C3%A9", "/café", ()),
        ("/ws?user=%2B49%20170&x=a+b&empty=&flag", "/ws", (("user", "+49 170"), ("x", "a b"), ("empty", ""), ("flag", ""))),
        ("/ws?u=%C3%A4", "/ws", (("u", "ä"),)),
        ("/a//b/.c", "/a//b/.c", ()),
    ],
)
async def test_the_target_is_decoded(target: str, path: str, query: tuple[tuple[str, str], ...]) -> None:
    """Compared undecoded, ``%77s`` would be another path than ``ws``, and an ID with a plus another user."""
    request, _ = await read(head(f"GET {target} HTTP/1.1"))
    assert (request.path, request.query) == (path, query)


async def test_a_parameter_given_twice_is_refused_where_it_is_used() -> None:
    """Of two user IDs, a proxy that checks takes one and we the other."""
    request, _ = await read(head("GET /ws?user=alice&user=bob&device=web HTTP/1.1"))
    assert request.parameter("device") == "web"
    with pytest.raises(HttpError) as refused:
        request.parameter("user")
    assert refused.value.status == 400


async def test_a_request_shows_no_token() -> None:
    """Requests end up in logs and tracebacks."""
    request, _ = await read(head("GET /ws?token=secret HTTP/1.1", {"Authorization": "Bearer secret", "Cookie": "a=secret"}))
    assert "secret" not in repr(request)
    assert "/ws" in repr(request)


# What is refused.

REFUSED = {
    "no request": (b"\r\n\r\n\r\n", 400),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "space in the target": (head("GET /w s HTTP/1.1"), 400),
    "no version": (head("GET /ws"), 400),
    "space before the colon": (head(extra=["X-A : b"]), 400),
    "control byte": (head(extra=["X-A: a\x01b"]), 400),
    "NUL": (head(extra=["X-A: a\0b"]), 400),
    "bare CR": (head(extra=["X-A: a\rb"]), 400),
    "body": (head("POST /ws HTTP/1.1", {"Content-Length": "3"}) + b"abc", 400),
    "body of a GET": (head(headers={"Content-Length": "3"}) + b"abc", 400),
    "two lengths": (head(extra=["Content-Length: 0", "Content-Length: 3"]) + b"abc", 400),
    "length with a sign": (head(headers={"Content-Length": "+0"}), 400),
    "chunked": (head(headers={"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", 400),
    "transfer encoding of a kind": (head(headers={"Transfer-Encoding": "identity"}), 400),
    "length and chunked": (head(headers={"Transfer-Encoding": "chunked", "Content-Length": "0"}), 400),
    "no host": (head(headers={"Host": None}), 400),
    "no host, no upgrade": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "empty host": (head(headers={"Host": ""}), 400),
    "host with a path": (head(headers={"Host": "a/b"}), 400),
    "host with credentials": (head(headers={"Host": "a@b"}), 400),
    "host with a comma": (head(headers={"Host": "a, b"}), 400),
    "host with a bad port": (head(headers={"Host": "a:port"}), 400),
    "two hosts": (head(extra=["Host: chat.example"]), 400),
    "two keys": (head(extra=[f"Sec-WebSocket-Key: {KEY}"]), 400),
    "two upgrades": (head(extra=["Upgrade: websocket"]), 400),
    "two versions": (head(extra=["Sec-WebSocket-Version: 13"]), 400),
    "two authorizations": (head(extra=["Authorization: a", "Authorization: b"]), 400),
    "two origins": (head(extra=["Origin: https://a.example", "Origin: https://b.example"]), 403),
    "no key": (head(headers={"Sec-WebSocket-Key": None}), 400),
    "short key": (head(headers={"Sec-WebSocket-Key": "c2hvcnQ="}), 400),
    "long key": (head(headers={"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZXh4"}), 400),
    "key that is no base64": (head(headers={"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZ*=="}), 400),
    "key without padding": (head(headers={"Sec-WebSocket-Key": KEY[:-2]}), 400),
    "no version of WebSockets": (head(headers={"Sec-WebSocket-Version": None}), 426),
    "version 8": (head(headers={"Sec-WebSocket-Version": "8"}), 426),
    "POST": (head("POST / HTTP/1.1"), 405),
    "OPTIONS": (head("OPTIONS / HTTP/1.1"), 405),
    "absolute target": (head("GET http://chat.example/ws HTTP/1.1"), 400),
    "asterisk": (head("GET * HTTP/1.1"), 400),
    "fragment": (head("GET /ws#a HTTP/1.1"), 400),
    "bad escape": (head("GET /%zz HTTP/1.1"), 400),
    "bad escape in the query": (head("GET /ws?a=% HTTP/1.1"), 400),
    "escape that is not UTF-8": (head("GET /%ff HTTP/1.1"), 400),
    "query that is not UTF-8": (head("GET /ws?a=%ff HTTP/1.1"), 400),
    "NUL in the path": (head("GET /ws%00 HTTP/1.1"), 400),
    "line feed in the query": (head("GET /ws?a=%0a HTTP/1.1"), 400),
    "control in a parameter's name": (head("GET /ws?%1b=a HTTP/1.1"), 400),
    "encoded slash": (head("GET /a%2fws HTTP/1.1"), 400),
    "encoded backslash": (head("GET /a%5c..%5cws HTTP/1.1"), 400),
    "dots": (head("GET /a/../ws HTTP/1.1"), 400),
    "encoded dots": (head("GET /a/%2e%2e/ws HTTP/1.1"), 400),
    "hundreds of parameters": (head(f"GET /ws?{'a&' * 100} HTTP/1.1"), 400),
    "one header too many": (head(extra=[f"X-{i}: a" for i in range(HEADERS - len(UPGRADE) + 1)]), 431),
    "one header too large": (head(extra=["X-A: " + "a" * HEAD_BYTES]), 431),
    "a request line too large": (head(f"GET /{'a' * HEAD_BYTES} HTTP/1.1"), 431),
    "a line without an end": (b"GET /" + b"a" * 100_000, 431),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, 431),
    **{
        f"bytes in {name}": (head(headers={name: "f\xfcr"}), 400)
        for name in ("Host", "Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")
    },
    "bytes in Origin": (head(headers={"Origin": "f\xfcr"}), 403),
    "internationalised host": (head(headers={"Host": "xn--\xff"}), 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_bad_request_is_refused(data: bytes, status: int) -> None:
    """Each is a way to end trio-websocket's server, to smuggle a request past a proxy, or to spend the server's memory."""
    error = await refusal(data)
    assert error.status == status, error
    response = error.response()
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert response.count(b"\r\n\r\n") == 1


async def test_a_refusal_says_what_would_be_accepted() -> None:
    """RFC 6455 §4.4 and RFC 9110 §15.5.6: a client of another version can then fall back."""
    assert ("Sec-WebSocket-Version", "13") in (await refusal(REFUSED["version 8"][0])).headers
    assert ("Allow", "GET, HEAD") in (await refusal(REFUSED["POST"][0])).headers


async def test_the_largest_head_passes() -> None:
    """One byte under the limit, and one header: browsers with many cookies come close."""
    extra = [f"X-{i}: a" for i in range(HEADERS - len(UPGRADE) - 1)]
    size = len(head(extra=[*extra, "X: "]))
    data = head(extra=[*extra, "X: " + "a" * (HEAD_BYTES - size)])
    assert len(data) == HEAD_BYTES
    request, trailing = await read(data + b"x" * 100, chunk=1000)
    assert request.upgrade
    assert trailing == b"x" * 100
    assert (await refusal(head(extra=[*extra, "X: " + "a" * (HEAD_BYTES - size + 1)]))).status == 431


@pytest.mark.parametrize("data", [b"", b"GET / HTT", head()[:-1]])
async def test_a_peer_that_leaves_early_is_no_error_of_http(data: bytes) -> None:
    """Port scanners and load balancers do it every second; there is nobody to answer."""
    ours, theirs = memory_stream_pair()
    if data:
        await theirs.send_all(data)
    await theirs.aclose()
    with pytest.raises(ConnectionEnded):
        await read_request(ours)


async def test_a_stream_that_broke_is_no_error_of_http() -> None:
    """The same with RST instead of FIN, or with a stream that a deadline has closed."""
    ours, _ = memory_stream_pair()
    await ours.aclose()
    with pytest.raises(ConnectionEnded):
        await read_request(ours)


@given(
    data=st.one_of(st.binary(max_size=200), st.binary(max_size=50).map(lambda noise: head(extra=[noise.decode("latin-1")])))
)
async def test_noise_is_refused_and_nothing_else(data: bytes) -> None:
    """Before anybody is authenticated, an exception of another kind is a stranger's way to our log, or worse."""
    try:
        request, _ = await read(data or b"\0")
    except (HttpError, ConnectionEnded):
        return
    assert request.upgrade


@given(place=st.integers(0, len(head()) - 1), byte=st.integers(0, 255))
async def test_a_changed_byte_is_refused_or_harmless(place: int, byte: int) -> None:
    """Mutated handshakes are the cheapest attack there is."""
    data = bytearray(head())
    data[place] = byte
    try:
        request, _ = await read(bytes(data))
        accept(request)
    except (HttpError, ConnectionEnded, ValueError):
        return


# Who asks.

PROXIES = [ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("client", "header", "expected"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),  # anybody can send the header
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.5, 198.51.100.1", "198.51.100.1"),  # the client invented the first one
        ("127.0.0.1", "198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("2001:db8::1", "2001:DB9:0::5", "2001:db9::5"),
        ("127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("127.0.0.1", "198.51.100.1, unknown", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, junk, 10.0.0.2", "10.0.0.2"),
        ("127.0.0.1", "", "127.0.0.1"),
        (None, "198.51.100.1", None),
    ],
)
def test_the_clients_address_behind_proxies(client: str | None, header: str | None, expected: str | None) -> None:
    """Believed too much, the header lets anybody evade the limits per address, or use up somebody else's."""
    request = plain({} if header is None else {"X-Forwarded-For": header}, client=client)
    assert client_address(request, PROXIES) == expected
    assert forwarded(request, PROXIES).client == expected
    assert client_address(request, []) == client


def test_a_proxy_on_a_unix_socket() -> None:
    """Such a proxy has no address: every client behind it would be one and the same, or none."""
    request = plain({"X-Forwarded-For": "203.0.113.7, 198.51.100.1", "X-Forwarded-Proto": "https"}, client=None)
    behind = forwarded(request, ["unix"])
    assert (behind.client, behind.secure) == ("198.51.100.1", True)
    assert forwarded(plain({}, client="192.0.2.9"), ["unix"]).client == "192.0.2.9"


def test_tls_that_ends_at_a_proxy() -> None:
    """Else every page of the site itself would be of another origin (https) than the server (http)."""
    headers = {"Host": "chat.example", "Origin": "https://chat.example", "X-Forwarded-Proto": "https"}
    assert not origin_allowed(forwarded(plain(headers, client="192.0.2.9"), PROXIES))
    assert origin_allowed(forwarded(plain(headers, client="127.0.0.1"), PROXIES))
    assert not origin_allowed(forwarded(plain({**headers, "X-Forwarded-Proto": "http"}, client="127.0.0.1"), PROXIES))
    assert forwarded(plain({}, client="127.0.0.1", secure=True), PROXIES).secure


@pytest.mark.parametrize(
    ("origin", "host", "secure", "allowed"),
    [
        (None, "chat.example", False, True),
        ("http://chat.example", "chat.example", False, True),
        ("http://chat.example", "chat.Example", False, True),
        ("http://CHAT.example", "chat.example", False, False),
        ("http://chat.example", "chat.example:80", False, True),
        ("https://chat.example:443", "chat.example", True, True),
        ("http://chat.example:8080", "chat.example:8080", False, True),
        ("http://[::1]:6662", "[::1]:6662", False, True),
        ("https://app.example", "chat.example", True, True),
        ("https://app.example", "chat.example", False, True),
        ("https://chat.example", "chat.example", False, False),
        ("http://chat.example", "chat.example", True, False),
        ("http://chat.example", "chat.example:8080", False, False),
        ("http://chat.example:443", "chat.example", False, False),
        ("http://chat.example.evil.example", "chat.example", False, False),
        ("http://evil.example/chat.example", "chat.example", False, False),
        ("https://app.example.evil.example", "chat.example", True, False),
        ("https://app.example/", "chat.example", True, False),
        ("http://app.example", "chat.example", False, False),
        ("null", "chat.example", False, False),
        ("", "chat.example", False, False),
        ("file://", "chat.example", False, False),
        ("http://", "", False, False),
    ],
)
def test_origins(origin: str | None, host: str, secure: bool, allowed: bool) -> None:
    """Too wide, any page could connect in its visitor's name; too narrow, the site's own pages could not."""
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    assert origin_allowed(plain(headers, secure=secure), ["https://app.example", "null"]) is allowed


@asynccontextmanager
async def accepted(family: socket.AddressFamily, address: str) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """The server's and the client's end of a connection over a listener of this kind."""
    with trio.socket.socket(family) as listener:
        await listener.bind(address if family == socket.AF_UNIX else (address, 0))
        listener.listen()
        client = trio.socket.socket(family)
        await client.connect(listener.getsockname())
        server, _ = await listener.accept()
        async with trio.SocketStream(server) as ours, trio.SocketStream(client) as theirs:
            yield ours, theirs


async def test_the_peers_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Unix sockets have none and IPv6's is a tuple of four; a guard around the stream hides nothing."""
    path = str(tmp_path_factory.mktemp("s") / "s")
    for family, address, expected in (
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_UNIX, path, None),
    ):
        async with accepted(family, address) as (ours, theirs):
            await theirs.send_all(head())
            request, _ = await read_request(GuardedStream(ours, write_timeout=1))
            assert request.client == expected


async def test_a_peer_that_resets_has_no_address() -> None:
    """A getpeername raises OSError then, which has ended servers on trio-websocket."""
    async with accepted(socket.AF_INET, "127.0.0.1") as (ours, theirs):
        await theirs.send_all(head())
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await theirs.aclose()
        await trio.lowlevel.wait_readable(ours.socket.fileno())
        assert peer_address(ours) is None
        with suppress(ConnectionEnded):  # some kernels still hand over what came before
            request, _ = await read_request(ours)
            assert request.client is None


# Answers.


def test_a_response_is_complete_and_final() -> None:
    """Kept open, sniffed or cached, an answer of the front door would be a surface of its own."""
    response = respond(200, [("Content-Type", "text/plain")], b"ok\n")
    assert response.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n")
    assert b"\r\nCache-Control: no-store\r\n" in response
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in response
    assert response.endswith(b"\r\n\r\nok\n")
    assert respond(200, body=b"ok\n", head_only=True).endswith(b"\r\n\r\n")
    assert b"Content-Length: 3\r\n" in respond(200, body=b"ok\n", head_only=True)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "ä"])
def test_a_header_cannot_hold_another(value: str) -> None:
    """Response splitting, should a header ever carry something of a client's."""
    with pytest.raises(ValueError, match=r"control|ascii"):
        respond(200, [("X-A", value)])
