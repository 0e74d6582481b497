"""Pages of a log, read in one statement each. Synchronous: runs in a reader's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from ..core.batch import Page, PageRequest
from ..model import MAX_SEQ, Message

__all__ = ["OVERHEAD", "read_pages"]

OVERHEAD = 200
"""What an entry weighs besides its text, in bytes, roughly: names, id, numbers and the JSON around them."""

PAGE = """
    WITH entries AS (
        -- Weighed before the texts are touched, which may lie on pages of their own.
        SELECT seq, message, weight, sum(weight) OVER (ORDER BY seq) AS total
        FROM (
            SELECT l.seq, l.message, m.size + :overhead AS weight
            FROM log AS l CROSS JOIN messages AS m ON m.id = l.message
            WHERE l.user = (SELECT id FROM users WHERE name = :name) AND l.seq > :after
            ORDER BY l.seq LIMIT :limit
        )
    )
    SELECT u.floor, (
        SELECT json_group_array(json_object(
            'seq', e.seq, 'id', m.client_id, 'text', m.text, 'sent_at', m.sent_at,
            'from', CASE m.sender WHEN u.id THEN u.name ELSE peer.name END,
            'to', CASE m.sender WHEN u.id THEN peer.name ELSE u.name END,
            'kind', CASE m.kind WHEN 0 THEN 'message' WHEN 1 THEN 'edit' ELSE 'delete' END))
        FROM entries AS e
            CROSS JOIN messages AS m ON m.id = e.message
            CROSS JOIN conversations AS c ON c.id = m.conversation
            CROSS JOIN users AS peer ON peer.id = c.a + c.b - u.id
        WHERE e.total <= max(:size, e.weight) -- the first one in any case
    )
    FROM users AS u WHERE u.name = :name"""

_messages = msgspec.json.Decoder(tuple[Message, ...])


def read_pages(connection: sqlite3.Connection, requests: Sequence[PageRequest]) -> list[Page]:
    """`Store.pages`, blocking. All requests see the same snapshot.

    Raises:
        sqlite3.Error: they could not be read.
    """
    connection.execute("BEGIN")
    try:
        return [_read(connection, request) for request in requests]
    finally:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, request: PageRequest) -> Page:
    row = connection.execute(
        PAGE,
        {
            "name": request.user,
            "after": min(request.after, MAX_SEQ),
            "limit": max(1, min(request.limit, MAX_SEQ)),
            "size": min(request.size, MAX_SEQ),
            "overhead": OVERHEAD,
        },
    ).fetchone()
    if row is None:
        return Page((), 0)
    return Page(_messages.decode(row[1]), row[0])
