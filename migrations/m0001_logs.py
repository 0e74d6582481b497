"""Users, their logs, and what the logs point at.

Inside the store everything is an integer, user names included: per message that saves a third of the time and half of the
space. What later features need of a message (its place in both logs, an index by conversation, read marks, the target of an
edit) is here from the beginning, because filling a column of an existing log means rewriting it.
"""

from __future__ import annotations

import secrets
import sqlite3

from sqlite_utils import Database

# STRICT refuses a value of the wrong type instead of storing it; older SQLites do without.
STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
AND_STRICT = f", {STRICT}" if STRICT else ""

TABLES = (
    f"""
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
        epoch TEXT NOT NULL,                     -- random: names this history, so that clients notice another file
        digest_key BLOB NOT NULL                 -- random: without it a digest says nothing about its text
    ) {STRICT}
    """,
    f"""
    CREATE TABLE users (
        id INTEGER PRIMARY KEY,                     -- stands for the user in every other table
        name TEXT NOT NULL UNIQUE,                  -- as the application calls the user, compared exactly
        head INTEGER NOT NULL DEFAULT 0,            -- the newest seq of the user's log; never falls
        floor INTEGER NOT NULL DEFAULT 0,           -- the log's rows are floor+1 to head; retention raises it
        delivered INTEGER NOT NULL DEFAULT 0,       -- the highest cursor any device of the user ever had
        sent_at INTEGER NOT NULL DEFAULT 0,         -- of the log's newest entry, Unix milliseconds: the next is no earlier
        epoch INTEGER NOT NULL DEFAULT 0,           -- counts erasures: with the store's epoch it names the log
        received INTEGER NOT NULL DEFAULT 0,        -- incoming messages the log ever took; see log.before
        received_bytes INTEGER NOT NULL DEFAULT 0   -- the bytes of their texts; see log.before_bytes
    ) {STRICT}
    """,
    f"""
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY,                         -- stands for the pair in messages
        a INTEGER NOT NULL REFERENCES users (id),       -- the user with the lower id
        b INTEGER NOT NULL REFERENCES users (id),       -- the other; the same as a for notes to oneself
        last_a INTEGER NOT NULL DEFAULT 0,              -- the newest seq of this conversation in a's log, 0 for none
        last_b INTEGER NOT NULL DEFAULT 0,              -- the same in b's; what a block keeps from b does not move it
        read_a INTEGER NOT NULL DEFAULT 0,              -- a has read this conversation up to here, in a's seq
        read_b INTEGER NOT NULL DEFAULT 0,              -- b has, in b's seq
        UNIQUE (a, b),
        CHECK (a <= b)
    ) {STRICT}
    """,
    "CREATE INDEX conversations_of_b ON conversations (b)",  # the unique index finds those of a
    f"""
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,                                         -- in commit order
        conversation INTEGER NOT NULL REFERENCES conversations (id),    -- who talks with whom
        sender INTEGER NOT NULL REFERENCES users (id),                  -- which of the two; the other is the recipient
        client_id TEXT NOT NULL,                                        -- the id the sender's client chose
        digest BLOB NOT NULL,                                           -- of what the client sent, keyed; outlives the text
        seq INTEGER NOT NULL,                                           -- its place in the sender's log
        peer_seq INTEGER NOT NULL,                                      -- in the recipient's log; 0 if it is not there
        sent_at INTEGER NOT NULL,                                       -- Unix milliseconds
        size INTEGER NOT NULL,                                          -- bytes of the text when it was stored
        kind INTEGER NOT NULL DEFAULT 0 CHECK (kind BETWEEN 0 AND 2),   -- 0 message, 1 edit, 2 delete
        target INTEGER REFERENCES messages (id),                        -- of an edit or delete, or what is replied to
        text TEXT,                                                      -- last, for it may be long; NULL once deleted
        UNIQUE (sender, client_id)
    ) {STRICT}
    """,
    # History with one peer, unread counts and receipts. The rowid is part of it, so it is in commit order.
    "CREATE INDEX messages_of_conversation ON messages (conversation)",
    # The edits of a message. Holds nothing for messages without a target, so it costs them nothing.
    "CREATE INDEX messages_about ON messages (target) WHERE target IS NOT NULL",
    # No foreign key to messages: deleting a message would look for its log rows, which no index finds.
    f"""
    CREATE TABLE log (
        user INTEGER NOT NULL REFERENCES users (id),    -- whose log
        seq INTEGER NOT NULL,                           -- the position in it: 1, 2, 3 … without holes
        message INTEGER NOT NULL,                       -- the entry: a message to or from that user
        before INTEGER NOT NULL,                        -- users.received before this entry: what is undelivered is
        before_bytes INTEGER NOT NULL,                  -- users.received less this, at the first entry not delivered
        PRIMARY KEY (user, seq)
    ) WITHOUT ROWID{AND_STRICT}
    """,
    f"""
    CREATE TABLE devices (
        user INTEGER NOT NULL REFERENCES users (id),    -- whose device
        name TEXT NOT NULL,                             -- as the client calls it
        cursor INTEGER NOT NULL,                        -- it has every entry up to here safely
        seen INTEGER NOT NULL,                          -- when it last acknowledged or left, Unix milliseconds
        created INTEGER NOT NULL,                       -- when it first connected, Unix milliseconds
        PRIMARY KEY (user, name)
    ) WITHOUT ROWID{AND_STRICT}
    """,
    f"""
    CREATE TABLE blocks (
        blocker INTEGER NOT NULL REFERENCES users (id), -- who does not want to hear
        blocked INTEGER NOT NULL REFERENCES users (id), -- from whom
        PRIMARY KEY (blocker, blocked)
    ) WITHOUT ROWID{AND_STRICT}
    """,
)


def up(db: Database) -> None:
    """Create the tables and name this history."""
    for table in TABLES:
        db.execute(table)
    db.execute("INSERT INTO store VALUES (1, ?, ?)", [secrets.token_hex(8), secrets.token_bytes(32)])


def down(db: Database) -> None:
    """Drop the tables, with everything in them."""
    for table in ("blocks", "devices", "log", "messages", "conversations", "users", "store"):
        db.execute(f"DROP TABLE {table}")
