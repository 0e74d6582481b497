"""A process of many light clients that are all thrown out at once: ``python -m tests.proofs.storm PORT COUNT``.

Each writes a line to the next one and acknowledges nothing. It says ``ready`` when all of that is answered. When a client is
told to go it comes back when it was told to, writes another line, and takes everything. At the end it prints one line of
JSON: how long that took, and what was not as promised.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from random import Random

import trio

from .ledger import Entry, entries, words
from .peers import NOTHING, Gone, Peer, connect, percentile, send, text

AT_ONCE = 150
"""In their handshakes, before the storm; a server has 200 places for that."""


class Storm:
    """What all of them went through."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.count = count
        self.limiter = trio.CapacityLimiter(AT_ONCE)
        self.answered = 0
        self.ready = trio.Event()
        self.codes: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self.away: list[float] = []
        self.wrongs: list[str] = []
        self.first_told = 0.0
        self.last_back = 0.0

    async def live(self, number: int) -> None:
        """One client, from its first connection to when it has everything."""
        user, to, chance = f"storm{number}", f"storm{(number + 1) % self.count}", Random(number)
        given: list[Entry] = []
        async with self.limiter:
            peer = await connect(self.port, user)
            await peer.write(send(to, "before", words("before")))
            await self._until_stored(peer, "before", given)
        self.answered += 1
        if self.answered == self.count:
            self.ready.set()
        end = await peer.read_to_end()
        await trio.aclose_forcefully(peer.stream)
        told = time.monotonic()
        self.first_told = self.first_told or told
        self.codes[end.code] += 1
        wait = re.fullmatch(r"retry_after=(\d+\.\d)", end.reason)
        if wait is None:
            self.wrongs.append(f"{user} was told {end}")
        await trio.sleep(float(wait[1]) if wait else 1.0)
        peer = await self._back(user, chance)
        given.clear()  # nothing of it was acknowledged: it has to come again
        try:
            await peer.write(send(to, "after", words("after")))
            await self._until_stored(peer, "after", given)
            self.last_back = time.monotonic()
            self.away.append(self.last_back - told)
            while len({entry.seq for entry in given if entry.sender != user}) < 2:
                given += [entry for frame in await peer.read() if frame["type"] == "messages" for entry in entries(frame)]
        except Gone as end:
            self.wrongs.append(f"{user} came back and was told {end}")
        await peer.write(text({"type": "ack", "seq": max(entry.seq for entry in given)}))
        await trio.aclose_forcefully(peer.stream)
        before = f"storm{(number - 1) % self.count}"
        came = sorted((entry.sender, entry.id) for entry in given if entry.sender != user)
        if came != [(before, "after"), (before, "before")] or any(entry.text != words(entry.id) for entry in given):
            self.wrongs.append(f"{user} has {given}")

    async def _back(self, user: str, chance: Random) -> Peer:
        wait = 0.5
        while True:
            try:
                return await connect(self.port, user, query=NOTHING)
            except Gone as refusal:
                self.refused[refusal.reason] += 1
            await trio.sleep(wait * (0.5 + chance.random()))
            wait = min(10.0, 2 * wait)

    async def _until_stored(self, peer: Peer, id: str, given: list[Entry]) -> None:
        stored = False
        while not stored:
            for frame in await peer.read():  # to the last of them: what was read together with the answer counts as well
                if frame["type"] == "messages":
                    given += entries(frame)
                elif frame["type"] == "stored":
                    stored = stored or id in [item["id"] for item in frame["messages"]]
                elif frame["type"] == "error":
                    self.wrongs.append(f"{frame}")


async def main(port: int, count: int) -> None:
    """Start them, and say how it went."""
    storm = Storm(port, count)
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(storm.live, number)
        await storm.ready.wait()
        print("ready", flush=True)  # noqa: T201  (that is the interface)
    report = {
        "codes": dict(storm.codes),
        "refused": dict(storm.refused),
        "away_median_s": percentile(storm.away, 0.5),
        "away_worst_s": max(storm.away),
        "all_back_s": storm.last_back - storm.first_told,
        "cpu_s": time.process_time(),
        "wrongs": storm.wrongs[:10],
    }
    print(json.dumps(report), flush=True)  # noqa: T201


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
