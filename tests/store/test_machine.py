"""Both stores do and answer the same, whatever happens, and keep the invariants (I1, I2, I8, I9, L1–L6, S2, R1–R4, B1)."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_chat.core.batch import (
    Batch,
    BlockChange,
    Draft,
    Mark,
    Opened,
    Opening,
    PageRequest,
    ReadMark,
    Refused,
    Removal,
    Results,
    Stored,
)
from trio_chat.errors import ErrorCode, RowRefused
from trio_chat.model import Kind
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchQuery
from trio_chat.settings import Settings
from trio_chat.store.base import Store

from .conftest import Backend, Memory, Sqlite

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]  # a sender and the id of what was sent

LIMITS = Settings(mailbox=9, mailbox_bytes=90, devices=2, blocks=2)
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
    text=st.sampled_from(["", "x", "x y", "é" * 9]),
)
READS = st.builds(ReadMark, user=USERS, peer=USERS, seq=st.integers(-1, 12))
BLOCKS = st.builds(BlockChange, user=USERS, peer=USERS, blocked=st.booleans())
REMOVALS = st.builds(Removal, user=USERS, device=DEVICES)
HISTORIES = st.builds(
    HistoryQuery,
    peer=USERS | st.none(),
    before=st.integers(5, 20) | st.none(),
    after=st.integers(0, 4) | st.none(),
    since=st.integers(1000, 1100) | st.none(),
    until=st.integers(1101, 1200) | st.none(),
    unread=st.booleans(),
    direction=st.sampled_from(["in", None]),
    order=st.sampled_from(["asc", "desc", None]),
    limit=st.integers(1, 9),
)
AROUND = st.builds(HistoryQuery, around=st.integers(0, 12), peer=USERS | st.none(), limit=st.integers(1, 4))
IDS = st.lists(st.integers(1, 60).map(str), min_size=1)
NAMED = st.builds(HistoryQuery, ids=IDS.map(tuple), peer=USERS | st.none())
SEARCHES = st.builds(
    SearchQuery,
    query=st.sampled_from(["x", "y", "x y", "é"]),
    peer=USERS | st.none(),
    before=st.integers(1, 20) | st.none(),
    limit=st.integers(1, 5),
)
LISTS = st.builds(ConversationsQuery, before=st.integers(1, 20) | st.none(), limit=st.integers(1, 3))
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


class Said(NamedTuple):
    """What was stored, but for the text."""

    recipient: str
    text: str | None
    kind: str
    target: str | None
    about: Key | None
    answer: Stored


class Model:
    """What a log is, in the fewest words: enough to check numbers, order and repetition, and what is shown of a message."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Key]] = {}  # of each user: who sent which id
        self.said: dict[Key, Said] = {}
        self.deleted: set[Key] = set()
        self.blocks: set[tuple[str, str]] = set()
        self.delivered: dict[str, int] = {}
        self.read: dict[tuple[str, str], int] = {}

    def check(self, draft: Draft, result: Stored | Refused, now: int) -> None:
        known = self.said.get((draft.sender, draft.id))
        same = known is not None and known[:4] == (draft.recipient, draft.text, draft.kind, draft.target)
        about = self.about(draft)
        if isinstance(result, Refused):
            if result.code is ErrorCode.ID_CONFLICT:
                assert known is not None
                assert not same
            elif result.code is ErrorCode.BAD_QUERY:
                assert known is None
                assert draft.target is not None
                assert about is None
            else:
                assert result.code is ErrorCode.MAILBOX_FULL
        elif known is not None:
            first = known.answer
            assert same
            assert result == Stored(first.seq, first.peer_seq, first.sent_at, new=False)
        else:
            assert result.new
            assert result.sent_at >= now
            assert (about is None) == (draft.target is None)
            entry = draft.sender, draft.id
            assert result.seq == self.append(draft.sender, entry)
            concerns = draft.kind == "message" or about in self.logs.get(draft.recipient, [])
            two = concerns and draft.sender != draft.recipient and (draft.recipient, draft.sender) not in self.blocks
            assert result.peer_seq == (self.append(draft.recipient, entry) if two else 0)
            self.said[entry] = Said(draft.recipient, draft.text, draft.kind, draft.target, about, result)
            if draft.kind == "delete" and about is not None:
                self.deleted.add(about)

    def about(self, draft: Draft) -> Key | None:
        """The message that a draft is about, if there is one that it may be about."""
        for sender in (draft.recipient, draft.sender) if draft.kind == "message" else (draft.sender,):
            key = sender, str(draft.target)
            said = self.said.get(key)
            fits = (
                said is not None and said.kind == "message" and {sender, said.recipient} == {draft.sender, draft.recipient}
            )
            if fits and key in self.logs[draft.sender] and (draft.kind == "message" or key not in self.deleted):
                return key
        return None

    def append(self, user: str, entry: Key) -> int:
        log = self.logs.setdefault(user, [])
        log.append(entry)
        return len(log)

    def shown(self, user: str) -> list[tuple[Key, str | None]]:
        """The messages in a user's log, and the text of each as the user sees it now (L5)."""
        texts: dict[Key, str | None] = {}
        for key in self.logs.get(user, []):
            said = self.said[key]
            if said.kind == "message":
                texts[key] = said.text
            elif said.kind == "edit" and said.about is not None:
                texts[said.about] = said.text
        return [(key, None if key in self.deleted else text) for key, text in texts.items()]

    def unread(self, user: str) -> dict[str, int]:
        """R4."""
        counts: dict[str, int] = {}
        for seq, key in enumerate(self.logs.get(user, []), 1):
            sender, said = key[0], self.said[key]
            peer = said.recipient if sender == user else sender
            fresh = sender != user and said.kind == "message" and key not in self.deleted
            counts[peer] = counts.get(peer, 0) + (fresh and seq > self.read.get((user, peer), 0))
        return counts

    def block(self, change: BlockChange, result: tuple[str, ...] | Refused) -> None:
        pair = change.user, change.peer
        if isinstance(result, Refused):
            assert change.blocked
            if result.code is ErrorCode.BAD_QUERY:
                assert change.user == change.peer
            else:
                assert result.code is ErrorCode.NOT_ALLOWED
                assert pair not in self.blocks
                assert len(self.blocked(change.user)) >= LIMITS.blocks
            return
        if change.blocked:
            self.blocks.add(pair)
            for user in pair:
                self.logs.setdefault(user, [])
        else:
            self.blocks.discard(pair)
        assert result == self.blocked(change.user)

    def blocked(self, user: str) -> tuple[str, ...]:
        return tuple(sorted(peer for blocker, peer in self.blocks if blocker == user))

    def mark_read(self, mark: ReadMark) -> None:
        pairs = {frozenset((sender, said.recipient)) for (sender, _), said in self.said.items()}
        if mark.user != mark.peer and frozenset((mark.user, mark.peer)) in pairs:
            reached = min(mark.seq, len(self.logs.get(mark.user, [])))
            self.read[mark.user, mark.peer] = max(self.read.get((mark.user, mark.peer), 0), reached)


