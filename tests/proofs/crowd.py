"""A process of hostile clients: ``python crowd.py PORT``. Hostile by kind and not by force: they leave a second core alone.

It says ``ready`` when all of them are there. At the end of its input it prints what it did as a line of JSON, and leaves.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from .peers import CONT, PING, TEXT, Gone, connected, dial, frame, head, send, text
from .slow import deaf

KINDS = {"loris": 40, "dribble": 20, "never_reads": 30, "flood": 5, "fragments": 5, "pings": 5, "junk": 5}
"""How many there are of each."""

done: Counter[str] = Counter()


async def loris(port: int, number: int) -> None:
    """Send a request a byte at a time, and begin again when shown out."""
    stream = await dial(port)
    async with stream:
        for byte in head(f"loris{number}"):
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.5)


async def dribble(port: int, number: int) -> None:
    """Send a message a byte at a time."""
    async with connected(port, f"dribble{number}") as peer:
        for byte in send("nobody", "x", "y" * 100):
            await peer.write(bytes([byte]))
            await trio.sleep(0.5)


async def never_reads(port: int, number: int) -> None:
    """Have answers come, and take none."""
    async with await deaf(port, f"deaf{number}") as stream:
        for _ in range(1_000):
            await stream.send_all(text({"type": "watch", "ref": "w" * 64, "users": [f"user{n}" for n in range(100)]}))
            await trio.sleep(0.5)


async def flood(port: int, number: int) -> None:
    """Send messages, much faster than anybody may."""
    async with await deaf(port, f"flood{number}") as stream:
        while True:
            await stream.send_all(send(f"flood{number}", "always-the-same", "and the same text") * 100)
            await trio.sleep(0.5)


async def fragments(port: int, number: int) -> None:
    """Send messages in as many parts as they may have, and then in more."""
    async with connected(port, f"fragments{number}") as peer:
        for _ in range(20):
            await peer.write(frame(TEXT, b"{", fin=False) + frame(CONT, fin=False) * 60 + frame(CONT, b"}"))
            await trio.sleep(0.5)
        await peer.write(frame(TEXT, fin=False) + frame(CONT, fin=False) * 1_000)
        await peer.read_to_end()


async def pings(port: int, number: int) -> None:
    """Send more pings than anybody has use for."""
    async with connected(port, f"pings{number}") as peer:
        while True:
            await peer.write(frame(PING, b"x" * 125) * 60)
            await trio.sleep(0.5)


async def junk(port: int, number: int) -> None:
    """Send what is no frame of ours."""
    async with connected(port, f"junk{number}") as peer:
        while True:
            await peer.write(frame(TEXT, b"[" * 2_000) * 5)
            await trio.sleep(0.5)


ATTACKS: dict[str, Callable[[int, int], Awaitable[None]]] = {
    "loris": loris,
    "dribble": dribble,
    "never_reads": never_reads,
    "flood": flood,
    "fragments": fragments,
    "pings": pings,
    "junk": junk,
}


async def keep_at_it(kind: str, port: int, number: int) -> None:
    """Attack, and once more whenever that ends; not at once, for reconnecting is not what this is about."""
    await trio.sleep(random.Random(number).random())
    while True:
        done[kind] += 1
        with suppress(Gone, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await ATTACKS[kind](port, number)
        await trio.sleep(1)


async def main(port: int) -> None:
    """Start everybody, and wait for the end of the input."""
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for kind, count in KINDS.items():
            for number in range(count):
                nursery.start_soon(keep_at_it, kind, port, number)
        await trio.sleep(2)
        print("ready", flush=True)  # noqa: T201  (that is the interface)
        await trio.lowlevel.FdStream(0).receive_some(1)
        nursery.cancel_scope.cancel()
    share = time.process_time() / (time.monotonic() - began)
    print(json.dumps({"cpu_percent": round(100 * share, 1), "attacks": dict(done)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
