"""What the application itself says and asks of its chat: what it may, what it is told, and how a call ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.chat import Chat, open_chat
from trio_chat.core.batch import Batch, Results
from trio_chat.errors import (
    BadFrame,
    BadQuery,
    ChatClosed,
    ChatError,
    CloseCode,
    ErrorCode,
    IdConflict,
    NotAllowed,
    RequestRefused,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)
from trio_chat.model import Message
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchQuery
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server
from trio_chat.voice import Sent

from .support import HeldStore, closed, enter, entries, frame, send, silence, stored

Call = Callable[[Chat], Awaitable[Any]]


async def test_a_message_of_the_applications_goes_the_way_of_all(autojump_clock: MockClock) -> None:
    """Else what a bot says is stored and nobody is told, or the sender's own devices do not show it."""
    async with open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        sent = await server.chat.send("alice", "bob", "hello")
        assert UUID(sent.id).version == 4
        (at_bob,) = await entries(bob, 1)
        (at_alice,) = await entries(alice, 1)
        assert (at_bob.sender, at_bob.text, at_bob.kind, at_bob.id) == ("alice", "hello", "message", sent.id)
        assert (at_alice.seq, at_alice.sent_at) == (sent.seq, sent.sent_at)
        receipt = await frame(alice, wire.Receipt)
        assert (receipt.peer, receipt.delivered) == ("bob", sent.seq)
        answer = await server.chat.send("bob", "alice", "hello yourself", id="b1", reply_to=sent.id)
        assert answer.id == "b1"
        (reply,) = await entries(alice, 1)
        assert reply.reply_to == sent.id


async def test_the_same_message_is_sent_once(autojump_clock: MockClock) -> None:
    """Else an application that tries again after a failure says everything twice (S2)."""
    async with open_test_server() as server:
        bob = await enter(server, "bob")
        first = await server.chat.send("alice", "bob", "hello", id="a1")
        assert await server.chat.send("alice", "bob", "hello", id="a1") == first == Sent("a1", 1, first.sent_at)
        with pytest.raises(IdConflict) as refused:
            await server.chat.send("alice", "bob", "something else", id="a1")
        assert refused.value.code is ErrorCode.ID_CONFLICT
        assert len(await entries(bob, 1)) == 1
        await silence(bob, 5)


async def test_edits_and_deletions_are_entries(autojump_clock: MockClock) -> None:
    """Else a moderator's deletion shows in the history and stays on every screen (L5)."""
    async with open_test_server() as server:
        chat, bob = server.chat, await enter(server, "bob")
        sent = await chat.send("alice", "bob", "helo")
        edited = await chat.edit("alice", "bob", sent.id, "hello", id="e1")
        assert (edited.id, edited.seq) == ("e1", 2)
        (message, edit) = await entries(bob, 2)
        assert (edit.kind, edit.target, edit.text) == ("edit", sent.id, "hello")
        page = await chat.history("bob", peer="alice")
        assert [(one.text, one.edit_seq, one.edited_at) for one in page.messages] == [("hello", edit.seq, edited.sent_at)]
        deleted = await chat.delete("alice", "bob", sent.id)
        assert deleted.seq == 3
        (deletion,) = await entries(bob, 1)
        assert (deletion.kind, deletion.target, deletion.text) == ("delete", message.id, None)
        (gone,) = (await chat.history("bob", HistoryQuery(peer="alice"))).messages
        assert (gone.text, gone.deleted) == (None, True)
        with pytest.raises(BadQuery):
            await chat.edit("alice", "bob", sent.id, "again")
        with pytest.raises(BadQuery):
            await chat.delete("alice", "bob", sent.id)


