"""How far one user is with another's messages, when that changes (R1, R2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from ..core.batch import Progress
from .blocks import those_blocked
from .rows import results
from .users import Users

__all__ = ["LOOK_BACK", "Reached", "delivered", "told"]

LOOK_BACK: Final = 4096
"""How many entries of a log are looked at for the senders whose messages became delivered at once."""

LOGS_AT_ONCE: Final = 16
"""Logs in one statement: what it finds is in memory as a whole."""

Reached: TypeAlias = tuple[int, int, int]
"""Whose message, who has it, and its seq in the log of the first."""

DELIVERED = """
    SELECT json_group_array(json_array(m.sender, l.user, m.seq))
    FROM (VALUES {rows}) AS v
    CROSS JOIN log AS l ON l.user = v.column1 AND l.seq > v.column2 AND l.seq <= v.column3
    CROSS JOIN messages AS m ON m.id = l.message
    WHERE m.sender <> l.user"""

_decoder = msgspec.json.Decoder(list[tuple[int, int, int]])


def delivered(connection: sqlite3.Connection, users: Users) -> list[Reached]:
    """The newest message of each sender among what became delivered in this transaction."""
    rows = [
        (id, max(before, users.by_id[id].floor, users.by_id[id].delivered - LOOK_BACK), users.by_id[id].delivered)
        for id, before in users.delivered_before.items()
    ]
    newest: dict[tuple[int, int], int] = {}
    for cursor in results(connection, DELIVERED, rows, LOGS_AT_ONCE):
        for sender, user, seq in _decoder.decode(cursor.fetchone()[0]):
            newest[sender, user] = seq  # the rows come in the order of the log, in which the sender's seq rises
    return [(sender, user, seq) for (sender, user), seq in newest.items()]


def told(
    connection: sqlite3.Connection, users: Users, delivered: Iterable[Reached], read: Iterable[Reached]
) -> tuple[Progress, ...]:
    """What senders are told. What is read is delivered, too. Nothing between users one of whom blocks the other (B1)."""
    marks: dict[tuple[int, int], tuple[int, int]] = {(sender, user): (seq, 0) for sender, user, seq in delivered}
    for sender, user, seq in read:
        marks[sender, user] = max(seq, marks.get((sender, user), (0, 0))[0]), seq
    if not marks:
        return ()
    users.load_ids(connection, {sender for sender, _ in marks})
    asked = {pair for one, other in marks for pair in ((one, other), (other, one)) if users.by_id[pair[0]].blocks}
    blocked = those_blocked(connection, asked)
    return tuple(
        Progress(users.by_id[sender].name, users.by_id[user].name, *mark)
        for (sender, user), mark in marks.items()
        if (sender, user) not in blocked and (user, sender) not in blocked
    )
