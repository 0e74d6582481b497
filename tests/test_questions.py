"""What clients ask of the store: each question has one answer, of a bounded size, and nobody waits for others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.core.batch import Batch, Draft
from trio_chat.core.effects import Ask
from trio_chat.core.events import Answered, Event, Stood
from trio_chat.errors import BadQuery, ErrorCode, StoreBusy, StoreUnavailable
from trio_chat.model import Message
from trio_chat.questions import Judge, Questions
from trio_chat.retrieval import (
    Conversation,
    ConversationsPage,
    ConversationsQuery,
    Device,
    HistoryPage,
    HistoryQuery,
    SearchHit,
    SearchPage,
    SearchQuery,
    Standing,
)
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.store.sqlite import SqliteStore

DEVICE = Device(name="phone", cursor=1, seen=2, created=3)
LIMIT = Settings().server_frame_bytes


def message(seq: int, text: str) -> Message:
    return Message(seq=seq, id=f"m{seq}", sender="alice", recipient="bob", text=text, sent_at=seq)


class Library(MemoryStore):
    """A store that answers whatever it is asked, each user when the test lets it, and remembers who asked."""

    def __init__(self, texts: Sequence[str] = ("hi",)) -> None:
        super().__init__()
        self.entries = tuple(message(n, text) for n, text in enumerate(texts, 1))
        self.held: dict[str, trio.Event] = {}
        self.faults: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.sizes: list[int] = []

    async def _turn(self, user: str, size: int = 0) -> None:
        self.asked.append(user)
        self.sizes.append(size)
        await trio.lowlevel.checkpoint()
        if user in self.held:
            await self.held[user].wait()
        if user in self.faults:
            raise self.faults[user]

    def _fitting(self, size: int) -> tuple[Message, ...]:
        """As a store measures: by characters, and one at least."""
        count = total = 0
        for entry in self.entries:
            total += len(entry.text or "") + 100
            if count and total > size:
                break
            count += 1
        return self.entries[:count]

    async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
        await self._turn(user, size)
        return HistoryPage(messages=self._fitting(size), more=False, next=None)

    async def search(self, user: str, query: SearchQuery, *, size: int) -> SearchPage:
        await self._turn(user, size)
        hits = tuple(SearchHit(message=entry, snippet=("", "hi")) for entry in self._fitting(size))
        return SearchPage(hits=hits, more=True, next=1)

    async def conversations(self, user: str, query: ConversationsQuery, *, size: int) -> ConversationsPage:
        await self._turn(user, size)
        talks = tuple(
            Conversation(peer="bob", last=entry, unread=0, delivered=0, read=0, own_delivered=0, own_read=0)
            for entry in self._fitting(size)
        )
        return ConversationsPage(conversations=talks, more=True, next=1)

    async def devices(self, user: str) -> tuple[Device, ...]:
        await self._turn(user)
        return (DEVICE,)

    async def blocked(self, user: str) -> tuple[str, ...]:
        await self._turn(user)
        return tuple(f"eve{n:04}{'x' * 120}" for n in range(1000))

    async def standings(self, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
        await self._turn(viewer)
        return tuple(Standing(user=user, acquainted=True, last_seen=7) for user in users)


@asynccontextmanager
async def questions_to(store: Library, judge: Judge | None = None) -> AsyncIterator[tuple[Questions, list[Event]]]:
    reported: list[Event] = []
    questions = Questions(store, reported.append, Settings(), judge=judge)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(questions.run)
        yield questions, reported
        nursery.cancel_scope.cancel()


async def test_every_question_has_its_answer(autojump_clock: MockClock) -> None:
    """Else a client that asks waits for ever, or is given the answer to something else."""
    store = Library()
    (entry,) = store.entries
    talk = Conversation(peer="bob", last=entry, unread=0, delivered=0, read=0, own_delivered=0, own_read=0)
    async with questions_to(store) as (questions, reported):
        questions.submit(Ask(1, "a", wire.History(ref="r1")))
        questions.submit(Ask(2, "b", wire.Search(ref="r2", query="hi")))
        questions.submit(Ask(3, "c", wire.Conversations(ref="r3")))
        questions.submit(Ask(4, "d", wire.Devices(ref="r4")))
        questions.submit(Ask(5, "e", wire.Watch(ref="r5", users=("x", "y"))))
        await wait_all_tasks_blocked()
        assert sorted(reported, key=lambda event: getattr(event, "connection", 0)) == [
            Answered(1, wire.HistoryAnswer(ref="r1", messages=(entry,), more=False, next=None)),
            Answered(
                2, wire.SearchAnswer(ref="r2", hits=(SearchHit(message=entry, snippet=("", "hi")),), more=True, next=1)
            ),
            Answered(3, wire.ConversationsAnswer(ref="r3", conversations=(talk,), more=True, next=1)),
            Answered(4, wire.DevicesAnswer(ref="r4", devices=(DEVICE,))),
            Stood(5, tuple(Standing(user=user, acquainted=True, last_seen=7) for user in ("x", "y"))),
        ]


async def test_a_list_of_blocks_is_one_frame_however_long(autojump_clock: MockClock) -> None:
    """Else somebody who blocks many is told of some only: this answer has no pages."""
    async with questions_to(Library()) as (questions, reported):
        questions.submit(Ask(1, "a", wire.Blocks(ref="r")))
        await wait_all_tasks_blocked()
        (event,) = reported
        assert isinstance(event, Answered)
        assert isinstance(event.answer, wire.Blocked)
        assert len(event.answer.users) == 1000
        assert LIMIT < len(wire.encode(event.answer)) < 1024 * 1024  # what clients take


@pytest.mark.parametrize(
    "question",
    [wire.History(ref="r"), wire.Search(ref="r", query="x"), wire.Conversations(ref="r")],
    ids=lambda question: type(question).__name__,
)
@pytest.mark.parametrize(
    "texts",
    [["x" * 1000] * 200, ["\x01" * 5000] * 40, ['"' * 16_000] * 20, ["€" * 5000] * 20, ["\x01" * 16_000] * 3],
    ids=["plain", "controls", "quotes", "euros", "three large ones"],
)
async def test_an_answer_ends_at_the_limit_for_frames(
    question: wire.History | wire.Search | wire.Conversations, texts: list[str], autojump_clock: MockClock
) -> None:
    """Else a small device's buffer bursts: what a store takes for a page may be six times that in JSON (C6)."""
    store = Library(texts)
    async with questions_to(store) as (questions, reported):
        questions.submit(Ask(1, "a", question))
        await wait_all_tasks_blocked()
        (event,) = reported
        assert isinstance(event, Answered)
        encoded = wire.encode(event.answer)  # type: ignore[arg-type]
        items = next(value for value in json.loads(encoded).values() if isinstance(value, list))
        assert items
        assert len(encoded) <= LIMIT or len(items) == 1
        assert len(store.sizes) <= 8