async def test_what_is_asked_about_a_user(autojump_clock: MockClock) -> None:
    """Else an application shows its users something else than their own clients do."""
    async with open_test_server() as server:
        chat = server.chat
        bob = await enter(server, "bob", "phone")
        gone = await enter(server, "bob", "web")
        await gone.aclose()
        await wait_all_tasks_blocked()
        await chat.send("alice", "bob", "the quick brown fox", id="a1")
        await chat.send("carol", "bob", "over the lazy dog", id="c1")
        await entries(bob, 2)
        found = await chat.search("bob", "quick fox")
        assert [hit.message.id for hit in found.hits] == ["a1"]
        assert found == await chat.search("bob", SearchQuery(query="quick fox"))
        assert (await chat.search("bob", "the", peer="carol", limit=1)).hits[0].message.id == "c1"
        talks = await chat.conversations("bob")
        assert [(talk.peer, talk.unread) for talk in talks.conversations] == [("carol", 1), ("alice", 1)]
        assert await chat.conversations("bob", ConversationsQuery(limit=1)) == await chat.conversations("bob", limit=1)
        unread = await chat.history("bob", unread=True)
        assert [message.id for message in unread.messages] == ["c1", "a1"]
        devices = await chat.devices("bob")
        assert [(device.name, device.connected) for device in devices] == [("phone", True), ("web", False)]
        assert (await chat.devices("nobody"), await chat.blocked("bob")) == ((), ())


async def test_reading_and_blocking_for_a_user(autojump_clock: MockClock) -> None:
    """Else a web page of the application that marks as read or blocks changes nothing for the clients, or leaks a block."""
    async with open_test_server() as server:
        chat = server.chat
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("a1", "bob"))
        await stored(alice, 1)
        await entries(bob, 1, acknowledge=False)
        await chat.mark_read("bob", "alice", 1)
        elsewhere = await frame(bob, wire.ReadElsewhere)
        assert (elsewhere.peer, elsewhere.seq) == ("alice", 1)
        receipt = await frame(alice, wire.Receipt)
        assert (receipt.peer, receipt.delivered, receipt.read) == ("bob", 1, 1)
        assert (await chat.conversations("bob")).conversations[0].unread == 0
        assert await chat.block("bob", "alice") == ("alice",) == await chat.blocked("bob")
        assert await chat.block("bob", "alice") == ("alice",)
        await chat.send("alice", "bob", "do you hear me?", id="a2")
        await silence(bob, 5)
        assert await chat.unblock("bob", "alice") == ()
        await chat.send("alice", "bob", "and now?", id="a3")
        (entry,) = await entries(bob, 1)
        assert entry.id == "a3"
        with pytest.raises(BadQuery):
            await chat.block("bob", "bob")


async def test_everything_that_is_there_is_read_and_nothing_that_comes(autojump_clock: MockClock) -> None:
    """Else "mark all as read" covers what is written tomorrow, or makes the marks of the user's own devices void."""
    async with open_test_server() as server:
        chat = server.chat
        bob, laptop = await enter(server, "bob"), await enter(server, "bob", "laptop")
        await chat.send("alice", "bob", "one")
        await entries(bob, 1)
        await entries(laptop, 1)
        await chat.mark_read("bob", "alice", 2**53 - 1)
        for device in (bob, laptop):
            assert await frame(device, wire.ReadElsewhere) == wire.ReadElsewhere(peer="alice", seq=1)
        await chat.send("alice", "bob", "two")
        await entries(bob, 1)
        await entries(laptop, 1)
        assert (await chat.conversations("bob")).conversations[0].unread == 1
        await bob.send(wire.Read(peer="alice", seq=2))
        assert await frame(laptop, wire.ReadElsewhere) == wire.ReadElsewhere(peer="alice", seq=2)
        assert (await chat.conversations("bob")).conversations[0].unread == 0


async def test_a_user_cannot_block_everybody(autojump_clock: MockClock) -> None:
    """Else one user's list grows without end, and every message to that user is compared with it."""
    settings = Settings(blocks=2)
    async with open_chat(MemoryStore(settings), settings=settings) as chat:
        await chat.block("bob", "e1")
        await chat.block("bob", "e2")
        with pytest.raises(NotAllowed):
            await chat.block("bob", "e3")
        assert await chat.blocked("bob") == ("e1", "e2")


