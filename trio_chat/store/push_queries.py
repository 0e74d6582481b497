"""What waits in the outbox, and what is to be done about it. Runs in a reader's thread."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from ..core.outbox import Job, Preferences, Registered, Waiting
from ..model import MAX_SEQ
from ..retrieval import UNREAD_LIMIT
from .entries import CLASS, MESSAGE, newest_edit
from .scope import is_text

__all__ = ["count_waiting", "read_due", "read_next", "read_preferences", "read_targets", "read_waiting"]

_EDIT: Final = newest_edit("m").replace(":asker", "j.user")

_UNREAD: Final = f"""
    FROM messages AS m WHERE m.conversation = c.id AND m.sender = c.a + c.b - %(user)s AND {CLASS} = {MESSAGE}
        AND m.id >= coalesce((
            SELECT l.message FROM log AS l
            WHERE l.user = %(user)s AND l.seq > max(
                CASE %(user)s WHEN c.a THEN c.read_a ELSE c.read_b END, (SELECT floor FROM users WHERE id = %(user)s))
            ORDER BY l.seq LIMIT 1), {MAX_SEQ})"""
_OWN_UNREAD: Final = _UNREAD % {"user": "j.user"}

# Only conversations in which something came after the mark are looked at, and of each and of all so many messages at most.
_BADGE: Final = f"""(
    SELECT count(*) FROM (
        SELECT 1 FROM (
            SELECT c.id, c.a, c.b, c.read_a, c.read_b FROM conversations AS c
            WHERE c.a = j.user AND c.b <> j.user AND c.last_a > c.read_a
            UNION ALL
            SELECT c.id, c.a, c.b, c.read_a, c.read_b FROM conversations AS c
            WHERE c.b = j.user AND c.a <> j.user AND c.last_b > c.read_b
        ) AS c CROSS JOIN messages AS m
        WHERE {_OWN_UNREAD.partition("WHERE")[2]} LIMIT {UNREAD_LIMIT}))"""

_COUNT: Final = f"(SELECT count(*) FROM (SELECT 1 {_OWN_UNREAD} LIMIT {UNREAD_LIMIT}))"

DUE: Final = f"""
    WITH jobs AS (
        SELECT t.user, t.device, t.kind, t.target AS secret, t.registered, j.* FROM push_jobs AS j
            CROSS JOIN push_targets AS t ON t.id = j.target
        WHERE j.provider = ? AND j.due <= ? ORDER BY j.due LIMIT ?),
    looked AS (
        SELECT j.*, c.id AS conversation, {_COUNT} AS unread, {_BADGE} AS badge, (SELECT max(m.id) {_OWN_UNREAD}) AS newest
        FROM jobs AS j CROSS JOIN conversations AS c ON c.a = min(j.user, j.peer) AND c.b = max(j.user, j.peer)
        LIMIT -1 OFFSET 0)
    SELECT json_group_array(json_object(
        'key', j.target, 'registered', j.registered, 'user', u.name, 'device', j.device, 'provider', j.provider,
        'kind', j.kind, 'target', j.secret, 'peer', p.name, 'id', j.id, 'seq', j.seq, 'notified', j.notified,
        'since', j.since, 'attempts', j.attempts, 'unread', j.unread, 'badge', j.badge,
        'cursor', coalesce((SELECT d.cursor FROM devices AS d WHERE d.user = j.user AND d.name = j.device), 0),
        'silent', json(CASE WHEN EXISTS (SELECT 1 FROM push_quiet AS q WHERE q.user = j.user)
            OR EXISTS (SELECT 1 FROM push_mutes AS s WHERE s.user = j.user AND s.peer = j.peer)
            OR EXISTS (SELECT 1 FROM blocks AS k WHERE k.blocker = j.user AND k.blocked = j.peer)
            THEN 'true' ELSE 'false' END),
        'newest', CASE WHEN m.id NOTNULL THEN json_object(
            'seq', m.peer_seq, 'id', m.client_id, 'from', p.name, 'to', u.name, 'sent_at', m.sent_at,
            'text', coalesce((SELECT e.text FROM messages AS e WHERE e.id = {_EDIT}), m.text)) END))
    FROM looked AS j CROSS JOIN users AS u ON u.id = j.user CROSS JOIN users AS p ON p.id = j.peer
        LEFT JOIN messages AS m ON m.id = j.newest"""
NEXT: Final = "SELECT min(due) FROM push_jobs WHERE provider = ? AND due NOTNULL"
WAITING: Final = """
    SELECT json_group_array(json_object(
        'id', j.id, 'user', u.name, 'device', t.device, 'provider', j.provider, 'peer', p.name, 'since', j.since,
        'due', j.due, 'attempts', j.attempts, 'answered', j.answered, 'answer', j.answer))
    FROM (SELECT * FROM push_jobs WHERE {which} LIMIT :limit) AS j
        CROSS JOIN push_targets AS t ON t.id = j.target
        CROSS JOIN users AS u ON u.id = t.user CROSS JOIN users AS p ON p.id = j.peer"""
OF_ALL: Final = WAITING.format(which="due NOTNULL ORDER BY provider, due")
OF_USER: Final = WAITING.format(
    which="target IN (SELECT id FROM push_targets WHERE user = (SELECT id FROM users WHERE name = :user))"
)
COUNT: Final = "SELECT count(*), min(since) FROM push_jobs WHERE due NOTNULL"
TARGETS: Final = """
    SELECT json_group_array(json_object('device', device, 'provider', provider, 'kind', kind, 'registered', registered))
    FROM (SELECT * FROM push_targets WHERE user = (SELECT id FROM users WHERE name = ?) ORDER BY device, id)"""
MUTED: Final = """
    SELECT json_group_array(name) FROM (
        SELECT u.name FROM push_mutes AS s CROSS JOIN users AS u ON u.id = s.peer
        WHERE s.user = (SELECT id FROM users WHERE name = ?) ORDER BY u.name)"""
QUIET: Final = "SELECT EXISTS (SELECT 1 FROM push_quiet WHERE user = (SELECT id FROM users WHERE name = ?))"


_jobs = msgspec.json.Decoder(tuple[Job, ...])
_waiting = msgspec.json.Decoder(tuple[Waiting, ...])
_targets = msgspec.json.Decoder(tuple[Registered, ...])
_names = msgspec.json.Decoder(tuple[str, ...])


def read_due(connection: sqlite3.Connection, provider: str, now: int, limit: int) -> tuple[Job, ...]:
    """`Outbox.due`, blocking."""
    return _jobs.decode(connection.execute(DUE, (provider, now, limit)).fetchone()[0])


def read_next(connection: sqlite3.Connection, provider: str) -> int | None:
    """`Outbox.next`, blocking."""
    due: int | None = connection.execute(NEXT, (provider,)).fetchone()[0]
    return due


def read_waiting(connection: sqlite3.Connection, user: str | None, limit: int) -> tuple[Waiting, ...]:
    """`Outbox.waiting`, blocking."""
    if user is None:
        found = connection.execute(OF_ALL, {"limit": limit})
    elif is_text(user):
        found = connection.execute(OF_USER, {"user": user, "limit": limit})
    else:
        return ()
    return _waiting.decode(found.fetchone()[0])


def count_waiting(connection: sqlite3.Connection) -> tuple[int, int | None]:
    """`Outbox.length`, blocking."""
    count, since = connection.execute(COUNT).fetchone()
    return count, since


def read_targets(connection: sqlite3.Connection, user: str) -> tuple[Registered, ...]:
    """`Outbox.targets`, blocking."""
    return _targets.decode(connection.execute(TARGETS, (user,)).fetchone()[0]) if is_text(user) else ()


def read_preferences(connection: sqlite3.Connection, user: str) -> Preferences:
    """`Outbox.preferences`, blocking."""
    if not is_text(user):
        return Preferences()
    muted = _names.decode(connection.execute(MUTED, (user,)).fetchone()[0])
    return Preferences(muted=muted, quiet=bool(connection.execute(QUIET, (user,)).fetchone()[0]))
