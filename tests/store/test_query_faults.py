"""What the disk may do to a query, and that a slow one holds up nobody but other queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from trio_chat.core.batch import Batch, PageRequest
from trio_chat.errors import StoreBusy, StoreUnavailable
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchQuery
from trio_chat.store.sqlite import SqliteStore

from .asked import SIZE, Writer
from .conftest import draft
from .faulty import fault, install

Ask = Callable[[SqliteStore], Awaitable[object]]
QUERIES: list[tuple[str, Ask]] = [
    ("asker AS (SELECT", lambda store: store.history("alice", HistoryQuery(), size=SIZE)),
    ("WITH found", lambda store: store.history("alice", HistoryQuery(), size=SIZE)),
    ("BEGIN", lambda store: store.search("alice", SearchQuery(query="hi"), size=SIZE)),
    ("search MATCH", lambda store: store.search("alice", SearchQuery(query="hi"), size=SIZE)),
    ("highlight(", lambda store: store.search("alice", SearchQuery(query="hi"), size=SIZE)),
    ("page AS (", lambda store: store.conversations("alice", ConversationsQuery(), size=SIZE)),
    ("FROM devices", lambda store: store.devices("alice")),
    ("FROM blocks", lambda store: store.blocked("alice")),
    ("AS v", lambda store: store.standings("alice", ["bob"])),
]


@pytest.mark.parametrize("ending", [False, True])
@pytest.mark.parametrize(("part", "ask"), QUERIES)
async def test_a_query_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch, part: str, ask: Ask, ending: bool) -> None:
    """An error would end the server, stay in a transaction, or not be told; a damaged file would go on being written."""
    broken = install(monkeypatch)
    broken.ending = ending
    async with SqliteStore(path) as store:
        await Writer(store).send("bob", "alice", "1")
        before = await ask(store)
        broken.broken = {part: fault("SQLITE_BUSY")}
        with pytest.raises(StoreBusy):
            await ask(store)
        broken.broken.clear()
        assert await ask(store) == before
        assert store.failure is None
        await Writer(store).send("bob", "alice", "2", "more")
        assert len((await store.history("alice", HistoryQuery(), size=SIZE)).messages) == 2  # no old snapshot
        broken.broken = {part: fault("SQLITE_CORRUPT")}
        with pytest.raises(StoreUnavailable):
            await ask(store)
        assert store.failure is not None


async def test_a_slow_query_holds_up_no_page_and_no_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client's question would keep everybody's messages waiting."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await Writer(store).send("bob", "alice", "1")
        answered: list[int] = []

        async def ask() -> None:
            page = await store.history("alice", HistoryQuery(), size=SIZE)
            answered.append(len(page.messages))

        with broken.holding("WITH found"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await broken.wait_held()
                nursery.start_soon(ask)
                await store.append(Batch(drafts=(draft("bob", "alice", "2"),)), 2000)
                pages = await store.pages([PageRequest("alice", 0, 9, 999)])
                assert [message.id for message in pages[0].messages] == ["1", "2"]
                assert answered == []
                broken.released.set()
        assert answered == [1, 2]


async def test_a_store_that_is_not_open_answers_nothing(path: Path) -> None:
    """A mistake of the application would be an AttributeError."""
    for _, ask in QUERIES:
        with pytest.raises(RuntimeError, match="not open"):
            await ask(SqliteStore(path))
