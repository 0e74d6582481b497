"""The life of a chat: how its block is left, cancelled and drained; and what the protocol promises to clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from trio_chat import authenticators, wire
from trio_chat.chat import Chat, open_chat
from trio_chat.client.raw import ClosedByServer, NotConnected, wrap_stream
from trio_chat.core.batch import Batch, Results
from trio_chat.errors import CloseCode, ConfigurationError, ErrorCode, StoreLocked
from trio_chat.model import Identity
from trio_chat.serve import handle
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server
from trio_chat.transport.http import Request

from .support import (
    HeldStore,
    answer,
    closed,
    dial,
    enter,
    entries,
    frame,
    no_task_left,
    request,
    send,
    silence,
    stored,
)
from .transport.peer import CLOSE, TEXT, Peer
from .transport.peer import frame as client_frame


class Guests:
    """Clients whose connections run in a nursery outside of the chat's block, so that leaving it has somebody to drain."""

    def __init__(self, nursery: trio.Nursery, authenticate: Callable[[Request], object] = authenticators.demo) -> None:
        self._nursery = nursery
        self._authenticate = authenticate

    def stream(self, chat: Chat, *, lockstep: bool = False) -> trio.abc.Stream:
        ours, theirs = lockstep_stream_pair() if lockstep else memory_stream_pair()
        self._nursery.start_soon(partial(handle, chat, ours, authenticate=self._authenticate))  # type: ignore[arg-type]
        return theirs

    async def peer(self, chat: Chat, user: str = "alice", *, lockstep: bool = False) -> Peer:
        """A client that has read its ``welcome``."""
        peer = await dial(self.stream(chat, lockstep=lockstep), f"/ws?user={user}")
        assert isinstance(await said(peer), wire.Welcome)
        return peer


@asynccontextmanager
async def guests() -> AsyncIterator[Guests]:
    async with trio.open_nursery() as nursery:
        yield Guests(nursery)


async def said(peer: Peer) -> wire.ServerFrame:
    read = await peer.read()
    assert read is not None
    assert read[0] == TEXT, read
    return wire.decode_server(read[1])


def says(*frames: wire.ClientFrame) -> bytes:
    return b"".join(client_frame(TEXT, wire.encode(frame)) for frame in frames)


async def until_closed(peer: Peer) -> tuple[list[str], int]:
    """The ids in `stored` frames until the end, and the close code (0 without one)."""
    ids, code = [], 0
    with suppress(trio.BrokenResourceError):
        for opcode, payload in await peer.read_all():
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big")
            elif opcode == TEXT and isinstance(got := wire.decode_server(payload), wire.Stored):
                ids += [item.id for item in got.messages]
    return ids, code


# Leaving the block.


async def test_leaving_the_block_drains(autojump_clock: MockClock) -> None:
    """Else the clients of an application that ends see 1006, or tasks outlive the block (promise 7)."""
    store = HeldStore()
    async with no_task_left(), guests() as outside:
        async with open_chat(store) as chat:
            alice = await outside.peer(chat)
        assert chat.registry.sessions == 0
        assert await until_closed(alice) == ([], CloseCode.GOING_AWAY)
    assert store.closed == 1


async def test_leaving_an_idle_block_takes_no_time(autojump_clock: MockClock) -> None:
    """Else every test and every restart of an application waits for a timer."""
    before = trio.current_time()
    async with open_chat(MemoryStore()):
        pass
    assert trio.current_time() == before


class Planted(Exception):
    pass


@pytest.mark.parametrize("error", [Planted("one"), ExceptionGroup("user's own", [Planted("two")]), KeyError("x")])
async def test_an_exception_of_the_block_leaves_as_it_is(error: Exception, autojump_clock: MockClock) -> None:
    """Else an application's ``except`` around the block does not match, for a nursery of ours has wrapped its exception."""
    store = HeldStore()
    async with guests() as outside:
        caught: BaseException | None = None
        alice = None
        try:
            async with open_chat(store) as chat:
                alice = await outside.peer(chat)
                raise error  # noqa: TRY301
        except Exception as left:
            caught = left
        assert caught is error
        assert alice is not None
        assert await until_closed(alice) == ([], CloseCode.GOING_AWAY)
    assert store.closed == 1


