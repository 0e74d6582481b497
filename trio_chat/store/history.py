"""Chosen messages of a log. Synchronous: runs in a reader's thread.

The work of a query is bounded by what it may answer, not by what the log holds. With a peer, an index leads straight to the
messages of one sender of one class (see `entries.CLASS`), in the order of the log: a few such *streams* are merged, and of
each no more is read than the page may hold. Without a peer the log itself is the stream, if what is asked for is frequent
in it; if it is not (one message of others among 100,000 own ones), the streams of all conversations are merged: first the
newest message of each, then the streams of those whose newest ones are the newest of all.
"""

from __future__ import annotations

import sqlite3
from typing import Final, Literal, TypeAlias

import msgspec

from ..model import MAX_SEQ
from ..retrieval import HistoryPage, HistoryQuery
from .around import around
from .entries import CLASS, DELETED, MESSAGE, WITHHELD, Found, current
from .rows import snapshot
from .scope import CONVERSATIONS, Scope, find, is_text, require_few

__all__ = ["STREAMS", "WALK", "read_history"]

WALK: Final = 1000
"""How many entries of the log are looked at before its conversations are."""

STREAMS: Final = 8192
"""How many streams are merged; who has more conversations gets shorter pages instead."""

Order: TypeAlias = Literal["ASC", "DESC"]

NO_MESSAGES: Final = HistoryPage(messages=(), more=False, next=None)

# Where `first` and `last` stand in messages.
SPAN = "(SELECT message FROM log WHERE user = :asker AND seq = :{seq})"

WALKED = """
    SELECT m.id, m.id
    FROM (
            SELECT l.message FROM log AS l
            WHERE l.user = :asker AND l.seq BETWEEN :first AND :last ORDER BY l.seq {order} LIMIT :walk
        ) AS e
        CROSS JOIN messages AS m ON m.id = e.message{join}
    WHERE m.kind = 0{condition} LIMIT :count"""
UNREAD_JOIN = " CROSS JOIN conversations AS c ON c.id = m.conversation"
CONDITIONS: Final[dict[str | None, str]] = {
    None: "",
    "in": " AND m.sender <> :asker",
    "out": " AND m.sender = :asker",
    "unread": """ AND m.sender <> :asker AND m.text NOTNULL
            AND m.peer_seq > CASE :asker WHEN c.a THEN c.read_a ELSE c.read_b END""",
}

STREAM = f"""
    FROM messages AS m
    WHERE m.conversation = s.conversation AND m.sender = s.sender AND {CLASS} = s.class
        AND m.id BETWEEN s.first AND s.last"""

# json_each is SQLite's way to have a subquery with a LIMIT for each row of a table.
MERGED = f"""
    SELECT j.value, j.value
    FROM ({{streams}}) AS s CROSS JOIN json_each((
        SELECT json_group_array(id) FROM (SELECT m.id {STREAM} ORDER BY m.id {{order}} LIMIT :count))) AS j
    ORDER BY j.value {{order}} LIMIT :count"""

ONE_PEER = f"""
    SELECT :conversation AS conversation, column1 AS sender, column2 AS class,
        {SPAN.format(seq="first")} AS first, {SPAN.format(seq="last")} AS last
    FROM (VALUES {{streams}})"""

# What has no entry after `first` in its conversation is passed over without a look at its messages. Once as many streams are
# found as there may be answers, nothing beyond the last one's head can be among these.
ALL_PEERS = f"""
    SELECT conversation, sender, class, {{bounds}}
    FROM (SELECT *, CASE WHEN count(*) OVER () = :count THEN {{farthest}}(head) OVER () END AS edge FROM (
    SELECT s.*, (SELECT {{nearest}}(m.id) {STREAM}) AS head
    FROM (
        SELECT c.id AS conversation, CASE v.column1 WHEN 'out' THEN :asker ELSE c.peer END AS sender, v.column2 AS class,
            (SELECT l.message FROM log AS l WHERE l.user = :asker AND l.seq = {{first}}) AS first,
            {SPAN.format(seq="last")} AS last
        FROM (
                SELECT *{{most}} FROM (
                    SELECT id, b AS peer, last_a AS last, read_a AS read FROM conversations WHERE a = :asker
                    UNION ALL
                    SELECT id, a, last_b, read_b FROM conversations WHERE b = :asker AND a <> :asker) AS c
                WHERE last >= {{first}} LIMIT -1 -- or SQLite would look for `most` once for each class
            ) AS c
            CROSS JOIN (VALUES {{classes}}) AS v
        WHERE {{there}}
    ) AS s
    WHERE head NOTNULL ORDER BY head {{order}} LIMIT :count))"""

