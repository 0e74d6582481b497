"""Who asks, and which part of the log: the first statement of a query. Synchronous, as all that reads here.

What follows it looks only at rows that it finds through the asker's own log, or through the asker's own conversations, and
between two row ids of messages. Message row ids and the seqs of a log are in the same order, that of the commits; so a range
of the one is a range of the other, and a time is found in a log by bisection, as ``sent_at`` never decreases in it (L6).
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from ..errors import BadQuery
from ..retrieval import HistoryQuery

__all__ = ["CONVERSATIONS", "PROBES", "Scope", "find", "is_text", "require_few"]

CONVERSATIONS: Final = 4096
"""What looks at each of a user's conversations does so for up to so many: some 10 ms. Who has more gets shorter pages."""

PROBES: Final = 4096
"""How many times an id may be looked for: for each of the ids among the messages of each possible sender."""

# The first entry that was sent at a time or later; the seq after the head if there is none. Halves the range at each step.
_BISECT = """
    SELECT floor, head + 1 FROM asker WHERE :{time} NOTNULL
    UNION ALL
    SELECT CASE WHEN m.sent_at < :{time} THEN l.seq ELSE s.low END, CASE WHEN m.sent_at < :{time} THEN s.high ELSE l.seq END
    FROM {time} AS s CROSS JOIN asker AS u
        CROSS JOIN log AS l ON l.user = u.id AND l.seq = (s.low + s.high) / 2
        CROSS JOIN messages AS m ON m.id = l.message
    WHERE s.high - s.low > 1"""

FIND = f"""
    WITH RECURSIVE
        asker AS (SELECT * FROM users WHERE name = :user),
        since (low, high) AS ({_BISECT.format(time="since")}),
        until (low, high) AS ({_BISECT.format(time="until")})
    SELECT json_array(
        u.id, u.floor, u.head, u.delivered, p.id, c.id, coalesce(CASE u.id WHEN c.a THEN c.read_a ELSE c.read_b END, 0),
        (SELECT min(high) FROM since), (SELECT min(high) FROM until),
        (SELECT count(*) FROM (SELECT 1 FROM conversations WHERE a = u.id LIMIT {CONVERSATIONS + 2}))
        + (SELECT count(*) FROM (SELECT 1 FROM conversations WHERE b = u.id LIMIT {CONVERSATIONS + 1}))
        - (SELECT count(*) FROM conversations WHERE a = u.id AND b = u.id)) -- was counted twice
    FROM asker AS u
        LEFT JOIN users AS p ON p.name = :peer
        LEFT JOIN conversations AS c ON c.a = min(u.id, p.id) AND c.b = max(u.id, p.id)"""


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """The asker's row and that of the conversation with the peer, None where there is none.

    `since` and `until` are the seqs from which on entries were sent at these times or later. `conversations` is how many
    the asker has, counted to a little more than `CONVERSATIONS`.
    """

    user: int
    floor: int
    head: int
    delivered: int
    peer: int | None
    conversation: int | None
    read: int
    since: int | None
    until: int | None
    conversations: int


_decoder = msgspec.json.Decoder(Scope)


def find(
    connection: sqlite3.Connection, user: str, *, peer: str | None = None, since: int | None = None, until: int | None = None
) -> Scope | None:
    """The scope of what `user` asks; None if there is no such user, or no such conversation.

    Raises:
        sqlite3.Error: it could not be read.
    """
    if not is_text(user) or not is_text(peer or ""):
        return None
    row = connection.execute(FIND, {"user": user, "peer": peer, "since": since, "until": until}).fetchone()
    scope = None if row is None else _decoder.decode(row[0])
    return None if scope is None or (peer is not None and scope.conversation is None) else scope


def require_few(query: HistoryQuery, conversations: int) -> None:
    """What every store refuses alike, so that a chat does not depend on which one it has.

    Raises:
        BadQuery: ids that may be of anybody, and more of them than can be looked for among so many conversations.
    """
    if query.ids is None or query.peer is not None or query.direction == "out":
        return
    if len({*query.ids}) * conversations > PROBES:
        raise BadQuery("so many ids among so many conversations: say the peer, or ask for fewer at a time")


def is_text(value: str) -> bool:
    """Whether anything can be called so: not if it holds half of a surrogate pair, which is no character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