async def test_a_device_is_removed(autojump_clock: MockClock) -> None:
    """Else a lost phone stays connected, or is remembered for ever."""
    async with open_test_server() as server:
        phone, web = await enter(server, "bob", "phone"), await enter(server, "bob", "web")
        await server.chat.remove_device("bob", "phone")
        assert (await closed(phone)).code == CloseCode.UNAUTHORIZED
        assert [device.name for device in await server.chat.devices("bob")] == ["web"]
        await silence(web, 1)
        await server.chat.remove_device("bob", "never seen")
        again = await server.connect("bob", "phone")
        assert (await frame(again, wire.Welcome)).new


NAMES: list[Any] = ["", "x" * 129, "b\x00b", "b\n", "\ud800", None, 7, b"bob"]
TEXTS: list[Any] = ["", "a\x00b", "cut \ud83d", None, 7, b"hi"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
async def test_names_are_checked_as_the_wire_does(name: Any, autojump_clock: MockClock) -> None:
    """Else a name gets into the store that no client can ever write to or block."""
    store = HeldStore()
    async with open_chat(store) as chat:
        calls: list[Call] = [
            lambda chat: chat.send(name, "bob", "hi"),
            lambda chat: chat.send("alice", name, "hi"),
            lambda chat: chat.edit(name, "bob", "t", "hi"),
            lambda chat: chat.delete("alice", name, "t"),
            lambda chat: chat.history(name),
            lambda chat: chat.search(name, "hi"),
            lambda chat: chat.conversations(name),
            lambda chat: chat.devices(name),
            lambda chat: chat.remove_device("bob", name),
            lambda chat: chat.block("bob", name),
            lambda chat: chat.unblock(name, "bob"),
            lambda chat: chat.blocked(name),
            lambda chat: chat.mark_read("bob", name, 1),
        ]
        if name is not None:
            calls += [
                lambda chat: chat.send("alice", "bob", "hi", id=name),
                lambda chat: chat.send("alice", "bob", "hi", reply_to=name),
            ]
        calls += [lambda chat: chat.edit("alice", "bob", name, "hi"), lambda chat: chat.delete("alice", "bob", name)]
        for call in calls:
            with pytest.raises(BadFrame, match="1 to"):
                await call(chat)
        if name is not None:
            with pytest.raises(BadQuery):
                await chat.history("bob", peer=name)
    assert not store.batches


@pytest.mark.parametrize("text", TEXTS, ids=repr)
async def test_texts_are_checked_as_the_wire_does(text: Any, autojump_clock: MockClock) -> None:
    """Else the application stores what no client could, and clients choke on it."""
    store = HeldStore()
    async with open_chat(store) as chat:
        with pytest.raises(BadFrame):
            await chat.send("alice", "bob", text)
        with pytest.raises(BadFrame):
            await chat.edit("alice", "bob", "t", text)
    assert not store.batches


async def test_a_text_that_is_too_long(autojump_clock: MockClock) -> None:
    """Else the application sends what does not fit into a client's window."""
    settings = Settings(text_bytes=10)
    async with open_chat(MemoryStore(settings), settings=settings) as chat:
        await chat.send("alice", "bob", "x" * 10)
        for text in ("x" * 11, "€€€€"):
            with pytest.raises(TooLarge, match="10 bytes"):
                await chat.send("alice", "bob", text)


@pytest.mark.parametrize("seq", [-1, 2**53, 1.0, True, "1", None], ids=repr)
async def test_positions_are_checked(seq: Any, autojump_clock: MockClock) -> None:
    """Else a slip of the pen is an error of the store's."""
    async with open_chat(MemoryStore()) as chat:
        with pytest.raises(BadFrame, match="seq"):
            await chat.mark_read("bob", "alice", seq)


async def test_queries_are_checked(autojump_clock: MockClock) -> None:
    """Else a question that excludes itself, or has a name misspelt, is answered with something else."""
    async with open_chat(MemoryStore()) as chat:
        with pytest.raises(BadQuery, match="around excludes"):
            await chat.history("bob", around=5, before=7)
        with pytest.raises(BadQuery, match="<= 200"):
            await chat.conversations("bob", limit=500)
        with pytest.raises(BadQuery, match="length >= 1"):
            await chat.search("bob", "")
        with pytest.raises(TypeError, match="not both"):
            await chat.history("bob", HistoryQuery(), peer="alice")
        with pytest.raises(TypeError, match="pear"):
            await chat.history("bob", pear="alice")


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (StoreFull("full"), StoreFull, ErrorCode.STORE_FULL),
        (StoreUnavailable("I/O error"), StoreUnavailable, ErrorCode.STORE_UNAVAILABLE),
        (StoreBusy("locked"), RequestRefused, ErrorCode.OVERLOADED),
        (StoreError("that row"), RequestRefused, ErrorCode.INTERNAL),
    ],
)
async def test_a_store_that_fails_is_told_by_type(
    fault: StoreError, kind: type[ChatError], code: ErrorCode, autojump_clock: MockClock
) -> None:
    """Else an application cannot tell a full disk from its own mistake, or takes what is not stored for stored."""
    store = MemoryStore()
    async with open_chat(store) as chat:
        for call in (
            lambda: chat.send("alice", "bob", "hi", id="a1"),
            lambda: chat.block("bob", "eve"),
            lambda: chat.mark_read("bob", "alice", 0),
            lambda: chat.remove_device("bob", "phone"),
        ):
            store.failure = None
            store.fail_next(fault, fault)  # the second for the row alone
            with pytest.raises(kind) as refused:
                await call()
            assert type(refused.value) is kind
            assert getattr(refused.value, "code", None) == code
            assert str(refused.value)
            store._faults.clear()
        store.failure = None
        assert (await chat.history("bob")).messages == ()
        await chat.send("alice", "bob", "hi", id="a1")


