"""The front door: from a fresh byte stream to an authenticated client, or to an HTTP answer that says why not."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Final, TypeAlias

import trio
from msgspec import Struct

from ..admission import TooMany
from ..chat import Chat
from ..errors import ConfigurationError, Refused
from ..hooks import HookFailed, HookTookTooLong, run_hook
from ..model import MAX_SEQ, Identity
from ..session import ConnectionEnded
from .http import (
    HttpError,
    Network,
    Request,
    accept,
    forwarded,
    peer_address,
    read_request,
    require_method,
    require_upgrade,
    respond,
)
from .origins import cors, listed_origin, origin_allowed, preflight
from .pages import Pages, page_answer
from .stream import GuardedStream

__all__ = ["Admitted", "Authenticate", "FrontDoor"]

Authenticate: TypeAlias = Callable[[Request], Awaitable[Identity]]
"""Tells who a request comes from, or raises `Refused`. Has ``settings.hook_timeout`` seconds."""

_WEBSOCKET_PATH: Final = "/ws"
_HEALTH_PATH: Final = "/healthz"
_LAST_WORD: Final = 0.25
"""Seconds left of the handshake's time for saying that the authenticator took too long."""


class Admitted(Struct, frozen=True):
    """A client whose WebSocket is open. `trailing_data` came right behind its request."""

    identity: Identity
    trailing_data: bytes
    log: str | None
    after: int | None
    send_only: bool
    client: str | None = None
    """Its address, as far as it can be believed."""


class FrontDoor:
    """Reads a request head, answers plain HTTP and refusals, and opens WebSockets.

    Args:
        chat: the chat that clients are let in to.
        authenticate: the application's hook. Whatever it raises or returns harms nobody else.
        allowed_origins: pages from elsewhere that may connect, exactly as browsers write them (``https://app.example``).
        trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is believed, or ``unix`` for a Unix socket.
        pages: what plain requests are answered with, by path.

    Raises:
        ConfigurationError: a trusted proxy is neither an address nor a network, or no browser writes an allowed origin so.
    """

    def __init__(
        self,
        chat: Chat,
        authenticate: Authenticate,
        *,
        allowed_origins: Collection[str] = (),
        trusted_proxies: Collection[str] = (),
        pages: Pages | None = None,
    ) -> None:
        self._chat = chat
        self._settings = chat.settings
        self._authenticate = authenticate
        self._allowed_origins = frozenset(listed_origin(origin) for origin in allowed_origins)
        self._trusted_proxies = [_network(proxy) for proxy in trusted_proxies]
        self._pages = pages or {}

    async def admit(self, stream: trio.abc.Stream, places: ExitStack) -> Admitted | None:
        """Let the client in, or answer its request and close `stream`: then None.

        `places` takes what is held for as long as the connection lasts. The caller sets the deadline.

        Raises:
            trio.BrokenResourceError: the peer went away.
        """
        wire = GuardedStream(stream, write_timeout=self._settings.write_timeout)
        head_only = False
        readable: list[tuple[str, str]] = []
        client = peer_address(stream)
        try:
            request, trailing_data = await read_request(stream)
            head_only = request.method == "HEAD"
            request = forwarded(request, self._trusted_proxies)
            client = request.client
            if request.client is not None:
                places.enter_context(self._chat.admission.address(request.client))
            if request.path == _WEBSOCKET_PATH and request.method == "OPTIONS":
                answer = preflight(request, self._allowed_origins)
            elif request.path == _WEBSOCKET_PATH:
                readable = cors(request, self._allowed_origins)
                admitted = await self._admitted(request, trailing_data)
                await wire.send_all(accept(request))
                return admitted
            else:
                answer = self._plain(request)
        except HttpError as error:
            self._turned_away(logging.INFO, error.status, error.why or str(error), client)
            answer = error.response(head_only=head_only, headers=readable)
        except TooMany as refusal:
            self._turned_away(logging.WARNING, 503, str(refusal), client)
            answer = HttpError(503, str(refusal), [("Retry-After", "5")]).response(head_only=head_only)
        except ConnectionEnded:
            return None
        await wire.send_all(answer)
        await wire.aclose()
        return None

    def _turned_away(self, level: int, status: int, why: str, client: str | None) -> None:
        self._chat.admission.turned_away[status] += 1
        self._chat.refusals(level, "refused: %s", why, client=client, status=status)

    def _plain(self, request: Request) -> bytes:
        """Plain HTTP, beside the WebSocket on the same port."""
        page = page_answer(self._pages, request)
        if page is not None:
            return page
        if request.path != _HEALTH_PATH:
            raise HttpError(404, f"there is nothing here; WebSockets connect to {_WEBSOCKET_PATH}")
        require_method(request, "GET", "HEAD")
        # What is wrong may name files: that is for the operator's log.
        if not self._chat.healthy:
            raise HttpError(503, "unavailable")
        return respond(200, body=b"ok\n", head_only=request.method == "HEAD")

    async def _admitted(self, request: Request, trailing_data: bytes) -> Admitted:
        require_method(request, "GET")
        if self._chat.failure is not None or self._chat.draining.is_set():
            raise HttpError(503, "not now", [("Retry-After", "5")])
        if not origin_allowed(request, self._allowed_origins):
            raise HttpError(403, "this origin is not allowed")
        log, after, send_only = _position(request)
        identity = await self._identify(request)
        # Last: a script in a browser sees no status of a WebSocket, so it asks plainly whether it would be let in.
        require_upgrade(request)
        return Admitted(identity, trailing_data, log, after, send_only, request.client)

    async def _identify(self, request: Request) -> Identity:
        """Ask the application who this is. A hook that fails, hangs or talks nonsense refuses this request and no other."""
        left = trio.current_effective_deadline() - _LAST_WORD - trio.current_time()
        seconds = max(0.0, min(left, self._settings.hook_timeout))
        try:
            identity = await run_hook(
                "the authenticator",
                self._authenticate,
                request,
                seconds=seconds,
                returns=Identity,
                answers=(HttpError, Refused),  # HttpError is Request.parameter's, for a query that is not clear
            )
        except Refused as refusal:
            why = f"{refusal.status}, the authenticator refused: {str(refusal)!r}"
            raise HttpError(refusal.status, "unauthorized" if refusal.status == 401 else "forbidden", why=why) from None
        except HookTookTooLong:
            raise HttpError(503, "authentication took too long") from None
        except HookFailed:
            raise HttpError(500, "authentication failed") from None
        if identity.expires_at is not None and identity.expires_at * 1000 <= self._chat.clock():
            raise HttpError(401, "unauthorized")
        return identity


def _network(proxy: str) -> Network:
    if proxy == "unix":
        return "unix"
    try:
        return ip_network(proxy)
    except ValueError:
        raise ConfigurationError(f"the trusted proxy {proxy!r} is no address, no network and not unix") from None


def _position(request: Request) -> tuple[str | None, int | None, bool]:
    """Where the client wants to start, and whether it only sends: ``log``, ``after`` and ``window`` of the query."""
    log, after, window = (request.parameter(name) for name in ("log", "after", "window"))
    if (log is None) is not (after is None):
        raise HttpError(400, "log and after go together")
    if window not in (None, "0"):
        raise HttpError(400, "window can only be 0")
    if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 16 and int(after) <= MAX_SEQ):
        raise HttpError(400, "after is a position: a whole number from 0")
    return log, None if after is None else int(after), window == "0"
