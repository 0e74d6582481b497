"""The front door's HTTP: one request head per connection, read and checked before anything else runs.

h11 takes the head apart; what is more than WebSockets and a health check need is refused here. There is never a second
request: what follows the head of an upgrade is the WebSocket's, what follows any other head is not read.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import parse_qsl, unquote

import h11
import trio
from wsproto.utilities import generate_accept_token

from ..session import ConnectionEnded
from ..wire import SUBPROTOCOL
from .stream import GuardedStream

__all__ = [
    "HttpError",
    "Network",
    "Request",
    "accept",
    "forwarded",
    "peer_address",
    "read_request",
    "request_of",
    "require_method",
    "require_upgrade",
    "respond",
]

Network: TypeAlias = IPv4Network | IPv6Network | Literal["unix"]
"""Addresses of proxies; ``unix`` stands for whoever connects by a Unix socket, and has no address."""

HEAD_BYTES: Final = 16 * 1024
HEADERS: Final = 64
READ_BYTES: Final = 4 * 1024
PARAMETERS: Final = 64
_METHODS: Final = ("GET", "HEAD")

# Given twice, these mean one thing to a proxy and another to us.
_SINGLE: Final = ("host", "upgrade", "sec-websocket-key", "sec-websocket-version", "authorization")
_PRINTABLE: Final = re.compile(rb"[\t\x20-\x7e]*")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class HttpError(Exception):
    """The request is refused. `status` and `message` are the answer; `headers` are added to it; `why` is for the log."""

    def __init__(
        self, status: int, message: str, headers: Sequence[tuple[str, str]] = (), *, why: str | None = None
    ) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.headers: tuple[tuple[str, str], ...] = tuple(headers)
        self.why = why

    def response(self, *, head_only: bool = False, headers: Iterable[tuple[str, str]] = ()) -> bytes:
        """The whole answer, to be written before the connection is closed; `headers` are added to it."""
        headers = [("Content-Type", "text/plain; charset=utf-8"), *self.headers, *headers]
        return respond(self.status, headers, f"{self.message}\n".encode(), head_only=head_only)


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A checked request head. Its ``repr`` shows no header and no query, for they may hold a token."""

    method: str
    """GET or HEAD; OPTIONS for the preflight request of CORS."""
    path: str
    """Percent-decoded."""
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    """In the order they came, names in lower case."""
    client: str | None
    """The peer's address, or None where there is none to be known."""
    secure: bool
    """Whether the request came over TLS."""
    upgrade: bool
    """Whether it asks for a WebSocket; then its key and version are in order."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path!r} from {self.client}>"

    @property
    def origin(self) -> str | None:
        """The page that made the browser ask; None if it was no browser."""
        return self.header("origin")

    def header(self, name: str) -> str | None:
        """The header's value, several ones joined by commas (RFC 9110 §5.3), or None. `name` in any case."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    def parameter(self, name: str) -> str | None:
        """The query parameter's value, or None.

        Raises:
            HttpError: it was given more than once.
        """
        values = [value for key, value in self.query if key == name]
        if len(values) > 1:
            raise HttpError(400, f"the parameter {name} is given more than once")
        return values[0] if values else None

    def tokens(self, name: str) -> list[str]:
        """The members of a header that is a comma-separated list; [""] if there is none."""
        return [token.strip() for token in (self.header(name) or "").split(",")]


