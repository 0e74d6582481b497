"""The conversations a writer remembers between transactions, as `users.py` does with users."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from .rows import look_up, write
from .users import Lru

__all__ = ["Conversations", "Pair"]

Pair: TypeAlias = tuple[int, int]
"""Two users by their ids, the lower one first."""

FIND = """
    SELECT json_group_array(json_array(c.a, c.b, c.id))
    FROM (VALUES {rows}) AS v CROSS JOIN conversations AS c ON c.a = v.column1 AND c.b = v.column2"""
NEWEST = "SELECT coalesce(max(id), 0) FROM conversations"
SAVE = """
    INSERT INTO conversations (id, a, b, last_a, last_b)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL
    ON CONFLICT (id) DO UPDATE SET last_a = max(last_a, excluded.last_a), last_b = max(last_b, excluded.last_b)"""


class Conversations:
    """The ids of conversations, and their newest entries."""

    def __init__(self) -> None:
        self.remembered: Lru[Pair, int] = Lru()
        self.newest: int = 0  # the highest id, or 0 if that is not known

    def flush(self, connection: sqlite3.Connection, entries: Sequence[tuple[Pair, int, int]]) -> list[int]:
        """Write what is new in conversations, and say for each entry which one it belongs to.

        An entry is a pair and the seq of a message in the log of either one, 0 if it is not there.
        """
        last: dict[Pair, tuple[int, int]] = {}
        for pair, a, b in entries:
            before_a, before_b = last.get(pair, (0, 0))
            last[pair] = a or before_a, b or before_b
        ids = self.remembered.kept
        missing = [pair for pair in last if self.remembered.get(pair) is None]
        for a, b, id in look_up(connection, FIND, missing):
            ids[a, b] = id
        created = [pair for pair in missing if pair not in ids]
        if created and not self.newest:
            (self.newest,) = connection.execute(NEWEST).fetchone()
        for pair in created:
            self.newest += 1
            ids[pair] = self.newest
        write(connection, SAVE, [(ids[pair], *pair, *seqs) for pair, seqs in last.items()])
        return [ids[pair] for pair, _, _ in entries]

    def settle(self) -> None:
        """The transaction is durable."""
        self.remembered.trim()

    def forget(self) -> None:
        """Nothing that is remembered need be true."""
        self.remembered.kept.clear()
        self.newest = 0
