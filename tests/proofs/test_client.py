"""The client's promise, under both event loops: whatever comes between, nothing is lost and nothing doubled."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from .harness import HERE, Lines, Server, serving
from .peers import connected, send
from .proxy import cutting

BACKENDS = ["trio", "asyncio"]


class Program:
    """One of `programs`, running."""

    def __init__(self, process: trio.Process, lines: Lines) -> None:
        self.process = process
        self._lines = lines

    async def says(self) -> dict[str, Any]:
        """The next that it says; {} if it has ended."""
        line = await self._lines.next()
        return dict(msgspec.json.decode(line)) if line else {}


@asynccontextmanager
async def running(*words: object) -> AsyncIterator[Program]:
    """One of `programs`; killed if it still runs when the block ends."""
    command = [sys.executable, str(HERE / "programs.py"), *map(str, words)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with process.stdout:
            yield Program(process, Lines(process.stdout))
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_everything_arrives_once_through_cuts_and_kills(
    backend: str, tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, a program on a bad line loses messages, gets them twice, or in another order."""
    count = max(500, round(1250 * scale))
    cuts, kills = count // 25, 5
    numbers = random.Random(seed)
    said: dict[str, Any] = {}
    began = trio.current_time()
    # A message is about 350 bytes on each line, with its answer or its acknowledgement.
    async with (
        cutting(numbers, cuts=cuts, mean=count * 300 // cuts) as proxy,
        running(backend, "exchange", proxy.port, count, tmp_path) as program,
    ):
        for kill in range(kills + 1):
            async with serving(tmp_path / "chat.db") as server:
                proxy.server = server.port
                with trio.fail_after(120 + count / 20):
                    while (
                        (said := await program.says())
                        and "called" not in said
                        and (kill == kills or said["came"] < (kill + 1) * count // (kills + 2))
                    ):
                        pass
                    proxy.server = None if kill < kills else proxy.server
                    if "called" in said or not said:
                        break
                    await server.kill()
        assert await program.process.wait() == 0
    seconds = trio.current_time() - began
    figures(
        f"{backend}: {len(said['came'])} of {count} came, {len(said['surplus'])} of them twice, in {seconds:.0f} s; "
        f"cuts {dict(proxy.cut)}, kills {kills}, connections {said['connections']}"
    )
    assert said["surplus"] == []
    assert said["came"] == said["called"], f"seed {seed}"
    assert said["stored"] == sorted(said["called"])
    assert said["numbers"] == list(range(1, count + 1))
    assert kill == kills


@pytest.mark.parametrize("backend", BACKENDS)
async def test_what_was_handed_over_outlives_its_process(
    backend: str, tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, a message that was given to a client with a state file dies with it, or arrives twice."""
    numbers = random.Random(seed)
    rounds = max(3, round(5 * scale))
    state = tmp_path / "alice.state"
    left = 0
    async with serving(tmp_path / "chat.db") as server, connected(server.port, "bob") as bob:
        for number in range(rounds):
            when = numbers.choice(["connected", "at-once"])
            async with running(backend, "hand-over", server.port, state, f"message {number}", when) as program:
                with trio.fail_after(20):
                    assert await program.says() == {"handed_over": True}
                await trio.sleep(numbers.uniform(0, 0.004))
                program.process.kill()
                left += (await program.says()).get("stored") is None
        async with running(backend, "hand-over", server.port, state, "-", "connected") as program:
            with trio.fail_after(20):
                assert await program.says() == {"done": True}
        came: list[str] = []
        with trio.move_on_after(2):  # noqa: ASYNC912
            while len(came) < rounds + 1:
                for frame in await bob.read():
                    came += [entry["id"] for entry in frame.get("messages", [])]
    figures(f"{backend}: {rounds} kills, {left} of them before send had returned: {len(came)} came")
    assert came == [f"message {number}" for number in range(rounds)], f"seed {seed}"
    assert left


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_slow_program_holds_a_window(
    backend: str, tmp_path: Path, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, a program that is behind takes in all that waits for it, is thrown out, or cannot send any more."""
    backlog, seconds = max(5_000, round(25_000 * scale)), max(20, round(15 * scale))
    async with serving(tmp_path / "chat.db", *_no_limits(tmp_path)) as server:
        await _fill(server, backlog)
        async with running(backend, "slow", server.port, seconds) as program:
            seen: list[dict[str, Any]] = []
            with trio.fail_after(seconds + 30):
                while said := await program.says():
                    seen.append(said)
    assert len(seen) == seconds
    figures(
        f"{backend}: {seconds} s of a backlog of {backlog}: at most {max(s['buffered'] for s in seen)} held, "
        f"{seen[-1]['rss'] - seen[1]['rss']:.1f} MiB more at the end than after 2 s, "
        f"slowest send {max(s['worst'] for s in seen) * 1000:.0f} ms, {seen[-1]['connections']} connection"
    )
    assert max(s["buffered"] for s in seen) <= 256
    assert seen[-1]["lost"] == []
    assert seen[-1]["connections"] == 1
    assert max(s["worst"] for s in seen) < 5
    assert seen[-1]["rss"] < seen[1]["rss"] + 16


def _no_limits(folder: Path) -> list[str]:
    """A mailbox that holds the backlog, and pings that come while we watch."""
    config = folder / "chat.toml"
    config.write_text("mailbox = 1000000\nmailbox_bytes = 1000000000\nping_interval = 2.0\nframe_rate = 100000.0\n", "utf-8")
    return ["--config", str(config)]


async def _fill(server: Server, count: int) -> None:
    """Have Alice send so many messages to Bob, who is away."""
    async with connected(server.port, "alice") as alice:
        answered = 0

        async def read() -> None:
            nonlocal answered
            while answered < count:
                for frame in await alice.read():
                    answered += len(frame["messages"]) if frame["type"] == "stored" else 0

        with trio.fail_after(60 + count / 500):  # noqa: ASYNC912
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for first in range(0, count, 100):
                    for number in range(first, min(first + 100, count)):
                        await alice.write(send("bob", f"{number:07}", "a message of about a hundred bytes " * 3))
