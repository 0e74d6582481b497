"""What the application is told of: in order, bounded, and for nothing when nobody looks on."""

from __future__ import annotations

import gc
import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.chat import open_chat
from trio_chat.errors import CloseCode, StoreFull
from trio_chat.observation import (
    BlockChanged,
    ChatEvent,
    DeviceConnected,
    DeviceDisconnected,
    EventStream,
    MessageStored,
    Missed,
    Observers,
    ReadMarked,
    ReceiptChanged,
)
from trio_chat.store.base import Sizes
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server

from .support import UPGRADE, HeldStore, ask, closed, dial, enter, entries, frame, send, stored


async def take(stream: EventStream, count: int) -> list[ChatEvent]:
    """The next events."""
    got: list[ChatEvent] = []
    with trio.fail_after(60):  # noqa: ASYNC912  (none, if none is asked for)
        while len(got) < count:
            got.append(await anext(stream))
    return got


def left(number: int) -> DeviceDisconnected:
    return DeviceDisconnected(user=f"u{number}", device="d", send_only=False)


async def test_what_happens_is_told_in_the_order_in_which_it_becomes_true(autojump_clock: MockClock) -> None:
    """A bot or an audit trail that lives on the events would miss a kind of them, or see an answer before its question."""
    async with open_test_server() as server:
        with server.chat.events() as events:
            alice, bob = await enter(server, "alice"), await enter(server, "bob")
            assert await take(events, 2) == [
                DeviceConnected(user="alice", device="phone", send_only=False),
                DeviceConnected(user="bob", device="phone", send_only=False),
            ]
            await alice.send(wire.Send(id="1", to="bob", text="hi"))
            (item,) = await stored(alice, 1)
            await entries(bob, 1)
            await bob.send(wire.Read(peer="alice", seq=1))
            first, *rest = await take(events, 3)
            assert first == MessageStored(
                id="1", sender="alice", recipient="bob", text="hi", sent_at=item.sent_at, seq=1, peer_seq=1
            )
            assert ReadMarked(user="bob", peer="alice", seq=1) in rest
            assert ReceiptChanged(user="alice", peer="bob", delivered=1, read=1) in rest
            await alice.send(wire.Edit(id="2", to="bob", target="1", text="ho"))
            await alice.send(wire.Send(id="3", to="bob", text="re", reply_to="1"))
            edit, reply = await take(events, 2)
            assert isinstance(edit, MessageStored)
            assert isinstance(reply, MessageStored)
            assert (edit.kind, edit.target, edit.reply_to) == ("edit", "1", None)
            assert (reply.kind, reply.target, reply.reply_to) == ("message", None, "1")
            await alice.send(wire.Block(ref="b", user="eve"))
            assert await take(events, 1) == [BlockChanged(user="alice", peer="eve", blocked=True)]
            await alice.aclose()
            assert await take(events, 1) == [DeviceDisconnected(user="alice", device="phone", send_only=False)]


async def test_the_applications_own_messages_are_among_them(autojump_clock: MockClock) -> None:
    """An audit trail would lack what the application says itself."""
    async with open_chat(MemoryStore()) as chat:
        with chat.events() as events:
            await chat.send("bot", "alice", "hi")
            (event,) = await take(events, 1)
            assert isinstance(event, MessageStored)
            assert event.sender == "bot"


async def test_what_was_refused_or_sent_again_did_not_happen(autojump_clock: MockClock) -> None:
    """A bot would answer the same message twice, or one that nobody has."""
    store = MemoryStore()
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice", "cli", window=0)
        with server.chat.events() as events:
            await alice.send(send("1", "bob"))
            await stored(alice, 1)
            await alice.send(send("1", "bob"))
            await stored(alice, 1)
            store.fail_next(StoreFull("no space"), StoreFull("no space"))
            await alice.send(send("2", "bob"))
            assert isinstance(await alice.receive(), wire.Error)
            await server.chat.send("bot", "bob", "hi", id="3")
            assert [getattr(event, "id", None) for event in await take(events, 2)] == ["1", "3"]


async def test_a_refused_block_did_not_happen(autojump_clock: MockClock) -> None:
    """Whoever looks on would believe in a block that nobody made."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        with server.chat.events() as events:
            await alice.send(wire.Block(ref="b", user="alice"))
            assert isinstance(await alice.receive(), wire.Error)
            await ask(alice, wire.Block(ref="c", user="bob"), wire.Blocked)
            assert await take(events, 1) == [BlockChanged(user="alice", peer="bob", blocked=True)]


async def test_who_was_never_welcome_neither_comes_nor_goes(autojump_clock: MockClock) -> None:
    """A presence list that an application keeps would have ghosts."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        with server.chat.events() as events:
            store.hold()
            first = await server.connect("alice", "phone")
            await store.begun.wait()
            second = await server.connect("alice", "phone")
            await closed(first)
            store.release()
            await frame(second, wire.Welcome)
            await second.aclose()
            assert await take(events, 2) == [
                DeviceConnected(user="alice", device="phone", send_only=False),
                DeviceDisconnected(user="alice", device="phone", send_only=False),
            ]


