"""Messages as they are now, in the eyes of one user: the end of every statement that answers with messages."""

from __future__ import annotations

from typing import Final, TypeAlias

from ..model import Message
from .pages import OVERHEAD

__all__ = ["CLASS", "DELETED", "MESSAGE", "REACHED", "WITHHELD", "Found", "current", "newest_edit", "weight"]

CLASS: Final = "(m.kind + 4 * (m.peer_seq = 0) + 8 * (m.text IS NULL))"
"""What the index messages_of_conversation orders a sender's messages by (migrations/m0002), for a table called m."""

MESSAGE, WITHHELD, DELETED = 0, 4, 8
"""The classes of a message: of nothing else; and what is added if it is in its sender's log only, and if it has no text."""

REACHED: Final = "(0), (8), (1), (9), (10)"
"""The classes of whatever is in both logs, edits and deletions included, as rows of a VALUES clause."""

Found: TypeAlias = tuple[list[tuple[int, Message]], int]
"""What a statement made by `current` answers."""


def newest_edit(message: str) -> str:
    """The row id of the newest edit in the log of ``:asker`` of the message `message`, a table's name.

    0 if there is none, or nothing to be edited any more.

    Two probes of an index: one for the edits that both users have, one for those that the recipient has not.
    """
    probe = f"(SELECT max(e.id) FROM messages AS e WHERE e.target = {message}.id AND e.kind = 1 AND (e.peer_seq = 0) = %d)"
    both, own = (f"coalesce({probe % withheld}, 0)" for withheld in (0, 1))
    newest = f"max({both}, CASE {message}.sender WHEN :asker THEN {own} ELSE 0 END)"
    return f"CASE WHEN {message}.text IS NULL THEN 0 ELSE {newest} END"


def weight(message: str) -> str:
    """What a message weighs in an answer, with its newest edit as e."""
    return f"{OVERHEAD} + CASE WHEN {message}.text IS NULL THEN 0 ELSE coalesce(e.size, {message}.size) END"


def current(found: str, order: str) -> str:
    """A statement that gives one JSON text: the messages that the query `found` gives, and how many it gave.

    `found` gives row ids, and with each the place of the message in the answer: they come in the order of their places,
    ``ASC`` or ``DESC``, until they weigh ``:size``, one at least, and each with its place. Whatever `found` may say, only
    what has an entry in the log of ``:asker`` comes out: each message goes through that row of the log.
    """
    # The texts, which may lie on pages of their own, are not touched before it is known which will be in the answer.
    return f"""
    WITH found (id, place) AS ({found}),
    weighed AS (
        SELECT f.place, l.seq, m.id, e.id AS edit, {weight("m")} AS weight
        FROM found AS f CROSS JOIN messages AS m ON m.id = f.id
            CROSS JOIN log AS l ON l.user = :asker AND l.message = m.id
                AND l.seq = CASE m.sender WHEN :asker THEN m.seq ELSE m.peer_seq END
                AND l.seq > (SELECT floor FROM users WHERE id = :asker)
            LEFT JOIN messages AS e ON e.id = {newest_edit("m")}
    )
    SELECT json_array(json((
        SELECT json_group_array(json_array(w.place, json_object(
            'seq', w.seq, 'id', m.client_id, 'sent_at', m.sent_at,
            'from', CASE m.sender WHEN u.id THEN u.name ELSE peer.name END,
            'to', CASE m.sender WHEN u.id THEN peer.name ELSE u.name END,
            'text', CASE WHEN e.id IS NULL THEN m.text ELSE e.text END,
            'deleted', json(CASE WHEN m.text IS NULL THEN 'true' ELSE 'false' END),
            'reply_to', (SELECT t.client_id FROM messages AS t WHERE t.id = m.target),
            'edit_seq', CASE m.sender WHEN u.id THEN e.seq ELSE e.peer_seq END, 'edited_at', e.sent_at)))
        FROM (SELECT *, sum(weight) OVER (ORDER BY place {order}) AS total FROM weighed) AS w
            CROSS JOIN messages AS m ON m.id = w.id
            CROSS JOIN conversations AS c ON c.id = m.conversation
            CROSS JOIN users AS u ON u.id = :asker
            CROSS JOIN users AS peer ON peer.id = c.a + c.b - u.id
            LEFT JOIN messages AS e ON e.id = w.edit
        WHERE w.total <= max(:size, w.weight) -- the first one in any case
    )), (SELECT count(*) FROM found))"""
