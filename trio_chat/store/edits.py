"""What edits, deletions and replies are about (L5)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

from ..core.batch import Draft
from .rows import look_up, write
from .users import User, Users

__all__ = ["KINDS", "Target", "Targets", "delete_texts"]

KINDS: Final = {"message": 0, "edit": 1, "delete": 2}
"""A kind as a number in the table."""

FIND = """
    SELECT json_group_array(json_array(m.sender, m.client_id, m.id, c.a + c.b - m.sender, m.peer_seq, m.kind, m.text ISNULL))
    FROM (VALUES {rows}) AS v
    CROSS JOIN messages AS m ON m.sender = v.column1 AND m.client_id = v.column2
    CROSS JOIN conversations AS c ON c.id = m.conversation"""
DELETE = """
    UPDATE messages SET text = NULL
    FROM (VALUES {rows}) AS v WHERE messages.id = v.column1"""
DELETE_EDITS = """
    UPDATE messages SET text = NULL
    FROM (VALUES {rows}) AS v WHERE messages.target = v.column1 AND messages.kind = 1"""


class Target:
    """A message that others can be about."""

    __slots__ = ("deleted", "id", "kind", "peer_seq", "recipient")

    def __init__(self, id: int, recipient: int, peer_seq: int, kind: int, deleted: int = 0) -> None:
        self.id: int = id
        self.recipient: int = recipient
        self.peer_seq: int = peer_seq
        self.kind: int = kind
        self.deleted: bool = bool(deleted)


class Targets:
    """The messages that drafts of one transaction are about, stored before or by it; and what becomes of them."""

    def __init__(self, connection: sqlite3.Connection, users: Users, drafts: Sequence[Draft]) -> None:
        self.sent: dict[tuple[int, str], Target] = {}  # by sender and the sender's id
        self.edited: set[int] = set()
        self.deleted: set[int] = set()
        named = set()
        for draft in drafts:
            if draft.target is not None:
                for name in (draft.sender, draft.recipient):
                    if (user := users.get(name)) is not None:
                        named.add((user.id, draft.target))
        for sender, client_id, *values in look_up(connection, FIND, [*named]):
            self.sent[sender, client_id] = Target(*values)

    def find(self, draft: Draft, sender: User | None, recipient: User | None) -> Target | None:
        """The message the draft is about, or None if there is none: then the draft is refused.

        For a reply it is the recipient's of that id, if the sender has it, or else the sender's own; for an edit or a
        deletion the sender's own, unless it was deleted.
        """
        if draft.target is None or sender is None or recipient is None:
            return None
        own = self._of(sender, recipient, draft.target)
        if draft.kind != "message":
            return None if own is None or own.deleted else own
        theirs = self._of(recipient, sender, draft.target)
        return own if theirs is None or (not theirs.peer_seq and sender is not recipient) else theirs

    def _of(self, sender: User, recipient: User, id: str) -> Target | None:
        target = self.sent.get((sender.id, id))
        return target if target is not None and target.recipient == recipient.id and target.kind == 0 else None

    def stored(self, draft: Draft, sender: User, entry: Target, about: Target | None) -> None:
        """A draft was stored as `entry`: later ones may be about it, and what it is `about` has changed."""
        self.sent[sender.id, draft.id] = entry
        if about is not None and draft.kind == "edit":
            self.edited.add(about.id)
        elif about is not None and draft.kind == "delete":
            about.deleted = True
            self.deleted.add(about.id)


def delete_texts(connection: sqlite3.Connection, messages: Collection[int]) -> None:
    """Forget the texts of these messages and of all their edits."""
    rows = [(id,) for id in messages]
    write(connection, DELETE, rows)
    write(connection, DELETE_EDITS, rows)
