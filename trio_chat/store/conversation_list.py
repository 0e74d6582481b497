"""A user's conversations, the latest first. Synchronous: runs in a reader's thread.

The rows of a user's conversations are sorted by their newest entry each time: an index of that order would have to move with
every message (measured: it more than doubles what a message costs). Who has more conversations than are quickly sorted is
answered from the end of the log instead: an entry that is its conversation's newest stands for it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from ..model import MAX_SEQ
from ..retrieval import UNREAD_LIMIT, Conversation, ConversationsPage, ConversationsQuery
from .entries import CLASS, MESSAGE, REACHED, Found, current, newest_edit, weight
from .rows import snapshot
from .scope import CONVERSATIONS, Scope, find

__all__ = ["LONGEST", "WALK", "read_conversations"]

WALK: Final = 4096
"""How many entries of the log are looked at for the conversations of one page."""

LONGEST: Final = 100
"""Conversations on a page: some 50 µs each."""

LOOK_BACK: Final = 1000
"""How far is looked for a message that a peer has, when the peer's log no longer says where that was."""

SORTED = """
    SELECT * FROM (
        SELECT id, b AS peer, last_a AS last, read_a AS own, read_b AS peers FROM conversations WHERE a = :asker
        UNION ALL
        SELECT id, a, last_b, read_b, read_a FROM conversations WHERE b = :asker AND a <> :asker)
    WHERE last BETWEEN :first AND :last ORDER BY last DESC LIMIT :count"""
WALKED = """
    SELECT c.id, c.a + c.b - :asker AS peer, e.seq AS last,
        CASE :asker WHEN c.a THEN c.read_a ELSE c.read_b END AS own,
        CASE :asker WHEN c.a THEN c.read_b ELSE c.read_a END AS peers
    FROM (
            SELECT l.seq, l.message FROM log AS l
            WHERE l.user = :asker AND l.seq BETWEEN :first AND :last ORDER BY l.seq DESC LIMIT :walk
        ) AS e
        CROSS JOIN messages AS m ON m.id = e.message
        CROSS JOIN conversations AS c ON c.id = m.conversation
    WHERE CASE :asker WHEN c.a THEN c.last_a ELSE c.last_b END = e.seq LIMIT :count"""

# Everything that the asker's log holds of this conversation comes from `p.first` on.
OURS = f"FROM messages AS m WHERE m.conversation = p.id AND m.id >= p.first AND {CLASS} = v.column"
NEWEST = f"""(
    SELECT max((SELECT max(m.id) {OURS}2 AND m.sender = CASE v.column1 WHEN 'out' THEN :asker ELSE p.peer END))
    FROM (VALUES ('out', 0), ('out', 4), ('out', 8), ('out', 12), ('in', 0), ('in', 8)) AS v)"""
# What is not above the mark lies before `p.own_before`, which is never before `p.first`. Either bound would do as a place to
# begin at, so there is only the one.
UNREAD = f"""(
    SELECT count(*) FROM (
        SELECT 1 FROM messages AS m
        WHERE m.conversation = p.id AND m.sender = p.peer AND {CLASS} = {MESSAGE} AND m.id >= p.own_before
        LIMIT {UNREAD_LIMIT}))"""


def _before(user: str, seq: str) -> str:
    """The row id before which all messages lie whose seq in this user's log is not above `seq`, if they are in it still."""
    return f"""coalesce((
        SELECT l.message FROM log AS l WHERE l.user = {user} AND l.seq > {seq} ORDER BY l.seq LIMIT 1), {MAX_SEQ})"""


def _reached(sender: str, seq: str, before: str, mark: str) -> str:
    """The `seq` of the newest entry of `sender` that the other had delivered or read with `mark`."""
    return f"""coalesce((
        SELECT max((
            SELECT x.{seq} FROM (
                SELECT m.seq, m.peer_seq {OURS}1 AND m.sender = {sender} AND m.id < {before}
                ORDER BY m.id DESC LIMIT {LOOK_BACK}
            ) AS x WHERE x.peer_seq <= {mark} LIMIT 1))
        FROM (VALUES {REACHED}) AS v), 0)"""