async def test_an_exception_that_is_being_handled_outside_stays_there(autojump_clock: MockClock) -> None:
    """Else a chat that is opened inside of an ``except`` raises what was caught there once more when it is left well."""
    try:
        int("handled")
    except ValueError:
        async with open_chat(MemoryStore()):
            pass
        async with open_test_server() as server:
            await enter(server, "alice")


async def test_several_failures_are_all_reported(autojump_clock: MockClock) -> None:
    """Else the second failure hides the first, which was the reason (failures 29)."""

    class Failing(HeldStore):
        async def append(self, batch: Batch, now: int) -> Results:
            raise ValueError("the store's")

    with pytest.RaisesGroup(
        pytest.RaisesExc(ValueError, match="the store's"),
        pytest.RaisesExc(Planted, match="the application's"),
        flatten_subgroups=True,
    ):
        async with open_test_server(store=Failing()) as server:
            try:
                await server.connect("alice")
                await trio.sleep_forever()
            finally:
                raise Planted("the application's")


async def test_a_store_that_is_held_is_refused_on_entry(tmp_path: Path) -> None:
    """Else two servers write one file (failures 6); and it must not come wrapped in a group."""
    async with open_chat(tmp_path / "chat.db"):
        with pytest.raises(StoreLocked):
            async with open_chat(str(tmp_path / "chat.db")):
                raise AssertionError("it was entered")
    async with open_chat(tmp_path / "chat.db"):
        pass


# Draining.


async def test_a_drain_answers_what_was_read(autojump_clock: MockClock) -> None:
    """Else a message is stored and its sender never hears of it, at every restart (D1)."""
    store = HeldStore()
    async with guests() as outside, open_chat(store) as chat:
        alice = await outside.peer(chat)
        store.hold()
        await alice.send(says(*[send(f"a{n}", "bob") for n in range(20)]))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat.drain)
            await wait_all_tasks_blocked()
            await alice.send(says(send("late", "bob")))  # nobody reads it any more
            store.release()
        ids, code = await until_closed(alice)
        assert ids == [f"a{n}" for n in range(20)] == store.ids("bob")
        assert code == CloseCode.GOING_AWAY


async def test_a_drain_says_when_to_come_back(autojump_clock: MockClock) -> None:
    """Else all clients come back at the same moment (failures 14)."""
    async with guests() as outside, open_chat(MemoryStore()) as chat:
        peers = [await outside.peer(chat, f"user{n}") for n in range(5)]
        await chat.drain()
        hints = set()
        for peer in peers:
            code, reason = await peer.closed_with()
            assert code == CloseCode.GOING_AWAY
            name, _, seconds = reason.partition("=")
            assert name == "retry_after"
            assert 0 < float(seconds) <= 5.2
            hints.add(seconds)
        assert len(hints) == 5


async def test_a_drain_may_be_asked_for_twice(autojump_clock: MockClock) -> None:
    """Else a second SIGTERM handler, or leaving the block after a drain, hangs or raises."""
    async with guests() as outside, open_chat(MemoryStore()) as chat:
        alice = await outside.peer(chat)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat.drain)
            nursery.start_soon(chat.drain)
        await chat.drain()
        assert (await until_closed(alice))[1] == CloseCode.GOING_AWAY


async def test_acks_are_committed_before_a_drain_ends(autojump_clock: MockClock) -> None:
    """Else every restart sends the last entries again (A3)."""
    store = MemoryStore()
    async with open_test_server(store=store) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("a", "bob"))
        await entries(bob, 1)
        await wait_all_tasks_blocked()
        await server.chat.drain()
    async with open_test_server(store=store) as server:
        again = await server.connect("bob", "phone")
        assert (await frame(again, wire.Welcome)).cursor == 1
        await silence(again, 1)


async def test_what_waits_for_the_store_is_committed_when_nobody_is_left(autojump_clock: MockClock) -> None:
    """Else the block ends with the last connection, and what that one acknowledged just before is forgotten (A3)."""
    store = MemoryStore()
    async with guests() as outside:
        async with open_chat(store) as chat:
            alice, bob = await outside.peer(chat, "alice"), await outside.peer(chat, "bob")
            await alice.send(says(send("a", "bob")))
            assert isinstance(await said(bob), wire.Messages)
            await bob.send(says(wire.Ack(seq=1)))
            for peer in (alice, bob):
                await peer.stream.aclose()
            await wait_all_tasks_blocked()
            assert chat.registry.sessions == 0
        async with open_chat(store) as chat:
            bob = await dial(outside.stream(chat), "/ws?user=bob")
            welcome = await said(bob)
            assert isinstance(welcome, wire.Welcome)
            assert (welcome.cursor, welcome.head) == (1, 1)
            await bob.stream.aclose()


