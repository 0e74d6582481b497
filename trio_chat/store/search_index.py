"""The index of words, kept in step with the messages by the transaction that changes them; see ``m0002_search``.

The index does not hold the texts, so a row is taken out by saying what it was: before the messages change. No triggers,
which would work row by row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from .rows import look_up, write

__all__ = ["SLICE", "Row", "insert", "owners", "put_in", "take_out"]

Row: TypeAlias = tuple[int, str, str]
"""The id of a message or edit, whose current text it is, and the text."""

SLICE: Final = 4096
"""Entries of a log that have a token in common: as it stands in ``m0002_search``."""

INSERT = """
    INSERT INTO search (rowid, owners, text)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""
# For the sender, and for the recipient, who need not have every edit.
CURRENT = """
    SELECT json_group_array(json_array(
        coalesce((
            SELECT e.id FROM messages AS e WHERE e.target = v.column1 AND e.kind = 1 ORDER BY e.id DESC LIMIT 1
        ), v.column1),
        coalesce((
            SELECT e.id FROM messages AS e WHERE e.target = v.column1 AND e.kind = 1 AND e.peer_seq > 0
            ORDER BY e.peer_seq DESC LIMIT 1
        ), v.column1)))
    FROM (VALUES {rows}) AS v WHERE v.column1 NOTNULL"""
TAKE_OUT = """
    INSERT INTO search (search, rowid, owners, text)
    SELECT 'delete', s.id, s.owners, s.text
    FROM (VALUES {rows}) AS v CROSS JOIN searchable AS s ON s.id = v.column1"""
PUT_IN = """
    INSERT INTO search (rowid, owners, text)
    SELECT s.id, s.owners, s.text
    FROM (VALUES {rows}) AS v CROSS JOIN searchable AS s ON s.id = v.column1"""


def owners(*places: tuple[int, int]) -> str:
    """For whom a text is the current one: users and its seq in their logs, 0 if it is not there. As in the view."""
    return " ".join(f"u{user}s{seq // SLICE}" for user, seq in places if seq)


def insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Take in new messages."""
    write(connection, INSERT, rows)


def take_out(connection: sqlite3.Connection, messages: Collection[int]) -> None:
    """Take out what is current of these messages, which are about to be edited or deleted."""
    write(connection, TAKE_OUT, _current(connection, messages))


def put_in(connection: sqlite3.Connection, messages: Collection[int]) -> None:
    """Take in what is current of these messages, after the edits were stored."""
    write(connection, PUT_IN, _current(connection, messages))


def _current(connection: sqlite3.Connection, messages: Collection[int]) -> list[tuple[int]]:
    found = look_up(connection, CURRENT, [(id,) for id in messages])
    # In ascending order, as FTS5 begins a new segment when an id is lower than the last one.
    return [(id,) for id in sorted({id for ids in found for id in ids})]
