"""Every query finds its rows by an index, and its work does not grow with the log."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchQuery, check
from trio_chat.store import connection, conversation_list
from trio_chat.store import history as sqlite_history
from trio_chat.store.conversation_list import read_conversations
from trio_chat.store.history import read_history
from trio_chat.store.search import read_search
from trio_chat.store.sqlite import SqliteStore

from .asked import SIZE, Writer
from .conftest import draft
from .test_history import CHOSEN, fill


def statements(executed: list[str]) -> Iterator[str]:
    for statement in dict.fromkeys(executed):
        text = re.sub(r"--.*", "", statement).strip()
        if re.match(r"(SELECT|WITH)\b", text) and not re.search(
            r"sqlite_master|'main'\.|FROM store WHERE|data_version", text
        ):
            yield statement


def scanned(database: sqlite3.Connection, statement: str) -> list[str]:
    """The tables and indexes that are gone through from one of their ends, by what SQLite's machine is told to do."""
    names = {page: name for name, page in database.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0")}
    opened: dict[int, str] = {}
    found = []
    for _, opcode, p1, p2, *_ in database.execute(f"EXPLAIN {statement}"):
        assert opcode != "OpenAutoindex", statement
        if opcode == "OpenRead":
            opened[p1] = names[p2]
        elif opcode in ("Rewind", "Last") and p1 in opened:
            found.append(opened[p1])
    return found


@pytest.mark.parametrize("many", [False, True])
async def test_no_query_scans_a_table(path: Path, monkeypatch: pytest.MonkeyPatch, many: bool) -> None:
    """A query that is fast among ten messages would take seconds among ten million."""
    executed: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            self.set_trace_callback(executed.append)

    async with SqliteStore(path) as store:
        await fill(store)
    monkeypatch.setattr(connection, "Connection", Traced)
    monkeypatch.setattr(sqlite_history, "WALK", 2)
    if many:
        monkeypatch.setattr(sqlite_history, "CONVERSATIONS", 0)
        monkeypatch.setattr(conversation_list, "CONVERSATIONS", 0)
    async with SqliteStore(path) as store:
        executed.clear()
        for query, _ in CHOSEN:
            await store.history("alice", check(HistoryQuery(**query)), size=SIZE)
        for search in (SearchQuery(query="hi h"), SearchQuery(query="hi", peer="bob", before=7), SearchQuery(query="x")):
            await store.search("alice", search, size=SIZE)
        for listing in (ConversationsQuery(), ConversationsQuery(before=5, limit=1)):
            await store.conversations("alice", listing, size=SIZE)
        await store.devices("alice")
        await store.blocked("alice")
        await store.standings("alice", ["bob", "carol"])
        asked = [*statements(executed)]

    assert len(asked) > 40
    with closing(sqlite3.connect(path)) as database:
        database.text_factory = lambda text: text.decode(errors="replace")  # a statement may show a part of a word
        assert scanned(database, "SELECT text FROM messages WHERE sent_at = 1") == ["messages"]
        for statement in asked:
            # The first segment of the index of words is the first row of its table.
            expected = ["search_idx"] if "min(segid)" in statement else []
            assert (statement, scanned(database, statement)) == (statement, expected)


Ask = Callable[[sqlite3.Connection], object]


def questions(size: int) -> dict[str, Ask]:
    """Questions that are hard to answer in the log that `hard` makes, which has so many entries."""
    histories = {
        "newest": HistoryQuery(),
        "oldest": HistoryQuery(order="asc"),
        "deep": HistoryQuery(before=size // 2),
        "the only one of others": HistoryQuery(direction="in"),
        "the only one of the peer": HistoryQuery(peer="bob", direction="in"),
        "ancient unread": HistoryQuery(unread=True),
        "ancient unread of the peer": HistoryQuery(peer="bob", unread=True),
        "deep with a peer": HistoryQuery(peer="bob", before=size // 2),
        "around with a peer": HistoryQuery(peer="bob", around=size // 2),
        "since": HistoryQuery(since=1000 + size // 1000),
        "one other peer": HistoryQuery(peer="carol"),
        "kept away": HistoryQuery(peer="eve"),
        "edited and deleted": HistoryQuery(peer="mallory"),
        "nobody": HistoryQuery(peer="dave"),
        "ids": HistoryQuery(ids=("1", "2", "b1")),
    }
    asked: dict[str, Ask] = {
        name: lambda database, query=query: read_history(database, "alice", query, SIZE)  # type: ignore[misc]
        for name, query in histories.items()
    }
    asked["conversations"] = lambda database: read_conversations(database, "alice", ConversationsQuery(), SIZE)
    asked["conversations of the other"] = lambda database: read_conversations(database, "eve", ConversationsQuery(), SIZE)
    searches = [SearchQuery(query=words) for words in ("common", "rare", "others", "common others", "oth")]
    for search in searches:
        asked[search.query] = lambda database, search=search: read_search(database, "alice", search, SIZE)  # type: ignore[misc]
    return asked


async def hard(path: Path, size: int) -> None:
    """Alice's log: one unread message each from bob and carol, and then hardly anything but what she wrote to bob.

    Eve is blocked and writes all the same; mallory edits a message and deletes others all the time.
    """
    async with SqliteStore(path) as store:
        writer = Writer(store)
        await writer.send("bob", "alice", "b1", "rare")
        await writer.send("carol", "alice", "1")
        await writer.send("eve", "alice", "1")
        await writer.send("mallory", "alice", "first")
        await writer.block("alice", "eve")
        for start in range(0, size, 300):
            drafts = [draft("alice", "bob", f"{start + n}", f"common {n}") for n in range(300)]
            drafts += [draft("eve", "alice", f"{start} {n}", "others") for n in range(300)]
            drafts += [draft("carol", "dave", f"{start} {n}", "others common") for n in range(100)]
            await store.append(Batch(drafts=tuple(drafts)), 1000 + start)
        for n in range(size // 20):
            await writer.edit("mallory", "alice", f"edit {n}", "first", f"again {n}")
            await writer.send("mallory", "alice", f"gone {n}")
            await writer.delete("mallory", "alice", f"delete {n}", f"gone {n}")


async def test_the_work_of_a_query_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a million users, with a log of a million entries, would hold up everybody's queries."""
    monkeypatch.setattr(sqlite_history, "WALK", 100)
    work: list[dict[str, int]] = []
    for size in (1200, 3600):
        path = tmp_path / f"{size}.db"
        await hard(path, size)
        taken = {}
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            for name, ask in questions(size).items():
                steps = 0

                def count() -> int:
                    nonlocal steps
                    steps += 1
                    return 0

                database.set_progress_handler(count, 10)
                ask(database)
                taken[name] = steps
        work.append(taken)
    for name, steps in work[1].items():
        assert steps < 1.15 * work[0][name] + 20, (name, work[0][name], steps)
