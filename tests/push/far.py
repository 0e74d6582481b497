"""The providers' servers, as far as one notices: they record what comes, byte by byte, and answer as they are told."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import httpcore2
import trio
from trio.testing import memory_stream_pair

from trio_chat.push.base import Notification, Target
from trio_chat.push.http import PushClient, open_push_client

NOW = 1_800_000_000.0

HELLO = Notification(
    id="0192b0c4-6d5e-4f3a-8b1c-2d3e4f5a6b7c",
    user="bob",
    peer="alice",
    collapse_key="Y29udmVyc2F0aW9uLWFsaWNl",
    title="alice",
    body="3 new messages",
    unread=3,
    badge=7,
    ttl=3600,
)
CLEAR = Notification(
    **{name: getattr(HELLO, name) for name in HELLO.__struct_fields__} | {"clear": True, "unread": 0, "badge": 4}
)


def clock() -> float:
    """A wall clock that goes with Trio's."""
    return NOW + trio.current_time()


def target(kind: str, text: str, provider: str = "any") -> Target:
    return Target(user="bob", device="phone", provider=provider, kind=kind, target=text)


def claims(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a web token, unchecked."""
    head, body, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(head), json.loads(body)


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    host: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


HANG, ENDLESS = Reply(-1), Reply(-2)
CUT, CUT_IN_THE_BODY, GARBAGE = Reply(-3), Reply(-4), Reply(-5)
RAW = {
    CUT.status: b"",
    CUT_IN_THE_BODY.status: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    GARBAGE.status: b"\x00\xffSSH-2.0-what\r\n\r\n",
}


def reply(document: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(document).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


class Far(httpcore2.AsyncNetworkBackend):
    """A network with one server that goes by every name, in memory. `answer` is asked for each request."""

    def __init__(self, nursery: trio.Nursery, answer: Callable[[Asked], Reply]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.dialled: list[tuple[str, int]] = []
        self.names: list[str | None] = []  # those that TLS was to prove
        self.refused: set[str] = set()
        self._nursery = nursery

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.dialled.append((host, port))
        if host in self.refused:
            raise httpcore2.ConnectError
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(serve, theirs, self._take)
        return _Stream(ours, self.names)

    def _take(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        return self.answer(asked)


@asynccontextmanager
async def far_away(
    answer: Callable[[Asked], Reply] | Reply, resolve: Callable[[str], list[str]] | None = None
) -> AsyncIterator[tuple[Far, PushClient]]:
    """The server and the client that reaches it, whatever URL it is given."""

    async def resolved(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return ["93.184.215.14"] if resolve is None else resolve(host)

    async with trio.open_nursery() as nursery:
        far = Far(nursery, (lambda _: answer) if isinstance(answer, Reply) else answer)
        async with open_push_client(network=far, resolve=resolved) as http:
            yield far, http
        nursery.cancel_scope.cancel()


async def serve(stream: trio.abc.Stream, take: Callable[[Asked], Reply]) -> None:
    """One connection of a server."""
    connection = h11.Connection(h11.SERVER)
    async with stream:
        while True:
            try:
                asked = await _request(connection, stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if asked is None:
                return
            answer = take(asked)
            if answer is HANG:
                await trio.sleep_forever()
            if answer.status in RAW:
                await stream.send_all(RAW[answer.status])
                return
            if answer is ENDLESS:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
                try:
                    while True:
                        await stream.send_all(b"x" * 10_000)
                except trio.BrokenResourceError:
                    return
            head = h11.Response(
                status_code=answer.status,
                headers=[*answer.headers.items(), ("Content-Length", str(len(answer.body)))],
            )
            for event in (head, h11.Data(data=answer.body), h11.EndOfMessage()):
                await stream.send_all(connection.send(event) or b"")
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()


async def _request(connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
    head: h11.Request | None = None
    body = b""
    while True:  # noqa: ASYNC913  (each turn takes what was read)
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode().lower(): value.decode() for name, value in head.headers}
            return Asked(headers["host"], head.method.decode(), head.target.decode(), headers, body)
        else:
            return None


class _Stream(httpcore2.AsyncNetworkStream):
    """A stream in memory, on which TLS is taken for granted: a test with sockets shows that it is asked for."""

    def __init__(self, stream: trio.abc.Stream, names: list[str | None]) -> None:
        self._stream = stream
        self._names = names

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            return bytes(await self._stream.receive_some(max_bytes))
        raise httpcore2.ReadTimeout

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore2.WriteError from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: object, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        self._names.append(server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        return None
