"""The operator's listener: health, metrics and statistics, and the one thing that an operator can do to a running server.

It is no part of the public one: what it tells is nobody else's business. Whoever reaches it is believed, so it listens on
this machine only unless told otherwise, and changes something only for who asks from this machine. What a page in a browser
of the operator's asks is refused: such a page can send requests to this machine, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Final, TypeAlias

import trio

from ..chat import Chat
from ..errors import ConfigurationError
from ..model import is_name
from ..serve import guarded
from ..session import ConnectionEnded
from ..sparing import SparingLog
from ..transport.http import HttpError, Request, peer_address, read_request, require_method, respond
from ..transport.stream import GuardedStream
from .metrics import Exposition
from .output import encoded

__all__ = ["is_loopback", "serve_admin"]

_log = logging.getLogger("trio_chat.admin")

_SECONDS: Final = 5.0
"""For a request and its answer."""
_AT_ONCE: Final = 32
"""Connections; further ones are closed. Who keeps one for nothing is gone after `_SECONDS`."""
_Answer: TypeAlias = tuple[int, tuple[str, str], bytes]
"""Status, content type, body."""
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_JSON: Final = ("Content-Type", "application/json")


async def serve_admin(
    chat: Chat,
    port: int,
    *,
    host: str = "127.0.0.1",
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``/healthz``, ``/readyz``, ``/metrics``, ``/statistics`` and ``/revoke`` until it is cancelled.

    Args:
        chat: from `open_chat`; its block must enclose this.
        port: 0 lets the system choose; look at the listeners.
        host: the interface; on any but this machine's own, everybody who reaches it may look.
        task_status: is given the listeners once they listen.

    Raises:
        OSError: the port cannot be listened on.
    """
    answers = _Answers(chat)
    listeners = await trio.open_tcp_listeners(port, host=host)
    limiter = trio.CapacityLimiter(_AT_ONCE)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_accept, listener, answers, limiter, nursery)
        task_status.started(listeners)


async def _accept(
    listener: trio.SocketListener, answers: _Answers, limiter: trio.CapacityLimiter, nursery: trio.Nursery
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            limiter.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await trio.aclose_forcefully(stream)
            return
        try:
            await guarded(stream, partial(_serve_one, answers))
        finally:
            limiter.release_on_behalf_of(stream)

    async with listener:
        await trio.serve_listeners(serve, [listener], handler_nursery=nursery)


async def _serve_one(answers: _Answers, stream: trio.abc.Stream) -> None:
    with trio.move_on_after(_SECONDS):
        wire = GuardedStream(stream, write_timeout=_SECONDS)
        head_only = False
        try:
            request, _ = await read_request(stream, methods=("GET", "HEAD", "POST"))
            head_only = request.method == "HEAD"
            answer = answers.to(request, local=_is_local(stream), head_only=head_only)
        except HttpError as error:
            answers.refused(logging.WARNING, "refused: %s", error, client=peer_address(stream), status=error.status)
            answer = error.response(head_only=head_only)
        except ConnectionEnded:
            return
        await wire.send_all(answer)
        await wire.aclose()


class _Answers:
    """What a request is answered with."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._exposition: Exposition | None = None
        self._paths: dict[str, tuple[str, Callable[[Request], _Answer]]] = {
            "/healthz": ("GET", self._health),
            "/readyz": ("GET", self._readiness),
            "/metrics": ("GET", self._metrics),
            "/statistics": ("GET", self._statistics),
            "/revoke": ("POST", self._revoke),
        }
        self.refused = SparingLog("trio_chat.admin")

    def to(self, request: Request, *, local: bool, head_only: bool) -> bytes:
        """The answer to `request`; `local` if it came from this machine.

        Raises:
            HttpError: it is refused.
        """
        method, answer = self._paths.get(request.path, ("GET", None))
        if answer is None:
            raise HttpError(404, f"there is nothing here but {', '.join(self._paths)}")
        require_method(request, *(("POST",) if method == "POST" else ("GET", "HEAD")))
        _require_no_page(request)
        if method == "POST" and not (local and _names_address(request.header("host"))):
            raise HttpError(403, "what changes something is taken from this machine only, by its address")
        status, content_type, body = answer(request)
        return respond(status, [content_type], body, head_only=head_only)

    def _health(self, _: Request) -> _Answer:
        failure = self._chat.failure
        return (200, _TEXT, b"ok\n") if failure is None else (503, _TEXT, f"{failure}\n".encode())

    def _readiness(self, _: Request) -> _Answer:
        if self._chat.healthy:
            return 200, _TEXT, b"ok\n"
        if self._chat.draining.is_set():
            return 503, _TEXT, b"draining\n"
        return 503, _TEXT, f"{self._chat.failure or 'the store refused a batch a moment ago'}\n".encode()

    def _metrics(self, _: Request) -> _Answer:
        if self._exposition is None:
            try:
                self._exposition = Exposition(self._chat)
            except ConfigurationError as error:
                raise HttpError(501, str(error)) from None
        return 200, ("Content-Type", self._exposition.content_type), self._exposition.text()

    def _statistics(self, _: Request) -> _Answer:
        return 200, _JSON, f"{encoded(self._chat.statistics())}\n".encode()

    def _revoke(self, request: Request) -> _Answer:
        user, device = request.parameter("user"), request.parameter("device")
        if not is_name(user) or not (device is None or is_name(device)):
            raise HttpError(400, "say whom: /revoke?user=…&device=…")
        assert user is not None
        connected = self._chat.registry.connected(user)
        closed = sorted(connected if device is None else connected & {device})
        self._chat.revoke(user, device)
        _log.info(
            "revoked %r, %s", user, "all devices" if device is None else f"device {device!r}",
            extra={"user": user, "device": device},
        )  # fmt: skip
        return 200, _JSON, f"{encoded({'user': user, 'devices': closed})}\n".encode()


def _require_no_page(request: Request) -> None:
    """Refuse what a browser sends on behalf of a page; an address that the operator types is none.

    Browsers tell the origin of whatever may change something (Fetch, §3.1), and where a request comes from (Fetch Metadata,
    §2.4). A name in ``Host`` that leads here by a trick of the DNS is caught by `_names_address`, where it matters.

    Raises:
        HttpError: 403.
    """
    if request.origin is not None or request.header("sec-fetch-site") not in (None, "none"):
        raise HttpError(403, "pages are not answered here")


def _names_address(host: str | None) -> bool:
    if host is None:
        return False
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    return is_loopback(name.strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether this names this machine itself, and no other."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local(stream: trio.abc.Stream) -> bool:
    address = peer_address(stream)
    return address is not None and is_loopback(address)
