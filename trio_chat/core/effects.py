"""What the core wants done. Whoever drives it carries these out in order, and never lets one wait for a client."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from ..errors import CloseCode
from ..wire import ServerFrame
from .batch import ConnectionId, PageRequest


class Send(Struct, frozen=True):
    """Put the frame at the end of the connection's outbox."""

    connection: ConnectionId
    frame: ServerFrame


class Offer(Struct, frozen=True):
    """Send the frame if nothing else waits in the connection's outbox, else forget it: it is ephemeral (C8)."""

    connection: ConnectionId
    frame: ServerFrame


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


Effect: TypeAlias = Send | Offer | Load | Ping | Pause | Resume | Close