async def read_request(stream: trio.abc.Stream, *, methods: Sequence[str] = _METHODS) -> tuple[Request, bytes]:
    """Read one request head from `stream`, and the bytes that came behind it if it asks for an upgrade.

    A request with a body is refused whatever its method.

    Has no time limit of its own: wrap it. Cancelling leaves the stream with the head half read.

    Raises:
        HttpError: the request is refused. Answer with `HttpError.response` and close.
        ConnectionEnded: the peer went away before the head was complete.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    size = 0
    while True:
        try:
            data = await stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionEnded("the connection was cut off") from None
        if not data:
            raise ConnectionEnded("closed before a request was complete")
        size += len(data)
        try:
            parser.receive_data(bytes(data))
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise _refusal(error) from None
        if event is not h11.NEED_DATA:
            break
    trailing = parser.trailing_data[0]
    if size - len(trailing) > HEAD_BYTES:
        raise HttpError(431, "the request head is too large")
    request = _checked(cast(h11.Request, event), client=peer_address(stream), secure=_is_secure(stream), methods=methods)
    return request, trailing if request.upgrade else b""


def require_upgrade(request: Request) -> None:
    """Refuse a request to the WebSocket's path that does not ask for a WebSocket.

    Raises:
        HttpError: 426.
    """
    if not request.upgrade:
        raise HttpError(426, "this is a WebSocket", [("Upgrade", "websocket")])


def require_method(request: Request, *allowed: str) -> None:
    """Refuse a request whose method is none of these.

    Raises:
        HttpError: 405.
    """
    if request.method not in allowed:
        raise HttpError(405, f"only {allowed[0]} is answered here", [("Allow", ", ".join(allowed))])


def accept(request: Request) -> bytes:
    """The 101 that answers `request`, whose `upgrade` is true. The subprotocol is named if it was offered."""
    key = request.header("sec-websocket-key")
    if key is None:
        raise ValueError("the request asks for no upgrade")
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {generate_accept_token(key.encode('ascii')).decode('ascii')}",
    ]
    if SUBPROTOCOL in request.tokens("sec-websocket-protocol"):
        lines.append(f"Sec-WebSocket-Protocol: {SUBPROTOCOL}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def respond(
    status: int,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    head_only: bool = False,
    cache: str = "no-store",
) -> bytes:
    """A complete HTTP response after which the connection is closed.

    Args:
        status: 200 or more.
        headers: beside those that every response has; names and values are ASCII.
        body: its length is told even if it is not sent.
        head_only: leave the body out, as for HEAD.
        cache: the ``Cache-Control``.

    Raises:
        ValueError: a header holds a control character or is not ASCII.
    """
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    for name, value in (
        *headers,
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("Cache-Control", cache),
        ("X-Content-Type-Options", "nosniff"),
    ):
        line = f"{name}: {value}"
        if _PRINTABLE.fullmatch(line.encode("ascii")) is None:
            raise ValueError(f"the header {name!r} holds a control character")
        lines.append(line)
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if head_only else body)


def forwarded(request: Request, trusted_proxies: Sequence[Network]) -> Request:
    """`request` as the proxies in front of this server saw it: the client's address, and whether it came over TLS.

    Only what a listed proxy says counts, for anybody can send these headers: the address is the rightmost in
    ``X-Forwarded-For`` that is no listed proxy's, and ``X-Forwarded-Proto`` is heard if the peer itself is one.
    """
    if not _is_listed(request.client, trusted_proxies):
        return request
    return replace(
        request,
        client=client_address(request, trusted_proxies),
        secure=request.secure or request.tokens("x-forwarded-proto")[-1].lower() == "https",
    )


def client_address(request: Request, trusted_proxies: Sequence[Network]) -> str | None:
    """The client's address, as far as it can be believed; see `forwarded`."""
    address = request.client
    hops = request.tokens("x-forwarded-for")
    while hops and _is_listed(address, trusted_proxies):
        hop = _normal(hops.pop())
        if hop is None:  # a proxy that says "unknown", or junk: the last believable address is the proxy's
            break
        address = hop
    return address


def peer_address(stream: trio.abc.Stream) -> str | None:
    """The IP address at the other end; None for a Unix socket, for what is no socket, and for a peer that is gone."""
    inner = _unguarded(stream)
    transport: trio.abc.Stream = inner.transport_stream if isinstance(inner, trio.SSLStream) else inner
    if not isinstance(transport, trio.SocketStream):
        return None
    try:
        name: object = transport.socket.getpeername()
    except OSError:  # the peer has sent RST in the meantime
        return None
    return _normal(name[0]) if isinstance(name, tuple) else None


def _is_secure(stream: trio.abc.Stream) -> bool:
    return isinstance(_unguarded(stream), trio.SSLStream)


def _unguarded(stream: trio.abc.Stream) -> trio.abc.Stream:
    return stream.inner if isinstance(stream, GuardedStream) else stream


