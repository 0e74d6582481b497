"""A Trio stream that knows when it is no longer to be trusted, and closes so that the peer hears the last word."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

__all__ = ["GuardedStream"]

SLICE_BYTES: Final = 16 * 1024
"""Written at a time, each with a limit of its own: one limit for a whole write throws out whoever is slow but alive."""

LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024
"""How long, and for how many bytes, a closed connection still reads what the peer sends before it lets go."""


_DEAD: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


def _nothing() -> None:
    pass


class GuardedStream(trio.abc.Stream):
    """A stream around a stream, which it owns.

    - A write that was cancelled, or that took too long, leaves the peer in the middle of something: every later write raises
      `trio.BrokenResourceError`, and closing only drops the connection.
    - A write goes out in slices, and each of them may take `write_timeout` seconds.
    - Closing lingers: it says that nothing more will come, then reads to the end. Closed with unread input, a TCP socket
      sends RST, and the peer's kernel throws away what was sent last: the close frame, or the error's text.

    Args:
        stream: a socket, TLS or memory stream.
        write_timeout: seconds each slice of 16 KiB may take.
        alive: called when bytes came, and when a slice was taken.
    """

    def __init__(self, stream: trio.abc.Stream, *, write_timeout: float, alive: Callable[[], None] = _nothing) -> None:
        self.inner = stream
        """The stream it guards."""
        self.unnoticed = False
        """Whether `alive` is not to hear of the slices that are written."""
        self._write_timeout = write_timeout
        self._alive = alive
        self._descriptor: Callable[[], int] | None = None
        if sys.platform != "win32" and isinstance(stream, trio.SocketStream):  # there a socket is no file
            self._descriptor = stream.socket.fileno
        self._writing = False
        self._cut_short = False
        self._reading = False
        self._ended = False
        self._closing = False
        self._closed = trio.Event()

    @property
    def cut_short(self) -> bool:
        """Whether a write was begun and not finished, so that nothing can be written any more."""
        return self._cut_short and not self._writing

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """The next bytes from the peer, b"" after its last. Cancelling loses nothing.

        Raises:
            trio.BrokenResourceError: the connection is broken.
            trio.ClosedResourceError: this stream was closed.
        """
        if self._closing:
            raise trio.ClosedResourceError("the stream is closed")
        self._reading = True
        try:
            data = await self.inner.receive_some(max_bytes)
        finally:
            self._reading = False
        if data:
            self._alive()
        else:
            self._ended = True
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data`, without waiting if there is room for it. Cancelling breaks the stream, except before the call.

        Raises:
            trio.BrokenResourceError: the connection is broken, an earlier write was cut short, or a slice took too long.
            trio.ClosedResourceError: this stream was closed.
            trio.BusyResourceError: another task is writing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closing:
            raise trio.ClosedResourceError("the stream is closed")
        if self._writing:
            raise trio.BusyResourceError("another task is writing")
        if self._cut_short:
            raise trio.BrokenResourceError("an earlier write was cut short")
        if not data:
            await trio.lowlevel.checkpoint()
            return
        self._writing = self._cut_short = True
        try:
            with memoryview(data) as view:
                for start in range(self._write_now(view), len(view), SLICE_BYTES):
                    with trio.move_on_after(self._write_timeout) as scope:
                        await self.inner.send_all(view[start : start + SLICE_BYTES])
                    if scope.cancelled_caught:
                        raise trio.BrokenResourceError(f"the peer took no bytes for {self._write_timeout:g} s")
                    if not self.unnoticed:
                        self._alive()
            self._cut_short = False
        finally:
            self._writing = False

    def _write_now(self, data: memoryview) -> int:
        """Write what the kernel has room for, and say how many bytes that were: 0 if that is not to be known.

        Nearly always it has room for everything. Then this spares the scope for the time limit, the layers underneath and
        a visit to the scheduler, which together are more than all the rest of a short message's way out.
        """
        if self._descriptor is None:
            return 0
        try:
            written = os.write(self._descriptor(), data[:SLICE_BYTES])
        except OSError:
            return 0  # the stream underneath says what it means
        if not self.unnoticed:
            self._alive()
        return written

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream underneath does."""
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close: gently within `LINGER_SECONDS` if the last write was complete, else at once. May be called twice.

        A second caller waits for the first. When cancelled, the stream is closed all the same, at once.
        """
        if self._closing:
            try:
                await self._closed.wait()
            finally:
                if not self._closed.is_set():  # no longer a time to be gentle
                    with suppress(*_DEAD):
                        await trio.aclose_forcefully(self.inner)
            return
        self._closing = True
        try:
            # While another task reads, nothing can be drained here.
            if not self._cut_short and not self._reading:
                with trio.move_on_after(LINGER_SECONDS):
                    await _close_gently(self.inner, ended=self._ended)
        finally:
            self._closed.set()
            with suppress(*_DEAD):
                await trio.aclose_forcefully(self.inner)


class _Lingering(trio.abc.Stream):
    """Goes between a TLS stream and its transport, for its last moments: TLS says goodbye and closes, this lingers."""

    def __init__(self, stream: trio.abc.Stream, *, ended: bool) -> None:
        self._stream = stream
        self._ended = ended

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        try:
            await _close_gently(self._stream, ended=self._ended)
        finally:
            with suppress(*_DEAD):
                await trio.aclose_forcefully(self._stream)


async def _close_gently(stream: trio.abc.Stream, *, ended: bool) -> None:
    """Say that nothing more will come and read to the end; the caller limits the time and drops the stream after it."""
    try:
        if isinstance(stream, trio.SSLStream):
            # The only moment at which the last TLS record has left and the socket is still open is inside its aclose.
            stream.transport_stream = _Lingering(stream.transport_stream, ended=ended)
            await stream.aclose()
            return
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        left = 0 if ended else LINGER_BYTES
        while left > 0:
            data = await stream.receive_some(SLICE_BYTES)
            left = left - len(data) if data else 0
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
        pass  # the peer is gone, or has dropped the connection: there is nobody to be gentle with