async def test_who_does_not_read_does_not_hold_up_a_drain(autojump_clock: MockClock) -> None:
    """Else one client that stopped reading decides when the server may end."""
    settings = Settings(drain_timeout=3.0)
    async with guests() as outside, open_chat(MemoryStore(), settings=settings) as chat:
        well, stuck = await outside.peer(chat, "alice"), await outside.peer(chat, "bob", lockstep=True)
        await stuck.send(says(wire.Ping()))
        await wait_all_tasks_blocked()
        before = trio.current_time()
        await chat.drain()
        assert 3.0 <= trio.current_time() - before <= 4.5
        assert chat.registry.sessions == 0
        assert (await until_closed(well))[1] == CloseCode.GOING_AWAY


async def test_a_store_that_hangs_does_not_hold_up_the_end(autojump_clock: MockClock) -> None:
    """Else a disk that does not answer keeps the process for ever: drain, last commit and farewells have limits."""

    class Hanging(MemoryStore):
        hang = False

        async def append(self, batch: Batch, now: int) -> Results:
            if self.hang:
                await trio.sleep_forever()
            return await super().append(batch, now)

    store = Hanging()
    settings = Settings(drain_timeout=3.0)
    async with guests() as outside:
        async with open_chat(store, settings=settings) as chat:
            alice = await outside.peer(chat)
            store.hang = True
            await alice.send(says(send("a", "bob")))
            await wait_all_tasks_blocked()
            before = trio.current_time()
        assert 3.0 <= trio.current_time() - before <= 3.0 + 1.5 + 5.0
        assert await until_closed(alice) == ([], CloseCode.GOING_AWAY)


async def test_a_drain_that_is_cancelled_goes_on(autojump_clock: MockClock) -> None:
    """Else stragglers stay for ever when whoever asked for the drain loses patience."""
    settings = Settings(drain_timeout=3.0)
    async with guests() as outside, open_chat(MemoryStore(), settings=settings) as chat:
        well, stuck = await outside.peer(chat, "alice"), await outside.peer(chat, "bob", lockstep=True)
        await stuck.send(says(wire.Ping()))
        await wait_all_tasks_blocked()
        before = trio.current_time()
        with trio.move_on_after(1):
            await chat.drain()
        assert (await until_closed(well))[1] == CloseCode.GOING_AWAY
        await chat.registry.wait_idle()
        assert 3.0 <= trio.current_time() - before <= 4.5


async def test_cancelling_the_block_while_it_drains_hurries(autojump_clock: MockClock) -> None:
    """Else who loses patience with a drain cannot end it: its limit would hold for a cancellation, too."""
    settings = Settings(drain_timeout=60.0, write_timeout=60.0)
    store = HeldStore()
    async with guests() as outside:
        with trio.move_on_after(2) as scope:
            async with open_chat(store, settings=settings) as chat:
                stuck = await outside.peer(chat, "bob", lockstep=True)
                await stuck.send(says(wire.Ping()))
                await wait_all_tasks_blocked()
        assert scope.cancelled_caught
        assert trio.current_time() <= 2 + 1 + 5
    assert store.closed == 1


async def test_new_connections_are_turned_away_during_a_drain(autojump_clock: MockClock) -> None:
    """Else a drain never ends, or a client that comes now is served by what is about to be gone."""
    asked, decided = trio.Event(), trio.Event()

    async def slow(req: Request) -> Identity:
        if req.parameter("user") == "late":
            asked.set()
            await decided.wait()
        return await authenticators.demo(req)

    store = HeldStore()
    async with trio.open_nursery() as nursery, open_chat(store) as chat:
        outside = Guests(nursery, slow)
        alice = await outside.peer(chat)
        late = outside.stream(chat)
        await late.send_all(request("/ws?user=late"))
        await asked.wait()
        store.hold()
        await alice.send(says(send("a", "bob")))
        await wait_all_tasks_blocked()
        nursery.start_soon(chat.drain)  # noqa: ASYNC111
        await wait_all_tasks_blocked()
        assert (await answer(outside.stream(chat), request())).startswith(b"HTTP/1.1 503 ")
        assert (await answer(outside.stream(chat), request("/healthz"))).startswith(b"HTTP/1.1 503 ")
        decided.set()
        peer = Peer(late)
        while b"\r\n\r\n" not in peer._buffer:
            peer._buffer += await late.receive_some()
        peer._buffer = peer._buffer.partition(b"\r\n\r\n")[2]
        assert (await peer.closed_with())[0] == CloseCode.GOING_AWAY
        store.release()
        assert await until_closed(alice) == (["a"], CloseCode.GOING_AWAY)


