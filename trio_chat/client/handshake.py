"""The opening handshake: httpx2 asks, and what comes back is a stream of bytes (RFC 6455 §4.1)."""

from __future__ import annotations

import base64
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import anyio.abc
import httpcore2
import httpx2
from msgspec import Struct
from wsproto.utilities import generate_accept_token

from ..errors import ConfigurationError, NotAccepted, Unauthorized
from ..model import is_name
from ..wire import SUBPROTOCOL

__all__ = ["Address", "Connect", "Cut", "Declined", "Wire", "open_http", "upgrade"]

Connect: TypeAlias = Callable[[], Awaitable[anyio.abc.ByteStream]]

READ_BYTES: Final = 64 * 1024
_BROKEN: Final = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpx2.TransportError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,  # ssl.SSLError is one
)
_LET_GO: Final = 0.5
"""Seconds for a stream to be closed: TLS has something to say then, to a peer that may not be reading."""


class Cut(Exception):
    """There is no connection, or no longer."""


class Declined(Exception):
    """The server does not let us in now: `status`, and the least number of seconds until the next attempt."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.retry_after = retry_after


class Address(Struct, frozen=True):
    """Where and as whom to connect."""

    url: str
    headers: dict[str, str]

    @classmethod
    def of(
        cls, url: str, *, token: str | None, headers: Mapping[str, str] | None, device: str | None, send_only: bool
    ) -> Address:
        """Put together what the program gave.

        Raises:
            ConfigurationError: it makes no request.
        """
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a bracket without its other half, or a port that is none
            parts, known = urlsplit(""), False
        if not known:
            raise ConfigurationError(f"{url} is not the URL of a WebSocket: ws://host:port/ws")
        if device is not None and not is_name(device):
            raise ConfigurationError("a device is 1 to 128 characters without control characters")
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        for name, value in given.items():
            if not (name.isascii() and value.isascii() and (name + value).isprintable()):
                raise ConfigurationError(f"the header {name!r} has characters that no header has")
        query = parse_qsl(parts.query, keep_blank_values=True)
        if device is not None:
            query = [(name, value) for name, value in query if name != "device"] + [("device", device)]
        if send_only:
            query = [(name, value) for name, value in query if name != "window"] + [("window", "0")]
        scheme = {"ws": "http", "wss": "https"}[parts.scheme]
        return cls(urlunsplit((scheme, parts.netloc, parts.path or "/", urlencode(query), "")), given)

    @property
    def send_only(self) -> bool:
        return ("window", "0") in parse_qsl(urlsplit(self.url).query)

    def with_query(self, **more: str | int) -> str:
        """The URL, asking for more."""
        parts = urlsplit(self.url)
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in more]
        return urlunsplit(parts._replace(query=urlencode([*query, *more.items()])))


class Wire:
    """The stream behind an upgraded connection."""

    def __init__(self, stream: Any) -> None:
        self._stream: httpcore2.AsyncNetworkStream = stream

    async def receive(self) -> bytes:
        """What came; b"" at the end. Cancelling loses nothing.

        Raises:
            Cut: the connection broke.
        """
        try:
            return await self._stream.read(READ_BYTES)
        except _BROKEN as error:
            raise Cut(str(error) or type(error).__name__) from error

    async def send(self, data: bytes) -> None:
        """Write all of `data`. Cancelling leaves it half written.

        Raises:
            Cut: the connection broke.
        """
        try:
            await self._stream.write(data)
        except _BROKEN as error:
            raise Cut(str(error) or type(error).__name__) from error

    async def drop(self) -> None:
        """Close the stream, gently only if that takes no time."""
        with anyio.move_on_after(_LET_GO, shield=True):  # noqa: ASYNC912
            with suppress(*_BROKEN):  # so it is closed
                await self._stream.aclose()


@asynccontextmanager
async def open_http(
    address: Address, connect: Connect | None, ssl_context: ssl.SSLContext | None
) -> AsyncIterator[httpx2.AsyncClient]:
    """What makes the handshakes of one client. Proxies named by the environment are used for ``wss:``."""
    secure = address.url.startswith("https:")
    async with httpx2.AsyncClient(
        transport=None if connect is None else _Through(connect),
        verify=(ssl_context or True) if secure and connect is None else False,  # else no certificate is ever looked at
        trust_env=secure,  # a proxy can only tunnel: it would not pass an upgrade on
        timeout=None,  # the caller's
        follow_redirects=False,
    ) as http:
        yield http


@asynccontextmanager
async def upgrade(http: httpx2.AsyncClient, url: str, headers: Mapping[str, str]) -> AsyncIterator[Wire]:
    """An open WebSocket at `url`; it is dropped when the block is left.

    Raises:
        Cut: there is no connection.
        Declined: not now.
        ConnectionClosed: not ever, unless something changes.
    """
    key = base64.b64encode(secrets.token_bytes(16))
    asked = {
        **headers,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": SUBPROTOCOL,
    }
    try:
        request = http.build_request("GET", url, headers=asked)
        response = await http.send(request, stream=True)
    except httpx2.LocalProtocolError as error:
        raise NotAccepted(f"the request cannot be made: {error}") from error
    except _BROKEN as error:
        raise Cut(str(error) or type(error).__name__) from error
    wire = Wire(response.extensions["network_stream"])
    try:
        _check(response, key)
        yield wire
    finally:
        # Before httpx2 closes it, which would wait without a limit.
        await wire.drop()  # noqa: ASYNC102  (shielded in there)
        with anyio.move_on_after(_LET_GO, shield=True):
            await response.aclose()


def _check(response: httpx2.Response, key: bytes) -> None:
    status = response.status_code
    if status in (401, 403):
        raise Unauthorized(f"the server does not let us in: HTTP status {status}", code=1006, status=status)
    if status >= 500 or status in (408, 429):
        raise Declined(status, _seconds(response.headers.get("Retry-After", "")))
    if status != 101:
        raise NotAccepted(f"the server does not take the request: HTTP status {status}", code=1006, status=status)
    answer = response.headers.get("Sec-WebSocket-Accept", "")
    if answer != generate_accept_token(key).decode() or "Sec-WebSocket-Extensions" in response.headers:
        raise NotAccepted("what answers is no WebSocket server", code=1006, status=status)
    if response.headers.get("Sec-WebSocket-Protocol") != SUBPROTOCOL:
        raise NotAccepted(f"what answers does not speak {SUBPROTOCOL}", code=1006, status=status)


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0


class _Through(httpx2.AsyncBaseTransport):
    """Sends a request over a stream that the program opens."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        stream = await self._connect()
        url = request.url
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        connection = httpcore2.AsyncHTTP11Connection(target.origin, _Stream(stream))
        try:
            response = await connection.handle_async_request(
                httpcore2.Request(request.method, target, headers=request.headers.raw, extensions=request.extensions)
            )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Unread(stream), extensions=response.extensions
        )


class _Unread(httpx2.AsyncByteStream):
    """A body that nobody reads."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await anyio.aclose_forcefully(self._stream)


class _Stream(httpcore2.AsyncNetworkStream):
    """A stream of AnyIO's, as httpcore2 wants one."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  (the caller has one)
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        await self._stream.send(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None
