"""Where the devices of those who are away can be reached, and what they are still to be told.

The outbox has one row for each target and conversation, which says what waits, what was shown last, and what the provider
last answered: so it grows with the number of conversations, not with that of messages.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database

STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
AND_STRICT = f", {STRICT}" if STRICT else ""

TABLES = (
    f"""
    CREATE TABLE push_targets (
        id INTEGER PRIMARY KEY,                         -- stands for the target in push_jobs
        user INTEGER NOT NULL REFERENCES users (id),    -- whose it is
        device TEXT NOT NULL,                           -- which device of theirs
        provider TEXT NOT NULL,                         -- through whom it is reached
        kind TEXT NOT NULL,                             -- what the target is to that provider
        target TEXT NOT NULL,                           -- a secret of the device's
        registered INTEGER NOT NULL,                    -- when last, Unix milliseconds; rises with every registration
        UNIQUE (provider, kind, target)                 -- of one user at a time
    ) {STRICT}
    """,
    "CREATE INDEX push_targets_of_user ON push_targets (user, device)",
    "CREATE INDEX push_targets_by_age ON push_targets (registered)",
    f"""
    CREATE TABLE push_jobs (
        target INTEGER NOT NULL REFERENCES push_targets (id),   -- who is to be told
        peer INTEGER NOT NULL REFERENCES users (id),    -- of whose messages
        provider TEXT NOT NULL,                         -- the target's, for the index below
        id TEXT NOT NULL,                               -- 32 random hexadecimal digits: the same for every attempt
        seq INTEGER NOT NULL,                           -- the newest message from the peer, in the user's log
        notified INTEGER NOT NULL DEFAULT 0,            -- the newest that the device was told of; 0 if it shows none
        clear INTEGER NOT NULL DEFAULT 0,               -- 1 if all was read when this began to wait
        since INTEGER NOT NULL,                         -- when it began to wait, Unix milliseconds
        due INTEGER,                                    -- when it is to be tried; NULL if nothing waits
        attempts INTEGER NOT NULL DEFAULT 0,            -- how often it was tried since it waits
        answered INTEGER NOT NULL DEFAULT 0,            -- when the last attempt ended; 0 if there was none
        answer TEXT NOT NULL DEFAULT '',                -- and what came of it
        PRIMARY KEY (target, peer)
    ) WITHOUT ROWID{AND_STRICT}
    """,
    "CREATE INDEX push_jobs_due ON push_jobs (provider, due) WHERE due IS NOT NULL",
    f"""
    CREATE TABLE push_mutes (
        user INTEGER NOT NULL REFERENCES users (id),    -- who is not to be told
        peer INTEGER NOT NULL REFERENCES users (id),    -- of whose messages
        PRIMARY KEY (user, peer)
    ) WITHOUT ROWID{AND_STRICT}
    """,
    f"""
    CREATE TABLE push_quiet (
        user INTEGER PRIMARY KEY REFERENCES users (id)  -- who is not to be told of anything
    ) {STRICT}
    """,
)


def up(db: Database) -> None:
    """Create the tables."""
    for table in TABLES:
        db.execute(table)


def down(db: Database) -> None:
    """Drop them: nobody is told of anything, and devices have to register again."""
    for table in ("push_quiet", "push_mutes", "push_jobs", "push_targets"):
        db.execute(f"DROP TABLE {table}")
