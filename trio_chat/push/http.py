"""The one HTTP client of all providers, and one request: what can go wrong on the way is an outcome, not an exception."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httpcore2
import httpx2
import trio
from msgspec import Struct

from .addresses import is_public
from .base import RetryAfter

__all__ = ["Answer", "NotPublic", "PushClient", "open_push_client", "post"]

Resolve: TypeAlias = Callable[[str, int], Awaitable[Collection[str]]]

CONNECTIONS: Final = 100
IDLE_CONNECTIONS: Final = 20
IDLE_SECONDS: Final = 20.0
"""Less than what servers grant: a connection that they close just now costs a retry."""
CONNECT_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 20.0
"""How long an answer may stay away, or pause. The whole is the dispatcher's to bound."""
ANSWER_BYTES: Final = 64 * 1024
"""What is read of an answer; the documented ones have a few hundred bytes."""

_PUBLIC_ONLY: Final = "trio_chat.public_only"


class NotPublic(httpx2.ConnectError):
    """The host has no address that a URL from outside may lead to."""


class _HostNotPublic(httpcore2.ConnectError):
    pass


class Answer(Struct, frozen=True):
    """What a server answered. Its `body` ends after 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PushClient(httpx2.AsyncClient):
    """What `open_push_client` gives: an `httpx2.AsyncClient` that can keep away from private addresses."""


@asynccontextmanager
async def open_push_client(
    *,
    ssl_context: ssl.SSLContext | None = None,
    network: httpcore2.AsyncNetworkBackend | None = None,
    resolve: Resolve | None = None,
) -> AsyncIterator[PushClient]:
    """The HTTP client that providers share; it is closed when the block is left, which breaks requests off.

    ::

        async with open_push_client() as http:
            fcm = Fcm(http, "service-account.json")

    HTTP/1.1, at most 100 connections. No redirect is followed, and no proxy or certificate named by the environment is used.
    Leave it after the chat that pushes through it.

    Args:
        ssl_context: whom to trust, if not the usual authorities.
        network: opens connections in place of Trio's sockets; for tests.
        resolve: gives the IP addresses of a host that a device has named; for tests.
    """
    transport = _Transport(
        ssl_context or httpx2.create_ssl_context(trust_env=False), network or httpcore2.TrioBackend(), resolve or _resolve
    )
    timeout = httpx2.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
    # No cookies: a host that a device has named could fill the jar. No compression: an answer is what came.
    async with PushClient(
        transport=transport,
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "trio-chat", "Accept-Encoding": "identity"},
    ) as http:
        yield http


async def post(
    http: httpx2.AsyncClient, url: str, *, headers: Mapping[str, str], content: bytes, public_only: bool = False
) -> Answer | RetryAfter:
    """POST `content`; whatever hinders it, or the answer, is told as a `RetryAfter` without a time.

    Of the URL, only the host is ever logged or told: the rest may be a secret. Cancelling closes the connection.

    Args:
        http: the client.
        url: an absolute URL that was looked at before.
        headers: those of the request.
        content: its body.
        public_only: dial public addresses only; `http` has to be a `PushClient`.

    Raises:
        NotPublic: with `public_only`, the host has no such address.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # httpx2 logs the URL of each request: it gets to see none but the origin's.
    extensions: dict[str, Any] = {"target": target.encode("ascii"), _PUBLIC_ONLY: public_only}
    try:
        async with http.stream(
            "POST", f"{parts.scheme}://{parts.netloc}/", headers=headers, content=content, extensions=extensions
        ) as response:
            body = bytearray()
            async with aclosing(response.aiter_raw()) as received:
                async for data in received:
                    body += data
                    if len(body) > ANSWER_BYTES:
                        break
            return Answer(response.status_code, response.headers, bytes(body[:ANSWER_BYTES]))
    except NotPublic:
        raise
    except (httpx2.RequestError, httpx2.StreamError) as error:
        return RetryAfter(None, f"{parts.hostname} was not reached or did not answer: {type(error).__name__}")


class _Transport(httpx2.AsyncBaseTransport):
    """Two pools that share nothing: what was dialled without a look must not carry a request that demands one."""

    def __init__(self, context: ssl.SSLContext, network: httpcore2.AsyncNetworkBackend, resolve: Resolve) -> None:
        self._anywhere = _pool(context, network)
        self._public_only = _pool(context, _PublicOnly(network, resolve))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        pool = self._public_only if request.extensions.get(_PUBLIC_ONLY) else self._anywhere
        with _as_httpx2():
            response = await pool.handle_async_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._public_only.aclose()
        await self._anywhere.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC900  (httpx2 closes it)
        with _as_httpx2():
            async with aclosing(self._response.aiter_stream()) as parts:
                async for part in parts:
                    yield part  # noqa: ASYNC119

    async def aclose(self) -> None:
        await self._response.aclose()


class _PublicOnly(httpcore2.AsyncNetworkBackend):
    """Dials the very address that was looked at: a name that is resolved once more may lead elsewhere by then."""

    def __init__(self, network: httpcore2.AsyncNetworkBackend, resolve: Resolve) -> None:
        self._network = network
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (the interface's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        with trio.move_on_after(CONNECT_SECONDS):
            addresses = [address for address in await self._resolve(host, port) if is_public(address)]
            if not addresses:
                raise _HostNotPublic(f"{host} has no public address")
            for address in addresses[:-1]:
                try:
                    return await self._network.connect_tcp(
                        address, port, CONNECT_SECONDS / len(addresses), local_address, socket_options
                    )
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                    continue
            return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)
        raise httpcore2.ConnectTimeout

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


async def _resolve(host: str, port: int) -> Collection[str]:
    """In the system's order of preference.

    Raises:
        httpcore2.ConnectError: there is no such host.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore2.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _pool(context: ssl.SSLContext, network: httpcore2.AsyncNetworkBackend) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=CONNECTIONS,
        max_keepalive_connections=IDLE_CONNECTIONS,
        keepalive_expiry=IDLE_SECONDS,
        network_backend=network,
    )


_AS_HTTPX2: Final = (
    (_HostNotPublic, NotPublic),
    (httpcore2.ConnectTimeout, httpx2.ConnectTimeout),
    (httpcore2.PoolTimeout, httpx2.PoolTimeout),
    (httpcore2.ReadTimeout, httpx2.ReadTimeout),
    (httpcore2.WriteTimeout, httpx2.WriteTimeout),
    (httpcore2.ConnectError, httpx2.ConnectError),
    (httpcore2.ReadError, httpx2.ReadError),
    (httpcore2.WriteError, httpx2.WriteError),
    (httpcore2.LocalProtocolError, httpx2.LocalProtocolError),
    (httpcore2.RemoteProtocolError, httpx2.RemoteProtocolError),
    (httpcore2.UnsupportedProtocol, httpx2.UnsupportedProtocol),
)


@contextmanager
def _as_httpx2() -> Iterator[None]:
    try:
        yield
    except tuple(ours for ours, _ in _AS_HTTPX2) as error:
        theirs = next(theirs for ours, theirs in _AS_HTTPX2 if isinstance(error, ours))
        raise theirs(str(error)) from error
