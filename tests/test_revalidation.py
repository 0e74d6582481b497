"""Asking again whether a connection may go on: how often, how many at once, and what if nobody answers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_chat import Identity, Refused, Request, authenticators, wire
from trio_chat.chat import open_chat
from trio_chat.errors import CloseCode
from trio_chat.serve import serve_listeners
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server

from .support import closed, dial, enter, frame

Hook = Callable[[Identity], Awaitable[None]]


async def test_each_connection_is_asked_about_at_the_interval(autojump_clock: MockClock) -> None:
    """Else somebody whose session ended elsewhere goes on reading, or a database is asked all at once by everybody."""
    asked: dict[str, list[float]] = {}

    async def revalidate(identity: Identity) -> None:
        asked.setdefault(identity.user, []).append(trio.current_time())

    async with open_test_server(revalidate=revalidate) as server:
        for n in range(60):
            await enter(server, f"user{n}")
        began = trio.current_time()
        await trio.sleep(300)
    assert len(asked) == 60
    for times in asked.values():
        assert 10 <= len(times) <= 11
        assert all(29.9 <= after - before <= 30.1 for before, after in itertools.pairwise(times))
    first = sorted(times[0] - began for times in asked.values())
    assert all(sum(second <= moment < second + 1 for moment in first) <= 4 for second in range(30))


class Session(Identity, frozen=True):
    number: int = 0


async def test_the_answer_no_closes_that_connection(autojump_clock: MockClock) -> None:
    """Else a user who was locked out stays; or everybody does who shares a name with somebody who was."""
    ended: set[int] = set()
    numbers = iter(range(1, 100))

    async def authenticate(request: Request) -> Session:
        identity = await authenticators.demo(request)
        return Session(identity.user, identity.device, None, next(numbers))

    async def revalidate(identity: Identity) -> None:
        assert isinstance(identity, Session)
        if identity.number in ended:
            raise Refused("ended")

    async with open_test_server(authenticate=authenticate, revalidate=revalidate) as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        await trio.sleep(31)
        ended.add(1)
        before = trio.current_time()
        assert await code(phone) == CloseCode.UNAUTHORIZED
        assert trio.current_time() - before <= 30.5
        await laptop.send(wire.Ping())
        await frame(laptop, wire.Pong)


async def code(client: object) -> int:
    return (await closed(client)).code  # type: ignore[arg-type]


def fails() -> Hook:
    async def hook(identity: Identity) -> None:
        raise OSError("the database is away")

    return hook


def hangs() -> Hook:
    async def hook(identity: Identity) -> None:
        await trio.sleep_forever()

    return hook


def says_false() -> Hook:
    async def hook(identity: Identity) -> None:
        return False  # type: ignore[return-value]  # believed to refuse: it must not be taken for a yes

    return hook


@pytest.mark.parametrize("hook", [fails(), hangs(), says_false()])
async def test_without_an_answer_a_connection_stays_for_a_while(hook: Hook, autojump_clock: MockClock) -> None:
    """Else a hiccup of a database throws everybody out; or with the database away, those stay who were locked out."""
    async with open_test_server(revalidate=hook) as server:
        alice = await enter(server, "alice")
        began = trio.current_time()
        with trio.move_on_after(99):
            await alice.receive()
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)
        end = await closed(alice)
        assert end.code == CloseCode.INTERNAL  # which says: come back, and be authenticated
        assert 99 <= trio.current_time() - began <= 101
        await enter(server, "alice")


async def test_a_failure_now_and_then_is_logged_and_ends_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the failures of an hour add up, and nobody is told of them."""
    calls = 0

    async def revalidate(identity: Identity) -> None:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise OSError("away")

    async with open_test_server(revalidate=revalidate) as server:
        alice = await enter(server, "alice")
        await trio.sleep(3600)
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)
    assert 118 <= calls <= 121
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == calls - calls // 3


async def test_so_many_are_asked_about_at_once(autojump_clock: MockClock) -> None:
    """Else a slow database gets more and more questions; and who waits in line for too long is never asked about."""
    running = most = 0

    async def slow(identity: Identity) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep(4)
        finally:
            running -= 1

    settings = Settings(revalidations=2)
    async with open_test_server(revalidate=slow, settings=settings) as server:
        clients = [await enter(server, f"user{n}") for n in range(60)]
        codes = []
        async with trio.open_nursery() as nursery:

            async def watch(client: object) -> None:
                with trio.move_on_after(104):
                    codes.append(await code(client))

            for client in clients:
                nursery.start_soon(watch, client)
        # Two at a time, four seconds each: 50 turns in 100 seconds, and those who had none could not be vouched for.
        assert most == 2
        assert 8 <= len(codes) <= 20
        assert set(codes) == {CloseCode.INTERNAL}


async def test_a_connection_that_ends_is_not_asked_about(autojump_clock: MockClock) -> None:
    """Else tasks pile up, one for each connection there ever was; or a hook that hangs holds a listener's end up."""
    asked = 0

    async def revalidate(identity: Identity) -> None:
        nonlocal asked
        asked += 1
        await trio.sleep_forever()

    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        listener = _Line()
        serve = partial(serve_listeners, chat, [listener], authenticate=authenticators.demo, revalidate=revalidate)
        nursery.start_soon(serve)
        peers = [await dial(await listener.connect(), f"/ws?user=u{n}") for n in range(3)]
        await trio.sleep(28)
        assert asked == 3
        before = trio.lowlevel.current_statistics().tasks_living
        await peers[0].stream.aclose()
        await trio.sleep(2)
        assert trio.lowlevel.current_statistics().tasks_living < before
        await chat.drain()
        assert trio.current_time() < 35


class _Line(trio.abc.Listener[trio.abc.Stream]):
    """A listener for streams in memory."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](10)

    async def connect(self) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        await self._send.send(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()
