"""How far two users were with one another's messages when one of them blocked the other.

A block keeps receipts from both (B1), and lists of conversations are no way around it: while it lasts they give these marks
in the place of those that go on rising. Only what each has had and read by then is kept, each in the user's own seq.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database

STRICT = ", STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

BLOCKS = f"""
    CREATE TABLE blocks (
        blocker INTEGER NOT NULL REFERENCES users (id), -- who does not want to hear
        blocked INTEGER NOT NULL REFERENCES users (id), -- from whom
        blocker_delivered INTEGER NOT NULL DEFAULT 0,   -- users.delivered of the blocker, when the two were parted: if each
                                                        -- blocks the other, by the first of both blocks
        blocker_read INTEGER NOT NULL DEFAULT 0,        -- up to where the blocker had read their conversation, likewise
        blocked_delivered INTEGER NOT NULL DEFAULT 0,   -- users.delivered of the other
        blocked_read INTEGER NOT NULL DEFAULT 0,        -- up to where the other had read
        PRIMARY KEY (blocker, blocked)
    ) WITHOUT ROWID{STRICT}
    """

# What was before a block of an earlier version is not known any more: these marks are frozen from now on.
FILL = """
    INSERT INTO blocks
    SELECT k.blocker, k.blocked, one.delivered, coalesce(CASE one.id WHEN c.a THEN c.read_a ELSE c.read_b END, 0),
        other.delivered, coalesce(CASE other.id WHEN c.a THEN c.read_a ELSE c.read_b END, 0)
    FROM earlier AS k
        JOIN users AS one ON one.id = k.blocker
        JOIN users AS other ON other.id = k.blocked
        LEFT JOIN conversations AS c ON c.a = min(k.blocker, k.blocked) AND c.b = max(k.blocker, k.blocked)
    """

BEFORE = f"""
    CREATE TABLE blocks (
        blocker INTEGER NOT NULL REFERENCES users (id), -- who does not want to hear
        blocked INTEGER NOT NULL REFERENCES users (id), -- from whom
        PRIMARY KEY (blocker, blocked)
    ) WITHOUT ROWID{STRICT}
    """


def up(db: Database) -> None:
    """Make room for the marks."""
    _rebuild(db, BLOCKS, FILL)


def down(db: Database) -> None:
    """Forget the marks. The blocks stay."""
    _rebuild(db, BEFORE, "INSERT INTO blocks SELECT blocker, blocked FROM earlier")


def _rebuild(db: Database, create: str, fill: str) -> None:
    # Renamed, not altered: so the table reads as it would in a file that never had another.
    db.execute("ALTER TABLE blocks RENAME TO earlier")
    db.execute(create)
    db.execute(fill)
    db.execute("DROP TABLE earlier")
