"""Devices and their cursors: marks, and connections that open (A1, C1, C2, R1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..core.batch import Mark, Opened, Opening, Refused, Removal
from ..errors import ErrorCode
from ..settings import Settings
from .blocks import blocked_by
from .push_changes import forget_devices
from .rows import look_up, write
from .users import User, Users

__all__ = ["Openings", "log_name", "mark", "remove"]

MARK = """
    UPDATE devices SET cursor = max(cursor, v.column3), seen = v.column4
    FROM (VALUES {rows}) AS v WHERE devices.user = v.column1 AND devices.name = v.column2"""
FIND = """
    SELECT json_group_array(json_array(d.user, d.name, d.cursor, d.seen, d.created))
    FROM (VALUES {rows}) AS v CROSS JOIN devices AS d ON d.user = v.column1"""
INSERT = """
    INSERT INTO devices (user, name, cursor, seen, created)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""
DELETE = "DELETE FROM devices WHERE (user, name) IN (SELECT * FROM (VALUES {rows}))"


def log_name(store_epoch: str, user_epoch: int) -> str:
    """What `welcome` calls a user's log: another value is another history, in which a cursor means nothing."""
    return f"{store_epoch}-{user_epoch}"


def mark(connection: sqlite3.Connection, users: Users, marks: Sequence[Mark], now: int) -> None:
    """Move cursors. A mark beyond the head counts as the head; one for a device that was removed is the user's still."""
    cursors: dict[tuple[int, str], int] = {}
    for one in marks:
        user = users.get(one.user)
        if user is not None:
            cursor = min(one.seq, user.head)
            device = user.id, one.device
            cursors[device] = max(cursor, cursors.get(device, 0))
            users.deliver(user, cursor)
    write(connection, MARK, [(user, name, cursor, now) for (user, name), cursor in cursors.items()])


def remove(connection: sqlite3.Connection, users: Users, removals: Sequence[Removal]) -> None:
    """Forget devices; one that is not there is as good as forgotten. What a user has delivered stays so (R1)."""
    rows = [(user.id, one.device) for one in removals if (user := users.get(one.user)) is not None]
    write(connection, DELETE, rows)
    forget_devices(connection, rows)


class Openings:
    """The connections that open in one transaction. A device that is known and does not move costs no write."""

    def __init__(self, connection: sqlite3.Connection, users: Users, settings: Settings, epoch: str, now: int) -> None:
        self.connection = connection
        self.users = users
        self.settings = settings
        self.epoch = epoch
        self.now = now
        self.devices: dict[int, dict[str, tuple[int, int, int]]] = {}  # of each user: name -> cursor, seen, created
        self.blocked: dict[int, dict[str, int]] = {}  # by each user
        self.opened: dict[int, set[str]] = {}  # connected by this transaction
        self.inserted: list[tuple[int, str, int, int, int]] = []
        self.moved: list[tuple[int, str, int, int]] = []
        self.removed: list[tuple[int, str]] = []

    def carry_out(self, openings: Sequence[Opening]) -> list[Opened | Refused]:
        """Decide on each in turn; `flush` writes what follows from it."""
        users = [user for one in openings if (user := self.users.get(one.user)) is not None]
        existing = {user.id for one in openings if not one.send_only and (user := self.users.get(one.user)) is not None}
        for id, name, cursor, seen, created in look_up(self.connection, FIND, [(id,) for id in existing]):
            self.devices.setdefault(id, {})[name] = cursor, seen, created
        self.blocked = blocked_by(self.connection, users)
        return [self._open(one) for one in openings]

    def _open(self, opening: Opening) -> Opened | Refused:
        user = self.users.get(opening.user)
        devices = {} if user is None else self.devices.setdefault(user.id, {})
        known = devices.get(opening.device)
        if known is None and not opening.send_only:
            if not opening.may_be_new:
                return Refused(ErrorCode.RATE_LIMITED)
            if user is not None and len(devices) >= self.settings.devices and not self._make_room(user, opening):
                return Refused(ErrorCode.NOT_ALLOWED)
        if user is None:
            user = self.users.get_or_create(self.connection, opening.user)
            devices = self.devices.setdefault(user.id, {})
        log = log_name(self.epoch, user.epoch)
        blocked = tuple(sorted(self.blocked.get(user.id, ())))
        if opening.send_only:
            return Opened(log, user.head, user.floor, user.head, new=False, blocked=blocked)
        recorded = user.delivered if known is None else known[0]
        start = recorded
        if opening.log == log and opening.after is not None and 0 <= opening.after <= user.head:
            start = opening.after
        cursor = max(recorded, start)
        if known is None:
            devices[opening.device] = cursor, self.now, self.now
            self.inserted.append((user.id, opening.device, cursor, self.now, self.now))
        elif cursor > recorded:
            devices[opening.device] = cursor, self.now, known[2]
            self.moved.append((user.id, opening.device, cursor, self.now))
        self.users.deliver(user, cursor)
        self.opened.setdefault(user.id, set()).add(opening.device)
        return Opened(log, user.head, user.floor, start, new=known is None, blocked=blocked)

    def _make_room(self, user: User, opening: Opening) -> bool:
        devices = self.devices[user.id]
        away = devices.keys() - opening.connected - self.opened.get(user.id, set())
        if not away:
            return False
        oldest = min(away, key=lambda name: (*devices[name][1:], name))
        del devices[oldest]
        self.removed.append((user.id, oldest))
        return True

    def flush(self) -> None:
        """Write the devices. The users must have been written before."""
        write(self.connection, DELETE, self.removed)
        forget_devices(self.connection, self.removed)
        # One that was inserted here may have moved here, too.
        write(self.connection, INSERT, self.inserted)
        write(self.connection, MARK, self.moved)
