"""What is remembered of a user beside messages: devices, blocks, who may know of whom. Synchronous, as `history.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from ..retrieval import Device, Standing
from .entries import CLASS, REACHED
from .rows import look_up
from .scope import is_text

__all__ = ["read_blocked", "read_devices", "read_standings"]

DEVICES: Final = """
    SELECT json_group_array(json_object('name', name, 'cursor', cursor, 'seen', seen, 'created', created)) FROM (
        SELECT * FROM devices WHERE user = (SELECT id FROM users WHERE name = ?) ORDER BY name)"""

# Sorted here, for there are not many: `Settings.blocks`.
BLOCKED: Final = """
    SELECT json_group_array(name) FROM (
        SELECT u.name FROM blocks AS k CROSS JOIN users AS u ON u.id = k.blocked
        WHERE k.blocker = (SELECT id FROM users WHERE name = ?) ORDER BY u.name)"""

SAID: Final = f"""
    EXISTS (
        SELECT 1 FROM (VALUES {REACHED}) AS k CROSS JOIN messages AS m
        WHERE m.conversation = c.id AND m.sender = %s AND {CLASS} = k.column1
            AND m.id >= (SELECT l.message FROM log AS l WHERE l.user = u.id AND l.seq = u.floor + 1))"""
STANDINGS: Final = f"""
    SELECT json_group_array(json_array(
        v.column1,
        u.id <> p.id AND {SAID % "u.id"} AND {SAID % "p.id"},
        EXISTS (SELECT 1 FROM blocks WHERE blocker = u.id AND blocked = p.id)
            OR EXISTS (SELECT 1 FROM blocks WHERE blocker = p.id AND blocked = u.id),
        (SELECT max(seen) FROM devices WHERE user = p.id)))
    FROM (VALUES {{rows}}) AS v
        CROSS JOIN users AS p ON p.name = v.column3
        LEFT JOIN users AS u ON u.name = v.column2
        LEFT JOIN conversations AS c ON c.a = min(u.id, p.id) AND c.b = max(u.id, p.id)"""

_devices = msgspec.json.Decoder(tuple[Device, ...])
_names = msgspec.json.Decoder(tuple[str, ...])


def read_devices(connection: sqlite3.Connection, user: str) -> tuple[Device, ...]:
    """`Store.devices`, blocking.

    Raises:
        sqlite3.Error: they could not be read.
    """
    return _devices.decode(connection.execute(DEVICES, [user]).fetchone()[0]) if is_text(user) else ()


def read_blocked(connection: sqlite3.Connection, user: str) -> tuple[str, ...]:
    """`Store.blocked`, blocking.

    Raises:
        sqlite3.Error: they could not be read.
    """
    return _names.decode(connection.execute(BLOCKED, [user]).fetchone()[0]) if is_text(user) else ()


def read_standings(connection: sqlite3.Connection, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
    """`Store.standings`, blocking.

    Raises:
        sqlite3.Error: they could not be read.
    """
    rows = [(index, viewer, user) for index, user in enumerate(users) if is_text(viewer + user)]
    known = {index: values for index, *values in look_up(connection, STANDINGS, rows)}
    return tuple(_standing(user, *known.get(index, (False, False, None))) for index, user in enumerate(users))


def _standing(user: str, talked: object, parted: object, seen: int | None) -> Standing:
    return Standing(user=user, acquainted=bool(talked) and not parted, last_seen=seen, parted=bool(parted))
