"""Both stores do the same things, whatever is done, and both keep the invariants (I1, I2, I8, L6, S2)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_chat.core.batch import Batch, Draft, Mark, Opened, Opening, PageRequest, Refused, Results, Stored
from trio_chat.errors import ErrorCode, RowRefused
from trio_chat.settings import Settings
from trio_chat.store.base import Store

from .conftest import Backend, Memory, Sqlite

LIMITS = Settings(mailbox=4, mailbox_bytes=40, devices=2)
USERS = st.sampled_from("abcd")
MOSTLY = st.sampled_from([True] * 7 + [False])
DEVICES = st.sampled_from(["p", "q", "r"])
MARKS = st.builds(Mark, user=USERS, device=DEVICES, seq=st.integers(-1, 12))
DRAFTS = st.builds(
    Draft,
    source=st.integers(1, 3),
    sender=USERS,
    recipient=USERS,
    id=st.integers(1, 60).map(str),
    text=st.sampled_from(["", "x", "é" * 9]),
)
OPENINGS = st.tuples(
    USERS,
    DEVICES,
    MOSTLY,  # names this log
    st.integers(-1, 12) | st.none(),  # after
    st.frozensets(DEVICES, max_size=2),  # connected
    MOSTLY,  # may be new
    MOSTLY.map(lambda usual: not usual),  # send only
)
CLOCK = st.integers(1000, 1200)


class Model:
    """What a log is, in the fewest words: enough to check numbers, order and repetition."""

    def __init__(self) -> None:
        self.logs: dict[str, list[tuple[str, str]]] = {}  # of each user: who sent which id
        self.answers: dict[tuple[str, str], tuple[str, str, Stored]] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.delivered: dict[str, int] = {}

    def check(self, draft: Draft, result: Stored | Refused, now: int) -> None:
        known = self.answers.get((draft.sender, draft.id))
        if isinstance(result, Refused):
            if result.code is ErrorCode.ID_CONFLICT:
                assert known is not None
                assert known[:2] != (draft.recipient, draft.text)
            else:
                assert result.code is ErrorCode.MAILBOX_FULL
        elif known is not None:
            first = known[2]
            assert known[:2] == (draft.recipient, draft.text)
            assert result == Stored(first.seq, first.peer_seq, first.sent_at, new=False)
        else:
            assert result.new
            assert result.sent_at >= now
            entry = draft.sender, draft.id
            assert result.seq == self.append(draft.sender, entry)
            two = draft.sender != draft.recipient and (draft.recipient, draft.sender) not in self.blocks
            assert result.peer_seq == (self.append(draft.recipient, entry) if two else 0)
            self.answers[entry] = draft.recipient, draft.text, result

    def append(self, user: str, entry: tuple[str, str]) -> int:
        log = self.logs.setdefault(user, [])
        log.append(entry)
        return len(log)


class Stores(RuleBasedStateMachine):
    """Every rule is carried out on both stores, and one visit of Trio's each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.backends: list[Backend] = [Memory(), Sqlite(Path(self.folder.name) / "chat.db")]
        self.stores: list[Store] = []
        self.names: list[dict[str, str]] = [{}, {}]  # of each store: what it calls the users' logs
        self.model = Model()
        self.open()

    def open(self) -> None:
        self.stores = [backend.open(LIMITS) for backend in self.backends]
        for store in self.stores:
            trio.run(store.__aenter__)

    def close(self) -> None:
        for store in self.stores:
            trio.run(store.__aexit__, None, None, None)

    def teardown(self) -> None:
        self.close()
        self.folder.cleanup()

    def append(self, batches: list[Batch], now: int) -> Results:
        """What both stores answer, once it is the same but for the names of logs."""
        answers = []
        results = Results()
        for store, batch, names in zip(self.stores, batches, self.names, strict=True):
            results = trio.run(store.append, batch, now)
            for opening, opened in zip(batch.openings, results.openings, strict=True):
                if isinstance(opened, Opened):
                    assert names.setdefault(opening.user, opened.log) == opened.log
            answers.append(
                [
                    (one.head, one.floor, one.cursor, one.new) if isinstance(one, Opened) else one.code
                    for one in results.openings
                ]
            )
            answers.append(results.drafts)  # type: ignore[arg-type]
        assert answers[:2] == answers[2:]
        return results

    @rule(drafts=st.lists(DRAFTS, min_size=3, max_size=9), now=CLOCK)
    def drafts(self, drafts: list[Draft], now: int) -> None:
        self.batch([], [], drafts, now)

    @rule(marks=st.lists(MARKS, max_size=3), openings=st.lists(OPENINGS, min_size=1, max_size=5), now=CLOCK)
    def devices(self, marks: list[Mark], openings: list[tuple[Any, ...]], now: int) -> None:
        self.batch(marks, openings, [], now)

    @rule(
        marks=st.lists(MARKS, max_size=3),
        openings=st.lists(OPENINGS, max_size=5),
        drafts=st.lists(DRAFTS, max_size=9),
        now=CLOCK,
    )
    def batch(self, marks: list[Mark], openings: list[tuple[Any, ...]], drafts: list[Draft], now: int) -> None:
        batches = []
        for names in self.names:
            asked = tuple(
                Opening(n, user, device, names.get(user, "none") if named else None, *rest)
                for n, (user, device, named, *rest) in enumerate(openings)
            )
            batches.append(Batch(tuple(marks), asked, tuple(drafts)))
        heads = {user: len(log) for user, log in self.model.logs.items()}
        results = self.append(batches, now)
        for mark in marks:
            reached = min(mark.seq, heads.get(mark.user, 0))
            self.model.delivered[mark.user] = max(self.model.delivered.get(mark.user, 0), reached)
        for opening, opened in zip(batches[1].openings, results.openings, strict=True):
            if isinstance(opened, Opened):
                assert opened.head == heads.get(opening.user, 0)
                assert 0 <= opened.cursor <= opened.head
                if opening.send_only:
                    assert opened.cursor == opened.head
                    continue
                delivered = self.model.delivered.get(opening.user, 0)
                assert opened.cursor in (delivered, opening.after) or not opened.new
                self.model.delivered[opening.user] = max(delivered, opened.cursor)
        stopped = set()
        for draft, result in zip(drafts, results.drafts, strict=True):
            if draft.source in stopped and (draft.sender, draft.id) not in self.model.answers:  # S4, but S2 comes first
                assert result == Refused(ErrorCode.MAILBOX_FULL)
                continue
            self.model.check(draft, result, now)
            if result == Refused(ErrorCode.MAILBOX_FULL):
                stopped.add(draft.source)

    @rule(marks=st.lists(MARKS, min_size=1), drafts=st.lists(DRAFTS, min_size=1), user=USERS, now=CLOCK)
    def failing_batch(self, marks: list[Mark], drafts: list[Draft], user: str, now: int) -> None:
        bad = Draft(9, user, "a", "\ud800", "")
        opening = Opening(1, user, "new")
        for store in self.stores:
            with pytest.raises(RowRefused):
                trio.run(store.append, Batch(tuple(marks), (opening,), (*drafts, bad)), now)

    @rule(pair=st.tuples(USERS, USERS))
    def block(self, pair: tuple[str, str]) -> None:
        if pair not in self.model.blocks and {*pair} <= self.model.logs.keys():
            self.model.blocks.add(pair)
            for backend in self.backends:
                backend.block(*pair)

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule(
        asked=st.lists(
            st.builds(PageRequest, user=USERS, after=st.integers(0, 9), limit=st.integers(1, 9), size=st.integers(1, 900)),
            max_size=3,
        )
    )
    def pages(self, asked: list[PageRequest]) -> None:
        one, two = (trio.run(store.pages, asked) for store in self.stores)
        assert one == two

    @invariant()
    def logs_are_what_was_answered(self) -> None:
        users = [*"abcd"]
        asked = [PageRequest(user, 0, 10**6, 10**9) for user in users]
        one, two = (trio.run(store.pages, asked) for store in self.stores)
        assert one == two
        for user, page in zip(users, two, strict=True):
            log = self.model.logs.get(user, [])
            assert [message.seq for message in page.messages] == [*range(1, len(log) + 1)]
            assert [(message.sender, message.id) for message in page.messages] == log
            times = [message.sent_at for message in page.messages]
            assert times == sorted(times)


TestStores = Stores.TestCase
# Every step visits Trio several times and the disk once, so it looks less far than other machines do in the same profile.
TestStores.settings = settings(
    max_examples=settings().max_examples // 6, stateful_step_count=settings().stateful_step_count // 3
)
