"""The registry: group commit, marks, heartbeats, and what a failure of it or of the store does to everybody."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.core.batch import Batch, Page, PageRequest, Results
from trio_chat.core.delivery import Delivery
from trio_chat.core.events import Connected
from trio_chat.errors import CloseCode, ErrorCode, StoreBusy, StoreError, StoreFull, StoreUnavailable
from trio_chat.session import Session
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server
from trio_chat.transport.websocket import WebSocketTransport

from .support import HeldStore, dial, enter, entries, frame, send, silence, stored
from .transport.peer import CLOSE, PING, PONG, TEXT, Peer
from .transport.peer import frame as client_frame

# Commits.


async def test_a_batch_grows_while_a_commit_is_in_flight(autojump_clock: MockClock) -> None:
    """Else every message waits for an fsync of its own, and throughput is what the disk allows divided by one."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        alice, carol = await enter(server, "alice"), await enter(server, "carol")
        store.hold()
        store.batches.clear()
        await alice.send(send("a0", "bob"))
        await store.begun.wait()
        for n in range(1, 20):
            await alice.send(send(f"a{n}", "bob"))
            await carol.send(send(f"c{n}", "bob"))
            await wait_all_tasks_blocked()
        await silence(alice, 1)
        store.release()
        assert [item.id for item in await stored(alice, 20)] == [f"a{n}" for n in range(20)]
        await stored(carol, 19)
        assert [len(batch.drafts) for batch in store.batches] == [1, 38]


async def test_a_lone_message_waits_for_nobody(autojump_clock: MockClock) -> None:
    """Else a quiet chat has the latency of a timer."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        before = trio.current_time()
        await alice.send(send("a", "bob"))
        await stored(alice, 1)
        assert trio.current_time() == before


async def test_acks_alone_are_committed_soon(autojump_clock: MockClock) -> None:
    """Else what a device has acknowledged comes again after the next connect; or each ack costs an fsync (A3)."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        for n in range(3):
            await alice.send(send(f"a{n}", "bob"))
            await entries(bob, 1)
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):  # let what is left of the first marks go
            await trio.sleep_forever()
        await alice.send(send("last", "bob"))
        (last,) = await entries(bob, 1)
        await wait_all_tasks_blocked()
        store.batches.clear()
        before = trio.current_time()
        store.hold()
        await store.begun.wait()
        assert 0 < trio.current_time() - before <= 0.25
        (batch,) = store.batches
        assert [(mark.user, mark.seq) for mark in batch.marks] == [("bob", last.seq)]
        assert not batch.drafts
        store.release()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StoreBusy("locked"), ErrorCode.OVERLOADED),
        (StoreUnavailable("I/O error"), ErrorCode.STORE_UNAVAILABLE),
        (StoreFull("full"), ErrorCode.STORE_FULL),
    ],
)
async def test_a_store_that_fails_refuses_and_the_connection_stays(
    fault: StoreError, code: ErrorCode, autojump_clock: MockClock
) -> None:
    """Else a full disk or a lock ends connections or the server, or the sender believes that it is stored (failures 3–5)."""
    store = MemoryStore()
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice")
        store.fail_next(fault, fault)  # the second for the retry of the row alone
        await alice.send(send("a", "bob"))
        refusal = await frame(alice, wire.Error)
        assert (refusal.code, refusal.id) == (code, "a")
        assert refusal.retry_after is not None
        assert refusal.retry_after >= 1
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)
        assert (server.chat.failure is not None) is isinstance(fault, StoreUnavailable)
        if isinstance(fault, StoreUnavailable):
            return
        with trio.move_on_after(refusal.retry_after):
            await trio.sleep_forever()
        store._faults.clear()
        await alice.send(send("a", "bob"))
        await stored(alice, 1)