# Cancelling.


class CancelAfter(trio.abc.Instrument):
    """Cancels the scope before the given number of steps of tasks has been made."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self._steps = steps
        self.made = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.made += 1
        if self.made == self._steps:
            self._scope.cancel()


async def chatting(steps: int, store: HeldStore) -> tuple[int, list[str], list[str]]:
    """A short chat that is cancelled after so many steps; how many it had, what was acknowledged, and what was delivered."""
    acknowledged: list[str] = []
    delivered: list[str] = []
    scope = trio.CancelScope()
    instrument = CancelAfter(scope, steps)

    async def writes(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, AssertionError):
            peer = await dial(stream, "/ws?user=alice")
            for n in range(3):
                await peer.send(says(*[send(f"{n}-{m}", "bob") for m in range(3)]))
                for _ in range(1):
                    got = await said(peer)
                    if isinstance(got, wire.Stored):
                        acknowledged.extend(item.id for item in got.messages)
            acknowledged.extend((await until_closed(peer))[0])

    async def listens(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, AssertionError):
            peer = await dial(stream, "/ws?user=bob")
            while True:
                got = await said(peer)
                if isinstance(got, wire.Messages):
                    delivered.extend(message.id for message in got.messages)
                    await peer.send(says(wire.Ack(seq=got.messages[-1].seq)))

    trio.lowlevel.add_instrument(instrument)
    async with trio.open_nursery() as outside:
        with scope:
            async with open_chat(store) as chat, trio.open_nursery() as nursery:
                for client in (writes, listens):
                    ours, theirs = memory_stream_pair()
                    nursery.start_soon(partial(handle, chat, ours, authenticate=authenticators.demo))
                    outside.start_soon(client, theirs)
                while len(delivered) < 9:
                    await wait_all_tasks_blocked()
                await chat.drain()
        outside.cancel_scope.deadline = trio.current_time() + 10  # whose stream nobody was left to close
    trio.lowlevel.remove_instrument(instrument)
    return instrument.made, acknowledged, delivered


def test_cancelled_at_any_step_nothing_acknowledged_is_missing() -> None:
    """Else a cancellation at the wrong moment loses a message, half applies one, or leaves the store open (failures 27)."""

    def run(steps: int) -> tuple[int, int]:
        store = HeldStore()
        made, acknowledged, delivered = trio.run(chatting, steps, store, clock=MockClock(autojump_threshold=0))
        log = store.ids("bob")
        assert set(acknowledged) <= set(log), steps
        assert delivered == log[: len(delivered)], steps
        assert log == store.ids("alice") == [f"{n}-{m}" for n in range(3) for m in range(3)][: len(log)], steps
        assert store.closed <= 1
        if steps > 20:
            assert store.closed == 1, steps
        return made, len(acknowledged)

    made, acknowledged = run(1_000_000)
    assert acknowledged == 9
    outcomes = {run(steps)[1] for steps in range(1, made, 2)}
    assert len(outcomes) > 3


async def test_a_cancelled_block_commits_what_is_in_the_stores_hands(autojump_clock: MockClock) -> None:
    """Else a batch is committed and half applied, or given up although the disk would have had it a moment later."""
    store = HeldStore()
    async with guests() as outside:
        with trio.CancelScope() as scope:
            async with open_chat(store) as chat:
                alice = await outside.peer(chat)
                store.hold()
                await alice.send(says(send("a", "bob")))
                await store.begun.wait()
                outside._nursery.start_soon(release_after, store, 2.0)
                scope.cancel()
                await trio.sleep_forever()
        assert trio.current_time() == pytest.approx(2.0)
        assert (await until_closed(alice))[1] == CloseCode.GOING_AWAY
    assert store.ids("bob") == ["a"]
    assert store.closed == 1


async def release_after(store: HeldStore, seconds: float) -> None:
    await trio.sleep(seconds)
    store.release()


async def test_cancelled_with_threads_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    """Else the store in a file loses what its thread was committing when everything was cancelled."""
    settings = Settings(send_rate=None, close_timeout=0.05)
    for commits in range(1, 6):
        path = tmp_path / f"{commits}.db"
        acknowledged: list[str] = []
        async with guests() as outside:
            with trio.CancelScope() as scope:
                async with open_chat(path, settings=settings) as chat:
                    alice = await outside.peer(chat)
                    await alice.send(says(*[send(f"a{n}", "alice") for n in range(40)]))
                    for _ in range(commits):
                        got = await said(alice)
                        assert isinstance(got, wire.Stored)
                        acknowledged += [item.id for item in got.messages]
                        await alice.send(says(*[send(f"b{commits}-{len(acknowledged)}-{n}", "alice") for n in range(40)]))
                    scope.cancel()
            acknowledged += (await until_closed(alice))[0]
            await alice.stream.aclose()
        async with guests() as outside, open_chat(path) as chat:
            alice = await dial(outside.stream(chat), "/ws?user=alice&device=other")
            welcome = await said(alice)
            await alice.stream.aclose()
            assert isinstance(welcome, wire.Welcome)
            assert welcome.head >= len(set(acknowledged)) == len(acknowledged) >= 40


# What the protocol promises. Each with and without the path through memory (C4).


@pytest.fixture(params=[True, False], ids=["memory-path", "store-path"])
def memory_path(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


UNLIMITED = Settings(send_rate=None)


async def test_bob_away_has_it_when_he_comes_and_not_again(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else a message to somebody who is away is lost, or comes at every connect."""
    async with open_test_server(memory_path=memory_path) as server:
        alice = await enter(server, "alice")
        bob = await enter(server, "bob")
        await bob.aclose()
        for n in range(3):
            await alice.send(send(f"a{n}", "bob", f"text {n}"))
        await stored(alice, 3)
        for _ in range(2):  # not acknowledged, so it comes again
            bob = await enter(server, "bob")
            got = await entries(bob, 3, acknowledge=False)
            assert [(entry.seq, entry.sender, entry.text) for entry in got] == [
                (n + 1, "alice", f"text {n}") for n in range(3)
            ]
            await bob.aclose()
        bob = await enter(server, "bob")
        await entries(bob, 3)
        await bob.aclose()
        again = await server.connect("bob", "phone")
        assert (await frame(again, wire.Welcome)).cursor == 3
        await silence(again, 5)


