"""Programs that use the client, to be disturbed from outside, under the event loop that is named.

::

    python programs.py (trio|asyncio) exchange PORT COUNT FOLDER
    python programs.py (trio|asyncio) hand-over PORT STATE ID (connected|at-once)
    python programs.py (trio|asyncio) slow PORT SECONDS

They print lines of JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import anyio.lowlevel
import msgspec
import psutil

from trio_chat.client import ChatClient, Disconnected, open_client

UNDER_WAY: Final = 64
MIB: Final = 1024 * 1024


def say(**facts: Any) -> None:
    """Print a line."""
    print(msgspec.json.encode(facts).decode(), flush=True)  # noqa: T201  (that is the interface)


async def exchange(port: str, count: str, folder: str) -> None:
    """Alice sends so many messages to Bob. Says how far Bob is every hundred, and at the end what was sent and what came."""
    url, total = f"ws://127.0.0.1:{port}/ws?user=", int(count)
    called: list[str] = []
    stored: dict[str, int] = {}
    came: list[str] = []

    async def send(chat: ChatClient, number: int, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            id = f"{number:05}"
            called.append(id)  # the order of the calls is the order of the messages
            stored[id] = (await chat.send("bob", f"message {number}", id=id)).seq

    async def write(chat: ChatClient) -> None:
        limiter = anyio.CapacityLimiter(UNDER_WAY)
        async with anyio.create_task_group() as tasks:
            for number in range(total):
                tasks.start_soon(send, chat, number, limiter)

    async def read(chat: ChatClient) -> None:
        async for message in chat.messages():
            came.append(message.id)
            if len(came) % 100 == 0:
                say(came=len(came))
            if len(came) >= total:
                await message.ack()
                return

    async with (
        open_client(url + "alice", device="a", state=f"{folder}/alice.state") as alice,
        open_client(url + "bob", device="b", state=f"{folder}/bob.state") as bob,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, alice)
            tasks.start_soon(read, bob)
        # Whatever comes twice comes now.
        surplus: list[str] = []
        with anyio.move_on_after(1):
            async for message in bob.messages():
                surplus.append(message.id)  # noqa: PERF401  (this is cut short)
        connections = [alice.statistics().connections, bob.statistics().connections]
    say(
        called=called,
        stored=sorted(stored),
        numbers=sorted(stored.values()),
        came=came,
        surplus=surplus,
        connections=connections,
    )


async def hand_over(port: str, state: str, id: str, when: str) -> None:
    """Hand a message over, and say when it is in the client's hands. Says what came of it, if this lives to see it."""
    async with open_client(f"ws://127.0.0.1:{port}/ws?user=alice", device="a", state=state) as chat:

        async def hand() -> None:
            say(stored=(await chat.send("bob", "before the end", id=id)).seq)

        async with anyio.create_task_group() as tasks:
            if when == "connected":
                await chat.wait_connected()
            if id != "-":
                tasks.start_soon(hand)
                for gone in (0, 1):  # it is on its way to the file, and it is there
                    while (chat.statistics().unwritten == 0) is not bool(gone):  # noqa: ASYNC110  (nobody is told of it)
                        await anyio.lowlevel.checkpoint()
                say(handed_over=True)
        while chat.statistics().pending:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        say(done=True)


async def slow(port: str, seconds: str) -> None:
    """Take one message a second from a backlog, and send meanwhile. Says once a second how that goes."""
    process = psutil.Process()
    worst = [0.0]
    lost: list[str] = []

    async with open_client(f"ws://127.0.0.1:{port}/ws?user=bob", device="b") as chat:

        async def take() -> None:
            async for _ in chat.messages():
                await anyio.sleep(1)

        async def talk() -> None:
            while True:
                began = anyio.current_time()
                await chat.send("alice", "still here")
                worst[0] = max(worst[0], anyio.current_time() - began)
                await anyio.sleep(0.1)

        async def listen() -> None:
            async for event in chat.events():
                if isinstance(event, Disconnected):
                    lost.append(event.reason)  # noqa: PERF401  (it is looked at while this goes on)

        async with anyio.create_task_group() as tasks:
            for work in (take, talk, listen):
                tasks.start_soon(work)
            for _ in range(int(seconds)):
                await anyio.sleep(1)
                seen = chat.statistics()
                say(buffered=seen.buffered, connections=seen.connections, worst=worst[0], lost=lost,
                    rss=process.memory_info().rss / MIB)  # fmt: skip
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    programs: dict[str, Callable[..., Awaitable[None]]] = {"exchange": exchange, "hand-over": hand_over, "slow": slow}
    program = programs[sys.argv[2]]
    anyio.run(program, *sys.argv[3:], backend=sys.argv[1])
