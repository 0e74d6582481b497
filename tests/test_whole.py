"""The whole with real clients in memory: each frame of retrieval, several devices, and what nobody may learn.

Every client looks at each frame it is sent: it is for its user, or the test fails (I9, `tests.support.Client`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from trio_chat import authenticators, wire
from trio_chat.chat import open_chat
from trio_chat.committer import unix_ms
from trio_chat.errors import CloseCode, ErrorCode, StoreUnavailable
from trio_chat.model import Message
from trio_chat.retrieval import HistoryPage, HistoryQuery, Standing
from trio_chat.serve import handle
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import InMemoryServer, open_test_server

from .support import (
    Client,
    HeldStore,
    ask,
    closed,
    dial,
    enter,
    entries,
    frame,
    heard,
    send,
    silence,
    stored,
)
from .transport.peer import TEXT
from .transport.peer import frame as client_frame

UNLIMITED = Settings(send_rate=None)


@pytest.fixture(params=[True, False], ids=["memory-path", "store-path"])
def memory_path(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def later(seconds: float) -> None:
    """So long by the virtual clock."""
    with trio.move_on_after(seconds):
        await trio.sleep_forever()


async def met(*clients: Client) -> None:
    """All of these have written to one another, and have acknowledged that."""
    for one, other in itertools.permutations(clients, 2):
        await one.send(send(f"hello-{one.user}-{other.user}", other.user, "hello"))
    await settle(*clients)


async def settle(*clients: Client) -> dict[str, list[wire.ServerFrame]]:
    """Everybody acknowledges what comes until nothing comes any more; what it was, by user."""
    said: dict[str, list[wire.ServerFrame]] = {client.user: [] for client in clients}

    async def listen(client: Client) -> None:
        while True:
            with trio.move_on_after(2) as quiet:
                got = await client.receive()
                said[client.user].append(got)
                if isinstance(got, wire.Messages):
                    await client.send(wire.Ack(seq=got.messages[-1].seq))
                elif isinstance(got, wire.Stored):
                    await client.send(wire.Ack(seq=max(item.seq for item in got.messages)))
            if quiet.cancelled_caught:
                return

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(listen, client)
    return said


# Several devices and receipts.


async def test_a_conversation_over_several_devices(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else the ticks, the unread counts or the second device are wrong: what everybody expects of a chat (R1–R4)."""
    async with open_test_server(memory_path=memory_path) as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        bob = await enter(server, "bob", "web")
        await phone.send(send("a1", "bob", "hi"))
        (item,) = await stored(phone, 1)
        (at_laptop,) = await entries(laptop, 1)
        (at_bob,) = await entries(bob, 1)
        assert at_laptop == msgspec.structs.replace(at_bob, seq=item.seq)
        for device in (phone, laptop):
            assert await frame(device, wire.Receipt) == wire.Receipt(peer="bob", delivered=item.seq)
        await bob.send(wire.Read(peer="alice", seq=at_bob.seq))
        for device in (phone, laptop):
            assert await frame(device, wire.Receipt) == wire.Receipt(peer="bob", delivered=item.seq, read=item.seq)
        await bob.send(send("b1", "alice", "hi yourself"))
        await stored(bob, 1)
        for device in (phone, laptop):
            await entries(device, 1)
        talks = await ask(phone, wire.Conversations(ref="c"), wire.ConversationsAnswer)
        assert [(talk.peer, talk.unread, talk.delivered, talk.read) for talk in talks.conversations] == [("bob", 1, 1, 1)]
        await laptop.send(wire.Read(peer="bob", seq=2))
        assert await frame(phone, wire.ReadElsewhere) == wire.ReadElsewhere(peer="bob", seq=2)
        told = await heard(bob, 5)
        assert told[-1] == wire.Receipt(peer="alice", delivered=2, read=2)
        assert told[:-1] in ([], [wire.Receipt(peer="alice", delivered=2)])  # an ack of its own, or with the read mark
        talks = await ask(phone, wire.Conversations(ref="c2"), wire.ConversationsAnswer)
        assert [(talk.unread, talk.own_delivered, talk.own_read) for talk in talks.conversations] == [(0, 2, 2)]
        for client in (phone, laptop, bob):
            assert not [got for got in await heard(client, 5) if not isinstance(got, wire.Receipt)]