async def test_a_slow_question_holds_up_its_user_only(autojump_clock: MockClock) -> None:
    """Else one user with an awkward search makes everybody wait, the more so with many connections."""
    store = Library()
    store.held["slow"] = trio.Event()
    async with questions_to(store) as (questions, reported):
        for connection in range(100, 164):  # all the connections that one user may have
            questions.submit(Ask(connection, "slow", wire.History(ref="r")))
        for connection in range(20):
            questions.submit(Ask(connection, f"user{connection}", wire.History(ref="r")))
        await wait_all_tasks_blocked()
        assert {event.connection for event in reported if isinstance(event, Answered)} == set(range(20))
        assert store.asked.count("slow") == 1
        store.held.pop("slow").set()
        await wait_all_tasks_blocked()
        assert [event.connection for event in reported[20:] if isinstance(event, Answered)] == list(range(100, 164))


async def test_the_store_is_not_asked_everything_at_once(autojump_clock: MockClock) -> None:
    """Else ten thousand clients that come back at once make ten thousand tasks, all waiting for a thread."""
    store = Library()
    for n in range(50):
        store.held[f"user{n}"] = trio.Event()
    async with questions_to(store) as (questions, reported):
        for n in range(50):
            questions.submit(Ask(n, f"user{n}", wire.Devices(ref="r")))
        await wait_all_tasks_blocked()
        assert sorted(store.asked) == [f"user{n}" for n in range(8)]  # tasks begin in any order
        store.held["user3"].set()
        await wait_all_tasks_blocked()
        assert store.asked[8:] == ["user8"]
        for event in store.held.values():
            event.set()
        await wait_all_tasks_blocked()
        assert len(reported) == 50


