"""Who is there: the users each connection follows, and what it was told of them. Nothing of it is stored.

A user is online while a connection of theirs is open that is not send-only. Going away is told a little later, so that a
reconnect is no flicker: the watcher who saw the user online goes on seeing that until the time is up. A block goes the same
way, for both: it must look as if the other had left at that moment, and not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from .. import wire
from ..retrieval import Standing
from ..settings import Settings
from .batch import ConnectionId, Mark
from .connection import Connection, User
from .effects import Effect, Tell

__all__ = ["Presence"]


class _Leaving:
    """A watched user whose last connection has ended: when that is told, and when they were last seen, once it is known."""

    __slots__ = ("last_seen", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.last_seen: int | None = None


class _Parting(Struct, frozen=True):
    """A watcher whom a block has parted from a user it sees online: when it is told that the user has gone, and since when."""

    connection: Connection
    until: float
    last_seen: int | None


class Presence:
    """Follows who comes and goes. `users` are those with a connection, `emit` takes the effects.

    All it remembers hangs on the lists of the connections there are, and goes with them.
    """

    def __init__(self, settings: Settings, users: Mapping[str, User], emit: Callable[[Effect], None]) -> None:
        self._delay = settings.presence_delay
        self._users = users
        self._emit = emit
        self._watchers: dict[str, dict[ConnectionId, Connection]] = {}
        self._leaving: dict[str, _Leaving] = {}  # in the order of their times: all wait equally long
        self._parting: dict[tuple[ConnectionId, str], _Parting] = {}  # in the order of their times, too

    @property
    def deadline(self) -> float | None:
        """When it is to be told next that somebody has gone."""
        leaving, parting = next(iter(self._leaving.values()), None), next(iter(self._parting.values()), None)
        return min((next_one.until for next_one in (leaving, parting) if next_one is not None), default=None)

    def watch(self, connection: Connection, standings: Iterable[Standing], parted: Collection[str]) -> None:
        """The connection follows these users from now on and no others, and is told how each is.

        Who may not know is told what is said of somebody who is never online. `parted` are those of whom a block has
        withdrawn the knowledge since it was asked for.
        """
        self.forget(connection)
        for standing in {standing.user: standing for standing in standings}.values():
            name = standing.user
            if not standing.acquainted or name in parted:
                self._tell(connection, name, None)
                continue
            user = self._users.get(name)
            online = user is not None and bool(user.present)
            connection.watched[name] = online
            self._watchers.setdefault(name, {})[connection.id] = connection
            self._tell(connection, name, standing.last_seen, online=online)

    def forget(self, connection: Connection) -> None:
        """The connection follows nobody any more."""
        for name in connection.watched:
            self._withdraw(connection, name)
        connection.watched.clear()
        for name in connection.parting:
            del self._parting[connection.id, name]
        connection.parting.clear()

    def came(self, user: User) -> None:
        """A connection of the user was opened."""
        self._leaving.pop(user.name, None)
        for connection in self._watchers.get(user.name, {}).values():
            if not connection.watched[user.name]:
                connection.watched[user.name] = True
                self._tell(connection, user.name, None, online=True)

    def left(self, name: str, now: float) -> None:
        """The user's last connection has ended."""
        if any(connection.watched[name] for connection in self._watchers.get(name, {}).values()):
            self._leaving[name] = _Leaving(now + self._delay)

    def seen(self, marks: Iterable[Mark], at: int) -> None:
        """These marks are committed, as of Unix milliseconds `at`: the last of a user who is leaving is the leaving one."""
        for mark in marks if self._leaving and at else ():
            leaving = self._leaving.get(mark.user)
            if leaving is not None:
                leaving.last_seen = at

    def tick(self, now: float) -> None:
        """Tell of those who have been gone for long enough."""
        while (gone := next(iter(self._leaving.items()), None)) is not None and gone[1].until <= now:
            name, leaving = gone
            del self._leaving[name]
            for connection in self._watchers.get(name, {}).values():
                if connection.watched[name]:
                    connection.watched[name] = False
                    self._tell(connection, name, leaving.last_seen)
        while (parted := next(iter(self._parting.items()), None)) is not None and parted[1].until <= now:
            (_, name), parting = parted
            del self._parting[parted[0]]
            parting.connection.parting.remove(name)
            self._tell(parting.connection, name, parting.last_seen)

    def part(self, one: str, other: str, at: int, now: float) -> None:
        """One of the two blocks the other now, as of Unix milliseconds `at`: neither follows the other any more (B1).

        A watcher who saw the other online sees them leave, as late as ever, and hears nothing more: who is blocked cannot
        tell. To who did not, nothing is said: it would tell of the block. To follow again is to ask anew.
        """
        for viewer, name in ((one, other), (other, one)):
            user = self._users.get(viewer)
            for connection in user.connections.values() if user is not None else ():
                request = connection.request
                if request is not None and isinstance(request.request, wire.Watch) and name in request.request.users:
                    request.parted.add(name)
                if name in connection.watched:
                    self._withdraw(connection, name)
                    if connection.watched.pop(name):
                        connection.parting.add(name)
                        self._parting[connection.id, name] = _Parting(connection, now + self._delay, at or None)

    def _withdraw(self, connection: Connection, name: str) -> None:
        watchers = self._watchers[name]
        del watchers[connection.id]
        if not watchers:
            del self._watchers[name]
            self._leaving.pop(name, None)

    def _tell(self, connection: Connection, name: str, last_seen: int | None, *, online: bool = False) -> None:
        frame = wire.Presence(user=name, online=online, last_seen=None if online else last_seen)
        self._emit(Tell(connection.id, ("presence", name), frame))