async def test_receipts_are_told_after_their_cause_and_only_forward(autojump_clock: MockClock) -> None:
    """Else a tick appears for what a crash may still forget, or disappears again (R2, I4)."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        for n in range(5):
            await alice.send(send(f"a{n}", "bob"))
        await stored(alice, 5)
        got = await entries(bob, 5, acknowledge=False)
        store.hold()
        await bob.send(wire.Ack(seq=3), wire.Read(peer="alice", seq=2))
        assert await heard(alice, 5) == []
        store.release()
        receipts = await heard(alice, 5)
        assert sorted(receipts, key=repr) == [
            wire.Receipt(peer="bob", delivered=2, read=2),
            wire.Receipt(peer="bob", delivered=3),
        ]
        await bob.send(wire.Ack(seq=1), wire.Read(peer="alice", seq=1))
        assert await heard(alice, 5) == []
        await bob.send(wire.Ack(seq=got[-1].seq))
        assert await heard(alice, 5) == [wire.Receipt(peer="bob", delivered=5)]


async def test_a_read_mark_beyond_the_log_is_refused(autojump_clock: MockClock) -> None:
    """Else everything that is ever sent counts as read before it was written (R3)."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("a1", "bob"))
        await entries(bob, 1)
        await bob.send(wire.Read(peer="alice", seq=2))
        assert (await frame(bob, wire.Error)).code == ErrorCode.CURSOR_AHEAD
        assert all(getattr(got, "read", 0) == 0 for got in await heard(alice, 3))


async def test_a_note_to_oneself_has_no_receipts(autojump_clock: MockClock) -> None:
    """Else one's own notes count as unread, or one is told that one has read them (L1)."""
    async with open_test_server() as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        await phone.send(send("n1", "alice", "milk"))
        await stored(phone, 1)
        await entries(laptop, 1)
        await phone.send(wire.Ack(seq=1), wire.Read(peer="alice", seq=1))
        talks = await ask(laptop, wire.Conversations(ref="c"), wire.ConversationsAnswer)
        assert [(talk.peer, talk.unread) for talk in talks.conversations] == [("alice", 0)]
        for client in (phone, laptop):
            assert not [got for got in await heard(client, 5) if isinstance(got, wire.Receipt)]


# Questions.


async def test_every_question_is_answered_by_its_name(autojump_clock: MockClock) -> None:
    """Else a client that asks two things at once cannot tell the answers apart, or waits for one of them for ever."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await met(alice, bob)
        await alice.send(
            wire.History(ref="1", peer="bob"),
            wire.Search(ref="2", query="hello"),
            wire.Conversations(ref="3"),
            wire.Devices(ref="4"),
            wire.Block(ref="5", user="eve"),
            wire.Blocks(ref="6"),
            wire.Unblock(ref="7", user="eve"),
            wire.Blocks(ref="8"),
        )
        answers = [got for got in await heard(alice, 5) if not isinstance(got, wire.Receipt)]
        assert [getattr(answer, "ref", None) for answer in answers] == [str(n) for n in range(1, 9)]
        history, found, talks, devices, blocked, listed, unblocked, none = answers
        assert isinstance(history, wire.HistoryAnswer)
        assert [message.id for message in history.messages] == ["hello-bob-alice", "hello-alice-bob"]
        assert isinstance(found, wire.SearchAnswer)
        assert [hit.snippet[1] for hit in found.hits] == ["hello"] * 2
        assert isinstance(talks, wire.ConversationsAnswer)
        assert [talk.peer for talk in talks.conversations] == ["bob"]
        assert isinstance(devices, wire.DevicesAnswer)
        assert [(device.name, device.connected) for device in devices.devices] == [("phone", True)]
        assert blocked == wire.Blocked(ref="5", users=("eve",))
        assert listed == wire.Blocked(ref="6", users=("eve",))
        assert unblocked == wire.Blocked(ref="7", users=())
        assert none == wire.Blocked(ref="8", users=())


async def test_a_history_in_pages_holds_everything_once(autojump_clock: MockClock) -> None:
    """Else a client that scrolls back misses messages at the edges of pages, or is sent a frame that bursts its buffer."""
    async with open_test_server(settings=UNLIMITED) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        for n in range(60):
            await alice.send(send(f"a{n}", "bob", f"{n} " + ("\x01" if n % 2 else "x") * 3_000))
        await settle(alice, bob)
        for steps in ("before", "after"):
            got: list[Message] = []
            position: dict[str, Any] = {"after": 0} if steps == "after" else {}
            for ref in map(str, itertools.count()):
                page = await ask(bob, wire.History(ref=ref, peer="alice", limit=40, **position), wire.HistoryAnswer)
                assert len(wire.encode(page)) <= UNLIMITED.server_frame_bytes
                got += page.messages
                if not page.more:
                    break
                assert page.next is not None
                position = {steps: page.next}
            expected = [f"a{n}" for n in range(60)]
            assert [message.id for message in got] == (expected if steps == "after" else expected[::-1])


async def test_a_bad_query_is_refused_by_its_name_and_costs_nothing_else(autojump_clock: MockClock) -> None:
    """Else a client with a mistake in one question loses the answers to the others."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        await alice.send(wire.History(ref="bad", around=5, before=7), wire.Devices(ref="good"))
        refused = await frame(alice, wire.Error)
        assert (refused.code, refused.ref, refused.id, refused.retry_after) == (ErrorCode.BAD_QUERY, "bad", None, None)
        assert (await frame(alice, wire.DevicesAnswer)).ref == "good"


