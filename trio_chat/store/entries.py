"""Messages as they are now, in the eyes of one user: the end of every statement that answers with messages."""

from __future__ import annotations

from typing import Final

from .pages import OVERHEAD

__all__ = ["CLASS", "DELETED", "MESSAGE", "WITHHELD", "current", "newest_edit"]

CLASS: Final = "(m.kind + 4 * (m.peer_seq = 0) + 8 * (m.text IS NULL))"
"""What the index messages_of_conversation orders a sender's messages by (migrations/m0002), for a table called m."""

MESSAGE, WITHHELD, DELETED = 0, 4, 8
"""The classes of a message: of nothing else; and what is added if it is in its sender's log only, and if it has no text."""


def newest_edit(message: str) -> str:
    """The row id of the newest edit in the log of ``:asker`` of the message `message`, a table's name; 0 if there is none.

    Two probes of an index: one for the edits that both users have, one for those that the recipient has not.
    """
    probe = f"(SELECT max(e.id) FROM messages AS e WHERE e.target = {message}.id AND e.kind = 1 AND (e.peer_seq = 0) = %d)"
    return f"max(coalesce({probe % 0}, 0), CASE {message}.sender WHEN :asker THEN coalesce({probe % 1}, 0) ELSE 0 END)"


def current(found: str, order: str) -> str:
    """A statement that gives one JSON text: the messages whose row ids the query `found` gives, and how many it gave.

    In the order of their seqs, ``ASC`` or ``DESC``, until they weigh ``:size``, one at least. Whatever `found` may say, only
    what has an entry in the log of ``:asker`` comes out: each goes through that row of the log.
    """
    # The texts, which may lie on pages of their own, are not touched before it is known which will be in the answer.
    return f"""
    WITH found (id) AS ({found}),
    weighed AS (
        SELECT l.seq, m.id, e.id AS edit,
            {OVERHEAD} + CASE WHEN m.text IS NULL THEN 0 ELSE coalesce(e.size, m.size) END AS weight
        FROM found AS f CROSS JOIN messages AS m ON m.id = f.id
            CROSS JOIN log AS l ON l.user = :asker AND l.message = m.id
                AND l.seq = CASE m.sender WHEN :asker THEN m.seq ELSE m.peer_seq END
            LEFT JOIN messages AS e ON e.id = {newest_edit("m")}
    )
    SELECT json_array(json((
        SELECT json_group_array(json_object(
            'seq', w.seq, 'id', m.client_id, 'sent_at', m.sent_at,
            'from', CASE m.sender WHEN u.id THEN u.name ELSE peer.name END,
            'to', CASE m.sender WHEN u.id THEN peer.name ELSE u.name END,
            'text', CASE WHEN m.text IS NULL OR e.id IS NULL THEN m.text ELSE e.text END,
            'deleted', json(CASE WHEN m.text IS NULL THEN 'true' ELSE 'false' END),
            'reply_to', (SELECT t.client_id FROM messages AS t WHERE t.id = m.target),
            'edit_seq', CASE m.sender WHEN u.id THEN e.seq ELSE e.peer_seq END, 'edited_at', e.sent_at))
        FROM (SELECT *, sum(weight) OVER (ORDER BY seq {order}) AS total FROM weighed) AS w
            CROSS JOIN messages AS m ON m.id = w.id
            CROSS JOIN conversations AS c ON c.id = m.conversation
            CROSS JOIN users AS u ON u.id = :asker
            CROSS JOIN users AS peer ON peer.id = c.a + c.b - u.id
            LEFT JOIN messages AS e ON e.id = w.edit
        WHERE w.total <= max(:size, w.weight) -- the first one in any case
    )), (SELECT count(*) FROM found))"""
