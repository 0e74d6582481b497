"""What happens to the core: everything it ever learns, time included."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from msgspec import Struct

from ..errors import CloseCode, ErrorCode, InvalidFrame
from ..retrieval import Standing
from ..wire import ClientFrame, ServerFrame
from .batch import BlockChange, ConnectionId, Draft, Page, ReadMark, Removal, Results

Ticket: TypeAlias = int
"""Names one request of the application's own; never used again."""


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


class Answered(Struct, frozen=True):
    """What an `Ask` asked for: the frame that answers it, or why it cannot be answered.

    `message` goes with a code: one sentence for who asked, None for what the code means.
    """

    connection: ConnectionId
    answer: ServerFrame | ErrorCode
    message: str | None = None


class Stood(Struct, frozen=True):
    """The answer to an `Ask` of a ``watch``: what the watcher may know of each user, hooks included."""

    connection: ConnectionId
    standings: tuple[Standing, ...]


class Rejection(Struct, frozen=True):
    """The application does not want a draft; `message` is for who sent it, None for what the code means."""

    code: ErrorCode
    message: str | None = None


class Judged(Struct, frozen=True):
    """What the application says of the draft of a `Judge`: the draft as it is to be stored, or that it is not."""

    serial: int
    verdict: Draft | Rejection


class Requested(Struct, frozen=True):
    """The application itself wants something committed. Answered by `Fulfil` with the result, in the store's terms."""

    ticket: Ticket
    command: Draft | ReadMark | BlockChange | Removal


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


Event: TypeAlias = (
    Connected
    | Received
    | Committed
    | Loaded
    | LoadFailed
    | Answered
    | Stood
    | Judged
    | Requested
    | Disconnected
    | Revoked
    | Drain
    | Tick
)
