"""The index of words, kept in step with the messages by the transaction that changes them; see ``m0002_search``.

The index does not hold the texts, so a row is taken out by saying what it was: before the messages change. No triggers,
which would work row by row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import TypeAlias

from .rows import look_up, write
from .search import SLICE

__all__ = ["Row", "insert", "owners", "put_in", "take_out"]

Row: TypeAlias = tuple[int, str, str]
"""The id of a message, by whom it is found, and its text."""

INSERT = """
    INSERT INTO search (rowid, owners, text)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""
# The newest edit that both have, and the newest one that only the sender has: of a message and its edits, what is current
# for anybody is among these three.
CURRENT = """
    SELECT json_group_array(json_array(
        v.column1,
        (SELECT max(e.id) FROM messages AS e WHERE e.target = v.column1 AND e.kind = 1 AND (e.peer_seq = 0) = 0),
        (SELECT max(e.id) FROM messages AS e WHERE e.target = v.column1 AND e.kind = 1 AND (e.peer_seq = 0) = 1)))
    FROM (VALUES {rows}) AS v WHERE v.column1 NOTNULL"""
TAKE_OUT = """
    INSERT INTO search (search, rowid, owners, text)
    SELECT 'delete', s.id, s.owners, s.text
    FROM (VALUES {rows}) AS v CROSS JOIN searchable AS s ON s.id = v.column1"""
PUT_IN = """
    INSERT INTO search (rowid, owners, text)
    SELECT s.id, s.owners, s.text
    FROM (VALUES {rows}) AS v CROSS JOIN searchable AS s ON s.id = v.column1"""


def owners(sender: int, seq: int, recipient: int, peer_seq: int, conversation: int) -> str:
    """By whom a new message is found and where, as the view has it."""
    theirs = f" u{recipient}s{peer_seq // SLICE}" if peer_seq else ""
    return f"u{sender}s{seq // SLICE}{theirs} c{conversation}"


def insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Take in new messages."""
    write(connection, INSERT, rows)


def take_out(connection: sqlite3.Connection, messages: Collection[int]) -> None:
    """Take out what the index holds of these messages, which are about to be edited or deleted."""
    write(connection, TAKE_OUT, _current(connection, messages))


def put_in(connection: sqlite3.Connection, messages: Collection[int]) -> None:
    """Take in what is current of these messages, after the edits were stored."""
    write(connection, PUT_IN, _current(connection, messages))


def _current(connection: sqlite3.Connection, messages: Collection[int]) -> list[tuple[int]]:
    found = look_up(connection, CURRENT, [(id,) for id in messages])
    # In ascending order, as FTS5 begins a new segment when an id is lower than the last one.
    return [(id,) for id in sorted({id for ids in found for id in ids if id is not None})]
