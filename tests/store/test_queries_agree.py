"""Both stores answer every question alike, whatever was done before and whatever is asked; and nobody learns of others."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_chat.core.batch import Batch, BlockChange, Draft, Mark, Opening, ReadMark
from trio_chat.errors import BadQuery
from trio_chat.model import Message
from trio_chat.retrieval import ConversationsQuery, HistoryPage, HistoryQuery, SearchQuery, check
from trio_chat.store import conversation_list, scope
from trio_chat.store import history as sqlite_history
from trio_chat.store.base import Store

from .asked import all_history, all_hits
from .conftest import Memory, Sqlite

USERS = st.sampled_from(["alice", "bob", "carol", "dave"])
IDS = st.integers(1, 12).map(str)
WORDS = ["apple", "apples", "banana", "ap", "b", "Äpfel", "<b>", '"', "👍🏽"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
SEQS = st.integers(0, 20)
TIMES = st.integers(995, 1100)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    kind = draw(st.sampled_from(["message", "message", "message", "edit", "delete"]))
    target = draw(IDS) if kind != "message" else draw(st.none() | IDS)
    text = None if kind == "delete" else draw(TEXTS)
    return Draft(draw(st.integers(1, 9)), draw(USERS), draw(USERS), draw(IDS), text, kind, target)  # type: ignore[arg-type]


BATCHES = st.builds(
    Batch,
    marks=st.lists(st.builds(Mark, user=USERS, device=st.just("phone"), seq=SEQS), max_size=2).map(tuple),
    openings=st.lists(st.builds(Opening, st.just(1), USERS, st.just("phone")), max_size=1).map(tuple),
    drafts=st.lists(drafts(), max_size=8).map(tuple),
    reads=st.lists(st.builds(ReadMark, USERS, USERS, SEQS), max_size=2).map(tuple),
    blocks=st.lists(st.builds(BlockChange, USERS, USERS, st.booleans()), max_size=3).map(tuple),
)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.none() | values


HISTORIES = st.fixed_dictionaries(
    {
        "peer": optional(USERS),
        "before": optional(SEQS),
        "after": optional(SEQS),
        "around": optional(SEQS),
        "since": optional(TIMES),
        "until": optional(TIMES),
        "ids": optional(st.lists(IDS, min_size=1, max_size=5).map(tuple)),
        "unread": st.sampled_from([False, False, True]),
        "direction": optional(st.sampled_from(["in", "out"])),
        "order": optional(st.sampled_from(["asc", "desc"])),
        "limit": st.integers(1, 9),
    }
)
SEARCHES = st.builds(
    SearchQuery,
    query=st.lists(st.sampled_from([*WORDS, "a", "app", "ban"]), min_size=1, max_size=3).map(" ".join),
    peer=optional(USERS),
    before=optional(SEQS),
    limit=st.integers(1, 9),
)
LISTS = st.builds(ConversationsQuery, before=optional(SEQS), limit=st.integers(1, 4))
SIZES = st.sampled_from([0, 300, 600, 10**9])


def answerable(values: dict[str, Any]) -> HistoryQuery:
    """The query, without what makes it a bad one."""
    while True:
        try:
            return check(HistoryQuery(**values))
        except BadQuery:
            given = {name for name, value in values.items() if value is not None and value is not False}
            left_out = next(name for name in ("around", "unread", "before", "until") if name in given)
            values = {name: value for name, value in values.items() if name != left_out}


async def fill(stores: list[Store], batches: list[Batch]) -> None:
    for n, batch in enumerate(batches):
        first, second = [await store.append(batch, 1000 + 7 * n) for store in stores]
        assert first.drafts == second.drafts


def retain(plain: Memory, other: Sqlite, floors: dict[str, int]) -> None:
    """Have both stores no longer hold the beginning of some logs (L4)."""
    for user, floor in floors.items():
        row = plain.store._contents.users.get(user)
        if row is not None and min(floor, row.head):
            for backend in (plain, other):
                backend.retain(user, min(floor, row.head))


async def asked(answer: Awaitable[HistoryPage]) -> HistoryPage | None:
    """The answer; None if that is too much to ask."""
    try:
        return await answer
    except BadQuery:
        return None


def require_own(user: str, messages: list[Message]) -> None:
    assert all(user in (message.sender, message.recipient) for message in messages)


@given(
    st.lists(BATCHES, min_size=1, max_size=6),
    st.lists(st.tuples(USERS, HISTORIES, SIZES), max_size=15),
    st.lists(st.tuples(USERS, SEARCHES, SIZES), max_size=8),
    st.lists(st.tuples(USERS, LISTS, SIZES), max_size=4),
    st.dictionaries(USERS, SEQS, max_size=2),
)
@settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))
def test_both_stores_answer_alike(
    batches: list[Batch],
    histories: list[tuple[str, dict[str, Any], int]],
    searches: list[tuple[str, SearchQuery, int]],
    lists: list[tuple[str, ConversationsQuery, int]],
    floors: dict[str, int],
) -> None:
    """What a combination of filters means would depend on where messages are kept, and one of both would be wrong (I9)."""

    async def ask_both(path: Path) -> None:
        memory, sqlite = Memory(), Sqlite(path)
        async with memory.open() as plain, sqlite.open() as store:
            await fill([plain, store], batches)
            retain(memory, sqlite, floors)
            for user, values, size in histories:
                query = answerable(values)
                page = await asked(store.history(user, query, size=size))
                assert page == await asked(plain.history(user, query, size=size))
                require_own(user, [] if page is None else list(page.messages))
            for user, search, size in searches:
                hits = await store.search(user, search, size=size)
                assert hits == await plain.search(user, search, size=size)
                require_own(user, [hit.message for hit in hits.hits])
            for user, listing, size in lists:
                assert await store.conversations(user, listing, size=size) == await plain.conversations(
                    user, listing, size=size
                )
            everybody = ["alice", "bob", "carol", "dave", "nobody"]
            for user in everybody:
                assert await store.standings(user, everybody) == await plain.standings(user, everybody)
                assert await store.devices(user) == await plain.devices(user)
                assert await store.blocked(user) == await plain.blocked(user)

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scope, "PROBES", 6)
        trio.run(ask_both, Path(folder) / "chat.db")


@pytest.mark.parametrize("many", [False, True])
@given(
    st.lists(BATCHES, min_size=1, max_size=6),
    st.lists(st.tuples(USERS, HISTORIES, SIZES), max_size=15),
    st.lists(st.tuples(USERS, SEARCHES, SIZES), max_size=8),
    st.dictionaries(USERS, SEQS, max_size=2),
)
@settings(max_examples=settings().max_examples // 5, suppress_health_check=list(HealthCheck))
def test_pages_add_up_to_the_same(
    many: bool,
    batches: list[Batch],
    histories: list[tuple[str, dict[str, Any], int]],
    searches: list[tuple[str, SearchQuery, int]],
    floors: dict[str, int],
) -> None:
    """Where a page ends early, because much was looked at for little, the rest would be lost or the end never come."""

    async def ask_both(path: Path) -> None:
        memory, sqlite = Memory(), Sqlite(path)
        async with memory.open() as plain, sqlite.open() as store:
            await fill([plain, store], batches)
            retain(memory, sqlite, floors)
            for user, values, size in histories:
                query = msgspec.structs.replace(answerable(values), around=None)
                assert await all_history(store, user, query, size) == await all_history(plain, user, query)
            for user, search, size in searches:
                assert await all_hits(store, user, search, size) == await all_hits(plain, user, search)

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_history, "WALK", 2)
        patch.setattr(conversation_list, "WALK", 2)
        if many:  # as if each user had too many conversations to look at one by one
            patch.setattr(sqlite_history, "CONVERSATIONS", 0)
            patch.setattr(conversation_list, "CONVERSATIONS", 0)
        trio.run(ask_both, Path(folder) / "chat.db")