async def test_a_full_mailbox_is_told(autojump_clock: MockClock) -> None:
    """Else a bot fills the mailbox of somebody who has left, without end; and one refusal must not stop the others (S4)."""
    settings = Settings(mailbox=1)
    store = HeldStore(settings)
    outcomes: dict[str, object] = {}
    async with open_chat(store, settings=settings) as chat, trio.open_nursery() as nursery:
        await chat.send("alice", "bob", "one")

        async def says(to: str) -> None:
            try:
                outcomes[to] = await chat.send("alice", to, "two")
            except RequestRefused as refused:
                outcomes[to] = (type(refused), refused.code)

        store.hold()
        for to in ("bob", "carol", "dave"):
            nursery.start_soon(says, to)
        await wait_all_tasks_blocked()
        store.release()
        await wait_all_tasks_blocked()
        assert outcomes["bob"] == (RequestRefused, ErrorCode.MAILBOX_FULL)
        assert [type(outcomes[to]) for to in ("carol", "dave")] == [Sent, Sent]


async def test_the_rates_are_not_the_applications(autojump_clock: MockClock) -> None:
    """Else a bot is refused after a hundred messages, in the name of a user who has sent none."""
    settings = Settings(send_burst=1, send_rate=0.001, request_burst=1, request_rate=0.001)
    async with open_chat(MemoryStore(settings), settings=settings) as chat:
        for n in range(10):
            await chat.send("alice", "bob", f"text {n}")
            await chat.block("bob", f"eve{n}")
        assert len((await chat.history("bob")).messages) == 10


async def test_a_call_that_is_cancelled_may_be_made_again(autojump_clock: MockClock) -> None:
    """Else an application with a timeout around its call never finds out, or says it twice; or the answer hits nobody."""
    store = HeldStore()
    async with open_chat(store) as chat:
        store.hold()
        with trio.move_on_after(1) as scope:
            await chat.send("alice", "bob", "hi", id="a1")
        assert scope.cancelled_caught
        store.release()
        await wait_all_tasks_blocked()
        assert store.ids("bob") == ["a1"]
        again = await chat.send("alice", "bob", "hi", id="a1")
        assert again.seq == 1
        assert store.ids("bob") == ["a1"]
        assert not chat.registry._calls


# When the chat ends.