async def test_one_bad_message_does_not_touch_the_others_of_its_batch(autojump_clock: MockClock) -> None:
    """Else one client can have the messages of everybody refused who writes at the same moment (failures 24)."""

    class Picky(HeldStore):
        async def append(self, batch: Batch, now: int) -> Results:
            if any(draft.text == "bad" for draft in batch.drafts):
                self.fail_next(StoreError("unexpected row") if len(batch.drafts) > 1 else StoreError("that row"))
            return await super().append(batch, now)

    store = Picky()
    async with open_test_server(store=store) as server:
        clients = [await enter(server, f"user{n}") for n in range(5)]
        bob = await enter(server, "bob")
        store.hold()
        await clients[0].send(send("first", "bob", "first"))
        await store.begun.wait()
        for n, client in enumerate(clients):
            await client.send(send(f"m{n}", "bob", "bad" if n == 2 else f"text {n}"))
        await wait_all_tasks_blocked()
        store.release()
        await stored(clients[0], 2)
        for n in (1, 3, 4):
            await stored(clients[n], 1)
        refusal = await frame(clients[2], wire.Error)
        assert (refusal.code, refusal.id) == (ErrorCode.INTERNAL, "m2")
        assert [entry.id for entry in await entries(bob, 5)] == ["first", "m0", "m1", "m3", "m4"]
        assert store.texts("bob") == ["first", "text 0", "text 1", "text 3", "text 4"]


# Failures of the house.


class Broken(HeldStore):
    """Fails in a way that no store may."""

    bug: BaseException | None = None
    page_bug: BaseException | None = None

    async def append(self, batch: Batch, now: int) -> Results:
        results = await super().append(batch, now)
        if self.bug:
            raise self.bug
        return results

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        if self.page_bug:
            raise self.page_bug
        return await super().pages(requests)


async def until_closed(peer: Peer) -> int:
    """The close code a client sees whose server may be cancelled all around it."""
    frames = []
    with trio.CancelScope(shield=True), trio.fail_after(5):
        frames += await peer.read_all()
    assert frames[-1][0] == CLOSE
    return int.from_bytes(frames[-1][1][:2], "big")


@pytest.mark.parametrize("bug", [ValueError("planted"), RuntimeError("planted")])
async def test_a_bug_in_the_store_stops_everything(bug: Exception, autojump_clock: MockClock) -> None:
    """Else a server goes on acknowledging when nobody knows what is stored; or it dies and says nothing (failures R3)."""
    store = Broken()
    codes = []
    with pytest.RaisesGroup(pytest.RaisesExc(type(bug), match="planted"), flatten_subgroups=True):
        async with open_test_server(store=store) as server:
            alice, bob = await dial(await server.stream()), await dial(await server.stream(), "/ws?user=bob")
            await alice.read()
            await bob.read()
            store.bug = bug
            await alice.send(client_frame(TEXT, wire.encode(send("a", "bob"))))
            try:
                await trio.sleep_forever()
            finally:
                assert server.chat.failure is not None
                codes = [await until_closed(peer) for peer in (alice, bob)]  # noqa: ASYNC102
    assert codes == [CloseCode.INTERNAL] * 2
    assert store.closed == 1


async def test_a_bug_in_reading_stops_everything(autojump_clock: MockClock) -> None:
    """Else connections that are behind get nothing, for ever, and nobody hears of it."""
    store = Broken()
    store.page_bug = TypeError("planted")
    with pytest.RaisesGroup(pytest.RaisesExc(TypeError, match="planted"), flatten_subgroups=True):
        async with open_test_server(store=store, memory_path=False) as server:
            alice, _ = await enter(server, "alice"), await enter(server, "bob")
            await alice.send(send("a", "bob"))
            await trio.sleep_forever()


