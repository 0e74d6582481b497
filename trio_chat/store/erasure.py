"""Erasing a user: what it says to the file. Synchronous, in the writer's thread; `sqlite_keeping` puts the slices together.

What SQLite frees it does not overwrite by itself, and what FTS5 forgets it only marks as forgotten until segments are merged
(its own ``secure-delete`` needs SQLite 3.42). So while a user is erased all that is freed is overwritten, the index of words
is merged into one segment, free pages are cut off, and the WAL, which holds the pages as they were, is copied and emptied.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from . import search_index
from .rows import write
from .users import Users

__all__ = ["begin", "erase_texts", "kept", "merge_words", "overwriting"]

_TARGETS: Final = "(SELECT id FROM push_targets WHERE user = :user)"
OWN: Final = {
    "devices": "DELETE FROM devices WHERE user = :user",
    "blocks": "DELETE FROM blocks WHERE blocker = :user",
    "push_jobs": f"DELETE FROM push_jobs WHERE target IN {_TARGETS}",
    "push_targets": "DELETE FROM push_targets WHERE user = :user",
    "push_mutes": "DELETE FROM push_mutes WHERE user = :user",
    "push_quiet": "DELETE FROM push_quiet WHERE user = :user",
}
"""What is the user's alone, in an order in which nothing refers to what is gone."""

LENGTH: Final = "SELECT head - floor FROM users WHERE id = :user"
EMPTY: Final = "UPDATE users SET epoch = epoch + 1, floor = head WHERE id = :user"
SENT: Final = """
    SELECT json_group_array(json_array(id, client_id, text NOTNULL)) FROM (
        SELECT id, client_id, text FROM messages WHERE sender = ? AND client_id > ? ORDER BY client_id LIMIT ?)"""
# Whoever has the key of the file could try out texts on a digest; one that is empty equals none (S2).
FORGET: Final = "UPDATE messages SET text = NULL, digest = x'' WHERE id IN (VALUES {rows})"
KEPT: Final = """
    SELECT json_array(
        (SELECT count(*) FROM messages AS m WHERE m.conversation IN (
            SELECT id FROM conversations WHERE a = :user UNION SELECT id FROM conversations WHERE b = :user)),
        (SELECT count(*) FROM conversations WHERE a = :user)
        + (SELECT count(*) FROM conversations WHERE b = :user AND a <> b))
    """
MERGE: Final = "INSERT INTO search (search, rank) VALUES ('merge', ?)"

_sent = msgspec.json.Decoder(list[tuple[int, str, int]])


def overwriting(connection: sqlite3.Connection, mode: str) -> None:
    """From now on what is freed is overwritten: all of it (``ON``), or where that costs no further page (``FAST``)."""
    connection.execute(f"PRAGMA secure_delete = {mode}").fetchone()


def begin(connection: sqlite3.Connection, users: Users, name: str) -> tuple[int, int, dict[str, int]] | None:
    """Remove what is the user's alone, and have the log be another, empty one; in the transaction under way.

    Returns the user's id, which history of the user's it is from now on, and what was removed; None for nobody.
    """
    users.load(connection, [name])
    user = users.get(name)
    if user is None:
        return None
    removed = {table: connection.execute(statement, {"user": user.id}).rowcount for table, statement in OWN.items()}
    (removed["log"],) = connection.execute(LENGTH, {"user": user.id}).fetchone()
    connection.execute(EMPTY, {"user": user.id})
    user.epoch, user.floor, user.blocks, user.targets = user.epoch + 1, user.head, False, False
    return user.id, user.epoch, removed


def erase_texts(connection: sqlite3.Connection, user: int, after: str, limit: int) -> tuple[int, str | None]:
    """Erase the texts of some messages of the user's, those with the next ids of the client's after this one.

    Returns how many texts these were, and the last id; None if there is no message any more.
    """
    found = _sent.decode(connection.execute(SENT, (user, after, limit)).fetchone()[0])
    if not found:
        return 0, None
    rows = [(id,) for id in sorted(id for id, _, _ in found)]
    write(connection, search_index.TAKE_OUT, rows)
    write(connection, FORGET, rows)
    return sum(said for _, _, said in found), found[-1][1]


def kept(connection: sqlite3.Connection, user: int) -> dict[str, int]:
    """What is left of the user's, by table."""
    messages, conversations = msgspec.json.decode(connection.execute(KEPT, {"user": user}).fetchone()[0])
    return {"messages": messages, "conversations": conversations, "users": 1}


def merge_words(connection: sqlite3.Connection, pages: int) -> int:
    """Go on merging the index of words, in the transaction under way; begin with minus so many pages. 0 if it is done."""
    before = connection.total_changes
    connection.execute(MERGE, (pages,))
    # FTS5's documentation of 'merge': a difference of less than 2 says that there was nothing to do.
    return max(0, connection.total_changes - before - 1)
