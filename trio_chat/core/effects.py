"""What the core wants done. Whoever drives it carries these out in order, and never lets one wait for a client."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from ..errors import CloseCode
from ..wire import Blocks, Conversations, Devices, History, PushRequest, Search, ServerFrame, Watch
from .batch import ConnectionId, Draft, PageRequest, Refused, Stored
from .events import Ticket

Question: TypeAlias = History | Search | Conversations | Devices | Blocks | Watch | PushRequest
"""The requests that are answered by reading the store; those about push may change something in it first."""


class Send(Struct, frozen=True):
    """Put the frame at the end of the connection's outbox."""

    connection: ConnectionId
    frame: ServerFrame


class Offer(Struct, frozen=True):
    """Send the frame if nothing else waits in the connection's outbox, else forget it: it is ephemeral (C8)."""

    connection: ConnectionId
    frame: ServerFrame


class Tell(Struct, frozen=True):
    """Send the frame soon, in place of one of the same `key` that still waits (C8).

    For what somebody else causes and only the newest of which matters: receipts and presence. At most 1,024 wait; beyond
    that they are dropped, and `conversations` and `watch` give them again.
    """

    connection: ConnectionId
    key: tuple[str, str]
    frame: ServerFrame


class Ask(Struct, frozen=True):
    """Read the store for the user of the connection; answer with exactly one `Answered` (or `Stood`, for a ``watch``)."""

    connection: ConnectionId
    user: str
    question: Question


class Fulfil(Struct, frozen=True):
    """A request of the application's is done. For a block the result is whom the user blocks now, for a mark None."""

    ticket: Ticket
    result: Stored | Refused | tuple[str, ...] | None


class Judge(Struct, frozen=True):
    """For no connection: ask the application about a draft, after the earlier ones of its source.

    Answered by exactly one `Judged`.
    """

    serial: int
    draft: Draft


class Unjudge(Struct, frozen=True):
    """For no connection: these drafts were refused meanwhile. The application need not be asked; no answer is waited for."""

    serials: tuple[int, ...]


class Load(Struct, frozen=True):
    """Read a page for the connection; answer with `Loaded` or `LoadFailed`."""

    connection: ConnectionId
    request: PageRequest


class Ping(Struct, frozen=True):
    """Send a WebSocket ping: nothing was heard from the connection for a while."""

    connection: ConnectionId


class Pause(Struct, frozen=True):
    """Stop reading from the connection; it has enough under way."""

    connection: ConnectionId


class Resume(Struct, frozen=True):
    """Read from the connection (again). A connection begins paused."""

    connection: ConnectionId


class Close(Struct, frozen=True):
    """Send what is in the outbox, then close with this code. No effect for the connection comes after it."""

    connection: ConnectionId
    code: CloseCode
    reason: str = ""


Effect: TypeAlias = Send | Offer | Tell | Ask | Fulfil | Judge | Unjudge | Load | Ping | Pause | Resume | Close
