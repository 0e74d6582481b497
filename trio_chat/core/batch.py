"""What the core asks of the store, and what it learns: the contents of one transaction and of one page.

The store numbers and de-duplicates (L2, S2); the core never computes a ``seq``.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from ..errors import ErrorCode
from ..model import Kind, Message
from .outbox import PushChange

__all__ = [
    "Batch",
    "BlockChange",
    "Draft",
    "Mark",
    "Opened",
    "Opening",
    "Page",
    "PageRequest",
    "Progress",
    "ReadMark",
    "Refused",
    "Removal",
    "Results",
    "Stored",
]

ConnectionId: TypeAlias = int
"""Names one connection for as long as the process lives; never used again."""


class Draft(Struct, frozen=True):
    """A message to be stored, or an edit or deletion of one (L5), without a number yet.

    `source` is the connection that sent it, or a negative number for each request of the application's own: once a draft is
    refused with a retryable code, the later ones of the same source in the same batch are refused likewise (S4).

    `target` is the id of the message that is replied to (the recipient's of that id, or else the sender's), or of the
    sender's own that is edited or deleted; if there is no such message in the conversation, the draft is refused with
    ``bad_query``. The text of a deletion is None. `sent` is what the client sent, if a hook of the application has changed
    the text since.
    """

    source: ConnectionId
    sender: str
    recipient: str
    id: str
    text: str | None
    kind: Kind = "message"
    target: str | None = None
    sent: str | None = None

    @property
    def said(self) -> str | None:
        """The text as the client sent it: what tells a message sent again from another (S2)."""
        return self.text if self.sent is None else self.sent


class Opening(Struct, frozen=True):
    """A device connects: find its cursor, or make a row for a device that is new (C1, C2).

    `log` and `after` are the client's own durable position, or None. `connected` names the user's connected devices: making
    room for a new device never removes one of them. `may_be_new` is False when the user has named too many devices lately.
    """

    connection: ConnectionId
    user: str
    device: str
    log: str | None = None
    after: int | None = None
    connected: frozenset[str] = frozenset()
    may_be_new: bool = True
    send_only: bool = False


class Mark(Struct, frozen=True):
    """A device has everything up to `seq`, or is leaving with it (which records when it was last seen). Never goes back."""

    user: str
    device: str
    seq: int


class ReadMark(Struct, frozen=True):
    """The user has read `peer`'s messages up to `seq` (R3). Never goes back. `device` is where, if that is known."""

    user: str
    peer: str
    seq: int
    device: str | None = None


class BlockChange(Struct, frozen=True):
    """From its commit on the user hears of `peer` no more, or again (B1)."""

    user: str
    peer: str
    blocked: bool


class Removal(Struct, frozen=True):
    """Forget a device. What it has delivered stays delivered (R1)."""

    user: str
    device: str


class Batch(Struct, frozen=True):
    """One transaction. Carried out in this order: marks, reads, removals, openings, blocks, push, drafts."""

    marks: tuple[Mark, ...] = ()
    openings: tuple[Opening, ...] = ()
    drafts: tuple[Draft, ...] = ()
    reads: tuple[ReadMark, ...] = ()
    blocks: tuple[BlockChange, ...] = ()
    removals: tuple[Removal, ...] = ()
    push: tuple[PushChange, ...] = ()


class Stored(Struct, frozen=True):
    """A draft's place: `seq` in the sender's log, `peer_seq` in the recipient's.

    `peer_seq` is 0 if there is no second entry: a message to oneself, or to somebody who blocks the sender (L1). `new` is
    False if the id was stored before; then this repeats the first answer. `text` is what was stored, if that is not what the
    client sent (`Draft.sent`).
    """

    seq: int
    peer_seq: int
    sent_at: int
    new: bool = True
    text: str | None = None


class Refused(Struct, frozen=True):
    """Not stored (or, for an `Opening`, not connected), and why."""

    code: ErrorCode


class Opened(Struct, frozen=True):
    """Where a connection starts: what `welcome` says (C1). `blocked`: from whom the user does not want to hear."""

    log: str
    head: int
    floor: int
    cursor: int
    new: bool
    blocked: tuple[str, ...] = ()


class Progress(Struct, frozen=True):
    """`peer` is further with `user`'s messages than before (R2), in `user`'s own seq; 0 where nothing is new.

    None between two users one of whom blocks the other (B1), and none for notes to oneself.
    """

    user: str
    peer: str
    delivered: int = 0
    read: int = 0


class Results(Struct, frozen=True):
    """What became of a batch: one result for each opening, draft, block and removal, in the batch's order.

    The result of a block is whom the user blocks now, by name; of a removal, None. `progress` follows from the marks, reads
    and openings. `at` is the time of the transaction, Unix milliseconds; 0 if nothing was committed. `reads` has a result
    for each read mark, too, None if it is in; it may be left empty where all are in, or none because nothing was committed;
    `push` likewise.
    """

    openings: tuple[Opened | Refused, ...] = ()
    drafts: tuple[Stored | Refused, ...] = ()
    blocks: tuple[tuple[str, ...] | Refused, ...] = ()
    removals: tuple[Refused | None, ...] = ()
    progress: tuple[Progress, ...] = ()
    at: int = 0
    reads: tuple[Refused | None, ...] = ()
    push: tuple[Refused | None, ...] = ()


class PageRequest(Struct, frozen=True):
    """The entries after `after` in the user's log: at most `limit`, about `size` bytes, at least one if there is one."""

    user: str
    after: int
    limit: int
    size: int


class Page(Struct, frozen=True):
    """Consecutive entries of a log. `floor` is where the log begins now: entries up to it are no longer held."""

    messages: tuple[Message, ...]
    floor: int
