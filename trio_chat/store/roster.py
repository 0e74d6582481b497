"""Who is in a database file: users and devices, read beside a running server or without one. Synchronous."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from ..core.outbox import Register, Waiting
from ..errors import ConfigurationError
from ..retrieval import Device
from . import connection, schema
from .push_queries import read_waiting
from .standings import read_devices

__all__ = ["KnownUser", "devices_in", "outbox_in", "targets_in", "users_in"]


class KnownUser(Struct, frozen=True, kw_only=True):
    """A user as the file has it.

    The log's rows are `floor` + 1 to `head`; up to `delivered` a device has them. `last` is when the newest entry was
    stored, in Unix milliseconds, 0 if there is none. `seen` is when a device was last heard of, None for never.
    """

    user: str
    head: int
    floor: int
    delivered: int
    last: int
    devices: int
    seen: int | None


_USERS: Final = """
    SELECT u.name, u.head, u.floor, u.delivered, u.sent_at, count(d.name), max(d.seen)
    FROM users AS u LEFT JOIN devices AS d ON d.user = u.id GROUP BY u.id ORDER BY u.name"""
_KNOWN: Final = "SELECT EXISTS (SELECT 1 FROM users WHERE name = ?)"


def users_in(path: Path) -> Iterator[KnownUser]:
    """The users in the file, by name. Nothing is read before the first is asked for; the file is closed at the end.

    Raises:
        ConfigurationError: the file is not a chat's database, or its schema is another than this code's.
    """
    with _opened(path) as reading:
        for name, head, floor, delivered, last, devices, seen in reading.execute(_USERS):
            yield KnownUser(
                user=name, head=head, floor=floor, delivered=delivered, last=last, devices=devices, seen=seen
            )  # fmt: skip


def devices_in(path: Path, user: str) -> tuple[Device, ...]:
    """The user's devices, by name.

    Raises:
        ConfigurationError: as `users_in`; or the file does not know the user.
    """
    with _opened(path) as reading:
        if not reading.execute(_KNOWN, [user]).fetchone()[0]:
            raise ConfigurationError(f"{path} does not know a user {user!r}")
        return read_devices(reading, user)


_SECRETS: Final = """
    SELECT device, provider, kind, target FROM push_targets
    WHERE user = (SELECT id FROM users WHERE name = ?) ORDER BY device, id"""


def targets_in(path: Path, user: str) -> tuple[Register, ...]:
    """Where the user's devices can be reached by push, with what is secret of it. Raises as `devices_in`."""
    with _opened(path) as reading:
        if not reading.execute(_KNOWN, [user]).fetchone()[0]:
            raise ConfigurationError(f"{path} does not know a user {user!r}")
        return tuple(Register(user, *row) for row in reading.execute(_SECRETS, [user]))


def outbox_in(path: Path, user: str | None, limit: int) -> tuple[Waiting, ...]:
    """What waits for push: see `Outbox.waiting`.

    Raises:
        ConfigurationError: as `users_in`.
    """
    with _opened(path) as reading:
        return read_waiting(reading, user, limit)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, opened without changing it; a server that runs goes on."""
    # The WAL lies beside the file itself, whatever name leads there. Path.resolve raises for a loop on some Pythons.
    path = Path(os.path.realpath(path))
    try:
        looking = connection.look(path) if connection.size_of(path) else None
        if looking is None:
            raise ConfigurationError(f"{path}: there is no database of a chat")
        with contextlib.closing(looking):
            if schema.bundled().check(schema.wrap(looking)):
                raise ConfigurationError(f"{path} has an older schema: trio-chat migrate up brings it up to date")
            yield looking
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {error}") from error