class Slow(MemoryStore):
    """Its questions wait while it is held, each user's for itself."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.held: dict[str, trio.Event] = {}

    async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
        if user in self.held:
            await self.held[user].wait()
        return await super().history(user, query, size=size)


async def test_one_question_and_eight_that_wait(autojump_clock: MockClock) -> None:
    """Else a client asks without end and the server remembers all of it; or one that waits holds up its own messages."""
    store = Slow()
    async with open_test_server(store=store) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        store.held["alice"] = trio.Event()
        await alice.send(*[wire.History(ref=f"r{n}") for n in range(12)])
        refusals = [await frame(alice, wire.Error) for _ in range(3)]
        assert [(refused.code, refused.ref) for refused in refusals] == [
            (ErrorCode.OVERLOADED, f"r{n}") for n in (9, 10, 11)
        ]
        assert all(refused.retry_after is not None and refused.retry_after >= 1 for refused in refusals)
        await alice.send(send("a1", "bob"))
        await stored(alice, 1)
        await entries(bob, 1)
        assert (await ask(bob, wire.History(ref="b"), wire.HistoryAnswer)).messages
        store.held["alice"].set()
        answers = [await frame(alice, wire.HistoryAnswer) for _ in range(9)]
        assert [answer.ref for answer in answers] == [f"r{n}" for n in range(9)]


async def test_a_question_that_cannot_be_answered_is_refused_by_its_name(autojump_clock: MockClock) -> None:
    """Else a client waits for ever for an answer that the store cannot give."""

    class Unreadable(MemoryStore):
        async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
            raise StoreUnavailable("I/O error")

        async def standings(self, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
            raise StoreUnavailable("I/O error")

    async with open_test_server(store=Unreadable()) as server:
        alice = await enter(server, "alice")
        for request in (wire.History(ref="h"), wire.Watch(ref="w", users=("bob",))):
            await alice.send(request)
            refused = await frame(alice, wire.Error)
            assert (refused.code, refused.ref) == (ErrorCode.STORE_UNAVAILABLE, request.ref)
            assert refused.retry_after is not None


async def test_a_drain_answers_the_questions_that_were_read(autojump_clock: MockClock) -> None:
    """Else a client that asked just before a restart waits for an answer until it is gone (D1)."""
    store = Slow()
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice")
        store.held["alice"] = trio.Event()
        await alice.send(*[wire.History(ref=f"r{n}") for n in range(3)])
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.chat.drain)
            await wait_all_tasks_blocked()
            store.held["alice"].set()
            for n in range(3):
                assert (await frame(alice, wire.HistoryAnswer)).ref == f"r{n}"
            assert (await closed(alice)).code == CloseCode.GOING_AWAY


async def test_a_question_without_an_end_does_not_hold_up_a_drain(autojump_clock: MockClock) -> None:
    """Else a store that hangs decides when the server may end."""
    store = Slow()
    settings = Settings(drain_timeout=3.0)
    async with open_test_server(store=store, settings=settings) as server:
        alice = await enter(server, "alice")
        store.held["alice"] = trio.Event()
        await alice.send(wire.History(ref="r"))
        await wait_all_tasks_blocked()
        before = trio.current_time()
        await server.chat.drain()
        assert 3.0 <= trio.current_time() - before <= 4.5
        assert (await closed(alice)).code == CloseCode.GOING_AWAY


async def test_who_leaves_while_a_question_is_answered_is_missed_by_nobody(autojump_clock: MockClock) -> None:
    """Else the answer goes to nobody with an exception, or the next connection of that device is given it."""
    store = Slow()
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice")
        store.held["alice"] = trio.Event()
        await alice.send(wire.History(ref="old"))
        await wait_all_tasks_blocked()
        again = await enter(server, "alice")
        await again.send(wire.History(ref="new"))
        await wait_all_tasks_blocked()
        store.held["alice"].set()
        assert (await frame(again, wire.HistoryAnswer)).ref == "new"
        await silence(again, 3)


# Devices.


async def test_a_device_is_removed_by_its_user(autojump_clock: MockClock) -> None:
    """Else a lost phone goes on reading along, or one who comes back as a new one is thrown out again."""
    async with open_test_server() as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        answer = await ask(laptop, wire.RemoveDevice(ref="r", device="phone"), wire.DevicesAnswer)
        assert [(device.name, device.connected) for device in answer.devices] == [("laptop", True)]
        assert (await closed(phone)).code == CloseCode.UNAUTHORIZED
        back = await server.connect("alice", "phone")
        assert (await frame(back, wire.Welcome)).new
        answer = await ask(laptop, wire.Devices(ref="s"), wire.DevicesAnswer)
        assert [(device.name, device.connected) for device in answer.devices] == [("laptop", True), ("phone", True)]
        await laptop.send(wire.RemoveDevice(ref="own", device="laptop"))
        assert (await closed(laptop)).code == CloseCode.UNAUTHORIZED
        answer = await ask(Client(back, "alice"), wire.RemoveDevice(ref="never", device="never seen"), wire.DevicesAnswer)
        assert [device.name for device in answer.devices] == ["phone"]


# The life of a message.


async def test_edits_and_deletions_reach_every_device_in_order(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else a device that was away shows what was taken back, or an edit of something it has not seen (L5)."""
    async with open_test_server(memory_path=memory_path) as server:
        phone, laptop = await enter(server, "alice", "phone"), await enter(server, "alice", "laptop")
        bob = await enter(server, "bob")
        away = await enter(server, "bob", "away")
        await away.aclose()
        await phone.send(send("m1", "bob", "helo"), send("m2", "bob", "secret"))
        await laptop.send(wire.Send(id="m3", to="bob", text="a reply", reply_to="m1"))
        await settle(phone, laptop, bob)
        await laptop.send(wire.Edit(id="e1", to="bob", target="m1", text="hello"))
        await stored(laptop, 1)
        await phone.send(wire.Delete(id="d1", to="bob", target="m2"))
        said = await settle(phone, laptop, bob)
        told = [entry for got in said["bob"] if isinstance(got, wire.Messages) for entry in got.messages]
        assert [(one.kind, one.id, one.target, one.text) for one in told] == [
            ("edit", "e1", "m1", "hello"),
            ("delete", "d1", "m2", None),
        ]
        away = await enter(server, "bob", "away")
        caught_up = await entries(away, 5)
        assert [(one.kind, one.id, one.text) for one in caught_up[:1] + caught_up[3:]] == [
            ("message", "m1", "helo"),
            ("edit", "e1", "hello"),
            ("delete", "d1", None),
        ]
        assert sorted((one.id, one.text, one.reply_to) for one in caught_up[1:3]) == [
            ("m2", None, None),
            ("m3", "a reply", "m1"),
        ]
        page = await ask(away, wire.History(ref="h", peer="alice", order="asc"), wire.HistoryAnswer)
        shown = {one.id: (one.text, one.deleted, one.edit_seq) for one in page.messages}
        assert shown == {"m1": ("hello", False, 4), "m2": (None, True, None), "m3": ("a reply", False, None)}
        assert not (await ask(away, wire.Search(ref="s", query="secret"), wire.SearchAnswer)).hits
        assert not (await ask(away, wire.Search(ref="t", query="helo"), wire.SearchAnswer)).hits
        assert len((await ask(away, wire.Search(ref="u", query="hello"), wire.SearchAnswer)).hits) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        wire.Edit(id="x", to="bob", target="never", text="hi"),
        wire.Edit(id="x", to="carol", target="a1", text="hi"),
        wire.Edit(id="x", to="bob", target="b1", text="hi"),
        wire.Delete(id="x", to="bob", target="b1"),
        wire.Delete(id="x", to="bob", target="e1"),
        wire.Send(id="x", to="bob", text="hi", reply_to="never"),
        wire.Send(id="x", to="carol", text="hi", reply_to="a1"),
    ],
    ids=["unknown", "another's conversation", "another's message", "another's to delete", "an edit", "no such", "elsewhere"],
)
async def test_what_is_not_ones_own_cannot_be_changed(wrong: wire.ClientFrame, autojump_clock: MockClock) -> None:
    """Else somebody rewrites what others said, or finds out what stands in conversations of others; nothing is stored."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("a1", "bob"), wire.Edit(id="e1", to="bob", target="a1", text="ho"))
        await bob.send(send("b1", "alice"))
        await settle(alice, bob)
        await alice.send(wrong)
        refused = await frame(alice, wire.Error)
        assert (refused.code, refused.id, refused.retry_after) == (ErrorCode.BAD_QUERY, "x", None)
        await alice.send(send("x", "bob", "the id is free"))  # and the connection goes on (S4)
        await stored(alice, 1)
        assert [entry.id for entry in await entries(bob, 1)] == ["x"]


# Blocking.


async def test_a_block_is_invisible_to_the_blocked(autojump_clock: MockClock) -> None:
    """Else who is blocked can tell, by an answer, a count, a receipt or a silence that one who is not would not meet.

    Bob blocks eve and is there; dave blocks nobody and is away. What eve hears of bob is what carol hears of dave (B1).
    """
    async with open_test_server() as server:
        bob, dave = await enter(server, "bob"), await enter(server, "dave")
        eve, carol = await enter(server, "eve"), await enter(server, "carol")
        await bob.send(send("y1", "eve", "hello"))
        await dave.send(send("y1", "carol", "hello"))
        await eve.send(send("x1", "bob", "hello"))
        await carol.send(send("x1", "dave", "hello"))
        await settle(bob, dave, eve, carol)
        await dave.aclose()
        await ask(bob, wire.Block(ref="r", user="eve"), wire.Blocked)
        transcripts: list[str] = []
        for writer, peer in ((eve, "bob"), (carol, "dave")):
            await writer.send(wire.Watch(ref="w", users=(peer,)))
            await writer.send(
                send("x2", peer, "are you there?"),
                wire.Edit(id="x3", to=peer, target="x2", text="are you there??"),
                wire.Send(id="x4", to=peer, text="well?", reply_to="x2"),
                wire.Delete(id="x5", to=peer, target="x4"),
                send("x2", peer, "are you there?"),
                wire.Typing(to=peer, typing=True),
                wire.Read(peer=peer, seq=1),
                wire.Edit(id="x6", to=peer, target="nothing", text="hm"),
            )
            said = await heard(writer, 4)
            await writer.send(
                wire.History(ref="h", peer=peer), wire.Conversations(ref="c"), wire.Search(ref="s", query="there")
            )
            said += await heard(writer, 4)
            assert not [got for got in said if isinstance(got, wire.Receipt)]
            items = [
                item for got in said if isinstance(got, wire.Stored) for item in got.messages
            ]  # however they share frames
            others = [got for got in said if not isinstance(got, wire.Presence | wire.Stored)]
            transcript = "\n".join(sorted(map(repr, [*items, *others])))
            transcripts.append(transcript.replace(peer, "PEER").replace(writer.user, "WRITER"))
        # The moment of each, in milliseconds of the wall clock, is all in which they may differ.
        blanked = [re.sub(r"(sent_at|edited_at)=\d+", r"\1", transcript) for transcript in transcripts]
        assert blanked[0].splitlines() == blanked[1].splitlines()
        assert "WRITER" in blanked[0]
        assert not [got for got in await heard(bob, 5) if isinstance(got, wire.Messages | wire.TypingFrom | wire.Receipt)]


async def test_unblocking_does_not_deliver_what_was_sent_meanwhile(memory_path: bool, autojump_clock: MockClock) -> None:
    """Else a block only postpones: all that somebody did not want to hear comes at once (B1)."""
    async with open_test_server(memory_path=memory_path) as server:
        eve, bob = await enter(server, "eve"), await enter(server, "bob")
        await eve.send(send("e0", "bob", "before"))
        await entries(bob, 1)
        await ask(bob, wire.Block(ref="r", user="eve"), wire.Blocked)
        await eve.send(send("e1", "bob", "blocked"), wire.Edit(id="e2", to="bob", target="e0", text="edited"))
        await settle(eve)
        await ask(bob, wire.Unblock(ref="s", user="eve"), wire.Blocked)
        await eve.send(send("e3", "bob", "after"))
        assert [entry.id for entry in await entries(bob, 1)] == ["e3"]
        page = await ask(bob, wire.History(ref="h", peer="eve", order="asc"), wire.HistoryAnswer)
        assert [(one.id, one.text) for one in page.messages] == [("e0", "before"), ("e3", "after")]
        page = await ask(eve, wire.History(ref="h", peer="bob", order="asc"), wire.HistoryAnswer)
        assert [(one.id, one.text) for one in page.messages] == [("e0", "edited"), ("e1", "blocked"), ("e3", "after")]


async def test_who_blocks_tells_nothing_of_themselves(autojump_clock: MockClock) -> None:
    """Else the blocked see when the other reads and types, or that they come and go (B1)."""
    async with open_test_server() as server:
        eve, bob = await enter(server, "eve"), await enter(server, "bob")
        await met(eve, bob)
        await eve.send(send("e1", "bob"))
        await settle(eve)
        await ask(bob, wire.Block(ref="r", user="eve"), wire.Blocked)
        await bob.send(wire.Ack(seq=3), wire.Read(peer="eve", seq=3), wire.Typing(to="eve", typing=True))
        await eve.send(wire.Typing(to="bob", typing=True))
        assert await heard(eve, 5) == []
        assert not [got for got in await heard(bob, 5) if not isinstance(got, wire.Messages)]


# Presence.


@asynccontextmanager
async def watching(settings: Settings | None = None) -> AsyncIterator[tuple[InMemoryServer, Client, Client]]:
    """Alice follows bob, whom she knows; bob is there."""
    async with open_test_server(settings=settings) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await met(alice, bob)
        await alice.send(wire.Watch(ref="w", users=("bob",)))
        assert await frame(alice, wire.Presence) == wire.Presence(user="bob", online=True, last_seen=None)
        yield server, alice, bob


def presences(frames: Sequence[wire.ServerFrame]) -> list[wire.Presence]:
    return [got for got in frames if isinstance(got, wire.Presence)]


async def test_a_reconnect_is_no_flicker(autojump_clock: MockClock) -> None:
    """Else everybody who knows somebody on a train sees them come and go all the time."""
    async with watching() as (server, alice, bob):
        await bob.aclose()
        assert presences(await heard(alice, 2.5)) == []
        back = await enter(server, "bob")
        assert presences(await heard(alice, 10)) == []
        left = trio.current_time()
        await back.aclose()
        gone = await frame(alice, wire.Presence)
        assert 3 <= trio.current_time() - left < 3.5
        assert (gone.user, gone.online) == ("bob", False)
        assert gone.last_seen is not None
        before = trio.current_time()
        await enter(server, "bob")
        assert await frame(alice, wire.Presence) == wire.Presence(user="bob", online=True, last_seen=None)
        assert trio.current_time() - before < 0.5  # coming is told at once


async def test_one_of_several_devices_is_enough_to_be_there(autojump_clock: MockClock) -> None:
    """Else who closes the laptop seems to be gone while the phone is in hand; a script that sends is nobody at home."""
    async with watching() as (server, alice, bob):
        laptop = await enter(server, "bob", "laptop")
        await bob.aclose()
        assert presences(await heard(alice, 10)) == []
        script = await enter(server, "bob", window=0)
        await laptop.aclose()
        assert [got.online for got in presences(await heard(alice, 10))] == [False]
        await script.aclose()
        assert presences(await heard(alice, 10)) == []


async def test_strangers_look_like_somebody_who_is_never_there(autojump_clock: MockClock) -> None:
    """Else anybody can find out when somebody is at home, by a name alone."""
    async with open_test_server() as server:
        alice, bob, eve = await enter(server, "alice"), await enter(server, "bob"), await enter(server, "eve")
        await met(alice, bob)
        await eve.send(send("e1", "bob", "do you know me?"))  # one direction is no acquaintance
        await settle(eve, bob)
        await eve.send(wire.Watch(ref="w", users=("bob", "nobody at all", "eve")))
        nobody = [wire.Presence(user=name, online=False, last_seen=None) for name in ("bob", "nobody at all")]
        said = presences(await heard(eve, 5))
        assert [got for got in said if got.user != "eve"] == nobody
        await bob.aclose()
        await later(10)
        await enter(server, "bob")
        assert presences(await heard(eve, 10)) == []


async def test_a_list_of_watched_users_replaces_the_earlier_one(autojump_clock: MockClock) -> None:
    """Else a client that scrolls through its contacts is told of everybody it has ever seen."""
    async with open_test_server() as server:
        alice, bob, carol = [await enter(server, name) for name in ("alice", "bob", "carol")]
        await met(alice, bob, carol)
        await alice.send(wire.Watch(ref="w1", users=("bob",)))
        assert (await frame(alice, wire.Presence)).user == "bob"
        await alice.send(wire.Watch(ref="w2", users=("carol",)))
        assert (await frame(alice, wire.Presence)).user == "carol"
        await bob.aclose()
        await carol.aclose()
        assert [got.user for got in presences(await heard(alice, 10))] == ["carol"]
        await alice.send(wire.Watch(ref="w3", users=()))
        await enter(server, "carol")
        assert presences(await heard(alice, 10)) == []


async def test_a_block_ends_the_watching(autojump_clock: MockClock) -> None:
    """Else who is blocked goes on seeing when the other is there, for as long as the connection lasts (B1)."""
    async with watching() as (server, alice, bob):
        before = unix_ms()
        await ask(bob, wire.Block(ref="r", user="alice"), wire.Blocked)
        after = unix_ms()
        assert presences(await heard(alice, 2.5)) == []  # as if bob had left at that moment: who is blocked cannot tell
        (gone,) = presences(await heard(alice, 5))
        assert not gone.online
        assert gone.last_seen is not None
        assert before <= gone.last_seen <= after
        await bob.aclose()
        await later(10)
        await enter(server, "bob")
        assert presences(await heard(alice, 10)) == []
        await alice.send(wire.Watch(ref="again", users=("bob",)))
        assert await frame(alice, wire.Presence) == wire.Presence(user="bob", online=False, last_seen=None)


async def test_a_restart_leaves_no_ghosts(autojump_clock: MockClock) -> None:
    """Else somebody who was there when the server went down is there for ever."""
    store = MemoryStore()
    async with open_test_server(store=store) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await met(alice, bob)
    async with open_test_server(store=store) as server:
        alice = await enter(server, "alice")
        await alice.send(wire.Watch(ref="w", users=("bob",)))
        told = await frame(alice, wire.Presence)
        assert not told.online
        assert told.last_seen is not None


# Limits.


async def test_requests_have_a_rate_of_their_own(autojump_clock: MockClock) -> None:
    """Else a client that asks without a pause has the store to itself; or who asks much may not write any more."""
    settings = Settings(request_rate=1, request_burst=3)
    async with open_test_server(settings=settings) as server:
        alice = await enter(server, "alice")
        for n in range(3):
            await ask(alice, wire.Devices(ref=f"r{n}"), wire.DevicesAnswer)
        await alice.send(wire.Devices(ref="too many"))
        refused = await frame(alice, wire.Error)
        assert (refused.code, refused.ref, refused.id) == (ErrorCode.RATE_LIMITED, "too many", None)
        assert refused.retry_after is not None
        await alice.send(send("a1", "bob"))
        await stored(alice, 1)
        await later(refused.retry_after)
        await ask(alice, wire.Devices(ref="later"), wire.DevicesAnswer)


@pytest.mark.parametrize("kind", ["sends", "requests"])
async def test_who_does_not_listen_to_refusals_is_closed(kind: str, autojump_clock: MockClock) -> None:
    """Else a client that sends what is refused as fast as it can is answered as fast, for ever (C9)."""
    settings = Settings(send_rate=1, send_burst=1, request_rate=1, request_burst=1, refusals=50)
    async with open_test_server(settings=settings) as server:
        alice = await enter(server, "alice")
        flood: list[wire.ClientFrame] = (
            [send(f"a{n}", "bob") for n in range(100)]
            if kind == "sends"
            else [wire.Devices(ref=f"r{n}") for n in range(100)]
        )
        await alice.send(*flood)
        assert (await closed(alice)).code == CloseCode.FLOODING


async def test_bytes_have_a_rate_of_their_own(autojump_clock: MockClock) -> None:
    """Else a user within the rate of messages fills the disk with the longest there are."""
    settings = Settings(byte_rate=1000, byte_burst=2000, text_bytes=1000)
    async with open_test_server(settings=settings) as server:
        alice = await enter(server, "alice")
        await alice.send(*[send(f"a{n}", "bob", "x" * 1000) for n in range(3)])
        got = await heard(alice, 0.5)  # the third may be refused before the first two are stored
        assert [item.id for answer in got if isinstance(answer, wire.Stored) for item in answer.messages] == ["a0", "a1"]
        [refused] = [answer for answer in got if isinstance(answer, wire.Error)]
        assert (refused.code, refused.id) == (ErrorCode.RATE_LIMITED, "a2")
        assert refused.retry_after is not None
        await later(refused.retry_after)
        await alice.send(send("a2", "bob", "x" * 1000))
        await stored(alice, 1)


async def test_a_peer_that_does_not_read_is_told_a_bounded_number_of_receipts(autojump_clock: MockClock) -> None:
    """Else two thousand friends who read along fill the server's memory for one who does not (C8, promise 6)."""
    settings = Settings(write_timeout=1000.0, ping_interval=1000.0)
    async with trio.open_nursery() as nursery, open_chat(MemoryStore(settings), settings=settings) as chat:
        ours, theirs = lockstep_stream_pair()
        nursery.start_soon(lambda: handle(chat, ours, authenticate=authenticators.demo))
        alice = await dial(theirs, "/ws?user=alice")
        welcome = await alice.read()
        assert welcome is not None
        await alice.send(client_frame(TEXT, wire.encode(wire.Ping())))
        await wait_all_tasks_blocked()  # the pong is being written, and nobody takes it
        for n in range(2_000):
            await chat.send("alice", f"friend{n}", "hi")
            await chat.mark_read(f"friend{n}", "alice", 1)
        (session,) = chat._live.values()
        outbox = session._outbox  # type: ignore[attr-defined]
        assert len(outbox._told) == 1024
        assert outbox.size < 100_000
        receipts = pongs = 0
        with trio.move_on_after(10):
            while (read := await alice.read()) is not None:
                got = wire.decode_server(read[1])
                receipts += isinstance(got, wire.Receipt)
                pongs += isinstance(got, wire.Pong)
        assert pongs == 1
        assert receipts == 1024
        await theirs.aclose()
        nursery.cancel_scope.cancel()


async def test_questions_and_messages_share_nothing_but_the_log(autojump_clock: MockClock) -> None:
    """Else an answer overtakes the entry it knows of, or is given before a message that was stored first is in it."""
    async with open_test_server(settings=UNLIMITED) as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        known: set[str] = set()
        for n in range(30):
            await alice.send(send(f"a{n}", "bob"), wire.History(ref=f"h{n}", limit=200))
            answered = False
            named = False
            while not (answered and named):
                got: Any = await alice.receive()
                if isinstance(got, wire.Stored):
                    known |= {item.id for item in got.messages}
                    named = True
                elif isinstance(got, wire.HistoryAnswer):
                    in_it = {message.id for message in got.messages}
                    assert in_it <= {f"a{m}" for m in range(n + 1)}
                    assert {f"a{m}" for m in range(n)} <= in_it
                    answered = True
        assert len(known) == 30
        await settle(alice, bob)
