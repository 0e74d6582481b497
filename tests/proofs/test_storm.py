"""Everybody comes back at once; and one device comes twice at once."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trio

from .conftest import Record
from .harness import HERE, Lines
from .ledger import Entry, entries, words
from .peers import Gone, Peer, connect, connected, send, text
from .sieges import siege
from .test_restart import started

pytestmark = pytest.mark.timed

CLIENTS = 300
"""At scale 1; with 17 it is the five thousand of the page."""
PATIENCE = 300.0
"""Seconds: five thousand handshakes on a busy machine."""


async def test_a_storm_of_reconnects(tmp_path: Path, scale: float, record: Record) -> None:
    """If this fails, a restart under many clients never comes to rest, turns some away for good, or loses messages."""
    count = min(5_000, int(CLIENTS * scale))
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as held:
        port = held.getsockname()[1]
        command = [sys.executable, "-m", "tests.proofs.storm", str(port), str(count)]
        async with started(held, tmp_path / "chat.db") as old:
            clients = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=HERE.parent.parent)
            assert clients.stdout is not None
            lines = Lines(clients.stdout)
            with trio.fail_after(PATIENCE):
                assert await lines.next() == "ready"
            began = trio.current_time()
            old.terminate()
            with trio.fail_after(30):
                assert await old.wait() == 0
            drained = trio.current_time() - began
        async with started(held, tmp_path / "chat.db") as new, clients.stdout:
            process = psutil.Process(new.pid)
            with trio.fail_after(PATIENCE):
                report = json.loads(await lines.next())
                await clients.wait()
            rss, spent = process.memory_info().rss / 2**20, sum(process.cpu_times()[:2])
            assert new.returncode is None
            new.terminate()
            with trio.fail_after(30):
                assert await new.wait() == 0
    log = (tmp_path / "chat.log").read_text()
    record(
        "storm",
        clients=count,
        drained_s=round(drained, 2),
        all_back_s=round(report["all_back_s"], 2),
        away_median_s=round(report["away_median_s"], 2),
        away_worst_s=round(report["away_worst_s"], 2),
        refused=", ".join(f"{why}: {times}" for why, times in report["refused"].items()) or "nobody",
        server_rss_mib=round(rss, 1),
        server_cpu_s=round(spent, 1),
        clients_cpu_s=round(report["cpu_s"], 1),
    )
    assert not report["wrongs"], report["wrongs"]
    assert report["codes"] == {"1001": count}
    assert "Traceback" not in log


class _Racer:
    """One of two connections of a device: what it was given, and how it ended."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.given: list[Entry] = []
        self.ponged = trio.Event()
        self.welcome: dict[str, int] = {}
        self.end: Gone | None = None

    async def run(self) -> None:
        """Take everything, acknowledge some of it."""
        try:
            while True:
                for frame in await self.peer.read():
                    if frame["type"] == "welcome":
                        self.welcome = frame
                    elif frame["type"] == "messages":
                        self.given += entries(frame)
                    elif frame["type"] == "pong":
                        self.ponged.set()
                if self.given and len(self.given) % 2:
                    await self.peer.write(text({"type": "ack", "seq": self.given[-1].seq}))
        except Gone as end:
            self.end = end


async def test_two_connections_of_a_device_race(
    tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None], record: Record
) -> None:
    """If this fails, a device that reconnects before its loss is known is there twice, or not at all, or has holes."""
    rounds, chance = int(40 * scale), random.Random(seed)
    ends, wrongs = Counter[str](), list[str]()
    async with siege(tmp_path, figures, script=True) as server:

        async def race(number: int) -> None:
            user, racers = f"racer{number}", list[_Racer]()

            async def run(delay: float, nursery: trio.Nursery) -> None:
                await trio.sleep(delay)
                racers.append(_Racer(await connect(server.port, user, "phone")))
                nursery.start_soon(racers[-1].run)

            async with connected(server.port, f"feeder{number}", "default", {"window": 0}) as feeder:
                async with trio.open_nursery() as racing, trio.open_nursery() as nursery:
                    nursery.start_soon(run, 0.0, racing)
                    nursery.start_soon(run, chance.choice([0.0, 0.0, 0.002, 0.01, 0.05]), racing)
                    for at in range(30):
                        await feeder.write(send(user, f"m{at}", words(f"m{at}")))
                        await trio.sleep(chance.random() * 0.004)
                    with trio.fail_after(20):  # noqa: ASYNC912
                        while not any(racer.end for racer in racers):  # noqa: ASYNC110
                            await trio.sleep(0.01)
                        (winner, *ghosts) = [racer for racer in racers if racer.end is None]
                        await winner.peer.write(text({"type": "ping"}))
                        await winner.ponged.wait()
                        while winner.given[-1:] == [] or winner.given[-1].seq < 30:  # noqa: ASYNC110
                            await trio.sleep(0.01)
                    loser = next(racer for racer in racers if racer.end)
                    assert loser.end is not None
                    ends[str(loser.end.code)] += 1
                    wrongs.extend(f"{user} is there twice" for _ in ghosts)
                    # From where the server had it when it came, without a hole, to the end, each entry once.
                    expected = list(range(winner.welcome["cursor"] + 1, 31))
                    if [entry.seq for entry in winner.given] != expected:
                        wrongs.append(f"{user} was given {[entry.seq for entry in winner.given]} and not {expected}")
                    wrongs.extend(f"{user} was given {entry}" for entry in winner.given if entry.text != words(entry.id))
                    racing.cancel_scope.cancel()
                for racer in racers:
                    await trio.aclose_forcefully(racer.peer.stream)

        limiter = trio.CapacityLimiter(8)

        async def one(number: int) -> None:
            async with limiter:
                await race(number)

        async with trio.open_nursery() as nursery:
            for number in range(rounds):
                nursery.start_soon(one, number)
    record(
        "race",
        races=rounds,
        losers_told=", ".join(f"{code}: {times}" for code, times in ends.items()),
        wrong=len(wrongs),
    )
    assert not wrongs, wrongs[:10]
    assert ends == {"4409": rounds}
