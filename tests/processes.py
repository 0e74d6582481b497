"""``trio-chat …`` as processes, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

PATIENCE = 60.0
"""Seconds for what takes one on a machine that has nothing else to do."""


_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def handing_over(descriptor: int, *words: str | Path) -> list[str]:
    """A command that starts ``trio-chat`` with a socket as systemd hands one over; pass it the descriptor."""
    return [sys.executable, "-c", _HAND_OVER, str(descriptor), sys.executable, "-m", "trio_chat", *map(str, words)]


class Command:
    """``trio-chat …`` as a process."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._read = b""
        self._complained = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE):  # noqa: ASYNC912
            while b"\n" not in self._read:
                data = await self.process.stdout.receive_some()
                assert data, f"it ended: {self._read!r}, {await self.errors()}"
                self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    async def complaint(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        with trio.fail_after(PATIENCE):  # noqa: ASYNC912
            while b"\n" not in self._complained:
                data = await self.process.stderr.receive_some()
                assert data, f"it ended: {self._complained!r}"
                self._complained += data
        line, _, self._complained = self._complained.partition(b"\n")
        return line.decode()

    async def errors(self) -> str:
        """Everything else that it says on standard error until it ends."""
        assert self.process.stderr is not None
        said, self._complained = self._complained, b""
        with trio.fail_after(PATIENCE):
            async for data in self.process.stderr:
                said += data
        return said.decode()

    async def ended(self) -> tuple[int, str]:
        """Its exit code and what it said on standard error."""
        said = await self.errors()
        with trio.fail_after(PATIENCE):
            code = await self.process.wait()
        assert "Traceback" not in said, said
        return code, said

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def command(
    *arguments: str | Path, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> AsyncIterator[Command]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "trio_chat", *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | (env or {}),
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await trio.aclose_forcefully(stream)


@asynccontextmanager
async def server(
    db: Path, *options: str, env: dict[str, str] | None = None, port: str = "0"
) -> AsyncIterator[tuple[Command, str]]:
    """A server, and the URL its line names."""
    async with command("serve", "--demo", "--port", port, "--db", db, *options, env=env) as serving:
        line = await serving.line()
        assert line.startswith("trio-chat is listening on http://127.0.0.1:"), line
        assert str(db) in line
        yield serving, line.partition("(WebSockets at ")[2].partition(")")[0]


async def done(
    *arguments: str | Path, env: dict[str, str] | None = None, given: bytes | None = None
) -> tuple[int, str, str]:
    """What a command that ends by itself returns and says, if it is given this to read."""
    async with command(*arguments, env=env, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE) as running:
        assert running.process.stdout is not None
        said = b""
        async with trio.open_nursery() as nursery:
            errors: list[str] = []

            async def collect() -> None:
                errors.append(await running.errors())

            async def give() -> None:
                if running.process.stdin is not None:
                    with suppress(trio.BrokenResourceError):
                        await running.process.stdin.send_all(given or b"")
                    await running.process.stdin.aclose()

            nursery.start_soon(collect)
            nursery.start_soon(give)
            with trio.fail_after(PATIENCE):
                async for data in running.process.stdout:
                    said += data
        code, _ = await running.ended()
        assert "Traceback" not in errors[0], errors[0]
        return code, said.decode(), errors[0]


def one_sentence(errors: str) -> bool:
    """Whether an error is told in one line (click says how it is used before a mistake in the options)."""
    lines = errors.strip().splitlines()
    return lines[-1].startswith("Error: ") and (len(lines) == 1 or lines[0].startswith("Usage: "))
