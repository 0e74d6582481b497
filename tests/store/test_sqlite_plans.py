"""Every statement finds its rows by an index."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch, Mark, Opening, PageRequest, Removal
from trio_chat.keeping import WEIGHT, Retention
from trio_chat.settings import Settings
from trio_chat.store import connection
from trio_chat.store.sqlite import SqliteStore

from .asked import Writer
from .conftest import draft

NO_TABLE = re.compile(r"SCAN (v|e|k|entries|\d+ CONSTANT ROWS?|CONSTANT ROW|\(?(subquery|SUBQUERY)[- ].*)$")


async def test_no_statement_scans_a_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that is fast with ten messages would take seconds with ten million."""
    executed: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            self.set_trace_callback(executed.append)

    async with SqliteStore(path):
        pass
    monkeypatch.setattr(connection, "Connection", Traced)
    async with SqliteStore(path, Settings(mailbox=9, devices=2)) as store:
        for names in ("ab", "ba", "ac", "cb", "db", "dd"):
            drafts = tuple(draft(names[0], names[1], f"{names}{n}") for n in range(9))
            openings = (Opening(1, names[1], f"device {names} 0"),)
            await store.append(Batch((Mark(names[1], f"device {names} 0", 3),), openings, drafts), 1000)
        await store.append(Batch(marks=tuple(Mark(name, "none", 99) for name in "abcd")), 1000)  # empty mailboxes
        writer = Writer(store)
        await writer.block("c", "a")
        await writer.read("a", "b", 4)
        await writer.block("c", "a", blocked=False)
        await writer.acknowledge("c", 4, "device ac 0")
        await writer.edit("a", "b", "e1", "ab0", "new")
        await writer.send("b", "a", "r1", target="ab0")
        await writer.delete("a", "b", "d1", "ab0")
        await store.append(Batch(removals=(Removal("a", "device"), Removal("b", "device"))), 1000)
        await store.pages([PageRequest("a", 2, 10, 1000)])
        await store.known([("a", "ab1")])
        some = Retention(days=1, per_user=2, max_bytes=9 * WEIGHT, undelivered_days=0)
        assert (await store.keeping.retain(some, 2000, lambda *_: None)).messages

    plans = {}
    with closing(sqlite3.connect(path)) as database:
        for statement in executed:
            text = re.sub(r"--.*", "", statement).strip()
            # What FTS5 does with its own tables is its own business.
            ours = re.match(r"(SELECT|WITH|INSERT|UPDATE|DELETE)\b", text) and not re.search(r"sqlite_master|'search_", text)
            if ours:
                rows = database.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                plans[text] = [detail for _, _, _, detail in rows]
    for table in ("users", "devices", "conversations", "messages", "log", "blocks"):
        assert any(re.search(rf"\b{table}\b", text) for text in plans), table
    for part in (
        "DELETE FROM devices",
        "l.before_bytes",
        "DELETE FROM blocks",
        "SET text = NULL",
        "'delete', s.id",
        "SET read_a",
        "SET floor",
        "SET target = NULL",
        "DELETE FROM log",
        "DELETE FROM messages",
    ):
        assert any(part in text for text in plans), part
    for text, plan in plans.items():
        assert [detail for detail in plan if detail.startswith("SCAN") and not NO_TABLE.match(detail)] == [], (text, plan)
        assert [detail for detail in plan if "AUTOMATIC" in detail] == [], (text, plan)
        if "OVER (ORDER BY seq)" not in text:  # adds up at most a page of numbers
            assert [detail for detail in plan if "TEMP B-TREE" in detail] == [], (text, plan)