async def test_a_bug_in_the_core_stops_everything(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the state of everybody is wrong from then on, and everybody is served from it."""
    code = 0
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="planted"), flatten_subgroups=True):
        async with open_test_server() as server:
            alice = await dial(await server.stream())
            await alice.read()

            def bug(*_: object) -> bool:
                raise AssertionError("planted")

            monkeypatch.setattr(Delivery, "acknowledge", bug)
            await alice.send(client_frame(TEXT, wire.encode(wire.Ack(seq=0))))
            try:
                await trio.sleep_forever()
            finally:
                code = await until_closed(alice)  # noqa: ASYNC102
    assert code == CloseCode.INTERNAL


async def test_who_comes_after_the_failure_is_told(autojump_clock: MockClock) -> None:
    """Else a connection that was in its handshake when the registry failed is held by nobody, and waits for ever."""
    store = Broken()
    code = 0
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with open_test_server(store=store) as server:
            alice = await enter(server, "alice")
            store.bug = ValueError("planted")
            await alice.send(send("a", "bob"))
            try:
                await trio.sleep_forever()
            finally:
                ours, theirs = trio.testing.memory_stream_pair()
                chat = server.chat
                session = Session(chat.next_connection(), WebSocketTransport(ours, settings=chat.settings), chat.settings)
                with trio.CancelScope(shield=True), trio.fail_after(5):
                    await session.run(chat, Connected(session.connection, "bob", "phone"))
                    code = await until_closed(Peer(theirs))
    assert code == CloseCode.INTERNAL


async def test_a_page_that_could_not_be_read_is_asked_for_again(autojump_clock: MockClock) -> None:
    """Else one failed query leaves a connection behind until it happens to reconnect."""

    class Flaky(MemoryStore):
        failures = 2

        async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
            if self.failures:
                self.failures -= 1
                raise StoreBusy("locked")
            return await super().pages(requests)

    store = Flaky()
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice")
        bob = await enter(server, "bob")
        await bob.aclose()
        await alice.send(send("a", "bob"))
        await stored(alice, 1)
        bob = await enter(server, "bob")
        before = trio.current_time()
        (entry,) = await entries(bob, 1)
        assert entry.id == "a"
        assert trio.current_time() - before <= 3  # a heartbeat for each failure


# Heartbeats.


async def test_a_silent_connection_is_pinged_and_closed(autojump_clock: MockClock) -> None:
    """Else half-open connections stay for ever, or proxies cut those that are only quiet (failures 12, 30)."""
    async with open_test_server() as server:
        peer = await dial(await server.stream())
        welcome = await peer.read()
        assert welcome is not None
        began = trio.current_time()
        assert await peer.read() == (PING, b"")
        pinged = trio.current_time()
        assert 25 <= pinged - began <= 27
        code, _ = await peer.closed_with()
        assert code == CloseCode.SILENT
        assert 10 <= trio.current_time() - pinged <= 12 + 2  # the closing handshake is not answered either


@pytest.mark.parametrize("sign", [client_frame(PONG), client_frame(TEXT, b"{}"), client_frame(TEXT, b"{")[:4]])
async def test_whatever_comes_from_the_peer_is_a_sign_of_life(sign: bytes, autojump_clock: MockClock) -> None:
    """Else somebody is thrown out who is there: an answer need not be a pong."""
    async with open_test_server() as server:
        peer = await dial(await server.stream())
        await peer.read()
        assert await peer.read() == (PING, b"")
        pinged = trio.current_time()
        await peer.send(sign)
        with trio.fail_after(60):
            while True:
                read = await peer.read()
                assert read is not None
                if read[0] != TEXT:
                    break
        assert read == (PING, b"")  # the next one, and no close frame
        assert 25 <= trio.current_time() - pinged <= 27


async def test_what_the_peer_takes_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    """Else a device that reads a lot and says nothing is pinged for nothing."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        peer = await dial(await server.stream(), "/ws?user=bob")
        await peer.read()
        began = trio.current_time()
        for n in range(4):
            with trio.move_on_after(20):
                await trio.sleep_forever()
            await alice.send(send(f"a{n}", "bob"))
            read = await peer.read()
            assert read is not None
            assert read[0] == TEXT
        assert trio.current_time() - began >= 80


async def test_who_answers_pings_stays(autojump_clock: MockClock) -> None:
    """Else everybody is thrown out who only listens."""
    async with open_test_server() as server:
        bob = await enter(server, "bob")
        await silence(bob, 3600)
        assert server.chat.registry.sessions == 1


async def test_thousands_of_messages_arrive_once_and_in_order(autojump_clock: MockClock) -> None:
    """Else a wake-up is lost somewhere between reading, committing, loading and writing, and something stands still."""
    settings = Settings(send_rate=None, uncommitted=16, window=32, outbox_bytes=2000, batch=24)
    async with open_test_server(settings=settings) as server, trio.open_nursery() as nursery:
        bob = await enter(server, "bob")

        async def writes(name: str) -> None:
            client = await enter(server, name)

            async def listens() -> None:
                items = await stored(client, 500)
                assert [item.id for item in items] == [f"{name}-{n}" for n in range(500)]

            async with trio.open_nursery() as both:
                both.start_soon(listens)
                for n in range(500):
                    await client.send(send(f"{name}-{n}", "bob"))

        for name in ("alice", "carol", "dave", "erin"):
            nursery.start_soon(writes, name)
        got = await entries(bob, 2000)
        assert [entry.seq for entry in got] == list(range(1, 2001))
        for name in ("alice", "carol", "dave", "erin"):
            mine = [entry.id for entry in got if entry.sender == name]
            assert mine == [f"{name}-{n}" for n in range(500)]
