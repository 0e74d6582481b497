"""Everything that a file holds about one user, as lines of JSON: for the user, who has a right to it.

One snapshot, read in pieces, so that the size of a log does not matter. Synchronous: runs in a thread of its own, or in a
command. The format is documented in ``docs/keep.md``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from typing import Final

import msgspec

from .devices import log_name
from .rows import snapshot
from .scope import is_text

__all__ = ["PIECE", "VERSION", "portray"]

VERSION: Final = 1
"""Of the format. A number that is not known is another format; new kinds of lines, and new fields, are not."""

PIECE: Final = 200
"""Entries in one statement: their texts are in memory as a whole."""

USER: Final = "SELECT id, head, floor, delivered, epoch, (SELECT epoch FROM store) FROM users WHERE name = ?"

# Each gives one JSON text a row.
ABOUT: Final = (
    """
    SELECT json_object('type', 'device', 'name', name, 'cursor', cursor, 'seen', seen, 'created', created)
    FROM devices WHERE user = :user ORDER BY name""",
    """
    SELECT json_object('type', 'block', 'user', u.name)
    FROM blocks AS k CROSS JOIN users AS u ON u.id = k.blocked WHERE k.blocker = :user ORDER BY u.name""",
    """
    SELECT json_object('type', 'conversation', 'peer', u.name, 'last', c.last, 'read', c.read) FROM (
        SELECT b AS peer, last_a AS last, read_a AS read FROM conversations WHERE a = :user
        UNION ALL
        SELECT a, last_b, read_b FROM conversations WHERE b = :user AND a <> :user) AS c
        CROSS JOIN users AS u ON u.id = c.peer ORDER BY u.name""",
    """
    SELECT json_object('type', 'push_target', 'device', device, 'provider', provider, 'kind', kind, 'target', target,
        'registered', registered)
    FROM push_targets WHERE user = :user ORDER BY device, id""",
    """
    SELECT json_object('type', 'push', 'device', t.device, 'provider', j.provider, 'peer', u.name, 'seq', j.seq,
        'notified', j.notified, 'since', j.since, 'due', j.due, 'attempts', j.attempts, 'answered', j.answered,
        'answer', j.answer)
    FROM push_targets AS t CROSS JOIN push_jobs AS j ON j.target = t.id CROSS JOIN users AS u ON u.id = j.peer
    WHERE t.user = :user ORDER BY t.device, t.id, u.name""",
    """
    SELECT json_object('type', 'push_mute', 'peer', u.name)
    FROM push_mutes AS s CROSS JOIN users AS u ON u.id = s.peer WHERE s.user = :user ORDER BY u.name""",
    "SELECT json_object('type', 'push_quiet') FROM push_quiet WHERE user = :user",
)

_MESSAGE: Final = """json_object(
        'type', 'entry', 'seq', {seq}, 'kind', CASE m.kind WHEN 0 THEN 'message' WHEN 1 THEN 'edit' ELSE 'delete' END,
        'id', m.client_id, 'from', s.name, 'to', r.name, 'text', m.text, 'sent_at', m.sent_at,
        CASE m.kind WHEN 0 THEN 'reply_to' ELSE 'target' END,
        (SELECT t.client_id FROM messages AS t WHERE t.id = m.target))"""
_NAMES: Final = """
        CROSS JOIN conversations AS c ON c.id = m.conversation
        CROSS JOIN users AS s ON s.id = m.sender
        CROSS JOIN users AS r ON r.id = c.a + c.b - m.sender"""
ENTRIES: Final = f"""
    SELECT l.seq, {_MESSAGE.format(seq="l.seq")}
    FROM log AS l CROSS JOIN messages AS m ON m.id = l.message {_NAMES}
    WHERE l.user = :user AND l.seq > :after ORDER BY l.seq LIMIT {PIECE}"""
# What has left the user's own log and is in that of the other still.
BEYOND: Final = f"""
    SELECT m.client_id, {_MESSAGE.format(seq="NULL")}
    FROM messages AS m {_NAMES}
    WHERE m.sender = :user AND m.client_id > :after AND m.seq <= :floor AND m.text NOTNULL
    ORDER BY m.client_id LIMIT {PIECE}"""


def portray(connection: sqlite3.Connection, user: str, now: int) -> Generator[list[str], None, None]:
    """What there is about the user, some lines at a time; nothing if there is no such user.

    Raises:
        sqlite3.Error: it could not be read.
    """
    with snapshot(connection):
        row = connection.execute(USER, (user,)).fetchone() if is_text(user) else None
        if row is None:
            return
        id, head, floor, delivered, epoch, store = row
        about = {"type": "export", "version": VERSION, "user": user, "at": now, "log": log_name(store, epoch)}
        yield [_line(about | {"head": head, "floor": floor, "delivered": delivered})]
        for statement in ABOUT:
            rows = connection.execute(statement, {"user": id})
            while lines := [line for (line,) in rows.fetchmany(PIECE)]:
                yield lines
        for statement, start in ((ENTRIES, floor), (BEYOND, "")):
            values = {"user": id, "floor": floor, "after": start}
            while found := connection.execute(statement, values).fetchall():
                yield [line for _, line in found]
                values["after"] = found[-1][0]
        yield [_line({"type": "end"})]


def _line(value: dict[str, object]) -> str:
    return msgspec.json.encode(value).decode()
