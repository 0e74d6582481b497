"""A terminal with a program in it, looked at as a person does."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pyte
import trio

from ..processes import PATIENCE

ROWS, COLUMNS = 16, 70


class Teletype:
    """What is on the screen, and the keyboard. Made by `teletype`."""

    def __init__(self, process: trio.Process, master: trio.lowlevel.FdStream) -> None:
        self.process = process
        self.raw = b""
        self._master = master
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = trio.Event()

    @property
    def rows(self) -> list[str]:
        return [row.rstrip() for row in self._screen.display]

    @property
    def bar(self) -> str:
        return self.rows[-2]

    async def type(self, keys: str) -> None:
        await self._master.send_all(keys.encode())

    async def until(self, seen: Callable[[], object], what: str = "") -> None:
        """Wait until something is seen."""
        with trio.move_on_after(PATIENCE) as patience:  # noqa: ASYNC912
            while not seen():
                await self._changed.wait()
        shown = "\n".join(self.rows)
        assert not patience.cancelled_caught, f"not seen: {what}\n{shown}"

    async def shows(self, *texts: str) -> None:
        """Wait until each of the texts is in some row."""
        await self.until(lambda: all(any(text in row for row in self.rows) for text in texts), f"{texts}")

    async def ended(self) -> int:
        """Its exit code."""
        with trio.fail_after(PATIENCE):
            return await self.process.wait()

    async def read(self) -> None:
        """Show what the program writes, until it ends."""
        with suppress(trio.BrokenResourceError, OSError):  # EIO: nobody has the other end any more
            while data := await self._master.receive_some():
                self.raw += data
                self._stream.feed(data)
                self._tick()
        self._tick()

    def _tick(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def teletype(*arguments: str | Path) -> AsyncIterator[Teletype]:
    """``trio-chat …`` in a terminal."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trio_chat", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    finally:
        os.close(slave)
    async with trio.lowlevel.FdStream(master) as stream, trio.open_nursery() as nursery:
        tty = Teletype(process, stream)
        nursery.start_soon(tty.read)
        try:
            yield tty
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()