async def test_a_drain_ends_the_streams(autojump_clock: MockClock) -> None:
    """A bot in the nursery of the chat's block would keep a server from ending that was told to."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:

        async def look_on() -> None:
            async for event in chat.events():
                raise AssertionError(event)

        nursery.start_soon(look_on)
        await wait_all_tasks_blocked()
        await chat.drain()


async def test_two_tasks_do_not_share_a_stream(autojump_clock: MockClock) -> None:
    """Each would miss events, and one of them would wait for ever at the end."""
    stream = EventStream(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_all, stream)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(stream)
        stream.close()


def test_a_full_stream_counts_what_it_misses_in_its_place() -> None:
    """Without a bound a stream that nobody reads eats the memory; without a mark nobody knows that something is missing."""
    stream = EventStream(2)
    for number in range(5):
        stream.put(left(number))

    async def read() -> list[ChatEvent]:
        got = await take(stream, 3)
        stream.put(left(5))
        return [*got, *await take(stream, 1)]

    assert trio.run(read) == [left(0), left(1), Missed(count=3), left(5)]


def test_a_stream_has_room() -> None:
    """One without room would tell of nothing but what is missing."""
    with pytest.raises(ValueError, match="room"):
        EventStream(0)


async def test_the_end_of_the_chat_ends_the_stream_after_what_it_holds(autojump_clock: MockClock) -> None:
    """Whoever iterates would wait for ever, or lose the last events."""
    async with open_chat(MemoryStore()) as chat:
        events = chat.events()
        await chat.send("bot", "alice", "hi", id="1")
    assert [getattr(event, "id", None) async for event in events] == ["1"]
    assert [event async for event in chat.events()] == []


async def test_who_waits_is_woken_by_the_end(autojump_clock: MockClock) -> None:
    """A task that looks on would keep the application from ending."""
    async with trio.open_nursery() as nursery, open_chat(MemoryStore()) as chat:

        async def look_on() -> None:
            async for event in chat.events():
                raise AssertionError(event)

        nursery.start_soon(look_on)
        await wait_all_tasks_blocked()


async def test_cancelling_loses_no_event(autojump_clock: MockClock) -> None:
    """A reader with a timeout would lose the event that comes in that moment."""
    stream = EventStream(1)
    stream.put(left(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)
    assert scope.cancelled_caught
    assert await take(stream, 1) == [left(1)]


def test_a_closed_stream_takes_nothing_more() -> None:
    """Who has stopped looking would go on costing memory."""
    observers = Observers()
    with observers.open(5) as stream:
        observers.tell(left(1))
    assert not observers
    observers.tell(left(2))
    assert trio.run(_all, stream) == []
    stream.close()


async def _all(stream: EventStream) -> list[ChatEvent]:
    return [event async for event in stream]


def test_a_stream_that_nobody_holds_is_forgotten() -> None:
    """A stream per request, never closed, would pile up; and the chat would go on making events for nobody."""
    observers = Observers()
    stream = observers.open(5)
    assert observers
    del stream
    gc.collect()
    assert not observers


async def test_statistics_are_a_snapshot_of_what_is_under_way(autojump_clock: MockClock) -> None:
    """An operator would see a chat that is idle, or one that never is."""
    async with open_test_server() as server:
        await enter(server, "alice")
        bob = await enter(server, "bob")
        await enter(server, "alice", "cli", window=0)
        await server.chat.send("alice", "bob", "hi")
        await entries(bob, 1, acknowledge=False)
        there = server.chat.statistics()
        assert (there.connections, there.handshakes, there.users, there.devices, there.sending) == (3, 0, 2, 2, 1)
        assert (there.behind, there.unacknowledged, there.waiting, there.requests) == (0, 2, 0, 0)


async def test_statistics_tell_how_connections_ended(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """An operator would look for a fault of the server's where clients broke the protocol, or take leaving for failing."""
    with caplog.at_level(logging.INFO, "trio_chat.serve"):
        async with open_test_server() as server:
            await (await enter(server, "alice")).aclose()
            broken = await dial(await server.stream(), "/ws?user=bob", UPGRADE)
            await broken.read()
            await broken.stream.send_all(b"\xff\xff\xff\xff")  # no frame
            while await broken.read() is not None:
                pass
            older = await enter(server, "eve")
            await enter(server, "eve")
            assert (await closed(older)).code == CloseCode.REPLACED
            await trio.sleep(5)
            there = server.chat.statistics()
            assert there.closed == {CloseCode.PROTOCOL_ERROR: 1, CloseCode.REPLACED: 1}
            assert there.uptime == trio.current_time() - server.chat._began == 5
        assert server.chat.closed[CloseCode.GOING_AWAY] == 1
    lines = [record for record in caplog.records if hasattr(record, "connection")]
    assert [(vars(line)["user"], vars(line)["closed"]) for line in lines] == [
        ("alice", None), ("bob", 1002), ("eve", 4409), ("eve", 1001),
    ]  # fmt: skip
    assert lines[0].getMessage().startswith("connection 1 of 'alice', device 'phone', from nowhere: it left after ")
    assert "closed with 4409" in lines[2].getMessage()


async def test_statistics_tell_what_was_done_and_what_waits(autojump_clock: MockClock) -> None:
    """Nobody could tell a slow disk from a slow network, or whether it is the store that everybody waits for."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice")
        before = server.chat.statistics().progress.commits
        store.hold()
        await alice.send(send("a", "bob"), wire.Devices(ref="r"))
        await store.begun.wait()
        await alice.send(send("b", "bob"), send("c", "bob"), send("a", "bob"))
        await trio.sleep(2)
        there = server.chat.statistics()
        assert (there.waiting, there.progress.stored) == (3, 0)
        assert (there.progress.queues.pages, there.progress.queues.drafts, there.progress.queues.events) == (0, 0, 0)
        store.release()
        await frame(alice, wire.DevicesAnswer)
        await trio.sleep(1)
        done = server.chat.statistics().progress
        assert done.stored == 3, "what was sent twice is stored once"
        assert done.commits.rows.sum - before.rows.sum >= 4
        assert done.commits.seconds.max == pytest.approx(2.0)
        assert done.commits.seconds.count == done.commits.rows.count > before.rows.count
        assert server.chat.statistics().sizes == Sizes()
