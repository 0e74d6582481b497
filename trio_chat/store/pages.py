"""Pages of a log, all of them read in one statement. Synchronous: runs in a reader's thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

import msgspec

from ..core.batch import Page, PageRequest
from ..model import MAX_SEQ, Message
from .rows import look_up, results, snapshot

__all__ = ["AT_ONCE", "OVERHEAD", "read_known", "read_pages"]

OVERHEAD = 200
"""What an entry weighs besides its text, in bytes, roughly: names, id, numbers and the JSON around them."""

AT_ONCE = 16
"""Pages in one statement: their JSON text is in memory as a whole."""

# A row is: which request, user, after, limit, size, overhead. No LIMIT, as a log has no holes: its seqs are counted instead.
# An answer is put together from JSON as text, for JSON inside of JSON would be parsed again at every level.
PAGES = """
    SELECT '[' || coalesce(group_concat('[' || v.column1 || ',' || u.floor || ',' || (
        SELECT json_group_array(json_object(
            'seq', e.seq, 'id', m.client_id, 'text', m.text, 'sent_at', m.sent_at,
            'from', CASE m.sender WHEN u.id THEN u.name ELSE peer.name END,
            'to', CASE m.sender WHEN u.id THEN peer.name ELSE u.name END,
            'kind', CASE m.kind WHEN 0 THEN 'message' WHEN 1 THEN 'edit' ELSE 'delete' END,
            CASE m.kind WHEN 0 THEN 'reply_to' ELSE 'target' END,
            CASE WHEN m.target NOTNULL THEN (SELECT t.client_id FROM messages AS t WHERE t.id = m.target) END))
        FROM (
                -- Weighed before the texts are touched, which may lie on pages of their own.
                SELECT l.seq, l.message, w.size + v.column6 AS weight, sum(w.size + v.column6) OVER (ORDER BY l.seq) AS total
                FROM log AS l CROSS JOIN messages AS w ON w.id = l.message
                WHERE l.user = u.id AND l.seq > max(v.column3, u.floor) AND l.seq <= max(v.column3, u.floor) + v.column4
            ) AS e
            CROSS JOIN messages AS m ON m.id = e.message
            CROSS JOIN conversations AS c ON c.id = m.conversation
            CROSS JOIN users AS peer ON peer.id = c.a + c.b - u.id
        WHERE e.total <= max(v.column5, e.weight) -- the first one in any case
    ) || ']'), '') || ']'
    FROM (VALUES {rows}) AS v CROSS JOIN users AS u ON u.name = v.column2"""

_decoder = msgspec.json.Decoder(list[tuple[int, int, tuple[Message, ...]]])


def read_pages(connection: sqlite3.Connection, requests: Sequence[PageRequest]) -> list[Page]:
    """`Store.pages`, blocking. All requests see the same snapshot.

    Raises:
        sqlite3.Error: they could not be read.
    """
    rows = [
        (index, one.user, min(one.after, MAX_SEQ), max(1, min(one.limit, MAX_SEQ)), min(one.size, MAX_SEQ), OVERHEAD)
        for index, one in enumerate(requests)
    ]
    found = {}
    # One statement is a snapshot by itself.
    with snapshot(connection) if len(rows) > AT_ONCE else contextlib.nullcontext():
        for cursor in results(connection, PAGES, rows, AT_ONCE):
            for index, floor, messages in _decoder.decode(cursor.fetchone()[0]):
                found[index] = Page(messages, floor)
    nobody = Page((), 0)
    return [found.get(index, nobody) for index in range(len(rows))]


KNOWN = """
    SELECT json_group_array(json_array(v.column1))
    FROM (VALUES {rows}) AS v CROSS JOIN users AS u ON u.name = v.column2
        CROSS JOIN messages AS m ON m.sender = u.id AND m.client_id = v.column3"""


def read_known(connection: sqlite3.Connection, ids: Sequence[tuple[str, str]]) -> list[bool]:
    """`Store.known`, blocking.

    Raises:
        sqlite3.Error: they could not be read.
    """
    found = {index for (index,) in look_up(connection, KNOWN, [(index, *one) for index, one in enumerate(ids)])}
    return [index in found for index in range(len(ids))]