WRITES: list[Call] = [
    lambda chat: chat.send("alice", "bob", "hi"),
    lambda chat: chat.edit("alice", "bob", "t", "hi"),
    lambda chat: chat.delete("alice", "bob", "t"),
    lambda chat: chat.block("bob", "eve"),
    lambda chat: chat.unblock("bob", "eve"),
    lambda chat: chat.mark_read("bob", "alice", 1),
    lambda chat: chat.remove_device("bob", "phone"),
]
READS: list[Call] = [
    lambda chat: chat.history("bob"),
    lambda chat: chat.search("bob", "hi"),
    lambda chat: chat.conversations("bob"),
    lambda chat: chat.devices("bob"),
    lambda chat: chat.blocked("bob"),
]


async def test_nothing_is_taken_once_the_chat_drains(autojump_clock: MockClock) -> None:
    """Else a drain never ends, or a call waits for an answer that never comes; what is only read is read to the end."""
    store = HeldStore()
    async with open_chat(store) as chat:
        await chat.send("alice", "bob", "before")
        await chat.drain()
        store.batches.clear()
        for call in WRITES:
            with pytest.raises(ChatClosed, match="drains"):
                await call(chat)
        for call in READS:
            await call(chat)
    assert not store.batches
    for call in [*WRITES, *READS]:
        with pytest.raises(ChatClosed):
            await call(chat)
    with pytest.raises(ChatClosed, match="has ended"):
        await chat.registry.request(None)  # type: ignore[arg-type]


async def test_a_call_under_way_is_answered_before_a_drain_ends(autojump_clock: MockClock) -> None:
    """Else a bot's last message is stored and its caller waits for ever, or is told it was not (D1)."""
    store = HeldStore()
    outcomes: list[object] = []
    async with trio.open_nursery() as nursery:
        async with open_chat(store) as chat:

            async def says() -> None:
                outcomes.append(await chat.send("alice", "bob", "last words", id="a1"))

            store.hold()
            nursery.start_soon(says)
            await wait_all_tasks_blocked()
            chat._begin_drain()
            await wait_all_tasks_blocked()
            assert not outcomes
            store.release()
        await wait_all_tasks_blocked()
        assert [type(outcome) for outcome in outcomes] == [Sent]
        assert store.ids("bob") == ["a1"]


async def test_a_call_that_nobody_can_answer_any_more_is_told(autojump_clock: MockClock) -> None:
    """Else a call waits for ever after the chat has failed, and nothing says that its message may be stored."""

    class Failing(HeldStore):
        async def append(self, batch: Batch, now: int) -> Results:
            await super().append(batch, now)
            raise ValueError("planted")

    outcomes: list[str] = []

    async def says(chat: Chat) -> None:
        with trio.CancelScope(shield=True), pytest.raises(ChatClosed) as lost:
            await chat.send("alice", "bob", "hi")
        outcomes.append(str(lost.value))

    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with open_chat(Failing()) as chat, trio.open_nursery() as nursery:  # noqa: ASYNC112
            nursery.start_soon(says, chat)
    assert outcomes == ["the chat ended before this was answered: it may have been carried out"]


async def test_a_read_that_fails_raises_what_the_store_says(autojump_clock: MockClock) -> None:
    """Else an application takes a store that cannot read for a user without messages."""

    class Unreadable(MemoryStore):
        async def history(self, user: str, query: HistoryQuery, *, size: int) -> Any:
            raise StoreBusy("locked")

    async with open_chat(Unreadable()) as chat:
        with pytest.raises(StoreBusy):
            await chat.history("bob")


async def test_a_page_is_no_longer_than_a_clients(autojump_clock: MockClock) -> None:
    """Else a page of two hundred long messages is three megabytes that nobody asked for, and there is no second page."""
    async with open_chat(MemoryStore()) as chat:
        for n in range(10):
            await chat.send("alice", "bob", "x" * 16_000, id=f"a{n}")
        got: list[Message] = []
        before: int | None = None
        pages = 0
        while True:
            page = await chat.history("bob", before=before)
            got += page.messages
            pages += 1
            if not page.more:
                break
            before = page.next
        assert [message.id for message in got] == [f"a{n}" for n in reversed(range(10))]
        assert 3 <= pages <= 5
