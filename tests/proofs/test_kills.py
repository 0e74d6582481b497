"""Promises 1, 3 and 4 under a thousand kills: at any time, and at each call by which the server changes its file.

The servers are the command line's own, on a real file with real clients; they are forked by a process that has imported
everything (`forks.py`), so that a kill costs half a second and not three. Killing one at a system call is ``disk.c``'s work:
it sends SIGKILL to its own process before the call, after the first half of a write, or when the call has returned. What
SQLite calls is ``open``, ``pwrite64``, ``fdatasync``, ``ftruncate`` and ``unlink``; those are the calls that are counted.

After each kill the next server starts on what is left, and its logs, as devices are given them, are judged by what the
clients were told. `test_sigkill.py` does the same with processes of their own, and shows that the judge finds a planted bug.
"""

from __future__ import annotations

import errno
import math
import random
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import trio

from trio_chat.store.files import remove

from .conftest import Record
from .disk import CREATE, KILL_AFTER, KILL_BEFORE, KILL_HALFWAY, SYNC, TRUNCATE, UNLINK, WRITE
from .forks import Order
from .ledger import Entry, Talker, audit, judge, make_talkers
from .talk import make_few_talkers, talk
from .warm import Forked, Warm, warm

ALL: Final = 1 << CREATE | 1 << WRITE | 1 << TRUNCATE | 1 << UNLINK | 1 << SYNC
KILLS: Final = {1: 12, 4: 450}
"""At random times, at which scale."""
CALLS: Final = 320
"""Servers are killed at each of so many first calls, on a new file and on one that is in use."""
STRIDE: Final = {1: 64, 4: 1}
"""At which scale at each so-many-th of them."""
PER_FILE: Final = 10
"""So many servers are killed on one file."""
PAGES: Final = 60
"""The WAL is copied after so many pages, that kills come in the middle of that, too."""
RESTART: Final = 2.0
"""Seconds from the order to listening (failures 1)."""


class Life:
    """A file, and the clients of the servers that are killed on it."""

    def __init__(self, db: Path, talkers: list[Talker]) -> None:
        self.db = db
        self.talkers = talkers
        self.logs: dict[str, list[Entry]] = {}
        self.kills = 0

    async def judge(self, server: Forked) -> None:
        """What the server holds is what the clients were told, and its file is whole."""
        await audit(server.port, self.talkers, self.logs)
        wrongs = judge(self.talkers, self.logs)
        with closing(sqlite3.connect(f"{self.db.as_uri()}?mode=ro", uri=True)) as database:
            (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
        assert (wrongs, integrity) == ([], "ok"), f"after kill {self.kills} on {self.db}"

    async def finish(self, forks: Warm) -> None:
        """What was not answered is sent again and answered, and everything that was there before is there as it was."""
        async with forks.serving(Order(db=str(self.db))) as server:
            await self.judge(server)
            async with trio.open_nursery() as nursery:
                for talker in self.talkers:
                    talker.quiet, talker.answered = True, trio.Event()
                    await nursery.start(talker.talk, server.port)
                with trio.fail_after(20):  # noqa: ASYNC912
                    for talker in self.talkers:
                        if talker.unanswered:
                            await talker.answered.wait()
                nursery.cancel_scope.cancel()
            whole: dict[str, list[Entry]] = {}
            await audit(server.port, self.talkers, whole)
        assert not judge(self.talkers, whole)
        for user, log in self.logs.items():
            assert whole[user][: len(log)] == log, f"an earlier part of {user}'s log has changed"


class Toll:
    """What is kept of all kills."""

    def __init__(self) -> None:
        self.kills = 0
        self.acknowledged = 0
        self.starts: list[float] = []
        self.began = time.perf_counter()

    def add(self, life: Life) -> None:
        self.kills += life.kills
        self.acknowledged += sum(len(talker.stored) for talker in life.talkers)

    def measured(self) -> dict[str, float]:
        """The figures, once nothing was wrong."""
        seconds = time.perf_counter() - self.began
        return {
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "lost_doubled_or_renumbered": 0,
            "restart_median_s": round(statistics.median(self.starts), 3),
            "restart_max_s": round(max(self.starts), 3),
            "seconds_each": round(seconds / self.kills, 2),
        }


async def test_killed_at_any_time(tmp_path: Path, seed: int, scale: float, record: Record) -> None:
    """If this fails, a crash loses, doubles or renumbers a message that somebody was told is safe."""
    numbers = random.Random(seed)
    kills = KILLS[4 if scale >= 4 else 1]
    async with warm(tmp_path) as forks:
        toll = Toll()
        for file in range(math.ceil(kills / PER_FILE)):
            life = Life(tmp_path / f"{file}.db", make_talkers(numbers, 2))
            for _ in range(min(PER_FILE, kills - toll.kills)):
                async with forks.serving(Order(db=str(life.db), pages=PAGES if file % 2 else 1000)) as server:
                    toll.starts.append(server.starting)
                    await life.judge(server)
                    await talk_and_kill(server, life.talkers, numbers)
                    life.kills += 1
            await life.finish(forks)
            toll.add(life)
            remove(life.db)
    record("kills-at-any-time", **toll.measured())
    assert statistics.median(toll.starts) < RESTART


async def talk_and_kill(server: Forked, talkers: list[Talker], numbers: random.Random) -> None:
    """Let everybody talk for a moment, and kill the server; now and then while it drains and closes."""
    async with trio.open_nursery() as nursery:
        for talker in talkers:
            await nursery.start(talker.talk, server.port)
        await trio.sleep(numbers.uniform(0.0, 0.2))
        if numbers.random() < 0.25:
            server.terminate()
            await trio.sleep(numbers.uniform(0.0, 0.1))
        await server.kill()


async def test_killed_at_each_call(tmp_path: Path, memory: Path, seed: int, scale: float, record: Record) -> None:
    """If this fails, there is a call after, before or within which a crash loses what was acknowledged, or ruins the file.

    A file of its own for each of the first calls that make it; and for those on a file in use the file of the calls before.
    """
    numbers = random.Random(seed)
    stride = STRIDE[4 if scale >= 4 else 1]
    used = Life(memory / "used.db", make_few_talkers(numbers))
    async with warm(tmp_path) as forks:
        toll = Toll()
        for when in range(numbers.randint(1, stride), CALLS + 1, stride):
            how = numbers.choice((KILL_BEFORE, KILL_HALFWAY, KILL_AFTER))
            fresh = Life(memory / "fresh.db", make_few_talkers(numbers))
            await die(forks, fresh, when, how, toll)
            await fresh.finish(forks)
            toll.add(fresh)
            remove(fresh.db)
            await die(forks, used, when, how, toll)
            async with forks.serving(Order(db=str(used.db), pages=PAGES)) as server:
                await used.judge(server)
            if used.kills == PER_FILE:
                await used.finish(forks)
                toll.add(used)
                used = Life(memory / f"used{when}.db", make_few_talkers(numbers))
        await used.finish(forks)
        toll.add(used)
    record("kills-at-each-call", **toll.measured(), calls=CALLS)


async def die(forks: Warm, life: Life, when: int, how: int, toll: Toll) -> None:
    """Have a server killed at this call; if its life has fewer calls, it is closed in peace."""
    order = Order(db=str(life.db), pages=PAGES, fault=(ALL, when, how, errno.EIO))
    async with forks.serving(order) as server:
        if server.status is None:
            toll.starts.append(server.starting)
            await talk(server, life.talkers, 30)
            server.terminate()
        status = await server.wait()
    assert status in (0, -9), server.log()
    life.kills += status != 0
