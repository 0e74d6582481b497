"""Who does not want to hear from whom (B1).

With a block goes how far both were with one another's messages at its commit: what either may still see of the other. Who
blocks somebody that is blocked by them already takes over the marks of that block: the two are parted since then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence

from ..core.batch import BlockChange, Refused
from ..errors import ErrorCode
from ..settings import Settings
from .rows import look_up, write
from .users import User, Users

__all__ = ["blocked_by", "change", "those_blocked"]

AMONG = """
    SELECT json_group_array(json_array(k.blocker, k.blocked))
    FROM (VALUES {rows}) AS v CROSS JOIN blocks AS k ON k.blocker = v.column1 AND k.blocked = v.column2"""
FIND = """
    SELECT json_group_array(json_array(k.blocker, u.name, u.id))
    FROM (VALUES {rows}) AS v CROSS JOIN blocks AS k ON k.blocker = v.column1 CROSS JOIN users AS u ON u.id = k.blocked"""
INSERT = """
    INSERT INTO blocks (blocker, blocked, blocker_delivered, blocker_read, blocked_delivered, blocked_read)
    SELECT one.id, other.id,
        coalesce(k.blocked_delivered, one.delivered),
        coalesce(k.blocked_read, CASE one.id WHEN c.a THEN c.read_a ELSE c.read_b END, 0),
        coalesce(k.blocker_delivered, other.delivered),
        coalesce(k.blocker_read, CASE other.id WHEN c.a THEN c.read_a ELSE c.read_b END, 0)
    FROM (VALUES {rows}) AS v
        CROSS JOIN users AS one ON one.id = v.column1
        CROSS JOIN users AS other ON other.id = v.column2
        LEFT JOIN blocks AS k ON k.blocker = other.id AND k.blocked = one.id
        LEFT JOIN conversations AS c ON c.a = min(one.id, other.id) AND c.b = max(one.id, other.id)"""
DELETE = "DELETE FROM blocks WHERE (blocker, blocked) IN (SELECT * FROM (VALUES {rows}))"


def those_blocked(connection: sqlite3.Connection, pairs: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the pairs of users of whom the first one blocks the second."""
    return {(blocker, blocked) for blocker, blocked in look_up(connection, AMONG, [*pairs])}


def blocked_by(connection: sqlite3.Connection, users: Iterable[User]) -> dict[int, dict[str, int]]:
    """Whom each of the users blocks, name and id; those who block nobody are left out."""
    found: dict[int, dict[str, int]] = {}
    for blocker, name, id in look_up(connection, FIND, [*{(user.id,) for user in users if user.blocks}]):
        found.setdefault(blocker, {})[name] = id
    return found


def change(
    connection: sqlite3.Connection, users: Users, settings: Settings, changes: Sequence[BlockChange]
) -> list[tuple[str, ...] | Refused]:
    """Carry out the changes in turn; after each, whom its user blocks. A user who is blocked exists from then on."""
    blocked = blocked_by(connection, (user for one in changes if (user := users.get(one.user)) is not None))
    before = _pairs(blocked)
    results: list[tuple[str, ...] | Refused] = []
    for one in changes:
        user = users.get(one.user)
        names = {} if user is None else blocked.setdefault(user.id, {})
        if not one.blocked:
            names.pop(one.peer, None)
        elif one.user == one.peer:
            results.append(Refused(ErrorCode.BAD_QUERY))
            continue
        elif one.peer not in names:
            if len(names) >= settings.blocks:
                results.append(Refused(ErrorCode.NOT_ALLOWED))
                continue
            user = users.get_or_create(connection, one.user)
            user.blocks = True
            names = blocked.setdefault(user.id, {})
            names[one.peer] = users.get_or_create(connection, one.peer).id
        results.append(tuple(sorted(names)))
    after = _pairs(blocked)
    if after != before:
        users.flush(connection)
        write(
            connection, INSERT, [*after - before]
        )  # before a block that ends in the same transaction takes its marks along
        write(connection, DELETE, [*before - after])
    return results


def _pairs(blocked: dict[int, dict[str, int]]) -> set[tuple[int, int]]:
    return {(blocker, id) for blocker, names in blocked.items() for id in names.values()}
