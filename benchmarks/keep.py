"""What keeping a store in order costs those who send meanwhile: a backup, and the retention of half a million messages.

A thousand messages a second go through a chat on a large file, paced by the clock: each is timed from when it was due to
when it is stored, so that a stall counts for all who would have sent in it. Quiet stretches and busy ones take turns, as the
machine may have other things to do; what counts is the ratio in one run.

``python benchmarks/keep.py chat.db`` takes a database made by ``benchmarks/database.py``, copies it and leaves it as it is.
Give ``--sends``, ``--seconds`` and ``--messages`` to make it smaller, and ``--only`` one of the two.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import trio

from trio_chat import Chat, Settings, open_chat
from trio_chat.core.batch import Batch, Opening, PageRequest
from trio_chat.store.sqlite import SqliteStore

USERS = 50
"""Who send to one another meanwhile, besides those in the file."""


class Load:
    """So many messages a second, from now on until the block around it ends."""

    def __init__(self, chat: Chat, rate: float) -> None:
        self.chat = chat
        self.rate = rate
        self.sent = 0
        self.stored: list[str] = []
        self.took: list[float] = []

    async def run(self) -> None:
        began = trio.current_time()
        first = self.sent
        async with trio.open_nursery() as nursery:
            while True:
                due = began + (self.sent - first) / self.rate
                await trio.sleep_until(due)
                nursery.start_soon(self._send, self.sent, due)
                self.sent += 1

    async def _send(self, number: int, due: float) -> None:
        id = f"load-{number}"
        await self.chat.send(f"load{number % USERS}", f"load{(number + 1) % USERS}", "x" * 100, id=id)
        self.took.append(trio.current_time() - due)
        self.stored.append(id)

    async def during(self, work: Callable[[], Awaitable[None]]) -> list[float]:
        """How long each message took that was stored while `work` was done."""
        self.took = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await work()
            nursery.cancel_scope.cancel()
        return sorted(self.took)


def told(name: str, took: list[float]) -> str:
    """The figures of one stretch, in milliseconds."""
    p50, p99 = (1000 * took[int(len(took) * share)] for share in (0.5, 0.99))
    return f"{name:28} {len(took):8,} stored  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  max {1000 * took[-1]:7.1f} ms"


def p99(took: list[float]) -> float:
    """The 99th percentile, in seconds."""
    return took[int(len(took) * 0.99)]


async def backup(load: Load, path: Path, seconds: float) -> bool:
    """Copy the file beside the load, three times, with quiet stretches between."""
    quiet: list[float] = []
    busy: list[float] = []
    missing = 0
    for n in range(3):
        quiet += await load.during(partial(trio.sleep, seconds))
        before, to = {*load.stored}, path.with_name(f"copy{n}.db")
        began = time.perf_counter()

        async def copy(to: Path = to) -> None:
            await trio.run_process([sys.executable, "-m", "trio_chat", "backup", to, "--db", path])

        busy += await load.during(copy)
        print(f"a backup of {to.stat().st_size / 1e6:,.0f} MB took {time.perf_counter() - began:.1f} s", flush=True)
        with closing(sqlite3.connect(to)) as copied:
            held = {id for (id,) in copied.execute("SELECT client_id FROM messages WHERE client_id GLOB 'load-*'")}
            sound = copied.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        missing += len(before - held) + (not sound)
        to.unlink()
    return report("backup", sorted(quiet), sorted(busy), f"{missing} acknowledged messages missing", right=not missing)


async def retention(chat: Chat, store: SqliteStore, load: Load, path: Path, seconds: float, messages: int) -> bool:
    """Remove so many of the oldest messages beside the load, and look at what a device that was behind is told."""
    quiet = await load.during(partial(trio.sleep, seconds))
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as looking:
        (cutoff,) = looking.execute("SELECT sent_at FROM messages ORDER BY id LIMIT 1 OFFSET ?", (messages,)).fetchone()
        heads = dict(looking.execute("SELECT name, head FROM users"))
    size = store.space().file
    days = (chat.clock() - cutoff) / 86_400_000
    done = None
    began = time.perf_counter()

    async def retain() -> None:
        nonlocal done
        done = await chat.retain(days=days, undelivered_days=0)

    busy = await load.during(retain)
    print(f"{done} in {time.perf_counter() - began:.1f} s")
    quiet = sorted([*quiet, *await load.during(partial(trio.sleep, seconds))])
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as looking:
        now = dict(looking.execute("SELECT name, head FROM users"))
        sound = looking.execute("PRAGMA quick_check").fetchone() == ("ok",)
    (welcome,) = (await store.append(Batch(openings=(Opening(1, "alice", "behind"),)), chat.clock())).openings
    (page,) = await store.pages([PageRequest("alice", 0, 10, 10**6)])
    shrunk = size - store.space().file
    right = sound and shrunk > 0 and all(now[name] >= head for name, head in heads.items())
    print(
        f"alice's log begins at {page.floor + 1}, her page at {page.messages[0].seq if page.messages else None}; {welcome}"
    )
    return report("retention", quiet, busy, f"the file shrank by {shrunk / 1e6:,.0f} MB", right=right)


def report(name: str, quiet: list[float], busy: list[float], more: str, *, right: bool) -> bool:
    """Print the figures; whether they are what was promised."""
    ratio = p99(busy) / p99(quiet)
    print(told("without", quiet))
    print(told(f"during {name}", busy))
    print(f"p99 {ratio:.2f} times, longest {busy[-1]:.2f} s; {more}", flush=True)
    return right and ratio <= 3 and busy[-1] <= 0.5


async def run(path: Path, options: argparse.Namespace) -> bool:
    """Both, or the one that was asked for."""
    sys.setswitchinterval(0.0005)  # as the server does
    fine = True
    store = SqliteStore(path, Settings(send_rate=None, mailbox=10**9, mailbox_bytes=10**12))
    async with open_chat(store, settings=store.settings) as chat:
        load = Load(chat, options.sends)
        if options.only != "retention":
            fine &= await backup(load, path, options.seconds)
        if options.only != "backup":
            fine &= await retention(chat, store, load, path, options.seconds, options.messages)
    return fine


def main() -> None:
    """Copy the database, rewrite it so that it can become shorter, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--sends", type=float, default=1000.0, help="messages a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each stretch without anything else")
    parser.add_argument("--messages", type=int, default=500_000, help="how many of the oldest are to go")
    parser.add_argument("--only", choices=["backup", "retention"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.database.parent) as folder:
        path = Path(folder) / "chat.db"
        shutil.copyfile(options.database, path)

        async def prepare() -> None:
            async with SqliteStore(path) as store:
                await store.keeping.compact()

        trio.run(prepare)
        fine = trio.run(run, path, options)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
