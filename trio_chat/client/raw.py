"""One connection, frame by frame: no reconnecting, no resending. What the command line and the tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, cast
from urllib.parse import urlsplit, urlunsplit

import h11
import trio
import trio_websocket
import wsproto.utilities

from .. import wire
from ..errors import ChatError, CloseCode
from .background import leaves

__all__ = ["ClosedByServer", "NotConnected", "RawClient", "open_background", "open_raw_client", "wrap_stream"]

_LAST_WORDS: Final = 0.1
"""Seconds for what came before the end of a stream to be understood."""
_MESSAGE_BYTES: Final = 1024 * 1024  # a server frame is 64 KiB, unless a single entry is larger


class NotConnected(ChatError):
    """The server could not be reached, or did not let us in. `status` is its HTTP status, if it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ClosedByServer(ChatError):
    """The connection was closed: `code` is the close code, 1006 if there was none; `reason` may be empty."""

    def __init__(self, code: int, reason: str) -> None:
        meaning = next((known.meaning for known in CloseCode if known == code), "no reason given")
        super().__init__(f"closed with {code}: {reason or meaning}")
        self.code = code
        self.reason = reason


class RawClient:
    """Sends and receives frames over an open WebSocket. The server's first frame is a `wire.Welcome`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, *frames: wire.ClientFrame) -> None:
        """Write the frames. Cancelling may leave a frame half written: close the connection then.

        Raises:
            ClosedByServer: the connection is closed.
        """
        for frame in frames:
            await self.send_text(wire.encode(frame).decode())

    async def send_text(self, text: str | bytes) -> None:
        """Write any message, e.g. one that is no frame. Raises and is cancelled as `send`."""
        try:
            await self._connection.send_message(text)
        except trio_websocket.ConnectionClosed as closed:
            raise _closed(closed) from None

    async def receive(self) -> wire.ServerFrame:
        """The next frame of a type this version knows; others are passed over (C1). Cancelling loses nothing.

        Raises:
            ClosedByServer: there are no more.
            msgspec.DecodeError: the server sent something that is no frame.
        """
        while True:
            try:
                message = await self._connection.get_message()
            except trio_websocket.ConnectionClosed as closed:
                raise _closed(closed) from None
            with suppress(wire.UnknownFrame):
                return wire.decode_server(message.encode() if isinstance(message, str) else message)

    async def aclose(self) -> None:
        """Close with 1000 and wait for the server's answer."""
        await self._connection.aclose()


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery for what serves the block: it is cancelled at the end, and what the block raises leaves as it is."""
    body: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                body = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if body is None or not leaves(group) <= leaves(body):
            raise
    if body is not None:
        raise body


@asynccontextmanager
async def open_raw_client(url: str, *, timeout: float = 10.0) -> AsyncIterator[RawClient]:
    """A connection to the server at `url` (``ws://…/ws?user=alice``), closed when the block is left.

    Args:
        url: ``ws:`` or ``wss:``.
        timeout: seconds for connecting, and again for the closing handshake.

    Raises:
        NotConnected: there is no server, it refused, or it took too long.
    """
    async with open_background() as nursery:
        stream: trio.abc.Stream | None = None
        try:
            try:
                with trio.fail_after(timeout):
                    stream = await _connect(url)
                    client = await wrap_stream(nursery, stream, url)
            except trio.TooSlowError:
                raise NotConnected(f"no answer within {timeout:g} s") from None
            except (OSError, ValueError) as error:
                raise NotConnected(str(error) or type(error).__name__) from error
            yield client
            with trio.move_on_after(timeout):
                await client.aclose()
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)


async def _connect(url: str) -> trio.abc.Stream:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise NotConnected(f"{url} is not the URL of a WebSocket")
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    return await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)


async def wrap_stream(
    nursery: trio.Nursery, stream: trio.abc.Stream, url: str, headers: Mapping[str, str] | None = None
) -> RawClient:
    """A client over a stream that leads to the server at `url`; its reader runs in `nursery`.

    `headers` are sent with the request, beside those of the handshake.

    Raises:
        NotConnected: the server refused.
    """
    connection: trio_websocket.WebSocketConnection = await nursery.start(_run_client, _Watched(stream), url, headers or {})
    return RawClient(connection)


class _Watched(trio.abc.Stream):
    """Tells when nothing more comes: trio-websocket goes on waiting to be let in."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ended = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self.ended.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _run_client(
    stream: _Watched,
    url: str,
    headers: Mapping[str, str],
    *,
    task_status: trio.TaskStatus[trio_websocket.WebSocketConnection],
) -> None:
    parts = urlsplit(url)
    refusal: NotConnected | None = NotConnected("the server hung up")
    try:
        async with trio.open_nursery() as reading:  # a refusal is raised in there, and must not end everything else
            async with trio.open_nursery() as opening:
                opening.start_soon(_give_up, stream, reading.cancel_scope)
                connection = await trio_websocket.wrap_client_stream(
                    reading,
                    cast("trio.SocketStream", stream),  # any stream will do, whatever the annotation says
                    parts.netloc.rpartition("@")[2] or "localhost",
                    urlunsplit(("", "", parts.path or "/", parts.query, "")),
                    subprotocols=[wire.SUBPROTOCOL],
                    extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                    max_message_size=_MESSAGE_BYTES,
                )
                opening.cancel_scope.cancel()
            refusal = None
            task_status.started(connection)
    except* trio_websocket.ConnectionRejected as group:
        refusal = _rejected(group)
    except* (trio_websocket.HandshakeError, h11.ProtocolError, wsproto.utilities.ProtocolError):
        refusal = NotConnected("it does not answer as a WebSocket server does")
    if refusal is not None:
        raise refusal


async def _give_up(stream: _Watched, reading: trio.CancelScope) -> None:
    await stream.ended.wait()
    await trio.sleep(_LAST_WORDS)
    reading.cancel()


def _rejected(group: BaseExceptionGroup[trio_websocket.ConnectionRejected]) -> NotConnected:
    rejected = group.exceptions[0]
    while isinstance(rejected, BaseExceptionGroup):
        rejected = rejected.exceptions[0]
    body = (rejected.body or b"").decode(errors="replace").strip()
    return NotConnected(f"HTTP status {rejected.status_code}: {body}", rejected.status_code)


def _closed(closed: trio_websocket.ConnectionClosed) -> ClosedByServer:
    if closed.reason is None:
        return ClosedByServer(1006, "")
    return ClosedByServer(closed.reason.code, closed.reason.reason or "")
