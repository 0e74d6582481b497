"""What leaves the logs, in two steps: floors are raised, each once; what is below is swept away, a little at a time.

A log begins at its floor from the moment at which that is raised, whatever is still to be removed: a device that is behind
is told of one gap, however long the sweep takes, and a sweep that is interrupted is gone on with by the next one. Every
query keeps to what is above the floor. Synchronous: planning runs in a reader's thread, the rest in the writer's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

import msgspec

from ..keeping import WEIGHT, Retention
from . import search_index
from .rows import look_up, results, write
from .users import Users

__all__ = ["Raise", "below", "cut", "last_user", "plan", "raise_floors", "remove", "sweep"]

Raise: TypeAlias = tuple[int, int, int]
"""A user's id, where the user's log begins, and where it is to begin."""

_BAND: Final = 50_000
"""Messages whose weight is added up in one statement: some 15 ms."""


def _first(condition: str) -> str:
    """The first entry of the log of u for which `condition`, which no later one falsifies, is false; by bisection."""
    return f"""(
        WITH RECURSIVE part (low, high) AS (
            SELECT u.floor, u.head + 1
            UNION ALL
            SELECT CASE WHEN {condition} THEN l.seq ELSE e.low END, CASE WHEN {condition} THEN e.high ELSE l.seq END
            FROM part AS e CROSS JOIN log AS l ON l.user = u.id AND l.seq = (e.low + e.high) / 2
                CROSS JOIN messages AS m ON m.id = l.message
            WHERE e.high - e.low > 1)
        SELECT max(low) FROM part)"""


# A log's last entry that has to go, for each reason; and the last one that may.
FLOORS: Final = f"""
    SELECT json_group_array(json_array(id, floor, wanted)) FROM (
        SELECT u.id, u.floor, min(
            max(
                CASE WHEN :since NOTNULL THEN {_first("m.sent_at < :since")} ELSE 0 END,
                CASE WHEN :per_user NOTNULL THEN u.head - :per_user ELSE 0 END,
                CASE WHEN :cut NOTNULL THEN {_first("l.message <= :cut")} ELSE 0 END),
            max(u.delivered, {_first("m.sent_at < :undelivered")})) AS wanted
        FROM users AS u WHERE u.id > :after AND u.id <= :last AND u.head > u.floor)
    WHERE wanted > floor"""
LAST: Final = "SELECT coalesce(max(id), 0) FROM users"
RAISE: Final = "UPDATE users SET floor = v.column2 FROM (VALUES {rows}) AS v WHERE users.id = v.column1"

# The newest messages first: those of a band, each with what it and the newer ones of the band weigh.
BANDS: Final = "SELECT coalesce((SELECT min(id) FROM messages), 0), coalesce((SELECT max(id) FROM messages), 0)"
BAND: Final = f"SELECT coalesce(sum(size + {WEIGHT}), 0) FROM messages WHERE id > :after AND id <= :last"
CUT: Final = f"""
    SELECT max(id) FROM (
        SELECT id, sum(size + {WEIGHT}) OVER (ORDER BY id DESC) AS weight FROM messages WHERE id > :after AND id <= :last)
    WHERE weight > :room"""

BELOW: Final = """
    SELECT json_group_array(json_array(u.id, u.floor - (SELECT min(l.seq) FROM log AS l WHERE l.user = u.id) + 1))
    FROM users AS u WHERE u.id > :after AND u.id <= :last AND u.floor > 0
        AND EXISTS (SELECT 1 FROM log AS l WHERE l.user = u.id AND l.seq <= u.floor)"""

# A row is: user, how many entries. Of each the places of its message, and whether it has left both logs.
ENTRIES: Final = """
    SELECT json_group_array(json_array(
        l.user, l.seq, m.id, m.sender, m.seq, c.a + c.b - m.sender, m.peer_seq,
        s.floor >= m.seq AND (m.peer_seq = 0 OR r.floor >= m.peer_seq)))
    FROM (VALUES {rows}) AS v
        CROSS JOIN users AS u ON u.id = v.column1
        CROSS JOIN log AS l ON l.user = u.id AND l.seq <= u.floor
            AND l.seq < (SELECT min(f.seq) FROM log AS f WHERE f.user = u.id) + v.column2
        CROSS JOIN messages AS m ON m.id = l.message
        CROSS JOIN conversations AS c ON c.id = m.conversation
        CROSS JOIN users AS s ON s.id = m.sender
        CROSS JOIN users AS r ON r.id = c.a + c.b - m.sender"""

# What messages that go are about, if that has left both logs.
TARGETS: Final = """
    SELECT json_group_array(json_array(t.id))
    FROM (VALUES {rows}) AS v
        CROSS JOIN messages AS m ON m.id = v.column1
        CROSS JOIN messages AS t ON t.id = m.target
        CROSS JOIN conversations AS c ON c.id = t.conversation
        CROSS JOIN users AS s ON s.id = t.sender
        CROSS JOIN users AS r ON r.id = c.a + c.b - t.sender
    WHERE s.floor >= t.seq AND (t.peer_seq = 0 OR r.floor >= t.peer_seq)"""

# As rows of a query: of several rows of VALUES as they are, SQLite makes no look-up in an index, but goes through the table.
DELETE_ENTRIES: Final = "DELETE FROM log WHERE (user, seq) IN (SELECT * FROM (VALUES {rows}))"
PART: Final = "UPDATE messages SET target = NULL WHERE id IN (VALUES {rows}) AND target NOTNULL"
DELETE: Final = """
    DELETE FROM messages WHERE id IN (VALUES {rows})
        AND NOT EXISTS (SELECT 1 FROM messages AS e WHERE e.target = messages.id)"""
EMPTY: Final = "UPDATE messages SET text = NULL WHERE id IN (VALUES {rows}) AND text NOTNULL"


_raises = msgspec.json.Decoder(tuple[Raise, ...])
_counts = msgspec.json.Decoder(list[tuple[int, int]])


def last_user(connection: sqlite3.Connection) -> int:
    """The highest id of a user."""
    return int(connection.execute(LAST).fetchone()[0])


def cut(connection: sqlite3.Connection, max_bytes: int | None) -> int | None:
    """The newest message that has to go so that the rest weighs no more than this; None if none has to."""
    if max_bytes is None:
        return None
    oldest, newest = connection.execute(BANDS).fetchone()
    room = max_bytes
    for last in range(newest, oldest - 1, -_BAND):
        band = {"after": last - _BAND, "last": last}
        (weight,) = connection.execute(BAND, band).fetchone()
        if weight > room:
            (found,) = connection.execute(CUT, {**band, "room": room}).fetchone()
            return int(found)
        room -= weight
    return None


def plan(
    connection: sqlite3.Connection, retention: Retention, now: int, cut: int | None, users: tuple[int, int]
) -> tuple[Raise, ...]:
    """What of the logs of users has to go: of those with ids above the one and up to the other of `users`."""
    values = {
        "since": retention.since(now),
        "per_user": retention.per_user,
        "cut": cut,
        "undelivered": retention.undelivered_since(now),
        "after": users[0],
        "last": users[1],
    }
    return _raises.decode(connection.execute(FLOORS, values).fetchone()[0])


def raise_floors(connection: sqlite3.Connection, users: Users, raised: Sequence[Raise]) -> None:
    """Have these logs begin behind these positions, in the transaction under way."""
    write(connection, RAISE, [(id, floor) for id, _, floor in raised])
    for id, _, floor in raised:
        if (user := users.by_id.get(id)) is not None:
            user.floor = floor


def below(connection: sqlite3.Connection, users: tuple[int, int]) -> dict[int, int]:
    """Of these users, as `plan` has them, whose log has entries that are to be swept away, and how many these are."""
    values = {"after": users[0], "last": users[1]}
    return dict(_counts.decode(connection.execute(BELOW, values).fetchone()[0]))


def sweep(connection: sqlite3.Connection, chosen: Sequence[tuple[int, int]]) -> int:
    """Remove so many entries below its floor of each of these logs, and the messages that are in no log any more.

    A message that something is about which stays keeps its row, for that one's sake, and loses its text. Returns how many
    messages went.
    """
    entries: set[tuple[int, int]] = set()
    free: set[int] = set()
    for user, seq, id, sender, own, recipient, theirs, gone in look_up(connection, ENTRIES, chosen):
        entries.add((user, seq))
        if gone:
            free.add(id)
            entries.update([(sender, own), (recipient, theirs)] if theirs else [(sender, own)])
    write(connection, DELETE_ENTRIES, [*entries])
    return remove(connection, free)


def remove(connection: sqlite3.Connection, free: Collection[int]) -> int:
    """Remove messages that are in no log any more, as far as nothing is about them; say how many went."""
    rows = [(id,) for id in sorted(free)]
    write(connection, search_index.TAKE_OUT, rows)
    targets = {(target,) for (target,) in look_up(connection, TARGETS, rows)}
    write(connection, PART, rows)
    removed = sum(cursor.rowcount for cursor in results(connection, DELETE, sorted({*rows, *targets})))
    write(connection, EMPTY, rows)
    return removed