# The last class of one's own messages: mostly it is the first, and three of four streams need not be looked for.
MOST = f", (SELECT max({CLASS}) FROM messages AS m WHERE m.conversation = c.id AND m.sender = :asker) AS most"

OWN_OR_NOT = "CASE v.column1 WHEN 'out' THEN v.column2 <= c.most ELSE c.peer <> :asker END"

# An id is one's own, or one of those of the peer of a conversation.
OWN_IDS = "SELECT :asker AS sender, :conversation AS conversation"
IDS_OF_PEER = "SELECT :peer AS sender, :conversation AS conversation"
IDS_OF_ALL = """
            SELECT b AS sender, id AS conversation FROM conversations WHERE a = :asker AND b <> :asker
            UNION ALL
            SELECT a, id FROM conversations WHERE b = :asker AND a <> :asker"""
NAMED = f"""
    SELECT m.id, m.id
    FROM ({{senders}}) AS s
        CROSS JOIN json_each(:ids) AS j
        CROSS JOIN messages AS m ON m.sender = s.sender AND m.client_id = j.value
    WHERE (s.conversation ISNULL OR m.conversation = s.conversation) AND m.kind = 0
        AND (m.sender = :asker OR m.peer_seq > 0)
        AND m.id BETWEEN {SPAN.format(seq="first")} AND {SPAN.format(seq="last")}
    ORDER BY m.id {{order}} LIMIT :count"""

EARLIER: Final = "first, min(last, coalesce(edge, last)) AS last"

CLASSES: Final = {
    "in": [("in", MESSAGE), ("in", DELETED)],
    "out": [("out", class_ + more) for class_ in (MESSAGE, DELETED) for more in (0, WITHHELD)],
    "unread": [("in", MESSAGE)],
}

_decoder = msgspec.json.Decoder(Found)


