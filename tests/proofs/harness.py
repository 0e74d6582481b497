"""Starts servers and innocent bystanders as processes of their own, and looks at them from outside."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil
import trio

from .peers import Bill, dial, response_head

HERE: Final = Path(__file__).parent
SCRIPT: Final = HERE / "servers.py"
STARTING: Final = 15.0
MIB: Final = 1024 * 1024


class Lines:
    """The lines a process prints."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def next(self) -> str:
        """The next line; "" if there are no more."""
        while b"\n" not in self._buffer:
            data = await self._stream.receive_some()
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


class Server:
    """A server that listens on `port`. `starting` is how many seconds that took from the start of its process."""

    def __init__(self, process: trio.Process, lines: Lines, port: int, starting: float, log: Path) -> None:
        self.process = process
        self.lines = lines
        self.port = port
        self.starting = starting
        self._log = log
        self._watch = psutil.Process(process.pid)

    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text(errors="replace")

    @property
    def rss(self) -> float:
        """Its resident memory, in MiB."""
        return float(self._watch.memory_info().rss / MIB)

    @property
    def descriptors(self) -> int:
        return int(self._watch.num_fds())

    @property
    def threads(self) -> int:
        return int(self._watch.num_threads())

    async def tasks(self) -> int:
        """How many tasks live in it. Of the script only."""
        self.process.send_signal(signal.SIGUSR1)
        return int(await self.lines.next())

    def terminate(self) -> None:
        """Ask it to drain."""
        self.process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill()
        await self.process.wait()

    async def health(self) -> int:
        """The status that ``/healthz`` answers."""
        stream = await dial(self.port)
        async with stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer, _ = await response_head(stream)
        return int(answer.split()[1])


def pinned(cores: Iterable[int] | None) -> list[str]:
    """The words before a command that keep it on some cores."""
    return ["taskset", "-c", ",".join(map(str, cores))] if cores is not None else []


@asynccontextmanager
async def serving(db: Path, *options: str, script: bool = False, limited: bool = False) -> AsyncIterator[Server]:
    """The real server on the file `db`, or `servers.py` with `options`. It is killed if it still runs when the block ends.

    Args:
        db: its file.
        options: further words of its command line.
        script: run `servers.py`, for hooks that the command line does not have.
        limited: leave its rate limit on.
    """
    if script:
        command = [sys.executable, str(SCRIPT), str(db), *options]
    else:
        rate = () if limited else ("--rate-limit", "off")
        command = [sys.executable, "-m", "trio_chat", "serve", "--demo", "--port", "0", "--db", str(db), *rate, *options]
    log = db.with_suffix(".log")
    began = time.perf_counter()
    with log.open("a") as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=db.parent,
            env={name: value for name, value in os.environ.items() if not name.startswith("TRIO_CHAT_")},
        )
    try:
        assert process.stdout is not None
        async with process.stdout:
            lines = Lines(process.stdout)
            with trio.fail_after(STARTING):
                line = await lines.next()
            starting = time.perf_counter() - began
            address = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if address is None:
                raise AssertionError(f"the server said {line!r} and {log.read_text()!r}")
            yield Server(process, lines, int(address[1]), starting, log)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


class Innocents:
    """Pairs of users in a process of their own, who only want to talk. See `peers`."""

    def __init__(self, process: trio.Process, lines: Lines) -> None:
        self._process = process
        self._lines = lines

    async def _bill(self) -> Bill:
        with trio.fail_after(20):
            line = await self._lines.next()
        return msgspec.json.decode(line, type=Bill)

    async def bill(self) -> Bill:
        """What they went through since the last time."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"\n")
        return await self._bill()

    async def finish(self) -> Bill:
        """Have them stop, wait until all that they sent has come, and say what they went through since the last time."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        bill = await self._bill()
        await self._process.wait()
        return bill


@asynccontextmanager
async def innocents(server: Server, *, pairs: int = 4, pace: float = 0.02) -> AsyncIterator[Innocents]:
    """Let innocent pairs talk, a message of each every `pace` seconds, for as long as the block lasts."""
    command = [sys.executable, str(HERE / "peers.py"), str(server.port), str(pairs), str(pace)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with process.stdin, process.stdout:
            lines = Lines(process.stdout)
            with trio.fail_after(STARTING):
                assert await lines.next() == "ready"
            yield Innocents(process, lines)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


async def until(true: Callable[[], bool], otherwise: str) -> None:
    """Wait for something that can only be looked at, 20 seconds at most."""
    with trio.move_on_after(20):  # noqa: ASYNC912
        while not true():  # noqa: ASYNC110  (no event comes out of another process)
            await trio.sleep(0.05)
        return
    raise AssertionError(otherwise)


class Gauge:
    """Watches a server's memory; `peak` is the most it took, in MiB."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.peak = -math.inf

    async def watch(self) -> None:
        """Look twenty times a second, until cancelled."""
        while True:
            self.peak = max(self.peak, self._server.rss)
            await trio.sleep(0.05)
