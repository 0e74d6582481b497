"""How much lies undelivered for a user, without counting rows.

A user's row counts the messages (and bytes) the log ever took in; every log row holds these counts as they were before it.
So what is undelivered is the count now less the count at the first entry that is not delivered. And since the count
delivered only grows, a remembered value is a lower bound of it: the row is looked up only for who seems to be at the limit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from ..settings import Settings
from .rows import look_up
from .users import User

__all__ = ["is_full", "look_at"]

FIRST_WAITING = """
    SELECT json_group_array(json_array(l.user, l.before, l.before_bytes))
    FROM (VALUES {rows}) AS v CROSS JOIN log AS l ON l.user = v.column1 AND l.seq = v.column2"""


def is_full(user: User, settings: Settings, messages: int = 0, size: int = 0) -> bool:
    """Whether the user's mailbox takes no more, given that many `messages` of `size` bytes more."""
    return (
        user.received + messages - user.taken >= settings.mailbox
        or user.received_bytes + size - user.taken_bytes >= settings.mailbox_bytes
    )


def look_at(connection: sqlite3.Connection, users: Iterable[User], settings: Settings, *, messages: int, size: int) -> None:
    """Make `is_full` exact for those of `users` whom at most `messages` more of at most `size` bytes could fill.

    To be called before any of these messages is counted.
    """
    first_waiting = []
    by_id = {}
    for user in users:
        if not is_full(user, settings, messages, size):
            continue
        first = max(user.delivered, user.floor) + 1
        if first > user.head:
            user.taken, user.taken_bytes = user.received, user.received_bytes
        else:
            by_id[user.id] = user
            first_waiting.append((user.id, first))
    for id, taken, taken_bytes in look_up(connection, FIRST_WAITING, first_waiting):
        by_id[id].taken, by_id[id].taken_bytes = taken, taken_bytes
