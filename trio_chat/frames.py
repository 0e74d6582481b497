"""The frames of the wire, version 1, as types: what a client may send, and what a server sends.

Each is one JSON object, tagged by ``type``; `trio_chat.wire` makes it and reads it. What a client sends has exactly these
fields; what a server sends may gain types and fields.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias, Union

import msgspec
from msgspec import Meta, Struct

from .frame import ClientFrameBase, Frame, Ref
from .model import Message, MessageId, Seq, UserName
from .push_frames import Mute, PushAnswer, PushQuestion, PushRegister, PushUnregister, Quiet, Unmute
from .retrieval import Conversation, ConversationsQuery, Device, HistoryQuery, SearchHit, SearchQuery

__all__ = [
    "WATCHED",
    "Ack",
    "Block",
    "Blocked",
    "Blocks",
    "ClientFrame",
    "Conversations",
    "ConversationsAnswer",
    "Delete",
    "Devices",
    "DevicesAnswer",
    "Edit",
    "Error",
    "Frame",
    "Gap",
    "History",
    "HistoryAnswer",
    "Messages",
    "Mute",
    "Ping",
    "Pong",
    "Presence",
    "PushAnswer",
    "PushQuestion",
    "PushRegister",
    "PushUnregister",
    "Quiet",
    "Read",
    "ReadElsewhere",
    "Receipt",
    "Ref",
    "RemoveDevice",
    "Search",
    "SearchAnswer",
    "Send",
    "ServerFrame",
    "Stored",
    "StoredItem",
    "Typing",
    "TypingFrom",
    "Unblock",
    "Unmute",
    "Watch",
    "Welcome",
]

WATCHED: Final = 200
"""The most users a connection may watch."""


class Send(ClientFrameBase, frozen=True, kw_only=True, tag="send", omit_defaults=True):
    """Send a message; answered by an item of `Stored` or an `Error` with its id.

    `reply_to` is the id of the message in the conversation with `to` that this one answers: `to`'s, or else one's own.
    """

    id: MessageId
    to: UserName
    text: Annotated[str, Meta(min_length=1)]
    reply_to: MessageId | None = None


class Edit(ClientFrameBase, frozen=True, kw_only=True, tag="edit"):
    """Replace the text of one's own message `target` in the conversation with `to` (L5). Answered as `Send`.

    An entry of its own, with an `id` of its own.
    """

    id: MessageId
    to: UserName
    target: MessageId
    text: Annotated[str, Meta(min_length=1)]


class Delete(ClientFrameBase, frozen=True, kw_only=True, tag="delete"):
    """Delete the text of one's own message `target` in the conversation with `to`, and of its edits. As `Edit`."""

    id: MessageId
    to: UserName
    target: MessageId


class Ack(ClientFrameBase, frozen=True, kw_only=True, tag="ack"):
    """This device has every entry up to `seq` safely. Cumulative; not answered."""

    seq: Seq


class Read(ClientFrameBase, frozen=True, kw_only=True, tag="read"):
    """The user has read `peer`'s messages up to `seq` (R3). Not answered; the user's other devices are told."""

    peer: UserName
    seq: Seq


class Typing(ClientFrameBase, frozen=True, kw_only=True, tag="typing"):
    """The user is writing to `to`, or stopped. Ephemeral; not answered."""

    to: UserName
    typing: bool


class Ping(ClientFrameBase, frozen=True, kw_only=True, tag="ping"):
    """Are you there? For browsers, whose scripts cannot send a WebSocket ping; answered by `Pong`."""


class Watch(ClientFrameBase, frozen=True, kw_only=True, tag="watch"):
    """Whose presence to follow on this connection; replaces the earlier list. Answered by a `Presence` for each."""

    ref: Ref
    users: Annotated[tuple[UserName, ...], Meta(max_length=WATCHED)]


class History(HistoryQuery, ClientFrameBase, frozen=True, kw_only=True, tag="history", omit_defaults=True):
    """Retrieve chosen messages; answered by a `HistoryAnswer` with the `ref`."""

    ref: Ref


class Search(SearchQuery, ClientFrameBase, frozen=True, kw_only=True, tag="search", omit_defaults=True):
    """Find messages by their words; answered by a `SearchAnswer` with the `ref`."""

    ref: Ref


class Conversations(ConversationsQuery, ClientFrameBase, frozen=True, kw_only=True, tag="conversations", omit_defaults=True):
    """List the user's conversations; answered by a `ConversationsAnswer` with the `ref`."""

    ref: Ref


class Devices(ClientFrameBase, frozen=True, kw_only=True, tag="devices"):
    """List the user's devices; answered by a `DevicesAnswer` with the `ref`."""

    ref: Ref


class RemoveDevice(ClientFrameBase, frozen=True, kw_only=True, tag="remove_device"):
    """Forget a device, and close its connection with 4401. Answered by a `DevicesAnswer`: those that are left."""

    ref: Ref
    device: UserName