async def test_who_asks_again_stands_behind_the_others(autojump_clock: MockClock) -> None:
    """Else users who ask without a pause keep the others from ever being answered."""
    store = Library()
    busy = [f"busy{n}" for n in range(8)]
    for user in busy:
        store.held[user] = trio.Event()
    async with questions_to(store) as (questions, reported):
        for connection, user in enumerate(busy * 2):
            questions.submit(Ask(connection, user, wire.Devices(ref="r")))
        questions.submit(Ask(99, "carol", wire.Devices(ref="r")))
        await wait_all_tasks_blocked()
        store.held["busy0"].set()
        await wait_all_tasks_blocked()
        assert store.asked[8:] == ["carol", "busy0"]
        for event in store.held.values():
            event.set()
        await wait_all_tasks_blocked()
        assert len(reported) == 17


@pytest.mark.parametrize(
    ("fault", "code"),
    [(StoreBusy("locked"), ErrorCode.OVERLOADED), (StoreUnavailable("I/O error"), ErrorCode.STORE_UNAVAILABLE)],
)
@pytest.mark.parametrize(
    "question", [wire.History(ref="r"), wire.Watch(ref="r", users=("x",))], ids=lambda question: type(question).__name__
)
async def test_what_cannot_be_read_is_reported(
    fault: Exception, code: ErrorCode, question: wire.History | wire.Watch, autojump_clock: MockClock
) -> None:
    """Else one failed query ends the server, or its connection may never ask again."""
    store = Library()
    store.faults["alice"] = fault
    async with questions_to(store) as (questions, reported):
        questions.submit(Ask(1, "alice", question))
        questions.submit(Ask(2, "alice", wire.Devices(ref="s")))
        await wait_all_tasks_blocked()
        assert reported == [Answered(1, code), Answered(2, code)]
        store.faults.clear()
        questions.submit(Ask(1, "alice", wire.Devices(ref="t")))
        await wait_all_tasks_blocked()
        assert reported[2:] == [Answered(1, wire.DevicesAnswer(ref="t", devices=(DEVICE,)))]


async def test_who_has_left_need_not_be_answered(autojump_clock: MockClock) -> None:
    """Else who connects, asks and leaves again and again fills the memory with questions, and the store's time."""
    store = Library()
    store.held["eve"] = trio.Event()
    async with questions_to(store) as (questions, reported):
        for connection in range(100):
            questions.submit(Ask(connection, "eve", wire.Devices(ref="r")))
        await wait_all_tasks_blocked()
        for connection in range(99):
            questions.withdraw(connection)  # the first is being answered already
        questions.withdraw(12345)
        questions.submit(Ask(200, "mallory", wire.Devices(ref="r")))
        questions.withdraw(200)
        await wait_all_tasks_blocked()
        store.held["eve"].set()
        await wait_all_tasks_blocked()
        assert store.asked == ["eve", "eve"]
        assert [event.connection for event in reported if isinstance(event, Answered)] == [0, 99]
        assert not questions._waiting
        assert not questions._askers
        questions.submit(Ask(201, "mallory", wire.Devices(ref="r")))
        await wait_all_tasks_blocked()
        assert store.asked[2:] == ["mallory"]


