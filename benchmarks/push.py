"""What a full outbox costs those who chat: `stored` beside a dispatcher with 10,000 due jobs, and without one.

::

    python benchmarks/push.py [--pairs 5] [--seconds 4] [--jobs 10000]

Both sides of a pair have a copy of the same file, one after the other and in turn first, so that what else the machine does
meets both. The provider answers after 100 ms; then one that hangs and one that is down are looked at in the same way. A
number alone says little on a machine that others use: the ratio in one run does.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from trio_chat import Push, open_chat
from trio_chat.core.batch import Batch, Draft
from trio_chat.core.outbox import Register
from trio_chat.push.base import Notification, Outcome, RetryAfter, Sent, Target
from trio_chat.store.sqlite import SqliteStore

SENDERS = 10
PAUSE = 0.02
"""Seconds between an answer and the next message of a sender's: people, not a flood."""
LIMIT = 1.3


class Provider:
    """One that takes its time, and says so in the end."""

    def __init__(self, takes: float, outcome: Outcome) -> None:
        self.name = "slow"
        self.takes = takes
        self.outcome = outcome
        self.asked = 0

    def check_target(self, kind: str, target: str) -> None:
        """Takes any."""

    async def send(self, target: Target, notification: Notification) -> Outcome:  # noqa: ARG002  (a provider's)
        """Answers late."""
        self.asked += 1
        await trio.sleep(self.takes)
        return self.outcome

    async def check(self) -> Sent:
        """Is well."""
        return Sent()


async def fill(path: Path, jobs: int) -> None:
    """A file with so many jobs that are due."""
    async with SqliteStore(path) as store:
        store.outbox.open(0)
        now = time.time_ns() // 1_000_000
        await store.append(Batch(push=(Register("bob", "phone", "slow", "token", "secret"),)), now)
        for start in range(0, jobs, 500):
            drafts = (Draft(-n, f"user{n}", "bob", f"m{n}", "hi") for n in range(start, min(start + 500, jobs)))
            await store.append(Batch(drafts=tuple(drafts)), now)


async def chat_for(path: Path, seconds: float, provider: Provider | None) -> list[float]:
    """How long `stored` took, in milliseconds, for each message of some who chat meanwhile."""
    taken: list[float] = []
    push = None if provider is None else Push(providers=[provider])

    async def talk(name: str) -> None:
        while True:
            began = time.perf_counter()
            await chat.send(name, f"{name}'s peer", "hi")
            taken.append((time.perf_counter() - began) * 1000)
            await trio.sleep(PAUSE)

    async with open_chat(path, push=push) as chat:
        await trio.sleep(0.5)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for n in range(SENDERS):
                    nursery.start_soon(talk, f"sender{n}")
    return taken


def measured(filled: Path, folder: Path, seconds: float, pairs: int, takes: float, outcome: Outcome) -> Iterator[float]:
    """The ratio of the medians of each pair."""
    for pair in range(pairs):
        medians: dict[bool, float] = {}
        asked = 0
        for pushing in (pair % 2 == 0, pair % 2 == 1):
            path = folder / "copy.db"
            shutil.copy(filled, path)
            provider = Provider(takes, outcome) if pushing else None
            medians[pushing] = statistics.median(trio.run(chat_for, path, seconds, provider))
            asked = provider.asked if provider else asked
            for file in folder.glob("copy.db*"):
                file.unlink()
        ratio = medians[True] / medians[False]
        print(f"  p50 {medians[False]:.2f} ms without, {medians[True]:.2f} ms with ({asked} attempts): {ratio:.2f}")
        yield ratio


def main() -> None:
    """Run it; exits with 1 if the median of the ratios is too high."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled = folder / "filled.db"
        trio.run(fill, filled, options.jobs)
        for what, takes, outcome in (
            ("answers after 100 ms", 0.1, Sent()),
            ("hangs", 3600.0, Sent()),
            ("is down", 0.0, RetryAfter(None, "503")),
        ):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"{options.jobs} due jobs, and a provider that {what}:")
            ratio = statistics.median(measured(filled, folder, options.seconds, options.pairs, takes, outcome))
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(f"  median ratio {ratio:.2f}; the process has grown by {grown:.1f} MB")
            worst = max(worst, ratio)
    raise SystemExit(worst > LIMIT)


if __name__ == "__main__":
    main()