def _checked(head: h11.Request, *, client: str | None, secure: bool, methods: Sequence[str]) -> Request:
    headers = _headers(head.headers)
    method = head.method.decode("ascii")
    http11 = head.http_version == b"1.1"
    if _all(headers, "transfer-encoding") or any(value != "0" for value in _all(headers, "content-length")):
        raise HttpError(400, "a request with a body is not accepted")
    for host in _all(headers, "host"):  # h11 has seen to it that HTTP/1.1 has exactly one
        if _HOST.fullmatch(host) is None:
            raise HttpError(400, "the Host header is not valid")
    path, query = _target(head.target.decode("ascii"))
    request = Request(method, path, query, headers, client, secure, upgrade=False)
    if method != "OPTIONS" or not _all(headers, "access-control-request-method"):  # but for CORS, which the front door knows
        require_method(request, *methods)
    # RFC 9110 §7.8: an Upgrade in an HTTP/1.0 request is ignored. RFC 6455 §4.1: the method is GET.
    if not (
        http11
        and method == "GET"
        and "websocket" in (token.lower() for token in request.tokens("upgrade"))
        and "upgrade" in (token.lower() for token in request.tokens("connection"))
    ):
        return request
    if request.header("sec-websocket-version") != "13":  # RFC 6455 §4.4
        raise HttpError(426, "the WebSocket version is 13", [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")])
    if not _is_key(request.header("sec-websocket-key")):
        raise HttpError(400, "the Sec-WebSocket-Key is not 16 bytes in base64")
    return replace(request, upgrade=True)


def _headers(raw: Collection[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    if len(raw) > HEADERS:
        raise HttpError(431, "the request has too many headers")
    headers = []
    for name, value in raw:
        if _PRINTABLE.fullmatch(value) is None:
            if name == b"origin":  # a browser writes punycode
                raise HttpError(403, "this origin is not allowed")
            raise HttpError(400, "a header is not printable ASCII")
        headers.append((name.decode("ascii"), value.decode("ascii")))
    result = tuple(headers)
    for single in _SINGLE:
        if len(_all(result, single)) > 1:
            raise HttpError(400, f"the header {single} is given more than once")
    if len(_all(result, "origin")) > 1:
        raise HttpError(403, "two origins")
    return result


def request_of(
    method: str,
    target: str,
    headers: Collection[tuple[bytes, bytes]],
    *,
    client: str | None,
    secure: bool,
    upgrade: bool,
) -> Request:
    """A request that somebody else has read, and has seen to it that it is HTTP: checked as far as that can be done then.

    Args:
        method: e.g. GET.
        target: the path and the query, percent-encoded.
        headers: names in lower case.
        client: the peer's address.
        secure: whether it came over TLS.
        upgrade: whether it asks for a WebSocket.

    Raises HttpError if the request is refused.
    """
    checked = _headers(headers)
    path, query = _target(target)
    address = None if client is None else _normal(client)
    return Request(method, path, query, checked, address, secure, upgrade)


def _all(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in headers if key == name]


def _target(target: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The decoded path and query of a request target in origin-form (RFC 9112 §3.2.1), the only one that is sent here."""
    if not target.startswith("/") or "#" in target or _ESCAPE.search(target):
        raise HttpError(400, "the request target is not valid")
    raw, _, query = target.partition("?")
    try:
        path = unquote(raw, errors="strict")
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS)
    except ValueError:  # not UTF-8, or too many parameters
        raise HttpError(400, "the request target is not valid") from None
    # What a proxy in front would have understood differently is not guessed at.
    ambiguous = path.count("/") != raw.count("/") or "\\" in path or {".", ".."} & set(path.split("/"))
    if ambiguous or any(_CONTROL.search(text) for pair in [(path, ""), *pairs] for text in pair):
        raise HttpError(400, "the request target is not valid")
    return path, tuple(pairs)


def _is_key(key: str | None) -> bool:
    try:
        return key is not None and len(base64.b64decode(key, validate=True)) == 16  # RFC 6455 §4.1
    except binascii.Error:
        return False


def _refusal(error: h11.RemoteProtocolError) -> HttpError:
    # h11's own texts quote what the peer sent, so they are not passed on.
    if error.error_status_hint == 431:
        return HttpError(431, "the request head is too large")
    return HttpError(400, "the request is not valid HTTP")


def _normal(address: str) -> str | None:
    """The address as `ipaddress` writes it, a dual-stack socket's IPv4 as IPv4; None for anything else."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def _is_listed(address: str | None, networks: Sequence[Network]) -> bool:
    if address is None:
        return "unix" in networks
    return any(network != "unix" and ip_address(address) in network for network in networks)