@pytest.mark.parametrize(
    "question", [wire.History(ref="r"), wire.Watch(ref="r", users=("x",))], ids=lambda question: type(question).__name__
)
async def test_a_bug_in_the_store_costs_one_question(
    question: wire.History | wire.Watch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else whoever finds a question that the store stumbles over ends the chat of everybody, or waits without an answer."""
    store = Library()
    store.faults["eve"] = KeyError("planted")
    async with questions_to(store) as (questions, reported):
        for n in range(20):
            questions.submit(Ask(n, "eve", question))
        questions.submit(Ask(99, "alice", wire.Devices(ref="s")))
        await wait_all_tasks_blocked()
        answers = [event for event in reported if isinstance(event, Answered)]
        assert Answered(99, wire.DevicesAnswer(ref="s", devices=(DEVICE,))) in answers
        assert [event for event in answers if event.connection != 99] == [Answered(n, ErrorCode.INTERNAL) for n in range(20)]
    assert "planted" in caplog.text
    assert all(record.exc_info for record in caplog.records)


async def test_a_question_may_be_refused(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Else a client ends the server with a question that would take too long; or is not told what to ask instead."""
    store = Library()
    store.faults["eve"] = BadQuery("ask for fewer")
    async with questions_to(store) as (questions, reported):
        questions.submit(Ask(1, "eve", wire.History(ref="r", ids=("x",))))
        await wait_all_tasks_blocked()
        assert reported == [Answered(1, ErrorCode.BAD_QUERY, "ask for fewer")]
    assert not caplog.records, "what a client does wrong is not the operator's business"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_three_large_messages_are_shown_one_at_a_time(kind: str, tmp_path: Path) -> None:
    """Else three texts that JSON makes six times as long keep a reader busy for ever, eight users all of them (C6)."""
    answered = trio.Event()
    reported: list[Event] = []

    def report(event: Event) -> None:
        reported.append(event)
        answered.set()

    store: Store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "chat.db")
    async with store, trio.open_nursery() as nursery:
        await store.append(Batch(drafts=tuple(Draft(1, "eve", "bob", f"{n}", "\x01" * 16_000) for n in range(3))), 1000)
        questions = Questions(store, report, Settings())
        nursery.start_soon(questions.run)
        questions.submit(Ask(1, "eve", wire.History(ref="r", around=2, limit=1)))
        with trio.fail_after(30):
            await answered.wait()
        nursery.cancel_scope.cancel()
    (event,) = reported
    assert isinstance(event, Answered)
    assert isinstance(event.answer, wire.HistoryAnswer)
    assert [entry.seq for entry in event.answer.messages] == [2]
    assert (event.answer.more, event.answer.next) == (True, 2)


async def test_a_store_that_gives_too_much_is_asked_so_often_only(autojump_clock: MockClock) -> None:
    """Else a page that does not get smaller is asked for again for ever, and keeps all other questions waiting."""

    class Generous(Library):
        def _fitting(self, size: int) -> tuple[Message, ...]:
            return self.entries

    store = Generous(["\x01" * 10_000] * 3)
    async with questions_to(store) as (questions, reported):
        questions.submit(Ask(1, "alice", wire.History(ref="r", around=2, limit=1)))
        with trio.fail_after(1):
            await wait_all_tasks_blocked()
        assert [type(event) for event in reported] == [Answered]
    assert store.sizes == sorted({*store.sizes}, reverse=True)


async def test_what_the_application_decides_takes_its_own_time(autojump_clock: MockClock) -> None:
    """Else a hook that asks a slow directory keeps everybody's questions waiting; or its answer is passed over."""
    decided = trio.Event()

    async def judge(viewer: str, standings: tuple[Standing, ...]) -> tuple[Standing, ...]:
        await decided.wait()
        return tuple(Standing(user=one.user, acquainted=False, last_seen=one.last_seen) for one in standings)

    async with questions_to(Library(), judge) as (questions, reported):
        for n in range(30):
            questions.submit(Ask(n, f"user{n}", wire.Watch(ref="r", users=("x",))))
        questions.submit(Ask(99, "carol", wire.Devices(ref="r")))
        await wait_all_tasks_blocked()
        assert reported == [Answered(99, wire.DevicesAnswer(ref="r", devices=(DEVICE,)))]
        decided.set()
        await wait_all_tasks_blocked()
        stood = (Standing(user="x", acquainted=False, last_seen=7),)
        assert reported[1:] == [Stood(event.connection, stood) for event in reported if isinstance(event, Stood)]
        assert len(reported) == 31