def read_history(connection: sqlite3.Connection, user: str, query: HistoryQuery, size: int) -> HistoryPage:
    """`Store.history`, blocking.

    Raises:
        BadQuery: ids among too many conversations.
        sqlite3.Error: it could not be read.
    """
    with snapshot(connection):
        scope = find(connection, user, peer=query.peer, since=query.since, until=query.until)
        if scope is None:
            return NO_MESSAGES
        require_few(query, scope.conversations)
        asked = _Asked(connection, scope, query)
        if query.around is None:
            return asked.page("ASC" if query.ascending else "DESC", query.after, query.before, query.limit, size)
        older = asked.page("DESC", None, query.around, query.limit, size // 2).messages
        middle = asked.page("ASC", query.around - 1, query.around + 1, 1, size // 2).messages
        newer = asked.page("ASC", query.around, None, query.limit, size // 2)
        return around(query.around, older, middle, newer, size // 2)


class _Asked:
    """A query and where it is asked."""

    def __init__(self, connection: sqlite3.Connection, scope: Scope, query: HistoryQuery) -> None:
        self.connection = connection
        self.scope = scope
        self.query = query
        self.what: Literal["in", "out", "unread"] | None = "unread" if query.unread else query.direction

    def page(self, order: Order, after: int | None, before: int | None, limit: int, size: int) -> HistoryPage:
        """The messages between two seqs."""
        scope, query = self.scope, self.query
        first = max(scope.floor, after or 0, (scope.since or 1) - 1) + 1
        last = min(scope.head, MAX_SEQ if before is None else before - 1, (scope.until or MAX_SEQ + 1) - 1)
        if query.unread and query.peer is not None:
            first = max(first, scope.read + 1)
        if first > last:
            return NO_MESSAGES
        values: dict[str, object] = {
            "asker": scope.user,
            "conversation": scope.conversation,
            "first": first,
            "last": last,
            "count": limit + 1,
            "size": size,
        }
        if query.ids is not None:
            return self._answer(self._named(query.ids, values), order, values, limit)
        if query.peer is not None:
            return self._answer(self._one_peer(), order, values, limit)
        few = scope.conversations <= CONVERSATIONS and scope.conversations * len(self._classes()) <= STREAMS
        if few and query.unread:
            return self._answer(self._all_peers(order), order, values, limit)
        values["walk"] = WALK
        whole = last - first < WALK
        if few and not whole and self._near(order, values) <= limit:
            return self._answer(self._all_peers(order), order, values, limit)
        page = self._answer(self._walked(order), order, values, limit)
        if page.more or whole:
            return page
        # There are fewer than asked for, and more of the log.
        return HistoryPage(messages=page.messages, more=True, next=first + WALK - 1 if order == "ASC" else last - WALK + 1)

    def _near(self, order: Order, values: dict[str, object]) -> int:
        """How many are found among the entries that are looked at: without their texts, for these may not be the answer."""
        (found,) = self.connection.execute(f"SELECT count(*) FROM ({self._walked(order)})", values).fetchone()
        return int(found)

    def _answer(self, which: str, order: Order, values: dict[str, object], limit: int) -> HistoryPage:
        row = self.connection.execute(current(which.format(order=order), order), values).fetchone()
        found, count = _decoder.decode(row[0])
        messages = tuple(message for _, message in found[:limit])
        more = count > len(messages)
        return HistoryPage(messages=messages, more=more, next=messages[-1].seq if more else None)

    def _classes(self) -> list[tuple[str, int]]:
        return [*CLASSES["in"], *CLASSES["out"]] if self.what is None else CLASSES[self.what]

    def _walked(self, order: Order) -> str:
        return WALKED.format(order=order, join=UNREAD_JOIN if self.query.unread else "", condition=CONDITIONS[self.what])

    def _one_peer(self) -> str:
        oneself = self.scope.peer == self.scope.user
        streams = [
            f"({':asker' if whose == 'out' else str(self.scope.peer)}, {class_})"
            for whose, class_ in self._classes()
            if whose == "out" or not oneself
        ]
        # Something has to be there: a stream of no class.
        return MERGED.replace("{streams}", ONE_PEER.format(streams=", ".join(streams or ["(:asker, -1)"])))

    def _all_peers(self, order: Order) -> str:
        own = self.what in (None, "out")
        streams = ALL_PEERS.format(
            most=MOST if own else "",
            there=OWN_OR_NOT if own else "c.peer <> :asker",
            nearest="max" if order == "DESC" else "min",
            farthest="min" if order == "DESC" else "max",
            bounds="max(first, coalesce(edge, 0)) AS first, last" if order == "DESC" else EARLIER,
            first="max(:first, c.read + 1)" if self.query.unread else ":first",
            classes=", ".join(f"('{whose}', {class_})" for whose, class_ in self._classes()),
            order=order,
        )
        return MERGED.replace("{streams}", streams)

    def _named(self, ids: tuple[str, ...], values: dict[str, object]) -> str:
        different = list(dict.fromkeys(filter(is_text, ids)))
        values["ids"] = msgspec.json.encode(different).decode()
        values["peer"] = self.scope.peer
        senders = [] if self.what == "in" else [OWN_IDS]
        if self.what != "out" and self.scope.peer != self.scope.user:
            senders.append(IDS_OF_ALL if self.query.peer is None else IDS_OF_PEER)
        # Something has to be there: a sender who is nobody.
        return NAMED.replace("{senders}", " UNION ALL ".join(senders or ["SELECT 0 AS sender, 0 AS conversation"]))
