"""What may be asked of a user's log, and what the answers hold. Each query concerns the log of the user who asks, only.

A query is checked when it is decoded from a client; one built by the application is checked by `check`. Positions are the
asking user's own `seq`; times are Unix milliseconds. `seq` is the only cursor: a page says in `next` where to go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from .errors import BadQuery
from .model import MAX_SEQ, Message, MessageId, Seq, UserName, in_words

__all__ = [
    "PAGE",
    "UNREAD_LIMIT",
    "Conversation",
    "ConversationsPage",
    "ConversationsQuery",
    "Device",
    "HistoryPage",
    "HistoryQuery",
    "SearchHit",
    "SearchPage",
    "SearchQuery",
    "Standing",
    "check",
    "check_combination",
]

PAGE = 200
"""The most a page may hold."""
UNREAD_LIMIT = 1000
"""Unread messages are counted up to this, which then means "so many or more" (R4)."""

Time: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=PAGE)]


class HistoryQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which messages of the log to retrieve: those for which everything that is given holds.

    `peer`: of the conversation with that user. `before` and `after`: seq below, seq above (either not included). `around`:
    so many messages on both sides of a seq; excludes `before`, `after` and `order`. `since` and `until`: sent at that time
    or later; sent before that time. `ids`: with one of these ids, from either side; a cursor is of no use with it. `unread`:
    from others, not deleted, beyond the read mark. `direction`: ``in`` from others, ``out`` the user's own.

    `order` is that of the page: ``desc``, newest first, unless only `after` is given. Edits and deletions are no messages of
    their own here: they show in the message they are about.
    """

    peer: UserName | None = None
    before: Seq | None = None
    after: Seq | None = None
    around: Seq | None = None
    since: Time | None = None
    until: Time | None = None
    ids: Annotated[tuple[MessageId, ...], Meta(min_length=1, max_length=PAGE)] | None = None
    unread: bool = False
    direction: Literal["in", "out"] | None = None
    order: Literal["asc", "desc"] | None = None
    limit: Limit = 50

    @property
    def ascending(self) -> bool:
        """Whether the oldest comes first."""
        if self.order is not None:
            return self.order == "asc"
        return self.around is not None or (self.after is not None and self.before is None)


class HistoryPage(Struct, frozen=True, kw_only=True):
    """Messages in the order asked for. If there is `more` in that direction, `next` goes into ``before`` or ``after``.

    A page of an `around` query is ascending and `next` belongs into ``after``; what is older is found before its first one.
    A page may be shorter than asked for and still have more behind it: it ends at a size in bytes, and it may even be empty
    when a great many entries in a row are not what was asked for.
    """

    messages: tuple[Message, ...]
    more: bool
    next: int | None


class SearchQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Messages whose current text holds all the words of `query`, newest first; the last word may be the beginning of one.

    `query` is plain text: nothing in it is an operator. `peer`: in the conversation with that user. `before`: the cursor.
    """

    query: Annotated[str, Meta(min_length=1, max_length=256)]
    peer: UserName | None = None
    before: Seq | None = None
    limit: Limit = 20


class SearchHit(Struct, frozen=True, kw_only=True):
    """A message that was found. `snippet` is a part of its text, in pieces: every second one, from the second, matches."""

    message: Message
    snippet: tuple[str, ...]


class SearchPage(Struct, frozen=True, kw_only=True):
    """What was found, newest first (an edited message counts as of its edit). `next` goes into ``before``.

    A page covers some of a long log at a time: it may be shorter than asked for, or even empty, and still have more behind
    it. The beginning of a word that a great many messages of all users hold is taken as a whole word.
    """

    hits: tuple[SearchHit, ...]
    more: bool
    next: int | None


class ConversationsQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The user's conversations, the one with the latest entry first. `before` is the cursor."""

    before: Seq | None = None
    limit: Limit = 50


class Conversation(Struct, frozen=True, kw_only=True):
    """The user's conversation with `peer`; all positions in the user's own log.

    `last` is its newest message as it is now, None if none is held. `unread` counts to 1,000, which means "or more" (R4).
    `delivered` and `read` are how far the peer is with the user's messages (R2), `own_delivered` and `own_read` how far the
    user is with the peer's; 0 is not at all. While one of the two blocks the other, `delivered` and `read` stay where they
    were at the block (B1).
    """

    peer: str
    last: Message | None
    unread: int
    delivered: int
    read: int
    own_delivered: int
    own_read: int


class ConversationsPage(Struct, frozen=True, kw_only=True):
    """Conversations, the one with the latest entry first. `next` goes into ``before``.

    A page may be shorter than asked for, or even empty, and still have more behind it: then `next` says where to go on.
    """

    conversations: tuple[Conversation, ...]
    more: bool
    next: int | None


class Device(Struct, frozen=True, kw_only=True):
    """A device the server remembers. It has everything up to `cursor`.

    `seen` and `created` are Unix milliseconds: when it last acknowledged or left, and when it first connected.
    `connected` is now.
    """

    name: str
    cursor: int
    seen: int
    created: int
    connected: bool = False


class Standing(Struct, frozen=True, kw_only=True):
    """What one user may know of another's presence.

    `acquainted`: they have exchanged messages in both directions, and neither blocks the other. `last_seen` is when a device
    of the other was last seen, Unix milliseconds, None if none is remembered. `parted`: one of them blocks the other.
    """

    user: str
    acquainted: bool
    last_seen: int | None
    parted: bool = False


Query = TypeVar("Query", bound=HistoryQuery | SearchQuery | ConversationsQuery)


def check(query: Query) -> Query:
    """The query, if it can be answered.

    Raises:
        BadQuery: a value is out of its range, or two of them exclude one another.
    """
    try:
        checked = msgspec.convert(msgspec.structs.asdict(query), type(query))
        "".join(_strings(checked)).encode()  # lone surrogates, which no JSON decoder lets in
    except msgspec.ValidationError as error:
        raise BadQuery(in_words(str(error))) from None
    except UnicodeEncodeError:
        raise BadQuery("half a surrogate pair is no text") from None
    if isinstance(checked, HistoryQuery):
        check_combination(checked)
    return checked


def _strings(query: Struct) -> Iterator[str]:
    for value in msgspec.structs.astuple(query):
        yield from (value if isinstance(value, tuple) else [value] if isinstance(value, str) else [])


def check_combination(query: HistoryQuery) -> None:
    """Whether the values of a query, each in its range, can be asked for together.

    Raises:
        BadQuery: two of them exclude one another.
    """
    if query.around is not None and (query.before, query.after, query.order) != (None, None, None):
        raise BadQuery("around excludes before, after and order")
    if query.ids is not None and (query.around is not None or query.unread):
        raise BadQuery("ids excludes around and unread")
    if query.unread and query.direction == "out":
        raise BadQuery("one's own messages are never unread")
    if query.before is not None and query.after is not None and query.before <= query.after:
        raise BadQuery("before is not above after")
    if query.since is not None and query.until is not None and query.until <= query.since:
        raise BadQuery("until is not later than since")
