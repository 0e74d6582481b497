"""How long a test by `trio_chat.testing` takes: one writes to another who is away, is told of it, comes back, and has it.

``python benchmarks/kit.py`` prints the processor's and the clock's milliseconds, of the first run and of the best and the
middle one of those after it.
"""

from __future__ import annotations

import statistics
import time

import trio
from trio.testing import MockClock

from trio_chat.testing import open_test_chat

RUNS = 50


async def away_and_back() -> None:
    """One such test, all of it."""
    async with open_test_chat(push=True) as chat:
        bob = await chat.connect("bob", "phone")
        await chat.register_push("bob", "phone")
        await bob.leave()
        alice = await chat.connect("alice")
        await alice.send("bob", "hi")
        await chat.push.expect(user="bob", unread=1)
        await bob.reconnect()
        await bob.expect(text="hi")


def main() -> None:
    """Measure and print."""
    taken = []
    for _ in range(1 + RUNS):
        began = time.process_time(), time.perf_counter()
        trio.run(away_and_back, clock=MockClock(autojump_threshold=0))
        taken.append(((time.process_time() - began[0]) * 1000, (time.perf_counter() - began[1]) * 1000))
    for name, which in (("processor", 0), ("clock", 1)):
        first, *others = (run[which] for run in taken)
        print(f"{name:9}  first {first:5.1f} ms, best {min(others):5.1f} ms, median {statistics.median(others):5.1f} ms")


if __name__ == "__main__":
    main()
