"""The third step: blocks that are there keep what holds, and the way down leaves them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from trio_chat.retrieval import ConversationsQuery
from trio_chat.store import migration, schema
from trio_chat.store.sqlite import SqliteStore

from .asked import SIZE, Writer

STEPS = schema.bundled()
STEP = STEPS.names[2]
QUERY = ConversationsQuery()


async def test_blocks_of_the_second_schema_hold(path: Path) -> None:
    """A server could not be upgraded while anybody blocks somebody; or the blocked would see who is there (B1)."""
    async with SqliteStore(path) as store:
        writer = Writer(store)
        for n in (1, 2, 3):
            await writer.send("eve", "bob", str(n))
        await writer.block("bob", "eve")
        await writer.block("bob", "nobody")
        await writer.acknowledge("bob", 2)
        await writer.read("bob", "eve", 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        marks = "SELECT blocker_delivered, blocker_read, blocked_delivered, blocked_read FROM blocks ORDER BY blocked"
        assert database.execute(marks).fetchall() == [(0, 0, 0, 0), (0, 0, 0, 0)]
        newest = database.execute("SELECT sql FROM sqlite_master WHERE name = 'blocks'").fetchall()
        assert migration.down(path, lambda line: None, STEPS.names[1]) == [*reversed(STEPS.names[2:])]
        ((before,),) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'blocks'").fetchall()
        assert "delivered" not in before
        assert database.execute("SELECT count(*) FROM blocks").fetchall() == [(2,)]
        STEPS.apply(schema.wrap(database), STEP)
        assert database.execute("SELECT sql FROM sqlite_master WHERE name = 'blocks'").fetchall() == newest
        assert database.execute(marks).fetchall() == [(2, 1, 0, 0), (2, 0, 0, 0)]
        STEPS.undo(schema.wrap(database), STEP)
        assert database.execute("SELECT sql FROM sqlite_master WHERE name = 'blocks'").fetchall() == [(before,)]
    async with SqliteStore(path) as store:
        assert await store.blocked("bob") == ("eve", "nobody")
        writer = Writer(store)
        await writer.read("bob", "eve", 3)
        (talk,) = (await store.conversations("eve", QUERY, size=SIZE)).conversations
        assert (talk.delivered, talk.read) == (2, 1)