class Stores(RuleBasedStateMachine):
    """Every rule is carried out on both stores, and one visit of Trio's each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.backends: list[Backend] = [Memory(), Sqlite(Path(self.folder.name) / "chat.db")]
        self.stores: list[Store] = []
        self.names: list[dict[str, str]] = [{}, {}]  # of each store: what it calls the users' logs
        self.model = Model()
        self.ids = 1000
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
            openings = [
                (one.head, one.floor, one.cursor, one.new, one.blocked) if isinstance(one, Opened) else one.code
                for one in results.openings
            ]
            assert len({(one.user, one.peer) for one in results.progress}) == len(results.progress)
            rest = results.drafts, results.blocks, results.removals, {*results.progress}, results.at
            answers.append((openings, rest))
        assert answers[0] == answers[1]
        return results

    def same(self, ask: Callable[[Store], Awaitable[T]]) -> T:
        """What both stores answer to a question."""

        async def asked(store: Store) -> T:
            return await ask(store)

        one, two = (trio.run(asked, store) for store in self.stores)
        assert one == two
        return two

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
        reads=st.lists(READS, max_size=3),
        blocks=st.lists(BLOCKS, max_size=3),
        removals=st.lists(REMOVALS, max_size=2),
    )
    def batch(
        self,
        marks: list[Mark],
        openings: list[tuple[Any, ...]],
        drafts: list[Draft],
        now: int,
        reads: Sequence[ReadMark] = (),
        blocks: Sequence[BlockChange] = (),
        removals: Sequence[Removal] = (),
    ) -> None:
        batches = []
        for names in self.names:
            asked = tuple(
                Opening(n, user, device, names.get(user, "none") if named else None, *rest)
                for n, (user, device, named, *rest) in enumerate(openings)
            )
            batches.append(Batch(tuple(marks), asked, tuple(drafts), tuple(reads), tuple(blocks), tuple(removals)))
        heads = {user: len(log) for user, log in self.model.logs.items()}
        results = self.append(batches, now)
        for mark in marks:
            reached = min(mark.seq, heads.get(mark.user, 0))
            self.model.delivered[mark.user] = max(self.model.delivered.get(mark.user, 0), reached)
        for read in reads:
            self.model.mark_read(read)
        for opening, opened in zip(batches[1].openings, results.openings, strict=True):
            if isinstance(opened, Opened):
                assert opened.blocked == self.model.blocked(opening.user)
                assert opened.head == heads.get(opening.user, 0)
                assert 0 <= opened.cursor <= opened.head
                if opening.send_only:
                    assert opened.cursor == opened.head
                    continue
                delivered = self.model.delivered.get(opening.user, 0)
                assert opened.cursor in (delivered, opening.after) or not opened.new
                self.model.delivered[opening.user] = max(delivered, opened.cursor)
        for change, result in zip(blocks, results.blocks, strict=True):
            self.model.block(change, result)
        assert results.removals == (None,) * len(removals)
        assert results.at == now
        stopped = set()
        for draft, stored in zip(drafts, results.drafts, strict=True):
            if draft.source in stopped and (draft.sender, draft.id) not in self.model.said:  # S4, but S2 comes first
                assert stored == Refused(ErrorCode.MAILBOX_FULL)
                continue
            self.model.check(draft, stored, now)
            if stored == Refused(ErrorCode.MAILBOX_FULL):
                stopped.add(draft.source)

    @rule(data=st.data(), now=CLOCK)
    def changes(self, data: st.DataObject, now: int) -> None:
        """Edits, deletions and replies, mostly of what is there, some of them of what the same batch holds."""
        one, other, _ = data.draw(st.permutations("abc"))
        drafts = [Draft(1, one, other, self.fresh(), "x"), Draft(1, other, one, self.fresh(), "x")]
        known = [(sender, said.recipient, id) for (sender, id), said in self.model.said.items() if said.kind == "message"]
        known += [(draft.sender, draft.recipient, draft.id) for draft in drafts] * 2
        for n in range(data.draw(st.integers(2, 6))):
            sender, recipient, target = data.draw(st.sampled_from(known))
            if not data.draw(MOSTLY):
                recipient = data.draw(USERS)
            kind: Kind = data.draw(st.sampled_from(["edit", "edit", "edit", "delete", "message"]))
            if kind == "message" and data.draw(st.booleans()):
                sender, recipient = recipient, sender
            text = None if kind == "delete" else data.draw(st.sampled_from(["x", "y", "x y"]))
            id = self.fresh() if data.draw(MOSTLY) else target
            drafts.append(Draft(n, sender, recipient, id, text, kind, target))
        delivered = [Mark(user, "p", 99) for user in "abcd"]
        changed = [BlockChange(one, other, blocked=data.draw(st.booleans()))] if data.draw(st.booleans()) else []
        self.batch(delivered, [], drafts, now, blocks=changed)

    def fresh(self) -> str:
        """An id that was never used."""
        self.ids += 1
        return str(self.ids)

    @rule(
        reads=st.lists(READS, max_size=4),
        blocks=st.lists(BLOCKS, max_size=4),
        removals=st.lists(REMOVALS, max_size=2),
        now=CLOCK,
    )
    def marks_and_blocks(self, reads: list[ReadMark], blocks: list[BlockChange], removals: list[Removal], now: int) -> None:
        self.batch([], [], [], now, reads, blocks, removals)

    @rule(user=USERS, chosen=HISTORIES | AROUND | NAMED, words=SEARCHES, listed=LISTS)
    def ask(self, user: str, chosen: HistoryQuery, words: SearchQuery, listed: ConversationsQuery) -> None:
        async def answers(store: Store) -> tuple[object, ...]:
            history = await store.history(user, chosen, size=10**9)
            search = await store.search(user, words, size=10**9)
            for message in (*history.messages, *(hit.message for hit in search.hits)):
                assert user in (message.sender, message.recipient)  # I9
            conversations = await store.conversations(user, listed, size=10**9)
            return history, search, conversations, await store.standings(user, [*"abcd"])

        self.same(answers)

    @rule(marks=st.lists(MARKS, min_size=1), drafts=st.lists(DRAFTS, min_size=1), user=USERS, now=CLOCK)
    def failing_batch(self, marks: list[Mark], drafts: list[Draft], user: str, now: int) -> None:
        bad = Draft(9, user, "a", "\ud800", "")
        opening = Opening(1, user, "new")
        for store in self.stores:
            with pytest.raises(RowRefused):
                trio.run(store.append, Batch(tuple(marks), (opening,), (*drafts, bad)), now)

    @rule(pair=st.tuples(USERS, USERS))
    def block_from_outside(self, pair: tuple[str, str]) -> None:
        if pair[0] != pair[1] and pair not in self.model.blocks and {*pair} <= self.model.logs.keys():
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
        pages = self.same(lambda store: store.pages(asked))
        for user, page in zip(users, pages, strict=True):
            log = self.model.logs.get(user, [])
            assert [message.seq for message in page.messages] == [*range(1, len(log) + 1)]
            assert [(message.sender, message.id) for message in page.messages] == log
            assert [(message.kind, message.target or message.reply_to) for message in page.messages] == [
                (self.model.said[key].kind, self.model.said[key].target) for key in log
            ]
            times = [message.sent_at for message in page.messages]
            assert times == sorted(times)

    @invariant()
    def what_is_shown_is_what_was_said(self) -> None:
        async def all_of_it(store: Store) -> list[object]:
            answers: list[object] = []
            for user in "abcd":
                history = await store.history(user, HistoryQuery(limit=200, order="asc"), size=10**9)
                messages = [((one.sender, one.id), one.text) for one in history.messages]
                assert messages == self.model.shown(user)[:200]
                listed = await store.conversations(user, ConversationsQuery(), size=10**9)
                assert {one.peer: one.unread for one in listed.conversations} == self.model.unread(user)
                assert await store.blocked(user) == self.model.blocked(user)
                words = [await store.search(user, SearchQuery(query=word, limit=200), size=10**9) for word in "xy"]
                answers += [history, listed, words, await store.devices(user)]
            return answers

        self.same(all_of_it)


TestStores = Stores.TestCase
# Every step visits Trio several times and the disk once, so it looks less far than other machines do in the same profile.
TestStores.settings = settings(
    max_examples=settings().max_examples // 6, stateful_step_count=settings().stateful_step_count // 3
)
