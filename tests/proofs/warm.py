"""Servers that start in milliseconds, on a disk that is watched: `forks.py` and ``disk.c`` from the outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from .forks import Order
from .harness import HERE, STARTING, Lines

SOURCE: Final = HERE / "disk.c"


def build(folder: Path) -> Path:
    """Compile ``disk.c``; needs a C compiler, which is Debian's package gcc."""
    library = folder / "disk.so"
    if not library.exists():
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return library


class Warm:
    """The process that forks servers, one at a time."""

    def __init__(self, process: trio.Process, lines: Lines) -> None:
        self._process = process
        self._lines = lines

    @asynccontextmanager
    async def serving(self, order: Order) -> AsyncIterator[Forked]:
        """A server that does as `order` says. It is killed if it still runs when the block ends."""
        assert self._process.stdin is not None
        began = time.perf_counter()
        await self._process.stdin.send_all(msgspec.json.encode(order) + b"\n")
        with trio.fail_after(STARTING):
            pid = int(await self._lines.next())
        server = Forked(pid, self._lines, Path(f"{order.db}.log"), began)
        try:
            await server.start()
            yield server
        finally:
            with trio.CancelScope(shield=True):
                await server.kill()


class Forked:
    """A server, whose process id stays its own until the next one is asked for.

    `port` is where it listens, 0 if it ended before it did; `starting` how many seconds it took until then.
    """

    def __init__(self, pid: int, lines: Lines, log: Path, began: float) -> None:
        self.pid = pid
        self.port = 0
        self.status: int | None = None
        """Its exit status, once it has ended; negative if a signal ended it."""
        self.starting = 0.0
        self._lines = lines
        self._log = log
        self._began = began
        self._waiting = trio.Lock()

    def log(self) -> str:
        """What the servers of this file wrote to standard error."""
        return self._log.read_text(errors="replace")

    async def start(self) -> None:
        """Wait until it listens, or has ended."""
        with trio.fail_after(STARTING):
            line = await self._next()
        self.starting = time.perf_counter() - self._began
        if address := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            self.port = int(address[1])

    async def _next(self) -> str:
        line = await self._lines.next()
        if ended := re.fullmatch(r"ended (-?\d+)", line):
            self.status = int(ended[1])
        return line

    async def wait(self) -> int:
        """Wait until it is gone, and say how it ended."""
        async with self._waiting:
            while self.status is None:
                assert await self._next(), self.log()
        return self.status

    def terminate(self) -> None:
        """Ask it to drain."""
        if self.status is None:
            os.kill(self.pid, signal.SIGTERM)

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
        await self.wait()


@asynccontextmanager
async def warm(folder: Path) -> AsyncIterator[Warm]:
    """The process that forks servers; the compiled library is left in `folder`."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(HERE / "forks.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("TRIO_CHAT_")}
        | {"LD_PRELOAD": str(build(folder))},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with process.stdin, process.stdout:
            lines = Lines(process.stdout)
            with trio.fail_after(STARTING):
                assert await lines.next() == "ready"
            yield Warm(process, lines)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
