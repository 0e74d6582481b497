"""The second step: the index of words is filled from what is there, and taken away without a loss."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch, PageRequest
from trio_chat.store import migration, schema
from trio_chat.store.sqlite import SqliteStore

from .conftest import draft

STEPS = schema.bundled()
BEFORE = STEPS.names[0]
USERS = {"alice": 1, "bob": 2, "carol": 3}

# id, conversation, sender, seq, peer_seq, kind, target, text
MESSAGES = [
    (1, 1, 1, 1, 1, 0, None, "apple one"),
    (2, 1, 2, 2, 2, 0, None, "banana"),
    (3, 1, 1, 3, 3, 1, 1, "apple two"),  # both have it
    (4, 1, 1, 4, 0, 1, 1, "apple three"),  # kept from bob by a block
    (5, 1, 1, 5, 0, 0, None, "not for bob"),
    (6, 1, 2, 6, 4, 0, None, None),  # deleted
    (7, 1, 2, 7, 5, 2, 6, None),
    (8, 2, 1, 8, 0, 0, None, "a note to oneself"),
    (9, 1, 1, 9, 6, 0, 2, "an answer"),  # a reply is no edit of what it answers
    (10, 3, 3, 1, 8192, 0, None, "Caf\u00e9"),
]
CURRENT = [
    (2, "u2s0 u1s0 c1", "banana"),
    (3, "u2s0 c1", "apple two"),
    (4, "u1s0 c1", "apple three"),
    (5, "u1s0 c1", "not for bob"),
    (8, "u1s0 c2", "a note to oneself"),
    (9, "u1s0 u2s0 c1", "an answer"),
    (10, "u3s0 u2s2 c3", "Caf\u00e9"),
]


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A file as the first version of the schema left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        STEPS.apply(schema.wrap(connection), BEFORE)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executemany("INSERT INTO users (name, id, head) VALUES (?, ?, 9)", USERS.items())
        connection.executemany("INSERT INTO conversations (id, a, b) VALUES (?, ?, ?)", [(1, 1, 2), (2, 1, 1), (3, 2, 3)])
        connection.executemany(
            "INSERT INTO messages (id, conversation, sender, seq, peer_seq, kind, target, text, client_id, digest, sent_at,"
            " size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'id' || ?, x'', 0, 0)",
            [(*row, row[0]) for row in MESSAGES],
        )
        yield connection


def indexes(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOTNULL"))


def found(database: sqlite3.Connection, words: str) -> list[int]:
    return [id for (id,) in database.execute("SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid", [words])]


def up(database: sqlite3.Connection) -> None:
    STEPS.apply(schema.wrap(database), STEPS.names[1])


def test_what_is_there_is_found(database: sqlite3.Connection) -> None:
    """Whatever was said before the upgrade could not be found, or by those who never got it, or after it was deleted."""
    up(database)
    assert database.execute("SELECT id, owners, text FROM searchable ORDER BY id").fetchall() == CURRENT
    database.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    assert found(database, "text: apple") == [3, 4]
    assert found(database, "owners: u1s0 AND text: apple") == [4]
    assert found(database, "owners: u2s0 AND text: apple") == [3]
    assert found(database, "text: one") == []
    assert found(database, "text: cafe") == [10]
    assert found(database, "text: u1s0") == []


def test_the_way_down_leaves_the_first_schema_and_every_message(database: sqlite3.Connection) -> None:
    """A downgrade would leave a table the older version does not know, or an index it needs would be gone."""
    before = database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    up(database)
    assert "(conversation, sender, (kind" in indexes(database)["messages_of_conversation"]
    assert "(target, kind, (" in indexes(database)["messages_about"]
    STEPS.undo(schema.wrap(database), STEPS.names[1])
    assert database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall() == before
    columns = "id, conversation, sender, seq, peer_seq, kind, target, text"
    assert database.execute(f"SELECT {columns} FROM messages ORDER BY id").fetchall() == MESSAGES
    up(database)
    assert found(database, "owners: u1s0 AND text: apple") == [4]


def test_a_current_text_is_looked_up_by_index(database: sqlite3.Connection) -> None:
    """Every snippet of a hit would read the table of messages from end to end."""
    up(database)
    plan = database.execute("EXPLAIN QUERY PLAN SELECT T.id, T.owners, T.text FROM searchable T WHERE T.id = 1").fetchall()
    details = [detail for _, _, _, detail in plan]
    assert [detail for detail in details if "SCAN" in detail] == []
    # Not all edits of a message, which may be many.
    about = [detail for detail in details if "messages_about" in detail]
    assert len(about) == 2 * 2  # for the sender and the recipient: owners are worked out twice
    assert all("(target=? AND kind=? AND <expr>=? AND rowid>?)" in detail for detail in about)


async def test_messages_of_the_first_schema_are_served(path: Path) -> None:
    """A server could not be upgraded, or what was sent before and after would not be one log."""
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=(draft("alice", "bob", "1", "before"),)), 1000)
    assert migration.down(path, lambda line: None, BEFORE) == STEPS.names[:0:-1]
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=(draft("alice", "bob", "2", "after"),)), 1000)
        (page,) = await store.pages([PageRequest("bob", 0, 9, 999)])
    assert [message.text for message in page.messages] == ["before", "after"]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT rowid FROM search WHERE search MATCH 'before'").fetchall() == [(1,)]
