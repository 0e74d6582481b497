"""One connection, frame by frame: no reconnecting, no resending. What the command line and the tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

import trio
import trio_websocket

from .. import wire
from ..errors import ChatError, CloseCode

__all__ = ["ClosedByServer", "NotConnected", "RawClient", "open_raw_client", "wrap_stream"]

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
        """The next frame. Cancelling loses nothing.

        Raises:
            ClosedByServer: there are no more.
        """
        try:
            message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise _closed(closed) from None
        return wire.decode_server(message.encode() if isinstance(message, str) else message)

    async def aclose(self) -> None:
        """Close with 1000 and wait for the server's answer."""
        await self._connection.aclose()


@asynccontextmanager
async def open_raw_client(url: str, *, timeout: float = 10.0) -> AsyncIterator[RawClient]:
    """A connection to the server at `url` (``ws://…/ws?user=alice``), closed when the block is left.

    Args:
        url: ``ws:`` or ``wss:``.
        timeout: seconds for connecting, and again for the closing handshake.

    Raises:
        NotConnected: there is no server, it refused, or it took too long.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(
                trio_websocket.open_websocket_url(
                    url,
                    subprotocols=[wire.SUBPROTOCOL],
                    max_message_size=_MESSAGE_BYTES,
                    connect_timeout=timeout,
                    disconnect_timeout=timeout,
                )
            )
        except trio_websocket.ConnectionRejected as rejected:
            raise _rejected(rejected) from None
        except (trio_websocket.HandshakeError, OSError, ValueError) as error:
            raise NotConnected(str(error) or type(error).__name__) from error
        yield RawClient(connection)


async def wrap_stream(nursery: trio.Nursery, stream: trio.abc.Stream, resource: str) -> RawClient:
    """A client over a stream that leads to a server; its reader runs in `nursery`.

    Raises:
        NotConnected: the server refused.
    """
    connection: trio_websocket.WebSocketConnection = await nursery.start(_run_client, stream, resource)
    return RawClient(connection)


async def _run_client(
    stream: trio.abc.Stream,
    resource: str,
    *,
    task_status: trio.TaskStatus[trio_websocket.WebSocketConnection],
) -> None:
    failure: NotConnected | None = None
    try:
        async with trio.open_nursery() as reader:  # a refusal is raised in the reader and must not end everything else
            connection = await trio_websocket.wrap_client_stream(
                reader,
                cast("trio.SocketStream", stream),  # any stream will do, whatever the annotation says
                "localhost",
                resource,
                subprotocols=[wire.SUBPROTOCOL],
                max_message_size=_MESSAGE_BYTES,
            )
            task_status.started(connection)
    except* trio_websocket.ConnectionRejected as group:
        rejected = group.exceptions[0]
        assert isinstance(rejected, trio_websocket.ConnectionRejected)
        failure = _rejected(rejected)
    except* trio_websocket.HandshakeError as group:
        failure = NotConnected(str(group.exceptions[0]))
    if failure is not None:
        raise failure


def _rejected(rejected: trio_websocket.ConnectionRejected) -> NotConnected:
    body = (rejected.body or b"").decode(errors="replace").strip()
    return NotConnected(f"HTTP status {rejected.status_code}: {body}", rejected.status_code)


def _closed(closed: trio_websocket.ConnectionClosed) -> ClosedByServer:
    if closed.reason is None:
        return ClosedByServer(1006, "")
    return ClosedByServer(closed.reason.code, closed.reason.reason or "")
