"""The users a writer remembers between transactions, so that a busy user's row is read once and not in every batch.

Only the writer changes users, so what it remembers is what the file holds, except after a transaction that failed or when
another process has written: then it forgets everything (`Users.forget`) and reads again.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from .rows import look_up, write

__all__ = ["REMEMBERED", "Lru", "User", "Users"]

REMEMBERED = 65_536
"""How many users (and pairs of users) a writer remembers: some 20 MB at most."""

_COLUMNS = """
    SELECT json_group_array(json_array(
        u.id, u.name, u.head, u.floor, u.delivered, u.sent_at, u.epoch, u.received, u.received_bytes,
        EXISTS (SELECT 1 FROM blocks AS k WHERE k.blocker = u.id),
        EXISTS (SELECT 1 FROM push_targets AS t WHERE t.user = u.id)))
    FROM (VALUES {rows}) AS v CROSS JOIN users AS u ON"""
FIND = f"{_COLUMNS} u.name = v.column1"
FIND_IDS = f"{_COLUMNS} u.id = v.column1"
SAVE = """
    INSERT INTO users (id, name, head, delivered, sent_at, received, received_bytes)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL
    ON CONFLICT (id) DO UPDATE SET head = excluded.head, delivered = excluded.delivered, sent_at = excluded.sent_at,
        received = excluded.received, received_bytes = excluded.received_bytes"""
NEWEST = "SELECT coalesce(max(id), 0) FROM users"

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """A dictionary that, when told to, forgets what was unused for longest."""

    def __init__(self, room: int = REMEMBERED) -> None:
        self.room = room
        self.kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, which counts as a use of it; None if it is not remembered."""
        value = self.kept.get(key)
        if value is not None:
            self.kept.move_to_end(key)
        return value

    def trim(self) -> list[V]:
        """Forget what there is no room for, and say what that was."""
        return [self.kept.popitem(last=False)[1] for _ in range(len(self.kept) - self.room)]


class User:
    """A user's row, changed here first and written once per transaction."""

    __slots__ = (
        "blocks", "delivered", "epoch", "floor", "head", "id", "name", "received", "received_bytes", "sent_at", "taken",
        "taken_bytes", "targets",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        name: str,
        head: int = 0,
        floor: int = 0,
        delivered: int = 0,
        sent_at: int = 0,
        epoch: int = 0,
        received: int = 0,
        received_bytes: int = 0,
        blocks: int = 0,
        targets: int = 0,
    ) -> None:
        self.id: int = id
        self.name: str = name
        self.head: int = head
        self.floor: int = floor
        self.delivered: int = delivered
        self.sent_at: int = sent_at
        self.epoch: int = epoch
        self.received: int = received
        self.received_bytes: int = received_bytes
        self.blocks: bool = bool(blocks)  # blocks anybody at all: most users do not, and need not be asked whom
        self.targets: bool = bool(targets)  # can be reached by push, or could be: who cannot costs nothing more
        # At least so much of what was received is delivered. Looked up only when it decides something (see mailbox.py).
        self.taken: int = 0
        self.taken_bytes: int = 0


class Users:
    """The users of the transaction under way, out of those remembered or read for it."""

    def __init__(self) -> None:
        self.remembered: Lru[str, User] = Lru()
        self.by_id: dict[int, User] = {}  # the same ones
        self.changed: dict[int, User] = {}
        self.delivered_before: dict[int, int] = {}  # of those whose `delivered` rose
        self.newest: int = 0  # the highest id, or 0 if that is not known

    def load(self, connection: sqlite3.Connection, names: Iterable[str]) -> None:
        """Read those of the named users who exist and are not remembered, in one query."""
        missing = [(name,) for name in names if self.remembered.get(name) is None]
        if missing:
            self._remember(look_up(connection, FIND, missing))

    def load_ids(self, connection: sqlite3.Connection, ids: Iterable[int]) -> None:
        """Read those of the users with these ids who are not remembered, to be found in `by_id`."""
        missing = [(id,) for id in ids if id not in self.by_id]
        if missing:
            self._remember(look_up(connection, FIND_IDS, missing))

    def _remember(self, rows: list[list[Any]]) -> None:
        for row in rows:
            self.remembered.kept[row[1]] = self.by_id[row[0]] = User(*row)

    def get(self, name: str) -> User | None:
        """A user who exists, or None; correct only for names that were loaded."""
        return self.remembered.kept.get(name)

    def get_or_create(self, connection: sqlite3.Connection, name: str) -> User:
        """A user, who exists from now on: a user exists by being named."""
        user = self.get(name)
        if user is None:
            if not self.newest:
                (self.newest,) = connection.execute(NEWEST).fetchone()
            self.newest += 1
            user = self.remembered.kept[name] = self.by_id[self.newest] = User(self.newest, name)
            self.changed[user.id] = user
        return user

    def deliver(self, user: User, cursor: int) -> None:
        """The user has everything up to `cursor` (R1)."""
        if cursor > user.delivered:
            self.delivered_before.setdefault(user.id, user.delivered)
            user.delivered = cursor
            self.changed[user.id] = user

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write the users that are new or changed."""
        rows = [
            (user.id, user.name, user.head, user.delivered, user.sent_at, user.received, user.received_bytes)
            for user in self.changed.values()
        ]
        write(connection, SAVE, rows)

    def settle(self) -> None:
        """The transaction is durable: what is remembered is what the file holds."""
        self.changed.clear()
        self.delivered_before.clear()
        for user in self.remembered.trim():
            del self.by_id[user.id]

    def forget(self) -> None:
        """The transaction failed, or the file was changed by another: nothing that is remembered need be true (I8)."""
        self.changed.clear()
        self.delivered_before.clear()
        self.remembered.kept.clear()
        self.by_id.clear()
        self.newest = 0
