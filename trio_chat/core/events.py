"""What happens to the core: everything it ever learns, time included."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from msgspec import Struct

from ..errors import CloseCode, InvalidFrame
from ..wire import ClientFrame
from .batch import ConnectionId, Page, Results


class Connected(Struct, frozen=True):
    """A client was authenticated and its WebSocket is open. Its frames follow once it was sent ``welcome``."""

    connection: ConnectionId
    user: str
    device: str
    log: str | None = None
    after: int | None = None
    send_only: bool = False


class Received(Struct, frozen=True):
    """All frames of one read, in order, the undecodable ones as the exceptions that refuse them."""

    connection: ConnectionId
    frames: tuple[ClientFrame | InvalidFrame, ...]


class Committed(Struct, frozen=True):
    """The batch in flight is durable (or refused, item by item)."""

    results: Results


class Loaded(Struct, frozen=True):
    """The page a `Load` asked for."""

    connection: ConnectionId
    page: Page


class LoadFailed(Struct, frozen=True):
    """The page a `Load` asked for could not be read; it is asked for again later."""

    connection: ConnectionId


class Disconnected(Struct, frozen=True):
    """The connection is gone. Said exactly once for each `Connected`, whoever closed it."""

    connection: ConnectionId


class Revoked(Struct, frozen=True):
    """The application no longer lets this user (or only this device of it) be connected."""

    user: str
    device: str | None = None


class Drain(Struct, frozen=True):
    """Shut down: answer what was received, then close these connections (all, if None) with 1001 or the given code.

    With `connections` None it holds for whoever connects later, too.
    """

    connections: frozenset[ConnectionId] | None = None
    code: CloseCode = CloseCode.GOING_AWAY


class Tick(Struct, frozen=True):
    """Time has passed. `alive` are the connections that received or wrote bytes since the last one."""

    alive: Collection[ConnectionId] = ()


Event: TypeAlias = Connected | Received | Committed | Loaded | LoadFailed | Disconnected | Revoked | Drain | Tick