async def test_a_newer_connection_takes_over(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else a device that reconnects before its old connection is noticed to be dead loses entries, or gets them twice."""
    async with open_test_server(settings=UNLIMITED, memory_path=memory_path) as server:
        alice, older = await enter(server, "alice"), await enter(server, "bob")
        async with trio.open_nursery() as nursery:

            async def writes() -> None:
                for n in range(200):
                    await alice.send(send(f"a{n}", "bob"))
                    await stored(alice, 1)

            nursery.start_soon(writes)
            before = await entries(older, 50)
            newer = await server.connect("bob", "phone")
            cursor = (await frame(newer, wire.Welcome)).cursor
            assert 0 <= cursor <= before[-1].seq
            after = await entries(newer, 200 - cursor)
            assert [entry.seq for entry in after] == list(range(cursor + 1, 201))
        end = await closed(older)
        assert end.code == CloseCode.REPLACED


async def test_what_the_replaced_connection_sent_is_stored_once(autojump_clock: MockClock) -> None:
    """Else a message under way in the hand-over is lost or doubled (failures 16)."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        older = await enter(server, "alice")
        store.hold()
        await older.send(send("first", "bob"))
        await store.begun.wait()
        await older.send(send("second", "bob"))
        await wait_all_tasks_blocked()
        newer = await server.connect("alice", "phone")
        assert (await closed(older)).code == CloseCode.REPLACED
        store.release()
        await frame(newer, wire.Welcome)
        await newer.send(send("first", "bob"), send("second", "bob"), send("third", "bob"))
        seen: dict[str, int] = {}
        while len(seen) < 3:  # it hears of them as entries, as answers, or as both; with the same number
            got = await newer.receive()
            assert isinstance(got, wire.Stored | wire.Messages)
            for item in got.messages:
                assert seen.setdefault(item.id, item.seq) == item.seq
        assert store.ids("bob") == ["first", "second", "third"]


async def test_sent_again_it_has_the_same_answer_and_is_delivered_once(autojump_clock: MockClock) -> None:
    """Else whoever lost an answer cannot send again without doubling (failures 17, 18)."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("x", "bob", "once"))
        await wait_all_tasks_blocked()
        await alice.aclose()  # without having read the answer
        (entry,) = await entries(bob, 1)
        alice = await enter(server, "alice", window=0)
        await alice.send(send("x", "bob", "once"))
        (first,) = await stored(alice, 1)
        await alice.send(send("x", "bob", "once"))
        (second,) = await stored(alice, 1)
        assert first == second == wire.StoredItem("x", 1, entry.sent_at)
        for other in (send("x", "bob", "twice"), send("x", "carol", "once")):
            await alice.send(other)
            refusal = await frame(alice, wire.Error)
            assert (refusal.code, refusal.id, refusal.retry_after) == (ErrorCode.ID_CONFLICT, "x", None)
        await silence(bob, 5)


async def test_a_pipelining_client_can_go_on_after_a_refusal(autojump_clock: MockClock) -> None:
    """Else a burst beyond the limit is stored in part and out of order, and the client cannot know from where to resend."""
    async with open_test_server(settings=Settings(send_rate=1.0, send_burst=5)) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        pending = [f"a{n}" for n in range(12)]
        rounds = 0
        while pending:
            await alice.send(*[send(id, "bob") for id in pending])
            refused: list[str] = []
            wait = 0.0
            accepted = 0
            for _ in pending:
                got = await alice.receive()
                if isinstance(got, wire.Error):
                    assert got.code == ErrorCode.RATE_LIMITED
                    assert got.id is not None
                    assert got.retry_after is not None
                    refused.append(got.id)
                    wait = wait or got.retry_after
                else:
                    assert isinstance(got, wire.Stored)
                    for item in got.messages:
                        assert item.id == pending[accepted]
                        accepted += 1
                if len(refused) + accepted == len(pending):
                    break
            assert refused == pending[accepted:]
            pending = refused
            rounds += 1
            with trio.move_on_after(wait):
                await trio.sleep_forever()
        assert rounds > 1
        assert [entry.id for entry in await entries(bob, 12)] == [f"a{n}" for n in range(12)]


async def test_the_limit_is_the_users_and_outlives_a_reconnect(autojump_clock: MockClock) -> None:
    """Else a client makes itself a new allowance by reconnecting, or by naming another device (C9)."""
    async with open_test_server(settings=Settings(send_rate=1.0, send_burst=3)) as server:
        for n in range(3):
            alice = await enter(server, "alice", f"device{n}", window=0)
            await alice.send(send(f"a{n}", "bob"))
            await stored(alice, 1)
            await alice.aclose()
        alice = await enter(server, "alice", window=0)
        await alice.send(send("a3", "bob"))
        assert (await frame(alice, wire.Error)).code == ErrorCode.RATE_LIMITED


async def test_a_client_may_resume_from_its_own_position(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else a client that keeps its own record gets what it has, or misses what it has not (C1)."""
    async with open_test_server(memory_path=memory_path) as server:
        alice = await enter(server, "alice")
        bob = await server.connect("bob", "phone")
        log = (await frame(bob, wire.Welcome)).log
        for n in range(5):
            await alice.send(send(f"a{n}", "bob"))
        await entries(bob, 5, acknowledge=False)
        await bob.aclose()
        ahead = await server.connect("bob", "phone", log=log, after=3)
        assert (await frame(ahead, wire.Welcome)).cursor == 3  # counts as an ack
        assert [entry.seq for entry in await entries(ahead, 2, acknowledge=False)] == [4, 5]
        await ahead.aclose()
        back = await server.connect("bob", "phone", log=log, after=1)
        await frame(back, wire.Welcome)
        assert [entry.seq for entry in await entries(back, 4, acknowledge=False)] == [2, 3, 4, 5]
        await back.aclose()
        recorded = await server.connect("bob", "phone")
        assert (await frame(recorded, wire.Welcome)).cursor == 3  # going back did not move it
        await recorded.aclose()
        for after, other in ((99, log), (2, "another")):
            strange = await server.connect("bob", "phone", log=other, after=after)
            welcome = await frame(strange, wire.Welcome)
            assert (welcome.cursor, welcome.log) == (3, log)
            await strange.aclose()


async def test_own_messages_do_not_use_the_window(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else who sends 300 messages and acknowledges none does not get the answer to them (C5, C6)."""
    async with open_test_server(settings=UNLIMITED, memory_path=memory_path) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob", window=0)
        for n in range(300):
            await alice.send(send(f"a{n}", "bob"))
        await stored(alice, 300)
        before = trio.current_time()
        await bob.send(send("answer", "alice"))
        (entry,) = await entries(alice, 1, acknowledge=False)
        assert (entry.seq, entry.id) == (301, "answer")
        assert trio.current_time() == before


async def test_a_slow_device_is_behind_and_others_are_not(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else somebody who does not acknowledge gets no end of entries, loses some, or holds up another device (C6)."""
    settings = Settings(send_rate=None, window=10)
    async with open_test_server(settings=settings, memory_path=memory_path) as server:
        alice = await enter(server, "alice")
        slow, quick = await enter(server, "bob", "slow"), await enter(server, "bob", "quick")
        for n in range(35):
            await alice.send(send(f"a{n}", "bob"))
        assert len(await entries(quick, 35)) == 35
        got = await entries(slow, 10, acknowledge=False)
        await silence(slow, 20)
        while len(got) < 35:
            await slow.send(wire.Ack(seq=got[-1].seq))
            more = await frame(slow, wire.Messages)
            assert len(more.messages) <= 10
            got += more.messages
        assert [entry.seq for entry in got] == list(range(1, 36))


async def test_all_devices_of_a_user_have_everything(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else the laptop does not show what was written on the phone, or the phone shows it twice."""
    async with open_test_server(memory_path=memory_path) as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        bob = await enter(server, "bob")
        await phone.send(send("from-phone", "bob"))
        await stored(phone, 1)
        (carbon,) = await entries(laptop, 1)
        assert (carbon.seq, carbon.id, carbon.recipient) == (1, "from-phone", "bob")
        await entries(bob, 1)
        await bob.send(send("from-bob", "alice"))
        for device in (phone, laptop):
            (entry,) = await entries(device, 1)
            assert (entry.seq, entry.id) == (2, "from-bob")
        await silence(phone, 5)


async def test_a_connection_may_be_for_sending_only(autojump_clock: MockClock) -> None:
    """Else a script that sends replaces the device that listens, or makes the user look as if they had read (C3)."""
    async with open_test_server() as server:
        listening = await enter(server, "alice")
        one, two = await enter(server, "alice", window=0), await enter(server, "alice", window=0)
        await one.send(send("a", "bob"))
        await stored(one, 1)
        await two.send(send("b", "bob"))
        await stored(two, 1)
        assert [entry.id for entry in await entries(listening, 2)] == ["a", "b"]
        bob = await enter(server, "bob")
        await bob.send(send("c", "alice"))
        await entries(listening, 1)
        await silence(one, 5)


async def test_typing_is_told_and_not_kept(autojump_clock: MockClock) -> None:
    """Else nobody sees that the other writes; or somebody who connects later is told of typing long ago."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(wire.Typing(to="bob", typing=True), wire.Typing(to="nobody", typing=True))
        told = await frame(bob, wire.TypingFrom)
        assert (told.sender, told.typing) == ("alice", True)
        await bob.aclose()
        await alice.send(wire.Typing(to="bob", typing=False))
        bob = await enter(server, "bob")
        await silence(bob, 5)


@pytest.mark.parametrize("device", [None, "phone"])
async def test_a_revoked_user_is_gone_within_a_second(device: str | None, autojump_clock: MockClock) -> None:
    """Else somebody who may no longer be there stays for as long as the connection lasts."""
    async with open_test_server() as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        bob = await enter(server, "bob")
        before = trio.current_time()
        server.chat.revoke("alice", device)
        assert (await closed(phone)).code == CloseCode.UNAUTHORIZED
        assert trio.current_time() - before < 1
        if device is None:
            assert (await closed(laptop)).code == CloseCode.UNAUTHORIZED
        else:
            await laptop.send(wire.Ping())
            await frame(laptop, wire.Pong)
        await bob.send(wire.Ping())
        await frame(bob, wire.Pong)


async def test_who_is_revoked_while_being_let_in_stays_out(autojump_clock: MockClock) -> None:
    """Else a revocation is missed by a client whose authenticator looked a moment before it."""
    asked, decided = trio.Event(), trio.Event()

    async def slow(request: Request) -> Identity:
        asked.set()
        await decided.wait()
        return await authenticators.demo(request)

    async with open_test_server(authenticate=slow) as server, trio.open_nursery() as nursery:
        codes: dict[str, int] = {}

        async def comes(user: str) -> None:
            client = await wrap_stream(nursery, await server.stream(), f"/ws?user={user}")
            try:
                await client.receive()
            except ClosedByServer as end:
                codes[user] = end.code
            else:
                codes[user] = 0
                await client.aclose()

        nursery.start_soon(comes, "eve")
        nursery.start_soon(comes, "bob")
        await asked.wait()
        await wait_all_tasks_blocked()
        server.chat.revoke("eve")
        decided.set()
        with trio.move_on_after(5):
            await trio.sleep_forever()
        assert codes == {"eve": CloseCode.UNAUTHORIZED, "bob": 0}


async def test_revocations_are_kept_for_handshakes_only(autojump_clock: MockClock) -> None:
    """Else every revocation there ever is costs memory for each connection there is (I6)."""
    async with open_test_server() as server:
        await enter(server, "alice")
        with server.chat.handshake() as revoked:
            server.chat.revoke("eve")
            assert server.chat._handshakes == {next(iter(server.chat._handshakes)): revoked}
        assert not server.chat._handshakes


async def test_an_ack_of_what_was_not_sent_is_refused(autojump_clock: MockClock) -> None:
    """Else a client's mistake makes the server forget what it has never delivered (A1)."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await bob.send(wire.Ack(seq=5))
        assert (await frame(bob, wire.Error)).code == ErrorCode.CURSOR_AHEAD
        await alice.send(send("a", "bob"))
        assert [entry.seq for entry in await entries(bob, 1)] == [1]


async def test_a_flood_of_bad_frames_ends_the_connection(autojump_clock: MockClock) -> None:
    """Else a client that talks nonsense is answered for ever (C9)."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        for _ in range(25):
            with suppress(ClosedByServer):
                await alice.send_text("nonsense")
        end = await closed(alice)
        assert end.code == CloseCode.FLOODING


async def test_the_33rd_connected_device_is_refused(autojump_clock: MockClock) -> None:
    """Else one user's devices are remembered without end, or a connected one is forgotten (C2)."""
    async with open_test_server(settings=Settings(devices=2)) as server:
        one, two = await enter(server, "alice", "one"), await enter(server, "alice", "two")
        three = await server.connect("alice", "three")
        assert (await closed(three)).code == CloseCode.POLICY
        await one.aclose()
        await enter(server, "alice", "three")
        await two.send(wire.Ping())
        await frame(two, wire.Pong)


async def test_a_store_is_used_again_after_a_restart(autojump_clock: MockClock) -> None:
    """Else a server that was restarted has forgotten cursors, ids or messages."""
    store: Store = MemoryStore()
    async with open_test_server(store=store) as server:
        alice, _ = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("a", "bob"))
        await stored(alice, 1)
    async with open_test_server(store=store) as server:
        bob = await enter(server, "bob")
        assert [entry.id for entry in await entries(bob, 1)] == ["a"]
        alice = await enter(server, "alice", window=0)
        await alice.send(send("a", "bob"))
        assert [item.seq for item in await stored(alice, 1)] == [1]


async def test_refused_at_the_door_is_an_exception(autojump_clock: MockClock) -> None:
    """Else a test client waits for a welcome that never comes."""
    async with open_test_server() as server:
        with pytest.raises(NotConnected) as refused:
            await server.connect("")
        assert refused.value.status == 401


async def test_settings_are_checked() -> None:
    """Else a limit of nothing stops the chat later, somewhere else."""
    with pytest.raises(ConfigurationError, match="window"):
        async with open_chat(MemoryStore(), settings=Settings(window=-1)):
            pass
