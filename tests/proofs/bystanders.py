"""A process with many clients that do nothing but read: ``python bystanders.py PORT COUNT USER``.

Says ``ready`` when all have their first frame, and at the end, one a line, when each was told to go and with what code, by
the clock that all processes of a machine share.
"""

from __future__ import annotations

import sys
import time

import trio

CLOSE = 0x88


async def main(port: int, count: int, user: str) -> None:
    """Connect, wait for the close frames, and report."""
    told: list[tuple[float, int]] = []
    limiter = trio.CapacityLimiter(50)
    everybody = trio.Event()
    welcomed = 0

    async def lives(number: int) -> None:
        nonlocal welcomed
        async with limiter:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(
                f"GET /ws?user={user}&device=d{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            read = b""
            while b'"welcome"' not in read:
                read += await stream.receive_some()
            welcomed += 1
            if welcomed == count:
                everybody.set()
        while data := await stream.receive_some():
            if data[0] == CLOSE:
                told.append((time.monotonic(), int.from_bytes(data[2:4], "big")))
                break
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(lives, number)
        await everybody.wait()
        print("ready", flush=True)  # noqa: T201
    for moment, code in told:
        print(moment, code)  # noqa: T201


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
