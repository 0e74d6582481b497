"""What the application itself says and asks: the same as any client may, in the name of any user."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn, TypeVar

import msgspec
import trio
from msgspec import Struct

from .core.batch import BlockChange, Draft, ReadMark, Refused, Removal, Stored
from .core.intake import Command
from .errors import (
    BadFrame,
    ChatClosed,
    ErrorCode,
    RequestRefused,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)
from .model import ID_LENGTH, MAX_SEQ, USER_LENGTH, is_name
from .registry import Outcome, Registry
from .retrieval import (
    ConversationsPage,
    ConversationsQuery,
    Device,
    HistoryPage,
    HistoryQuery,
    SearchPage,
    SearchQuery,
    check,
)
from .settings import Settings
from .store.base import Store

__all__ = ["Sent", "Voice", "refuse", "require", "require_user"]

_STORE_ERRORS: dict[ErrorCode, type[StoreError]] = {
    kind.code: kind for kind in (StoreFull, StoreBusy, StoreUnavailable, StoreError)
}
"""By their codes; a `RowRefused` is about what is to be stored, and raised as `BadFrame`."""


class Sent(Struct, frozen=True):
    """A message of the application's is stored: its `id`, its `seq` in the sender's log, and when (Unix milliseconds)."""

    id: str
    seq: int
    sent_at: int


class Voice:
    """What a `Chat` says and asks for the application, which has decided that it may: nothing is asked of a policy here.

    Nobody's rate limits apply. Everything that is written goes the way of the clients' own frames: it is committed with
    theirs, and those who are connected are told of it when it is durable.

    Each method raises `BadFrame` for a name or a value that no client could send: nothing is done then. It raises
    `StoreError` if the store cannot do it now: `StoreBusy` and `StoreUnavailable` by their names, whether it was to write or
    to read. Nothing is done after `StoreFull`; after the others nobody knows (`ErrorCode.fate`). It raises `ChatClosed` once
    the chat drains: then nothing is done, unless the message says that the chat ended meanwhile and it may have been. Nor
    does anybody know after a method was cancelled. To be sure, ask again: each may be repeated, a message under the same
    `id`. That is the `id` of the exception, if none was given; who cancels has to give one.
    """

    def __init__(self, store: Store, registry: Registry, settings: Settings) -> None:
        self.settings = settings
        self.registry = registry
        self.draining: trio.Event = trio.Event()
        self._store = store

    # What is written.

    async def send(self, sender: str, to: str, text: str, *, id: str | None = None, reply_to: str | None = None) -> Sent:
        """Send a message in the name of a user, and return when it is durable.

        Args:
            sender: whom it is from.
            to: whom it is to.
            text: what it says: not empty, no NUL character, at most ``settings.text_bytes`` bytes of UTF-8.
            id: the message's; a new UUID if there is none. The same message under the same id is sent once (S2): so it may
                be tried again after a failure of any kind, under the `id` that the exception has.
            reply_to: the id of the message of this conversation that it answers.

        Raises:
            TooLarge: the text is.
            IdConflict: the sender has used the id for another message.
            BadQuery: there is no such message to reply to.
            RequestRefused: another refusal, e.g. the code ``mailbox_full``.
        """
        _require_id(*(() if reply_to is None else (reply_to,)))
        self._require_text(text)
        return await self._draft(sender, to, id, text, "message", reply_to)

    async def edit(self, sender: str, to: str, target: str, text: str, *, id: str | None = None) -> Sent:
        """Replace the text of the sender's message `target` to `to`, by an entry of its own (L5) with an `id` of its own.

        Raises as `send`; `BadQuery` if there is no such message, or it was deleted.
        """
        _require_id(target)
        self._require_text(text)
        return await self._draft(sender, to, id, text, "edit", target)

    async def delete(self, sender: str, to: str, target: str, *, id: str | None = None) -> Sent:
        """Delete the text of the sender's message `target` to `to`, and of its edits, for everybody and for ever.

        Raises as `edit`.
        """
        _require_id(target)
        return await self._draft(sender, to, id, None, "delete", target)

    async def mark_read(self, user: str, peer: str, seq: int) -> None:
        """The user has read `peer`'s messages up to `seq` of the user's own log. A mark never goes back (R3).

        A `seq` beyond the log's end means its end: what comes later is unread.
        """
        require_user(user, peer)
        require(type(seq) is int and 0 <= seq <= MAX_SEQ, "a seq is an integer from 0 to 2**53 - 1")
        await self._done(ReadMark(user, peer, seq))

    async def block(self, user: str, peer: str) -> tuple[str, ...]:
        """Have the user hear no more of `peer`, who cannot tell (B1). Returns whom the user blocks now, by name.

        Raises:
            NotAllowed: the user blocks ``settings.blocks`` users already.
        """
        return await self._blocking(user, peer, blocked=True)

    async def unblock(self, user: str, peer: str) -> tuple[str, ...]:
        """Have the user hear of `peer` again, from now on: what was sent meanwhile does not come. Returns as `block`."""
        return await self._blocking(user, peer, blocked=False)

    async def remove_device(self, user: str, device: str) -> None:
        """Forget a device; if it is connected, it is closed with 4401. What it has delivered stays delivered (R1).

        A device that comes back is a new one. To keep it out, see `Chat.revoke`.
        """
        require_user(user, device)
        await self._done(Removal(user, device))

    # What is read.

    async def history(self, user: str, query: HistoryQuery | None = None, **filters: Any) -> HistoryPage:
        """Chosen messages of the user's log, as they are now. A page ends at ``settings.server_frame_bytes``, too.

        Args:
            user: whose.
            query: which; or give the fields of a `HistoryQuery` by name.
            filters: e.g. ``peer="bob", unread=True, limit=20``.

        Raises:
            BadQuery: a value is out of its range, or two exclude one another.
        """
        asked = _query(HistoryQuery, query, filters)
        return await self._reading(user).history(user, asked, size=self._page_bytes)

    async def search(self, user: str, query: SearchQuery | str, **filters: Any) -> SearchPage:
        """Messages of the user's log that hold all the words of the query, the newest first. As `history`."""
        if isinstance(query, str):
            asked = _query(SearchQuery, None, {"query": query, **filters})
        else:
            asked = _query(SearchQuery, query, filters)
        return await self._reading(user).search(user, asked, size=self._page_bytes)

    async def conversations(self, user: str, query: ConversationsQuery | None = None, **filters: Any) -> ConversationsPage:
        """The user's conversations, the one with the latest entry first. As `history`."""
        asked = _query(ConversationsQuery, query, filters)
        return await self._reading(user).conversations(user, asked, size=self._page_bytes)

    async def devices(self, user: str) -> tuple[Device, ...]:
        """The devices that are remembered of the user, by name, and which of them are connected now."""
        devices = await self._reading(user).devices(user)
        connected = self.registry.connected(user)
        return tuple(msgspec.structs.replace(device, connected=device.name in connected) for device in devices)

    async def blocked(self, user: str) -> tuple[str, ...]:
        """Whom the user blocks, by name."""
        return await self._reading(user).blocked(user)

    # How.

    @property
    def _page_bytes(self) -> int:
        return self.settings.server_frame_bytes

    def _reading(self, user: str) -> Store:
        require_user(user)
        if self.registry.ended:
            raise ChatClosed("the chat has ended: nothing was read")
        return self._store

    async def _draft(self, sender: str, to: str, id: str | None, text: str | None, kind: Any, target: str | None) -> Sent:
        require_user(sender, to)
        name = str(uuid.uuid4()) if id is None else id
        _require_id(name)
        try:
            # The source is a placeholder: the core gives each request one of its own.
            outcome = await self._done(Draft(0, sender, to, name, text, kind, target))
        except (RequestRefused, StoreError, ChatClosed) as error:
            error.id = name
            raise
        if not isinstance(outcome, Stored):
            raise AssertionError(f"a draft came to {outcome!r}")  # noqa: TRY004
        return Sent(name, outcome.seq, outcome.sent_at)

    def _require_text(self, text: object) -> None:
        if not isinstance(text, str):
            raise BadFrame("a text is a string")
        require(text != "" and "\x00" not in text, "a text is not empty and has no NUL character")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise BadFrame("half a surrogate pair is no text") from None
        if size > self.settings.text_bytes:
            raise TooLarge(f"text is over {self.settings.text_bytes} bytes")

    async def _blocking(self, user: str, peer: str, *, blocked: bool) -> tuple[str, ...]:
        require_user(user, peer)
        outcome = await self._done(BlockChange(user, peer, blocked))
        if not isinstance(outcome, tuple):
            raise AssertionError(f"a block came to {outcome!r}")  # noqa: TRY004
        return outcome

    async def _done(self, command: Command) -> Outcome:
        self._require_open()
        outcome = await self.registry.request(command)
        if isinstance(outcome, Refused):
            refuse(outcome.code)
        return outcome

    def _require_open(self) -> None:
        if self.draining.is_set():
            raise ChatClosed("the chat drains: nothing more is taken, and this was not")


