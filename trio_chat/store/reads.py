"""Read marks: up to where a user has read a conversation (R2, R3)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..core.batch import ReadMark
from .entries import CLASS, REACHED
from .progress import Reached
from .rows import look_up, write
from .users import Users

__all__ = ["read"]

FIND = """
    SELECT json_group_array(json_array(c.a, c.b, c.id, c.read_a, c.read_b))
    FROM (VALUES {rows}) AS v CROSS JOIN conversations AS c ON c.a = v.column1 AND c.b = v.column2"""
SAVE = """
    UPDATE conversations SET read_a = max(read_a, v.column2), read_b = max(read_b, v.column3)
    FROM (VALUES {rows}) AS v WHERE conversations.id = v.column1"""
# A row is: reader, peer, conversation, old mark, new mark. The marks are positions in the reader's log, whose entries lead
# to the first and the last message in question. No class of messages has more than its newest one looked at.
NEWEST = f"""
    SELECT json_group_array(json_array(v.column2, v.column1, (
        SELECT m.seq FROM messages AS m WHERE m.id = (
            SELECT max((
                SELECT max(m.id) FROM messages AS m
                WHERE m.conversation = v.column3 AND m.sender = v.column2 AND {CLASS} = k.column1
                AND m.id > coalesce((SELECT l.message FROM log AS l WHERE l.user = v.column1 AND l.seq = v.column4), 0)
                AND m.id <= (SELECT l.message FROM log AS l WHERE l.user = v.column1 AND l.seq = v.column5)))
            FROM (VALUES {REACHED}) AS k) AND m.peer_seq > v.column4)))
    FROM (VALUES {{rows}}) AS v WHERE v.column1 NOTNULL"""


def read(connection: sqlite3.Connection, users: Users, marks: Sequence[ReadMark]) -> list[Reached]:
    """Move read marks, and say which messages they reached. A mark beyond the head counts as the head.

    There are none where nothing was ever sent, nor for notes to oneself.
    """
    wanted: dict[tuple[int, int], int] = {}
    for one in marks:
        user, peer = users.get(one.user), users.get(one.peer)
        if user is not None and peer is not None and user is not peer:
            wanted[user.id, peer.id] = max(min(one.seq, user.head), wanted.get((user.id, peer.id), 0))
    if not wanted:
        return []
    pairs = {(min(pair), max(pair)) for pair in wanted}
    moved: dict[int, list[int]] = {}
    rose = []
    for a, b, id, *before in look_up(connection, FIND, [*pairs]):
        for side, (user_id, peer_id) in enumerate(((a, b), (b, a))):
            mark = wanted.get((user_id, peer_id), 0)
            if mark > before[side]:
                moved.setdefault(id, [0, 0])[side] = mark
                # Below the floor there is nothing any more that could have been read.
                rose.append((user_id, peer_id, id, max(before[side], users.by_id[user_id].floor), mark))
    write(connection, SAVE, [(id, *sides) for id, sides in moved.items()])
    return [(peer, user, seq) for peer, user, seq in look_up(connection, NEWEST, rose) if seq is not None]
