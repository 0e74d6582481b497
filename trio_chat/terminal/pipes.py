"""Standard input and output, read and written in threads: whoever is at their other ends may take as long as they like."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread

__all__ = ["lines_of_input", "write_line"]

_READ_BYTES: Final = 64 * 1024
LINE_BYTES: Final = 1024 * 1024
"""Of a longer line the rest is dropped: no server takes as much, and it must not fill the memory."""


async def write_line(line: str) -> None:
    """Write a line to standard output. When this returns, the reader of a pipe can have it. Cancelling may cut it off.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    data = f"{line}\n".encode(sys.stdout.encoding, errors="backslashreplace")
    # A thread that waits for a reader is left behind when the command ends. It holds no lock of Python's then, which
    # sys.stdout's would be: the interpreter would wait for it, or abort.
    await anyio.to_thread.run_sync(_write, sys.stdout.fileno(), data, abandon_on_cancel=True)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(file, rest) :]
        except BlockingIOError:  # somebody else who has the pipe made it so
            select.select([], [file], [])


@asynccontextmanager
async def lines_of_input() -> AsyncIterator[AsyncIterator[bytes]]:
    """The lines of standard input, without their ends. What was read and not yet given is lost when the block is left."""
    async with aclosing(_lines(sys.stdin.fileno())) as lines:
        yield lines


async def _lines(file: int) -> AsyncGenerator[bytes, None]:  # noqa: ASYNC900  (closed by the one who uses it)
    rest = b""
    dropping = False
    while data := await anyio.to_thread.run_sync(_read, file, abandon_on_cancel=True):
        *ended, rest = (rest + data).split(b"\n")
        for line in ended:
            if not dropping:
                yield line.removesuffix(b"\r")
            dropping = False
        if len(rest) > LINE_BYTES:
            if not dropping:
                yield rest
            rest, dropping = b"", True
    if rest and not dropping:
        yield rest


def _read(file: int) -> bytes:
    while True:
        try:
            return os.read(file, _READ_BYTES)
        except BlockingIOError:
            select.select([file], [], [])