class Block(ClientFrameBase, frozen=True, kw_only=True, tag="block"):
    """Stop hearing from a user, who cannot tell (B1). Answered by a `Blocked` with the `ref`."""

    ref: Ref
    user: UserName


class Unblock(ClientFrameBase, frozen=True, kw_only=True, tag="unblock"):
    """Hear from a user again, from now on. Answered by a `Blocked` with the `ref`."""

    ref: Ref
    user: UserName


class Blocks(ClientFrameBase, frozen=True, kw_only=True, tag="blocks"):
    """List whom the user blocks; answered by a `Blocked` with the `ref`."""

    ref: Ref


ClientFrame: TypeAlias = Union[
    Send,
    Edit,
    Delete,
    Ack,
    Read,
    Typing,
    Watch,
    History,
    Search,
    Conversations,
    Devices,
    RemoveDevice,
    Block,
    Unblock,
    Blocks,
    PushRegister,
    PushUnregister,
    PushQuestion,
    Mute,
    Unmute,
    Quiet,
    Ping,
]


class Welcome(Frame, frozen=True, kw_only=True, tag="welcome"):
    """The first frame: who the server takes the client for, and where the connection starts (C1)."""

    user: str
    device: str
    log: str
    head: int
    floor: int
    cursor: int
    new: bool
    features: list[str]
    limits: dict[str, float]


class Messages(Frame, frozen=True, kw_only=True, tag="messages"):
    """Entries of the user's log, in order, each once per connection; `head` is the log's last position."""

    messages: list[Message]
    head: int


class StoredItem(Struct, frozen=True, omit_defaults=True):
    """A message of this connection is committed, at the sender's own `seq`.

    `text` is what is stored, left out unless the application has changed what was sent.
    """

    id: str
    seq: int
    sent_at: int
    text: str | None = None


class Stored(Frame, frozen=True, kw_only=True, tag="stored"):
    """What became of `Send` frames: committed, and safe."""

    messages: list[StoredItem]


class TypingFrom(Frame, frozen=True, kw_only=True, tag="typing"):
    """A peer is writing to this user, or stopped. Ephemeral."""

    sender: str = msgspec.field(name="from")
    typing: bool


class Receipt(Frame, frozen=True, kw_only=True, tag="receipt", omit_defaults=True):
    """How far `peer` is with this user's messages, in this user's own `seq` (R2). What is left out has not changed.

    Marks only ever rise: who gets a lower one keeps the higher. Read implies delivered.
    """

    peer: str
    delivered: int = 0
    read: int = 0


class ReadElsewhere(Frame, frozen=True, kw_only=True, tag="read"):
    """Another device of this user has read `peer`'s messages up to `seq` (R3)."""

    peer: str
    seq: int


class Presence(Frame, frozen=True, kw_only=True, tag="presence"):
    """Whether a watched user is connected; `last_seen` is Unix milliseconds, None while online or if nobody is to know."""

    user: str
    online: bool
    last_seen: int | None


class HistoryAnswer(Frame, frozen=True, kw_only=True, tag="history"):
    """See `trio_chat.retrieval.HistoryPage`."""

    ref: str
    messages: tuple[Message, ...]
    more: bool
    next: int | None


class SearchAnswer(Frame, frozen=True, kw_only=True, tag="search"):
    """See `trio_chat.retrieval.SearchPage`."""

    ref: str
    hits: tuple[SearchHit, ...]
    more: bool
    next: int | None


class ConversationsAnswer(Frame, frozen=True, kw_only=True, tag="conversations"):
    """See `trio_chat.retrieval.ConversationsPage`."""

    ref: str
    conversations: tuple[Conversation, ...]
    more: bool
    next: int | None


class DevicesAnswer(Frame, frozen=True, kw_only=True, tag="devices"):
    """The devices that the server remembers of this user."""

    ref: str
    devices: tuple[Device, ...]


class Blocked(Frame, frozen=True, kw_only=True, tag="blocked"):
    """Whom this user blocks, in the order of their names."""

    ref: str
    users: tuple[str, ...]


class Gap(Frame, frozen=True, kw_only=True, tag="gap"):
    """The entries `first` to `last` (on the wire ``from`` and ``to``) are no longer held (C7)."""

    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")


class Error(Frame, frozen=True, kw_only=True, tag="error", omit_defaults=True):
    """A refusal; the connection stays. `id` or `ref` names what is refused; `retry_after` is in seconds."""

    code: str
    message: str
    id: str | None = None
    ref: str | None = None
    retry_after: float | None = None


class Pong(Frame, frozen=True, kw_only=True, tag="pong"):
    """The answer to `Ping`."""


ServerFrame: TypeAlias = Union[
    Welcome,
    Messages,
    Stored,
    Receipt,
    ReadElsewhere,
    TypingFrom,
    Presence,
    HistoryAnswer,
    SearchAnswer,
    ConversationsAnswer,
    DevicesAnswer,
    Blocked,
    PushAnswer,
    Gap,
    Error,
    Pong,
]