def _list(page: str) -> str:
    marks = ", ".join(
        f"CASE p.peer WHEN :asker THEN 0 ELSE {reached} END"
        for reached in (
            _reached(":asker", "seq", "p.delivered_before", "p.delivered"),
            _reached(":asker", "seq", "p.peers_before", "p.peers"),
            _reached("p.peer", "peer_seq", "p.own_delivered_before", "p.own_delivered"),
            _reached("p.peer", "peer_seq", "p.own_before", "p.own"),
        )
    )
    # While one of the two blocks the other, the peer is as far as it was then (B1).
    # The row that OFFSET passes over is none; but with it each part is worked out once, and not where it is used.
    return f"""
        WITH page AS ({page}),
        marked AS (
            SELECT p.id, p.peer, p.last, p.own, u.name, max(p.own, :delivered) AS own_delivered,
                coalesce(k.blocked_read, x.blocker_read, p.peers) AS peers,
                max(
                    coalesce(k.blocked_read, x.blocker_read, p.peers),
                    coalesce(k.blocked_delivered, x.blocker_delivered, u.delivered)) AS delivered,
                (SELECT l.message FROM log AS l WHERE l.user = :asker AND l.seq = :floor + 1) AS first
            FROM page AS p CROSS JOIN users AS u ON u.id = p.peer
                LEFT JOIN blocks AS k ON k.blocker = :asker AND k.blocked = p.peer
                LEFT JOIN blocks AS x ON x.blocker = p.peer AND x.blocked = :asker
            LIMIT -1 OFFSET 0
        ),
        bounded AS (
            SELECT p.*,
                {_before("p.peer", "p.delivered")} AS delivered_before, {_before("p.peer", "p.peers")} AS peers_before,
                {_before(":asker", "max(p.own_delivered, :floor)")} AS own_delivered_before,
                {_before(":asker", "max(p.own, :floor)")} AS own_before,
                {NEWEST} AS newest
            FROM marked AS p LIMIT -1 OFFSET 0
        )
        SELECT json_group_array(json_array(
            p.name, p.last, p.newest, {weight("m")}, CASE p.peer WHEN :asker THEN 0 ELSE {UNREAD} END, {marks}))
        FROM bounded AS p
            LEFT JOIN messages AS m ON m.id = p.newest
            LEFT JOIN messages AS e ON e.id = {newest_edit("m")}"""


LISTS: Final = {few: _list(page) for few, page in ((True, SORTED), (False, WALKED))}
LAST: Final = current("SELECT value, value FROM json_each(:ids)", "DESC")
NO_CONVERSATIONS: Final = ConversationsPage(conversations=(), more=False, next=None)


class _Row(msgspec.Struct, frozen=True, array_like=True):
    peer: str
    seq: int
    newest: int | None
    weight: int
    unread: int
    delivered: int
    read: int
    own_delivered: int
    own_read: int


_rows = msgspec.json.Decoder(list[_Row])
_found = msgspec.json.Decoder(Found)


def read_conversations(connection: sqlite3.Connection, user: str, query: ConversationsQuery, size: int) -> ConversationsPage:
    """`Store.conversations`, blocking.

    Raises:
        sqlite3.Error: they could not be read.
    """
    with snapshot(connection):
        scope = find(connection, user)
        return NO_CONVERSATIONS if scope is None else _read(connection, scope, query, size)


def _read(connection: sqlite3.Connection, scope: Scope, query: ConversationsQuery, size: int) -> ConversationsPage:
    few = scope.conversations <= CONVERSATIONS
    limit = min(query.limit, LONGEST)
    last = scope.head if query.before is None else min(scope.head, query.before - 1)
    values: dict[str, object] = {
        "asker": scope.user,
        "floor": scope.floor,
        "delivered": scope.delivered,
        "first": scope.floor + 1,
        "last": last,
        "count": limit + 1,
    }
    if not few:
        values["walk"] = WALK
    rows = _rows.decode(connection.execute(LISTS[few], values).fetchone()[0])
    page: list[_Row] = []
    for row in rows[:limit]:
        size -= row.weight
        if page and size < 0:
            break
        page.append(row)
    ids = msgspec.json.encode([row.newest for row in page if row.newest]).decode()
    answer = connection.execute(LAST, {"asker": scope.user, "ids": ids, "size": MAX_SEQ}).fetchone()[0]
    messages = dict(_found.decode(answer)[0])
    more, next = len(page) < len(rows), page[-1].seq if page else None
    if not few and not more and last - scope.floor > WALK:
        more, next = True, last - WALK + 1
    return ConversationsPage(
        conversations=tuple(
            Conversation(
                peer=row.peer,
                last=None if row.newest is None else messages.get(row.newest),
                unread=row.unread,
                delivered=row.delivered,
                read=row.read,
                own_delivered=row.own_delivered,
                own_read=row.own_read,
            )
            for row in page
        ),
        more=more,
        next=next if more else None,
    )