def require(right: bool, what: str) -> None:  # noqa: FBT001  (as assert)
    """Raises `BadFrame` saying `what` unless it is right."""
    if not right:
        raise BadFrame(what)


def require_user(*names: str) -> None:
    """Raises `BadFrame` for what cannot be the name of a user or a device."""
    require(all(map(is_name, names)), f"a name is 1 to {USER_LENGTH} characters, none a control")


def _require_id(*ids: str) -> None:
    right = all(is_name(id, ID_LENGTH) for id in ids)
    require(right, f"an id is 1 to {ID_LENGTH} characters, none a control")


def refuse(code: ErrorCode) -> NoReturn:
    """Raise what stands for this code."""
    if code in _STORE_ERRORS:
        raise _STORE_ERRORS[code](code.meaning)
    raise RequestRefused.of(code)


AnyQuery = TypeVar("AnyQuery", HistoryQuery, SearchQuery, ConversationsQuery)


def _query(kind: type[AnyQuery], query: AnyQuery | None, filters: dict[str, Any]) -> AnyQuery:
    """The query that is meant, checked.

    Raises:
        TypeError: it is given twice, or a name is none of its fields.
    """
    if query is not None and filters:
        raise TypeError("give a query or its fields, not both")
    return check(kind(**filters) if query is None else query)
