"""What the client gives its program: receipts for what was sent, and what happens beside the messages."""

from __future__ import annotations

from typing import TypeAlias, Union

from msgspec import Struct

from ..errors import RequestRefused

__all__ = [
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "PresenceChanged",
    "ReadElsewhere",
    "ReceiptChanged",
    "Statistics",
    "Stored",
    "Typing",
    "Undelivered",
]


class Stored(Struct, frozen=True):
    """The server has the message, on disk.

    `seq` is its position in the sender's own log, `sent_at` the server's clock in Unix milliseconds.
    """

    id: str
    seq: int
    sent_at: int


class Connected(Struct, frozen=True):
    """The connection is up. `new` says whether the server saw this device for the first time."""

    user: str
    device: str
    new: bool


class Disconnected(Struct, frozen=True):
    """The connection is down, or an attempt to connect has failed; the next one begins in `retry_in` seconds.

    `code` is the close code (1006: there was none), `status` the HTTP status if the handshake was refused.
    """

    reason: str
    retry_in: float
    code: int = 1006
    status: int | None = None


class Gap(Struct, frozen=True):
    """The entries `first` to `last` of the log are no longer held by the server, and were not received before."""

    first: int
    last: int


class Typing(Struct, frozen=True):
    """A user is writing to this one, or has stopped. Forget a True after ten seconds, and when a message comes."""

    user: str
    typing: bool


class ReceiptChanged(Struct, frozen=True):
    """How far `peer` is with this user's messages: the highest that was told since the client was opened, 0 if none was.

    Both are positions in this user's own log: the messages up to there are delivered, or read.
    """

    peer: str
    delivered: int
    read: int


class ReadElsewhere(Struct, frozen=True):
    """On another device, this user has read the messages of `peer` up to `seq`."""

    peer: str
    seq: int


class PresenceChanged(Struct, frozen=True):
    """Whether a watched user is connected. `last_seen` is in Unix milliseconds, None while online or if it is not told."""

    user: str
    online: bool
    last_seen: int | None


class Undelivered(Struct, frozen=True):
    """A message that nobody waits for was refused for good: one of an earlier process, or whose `send` was cancelled."""

    id: str
    error: RequestRefused


Event: TypeAlias = Union[Connected, Disconnected, Gap, PresenceChanged, ReadElsewhere, ReceiptChanged, Typing, Undelivered]


class Statistics(Struct, frozen=True):
    """What the client holds at the moment.

    `connected`: whether there is a connection. `connections`: how many there were. `unwritten`: messages on their way to the
    state file. `pending`: messages in the outbox, so in the state file if there is one, that are not known to be stored.
    `buffered`: entries received and not acknowledged by the program; at most a window.
    """

    connected: bool
    connections: int
    unwritten: int
    pending: int
    buffered: int
