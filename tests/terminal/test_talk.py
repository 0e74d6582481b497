"""What happens while somebody chats, on the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.abc
import trio
import trio.testing

from trio_chat.client import ChatClient
from trio_chat.terminal.conversation import Conversation, Line, State
from trio_chat.terminal.talk import Talk, standing
from trio_chat.testing import InMemoryServer, open_test_server

from ..support import PATIENCE


class Person:
    """Somebody who chats, and waits for what there is to be seen."""

    def __init__(self, client: ChatClient, peer: str) -> None:
        self.client = client
        self.conversation = Conversation(peer)
        self.talk = Talk(client, self.conversation, self._tick)
        self._changed = trio.Event()

    def _tick(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @property
    def texts(self) -> list[str | None]:
        return [item.text for item in self.conversation.items]

    def states(self) -> list[State]:
        return [self.conversation.state(item) for item in self.conversation.items if isinstance(item, Line) and item.mine]

    async def until(self, seen: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):  # noqa: ASYNC912
            while not seen():
                await self._changed.wait()


@asynccontextmanager
async def person(server: InMemoryServer, user: str, peer: str, **options: Any) -> AsyncIterator[Person]:
    async with server.open_client(user, "cli-chat", **options) as client, trio.open_nursery() as nursery:
        somebody = Person(client, peer)
        nursery.start_soon(somebody.talk.run)
        await somebody.until(lambda: somebody.talk.connected)
        yield somebody
        nursery.cancel_scope.cancel()


async def test_typing_is_told_and_ends(autojump_clock: trio.testing.MockClock) -> None:
    """Else somebody seems to write for ever, or is not seen to write a long message."""
    async with open_test_server() as server, person(server, "alice", "bob") as alice, person(server, "bob", "alice") as bob:
        await trio.testing.wait_all_tasks_blocked()  # what is ephemeral is dropped while anything else waits to be written
        alice.talk.types(something=True)
        await bob.until(lambda: standing(bob.talk) == "is writing …")
        began = trio.current_time()
        await bob.until(lambda: not bob.talk.typing)
        assert 5 < trio.current_time() - began < 8  # no key was pressed
        for _ in range(20):
            await trio.sleep(1)
            alice.talk.types(something=True)
        assert bob.talk.typing
        alice.talk.types(something=False)
        await bob.until(lambda: not bob.talk.typing)
        alice.talk.types(something=True)
        await bob.until(lambda: bob.talk.typing)
        alice.talk.say("done")
        await bob.until(lambda: bob.texts == ["done"])
        assert not bob.talk.typing


async def test_typing_that_nobody_ends_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """Else the other one's lost connection leaves "is writing" standing for ever."""
    async with open_test_server() as server, person(server, "bob", "alice") as bob, server.open_client("alice") as alice:
        await alice.wait_connected()
        alice.typing("bob", True)
        await bob.until(lambda: bob.talk.typing)
        began = trio.current_time()
        await bob.until(lambda: not bob.talk.typing)
        assert 9 < trio.current_time() - began < 11


async def test_what_is_said_is_sent_in_order_and_its_fate_is_seen(autojump_clock: trio.testing.MockClock) -> None:
    """Else lines that are written fast are exchanged, or their state is never known."""
    async with open_test_server() as server, person(server, "alice", "bob") as alice:
        said = [f"line {n}" for n in range(50)]
        for text in said:
            alice.talk.say(text)
        await alice.until(lambda: alice.states() == [State.STORED] * 50)
        alice.talk.say("x" * 20_000)
        await alice.until(lambda: alice.states()[-1] is State.REFUSED)
        async with person(server, "bob", "alice") as bob:
            await bob.until(lambda: bob.texts == said)
            await alice.until(lambda: alice.states()[:-1] == [State.DELIVERED] * 50)
            bob.talk.seen()
            await alice.until(lambda: alice.states()[:-1] == [State.READ] * 50)
            bob.talk.say("yes")
            await alice.until(lambda: standing(alice.talk) == "is here")


async def test_the_start_shows_what_was_before(autojump_clock: trio.testing.MockClock) -> None:
    """Else a chat that is opened again is empty, or does not know what was read meanwhile."""
    async with open_test_server() as server:
        async with server.open_client("alice", "other") as alice, server.open_client("bob") as bob:
            for n in range(150):
                await alice.send("bob", f"line {n}", id=f"id {n}")
            await alice.edit("bob", "id 149", "edited")
            await alice.send("eve", "to somebody else")
            async for message in bob.messages():
                if message.seq == 150:
                    break
            await message.ack()
            bob.read("alice", 150)
            await bob.history(limit=1)  # so the server has read that, too
            async for message in alice.messages(own=True):
                if message.recipient == "eve":
                    break
        async with person(server, "alice", "bob") as again:
            await again.until(lambda: len(again.states()) == 100 and set(again.states()) == {State.READ})
            assert again.texts[-1] == "edited"
            assert again.talk.more
            again.talk.leaf()
            await again.until(lambda: len(again.texts) == 150)
            assert not again.talk.more


async def test_what_others_write_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    """Else a message of a third person is acknowledged by this device, and nobody has seen it."""
    async with open_test_server() as server, person(server, "alice", "bob") as alice, server.open_client("eve") as eve:
        await eve.send("alice", "hello from eve")
        await alice.until(lambda: alice.texts == ["eve writes: hello from eve"])


async def test_an_outage_is_seen_and_nothing_is_lost(autojump_clock: trio.testing.MockClock) -> None:
    """Else somebody writes into the void without knowing, or what was written then is gone."""
    there = True
    streams: list[anyio.abc.ByteStream] = []
    async with open_test_server() as server:

        async def connect() -> anyio.abc.ByteStream:
            if not there:
                raise ConnectionRefusedError("nobody is here")
            streams.append(await server.byte_stream())
            return streams[-1]

        async with person(server, "alice", "bob", connect=connect) as alice, person(server, "bob", "alice") as bob:
            for somebody in (alice, bob):
                somebody.talk.say("hi")
            await alice.until(lambda: standing(alice.talk) == "is here")
            there = False
            await streams[-1].aclose()
            await alice.until(lambda: not alice.talk.connected)
            assert standing(alice.talk).startswith("no connection: ")
            alice.talk.say("into the void")
            alice.talk.types(something=True)
            await trio.sleep(60)
            assert alice.states()[-1] is State.SENT
            assert alice.conversation.unsettled == 1
            there = True
            await bob.until(lambda: bob.texts[-1] == "into the void")
            await alice.until(lambda: standing(alice.talk) == "is here")
            await alice.until(lambda: alice.states()[-1] is State.DELIVERED)
