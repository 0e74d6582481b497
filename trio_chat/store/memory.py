"""The store in memory: for tests, and for chats that need not survive their process."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec
import trio

from ..core.batch import (
    Batch,
    BlockChange,
    Draft,
    Mark,
    Opened,
    Opening,
    Page,
    PageRequest,
    Progress,
    ReadMark,
    Refused,
    Removal,
    Results,
    Stored,
)
from ..errors import ErrorCode, RowRefused, StoreError, StoreUnavailable
from ..model import Message
from ..retrieval import (
    ConversationsPage,
    ConversationsQuery,
    HistoryPage,
    HistoryQuery,
    SearchPage,
    SearchQuery,
    Standing,
)
from ..retrieval import Device as KnownDevice
from ..settings import Settings
from . import memory_queries
from .base import Sizes
from .digest import digest
from .memory_contents import Contents, Device, Entry, User
from .memory_keeping import MemoryKeeping
from .memory_outbox import MemoryOutbox
from .pages import OVERHEAD
from .progress import LOOK_BACK

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps everything in dictionaries, and nothing after the process. Uses no threads: it is at home on a virtual clock.

    Leaving it keeps its contents, so that entering it again is a restart. `blocks` holds pairs of (who does not want to
    hear, from whom).
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings: Settings = settings or Settings()
        self.failure: str | None = None
        self._epoch = secrets.token_hex(8)
        self._key = secrets.token_bytes(32)
        self._contents = Contents()
        self.outbox: MemoryOutbox = MemoryOutbox(self._contents)
        self._sent: dict[tuple[str, str], tuple[bytes, Entry, Stored]] = {}
        self.keeping: MemoryKeeping = MemoryKeeping(self._contents, self._sent, self.outbox, self._epoch)
        self._faults: list[StoreError] = []

    @property
    def blocks(self) -> set[tuple[str, str]]:
        """Who does not want to hear, and from whom; may be changed and set."""
        return self._contents.blocks

    @blocks.setter
    def blocks(self, pairs: set[tuple[str, str]]) -> None:
        self._contents.blocks = pairs

    async def __aenter__(self) -> Self:
        """Open the store; forgets an earlier failure."""
        await trio.lowlevel.checkpoint()
        self.failure = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store. Its contents stay."""
        await trio.lowlevel.cancel_shielded_checkpoint()

    def fail_next(self, *errors: StoreError) -> None:
        """Have the next `append` raise the error and do nothing, and the ones after it the further errors.

        After a `StoreUnavailable` every `append` raises that, until the store is entered again.
        """
        self._faults += errors

    def log(self, user: str) -> list[Message]:
        """All entries of the user's log as they are stored; none if there is no such user."""
        known = self._contents.users.get(user)
        return [] if known is None else [entry.stored(user) for entry in known.entries]

    def space(self) -> Sizes:
        """Zeros: there is no disk."""
        return Sizes()

    async def append(self, batch: Batch, now: int) -> Results:
        """Carry out a batch at once; see `Store.append`. Cancelling leaves it undone."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise StoreUnavailable(self.failure)
        if self._faults:
            fault = self._faults.pop(0)
            if isinstance(fault, StoreUnavailable):
                self.failure = str(fault)
            raise fault
        _require_text(batch)
        # Nothing below can fail, so nothing needs to be undone.
        users = self._contents.users
        # No sets where the order shows: what the same batches give must not differ from process to process.
        moving = [*(mark.user for mark in batch.marks), *(opening.user for opening in batch.openings)]
        delivered = {name: users[name].delivered for name in moving if name in users}
        for mark in batch.marks:
            self._mark(mark, now)
        progress = [reached for read in batch.reads if (reached := self._read(read)) is not None]
        self.outbox.read(batch.reads, now)
        for removal in batch.removals:
            if (user := users.get(removal.user)) is not None:
                user.devices.pop(removal.device, None)
            self.outbox.forget_device(removal.user, removal.device)
        opened: dict[str, set[str]] = {}
        openings = tuple(self._open(opening, opened.setdefault(opening.user, set()), now) for opening in batch.openings)
        progress += self._delivered(delivered)
        told = tuple(_merged(one for one in progress if not self._contents.apart(one.user, one.peer)))
        blocks = tuple(self._block(change) for change in batch.blocks)
        for change in batch.blocks:
            self._contents.part(change.user, change.peer)
        push = self.outbox.change(self.settings, batch.push, now)
        stopped: dict[int, Refused] = {}
        drafts = []
        for draft in batch.drafts:
            result = self._known(draft) or stopped.get(draft.source) or self._send(draft, now)
            if isinstance(result, Refused) and result.code.retryable:
                stopped[draft.source] = result
            drafts.append(result)
        return Results(openings, tuple(drafts), blocks, (None,) * len(batch.removals), told, now, push=push)

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Read a page for each request; see `Store.pages`."""
        await trio.lowlevel.checkpoint()
        return [self._page(request) for request in requests]

    async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
        """Chosen messages, as they are now; see `Store.history`."""
        await trio.lowlevel.checkpoint()
        return memory_queries.history(self._contents, user, query, size)

    async def search(self, user: str, query: SearchQuery, *, size: int) -> SearchPage:
        """Messages found by their words; see `Store.search`."""
        await trio.lowlevel.checkpoint()
        return memory_queries.search(self._contents, user, query, size)

    async def conversations(self, user: str, query: ConversationsQuery, *, size: int) -> ConversationsPage:
        """The user's conversations, the latest first; see `Store.conversations`."""
        await trio.lowlevel.checkpoint()
        return memory_queries.conversations(self._contents, user, query, size)

    async def devices(self, user: str) -> tuple[KnownDevice, ...]:
        """The devices that are remembered, by name; see `Store.devices`."""
        await trio.lowlevel.checkpoint()
        return memory_queries.devices(self._contents, user)

    async def blocked(self, user: str) -> tuple[str, ...]:
        """Whom the user blocks, by name; see `Store.blocked`."""
        await trio.lowlevel.checkpoint()
        return self._contents.blocked(user)

    async def known(self, ids: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether a sender's message of an id is held; see `Store.known`."""
        await trio.lowlevel.checkpoint()
        return [id in self._sent for id in ids]

    async def standings(self, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
        """What `viewer` may know of each of these users; see `Store.standings`."""
        await trio.lowlevel.checkpoint()
        return tuple(memory_queries.standing(self._contents, viewer, user) for user in users)

    def _mark(self, mark: Mark, now: int) -> None:
        user = self._contents.users.get(mark.user)
        if user is None:
            return
        cursor = min(mark.seq, user.head)
        user.delivered = max(user.delivered, cursor)
        if mark.device in user.devices:
            device = user.devices[mark.device]
            device.cursor = max(device.cursor, cursor)
            device.seen = now

    def _read(self, mark: ReadMark) -> Progress | None:
        """Whatever is read counts as delivered, too (R2). Notes to oneself have no marks."""
        user = self._contents.users.get(mark.user)
        if user is None or mark.user == mark.peer or frozenset((mark.user, mark.peer)) not in self._contents.talked:
            return None
        before, now = user.read.get(mark.peer, 0), min(mark.seq, user.head)
        if now <= before:
            return None
        user.read[mark.peer] = now
        newest = self._contents.newest_reached(mark.peer, mark.user, before + 1, now)
        return Progress(mark.peer, mark.user, newest, newest) if newest else None

    def _delivered(self, before: dict[str, int]) -> Iterator[Progress]:
        """What became delivered: of each sender the newest message (R1, R2)."""
        for name, delivered in before.items():
            user = self._contents.users[name]
            first = max(delivered, user.delivered - LOOK_BACK)
            for sender in dict.fromkeys(entry.sender for entry in user.between(first, user.delivered)):
                if sender != name:
                    yield Progress(sender, name, self._contents.newest_reached(sender, name, first + 1, user.delivered))

    def _open(self, opening: Opening, opened: set[str], now: int) -> Opened | Refused:
        user = self._contents.users.get(opening.user) or User()
        log = f"{self._epoch}-{user.epoch}"
        blocked = self._contents.blocked(opening.user)
        if opening.send_only:
            self._contents.users[opening.user] = user
            return Opened(log, user.head, user.floor, user.head, new=False, blocked=blocked)
        device = user.devices.get(opening.device)
        is_new = device is None
        if device is None:
            if not opening.may_be_new:
                return Refused(ErrorCode.RATE_LIMITED)
            if len(user.devices) >= self.settings.devices:
                away = [
                    (device.seen, device.created, name)
                    for name, device in user.devices.items()
                    if name not in opening.connected and name not in opened
                ]
                if not away:
                    return Refused(ErrorCode.NOT_ALLOWED)
                oldest = min(away)[2]
                del user.devices[oldest]
                self.outbox.forget_device(opening.user, oldest)
            device = user.devices[opening.device] = Device(user.delivered, now)
        start = device.cursor
        if opening.log == log and opening.after is not None and 0 <= opening.after <= user.head:
            start = opening.after
        if start > device.cursor:
            device.cursor = start
            device.seen = now
        user.delivered = max(user.delivered, start)
        self._contents.users[opening.user] = user
        opened.add(opening.device)
        return Opened(log, user.head, user.floor, start, new=is_new, blocked=blocked)

    def _block(self, change: BlockChange) -> tuple[str, ...] | Refused:
        pair = change.user, change.peer
        if not change.blocked:
            self.blocks.discard(pair)
        elif change.user == change.peer:
            return Refused(ErrorCode.BAD_QUERY)
        elif pair not in self.blocks:
            if len(self._contents.blocked(change.user)) >= self.settings.blocks:
                return Refused(ErrorCode.NOT_ALLOWED)
            self.blocks.add(pair)
            for name in pair:
                self._contents.users.setdefault(name, User())
        return self._contents.blocked(change.user)

    def _digest(self, draft: Draft) -> bytes:
        return digest(self._key, draft.recipient, draft.said, draft.kind, draft.target)

    def _known(self, draft: Draft) -> Stored | Refused | None:
        first = self._sent.get((draft.sender, draft.id))
        if first is None:
            return None
        known, entry, answer = first
        if known != self._digest(draft):
            return Refused(ErrorCode.ID_CONFLICT)
        return Stored(answer.seq, answer.peer_seq, answer.sent_at, new=False, text=_changed(entry.text, draft))

    def _target(self, draft: Draft) -> Entry | None:
        """The message a draft is about: for a reply one that its sender has, for the rest one of its sender's own."""
        pair = {draft.sender, draft.recipient}
        senders = (draft.recipient, draft.sender) if draft.kind == "message" else (draft.sender,)
        for sender in senders:
            if (sent := self._sent.get((sender, draft.target or ""))) is not None:
                target = sent[1]
                fits = target.kind == "message" and {target.sender, target.recipient} == pair
                if fits and target.seq_of(draft.sender) and (draft.kind == "message" or target.text is not None):
                    return target
        return None

    def _send(self, draft: Draft, now: int) -> Stored | Refused:
        target = self._target(draft)
        if target is None and (draft.kind != "message" or draft.target is not None):
            return Refused(ErrorCode.BAD_QUERY)
        to_self = draft.sender == draft.recipient
        users = self._contents.users
        recipient = users.get(draft.recipient) or User()
        if not to_self and self._is_full(recipient):
            return Refused(ErrorCode.MAILBOX_FULL)
        sender = users.setdefault(draft.sender, recipient if to_self else User())
        users[draft.recipient] = recipient
        self._contents.talked.add(frozenset((draft.sender, draft.recipient)))
        text = None if draft.kind == "delete" else draft.text
        sent_at = max(now, sender.sent_at, recipient.sent_at)
        entry = Entry(draft.id, draft.sender, draft.recipient, text, draft.kind, target, sent_at)
        entry.seq = self._enter(sender, entry)
        # Of what the recipient does not have, changes mean nothing to it.
        concerns = draft.kind == "message" or (target is not None and target.peer_seq > 0)
        if not to_self and concerns and (draft.recipient, draft.sender) not in self.blocks:
            entry.peer_seq = self._enter(recipient, entry)
            recipient.received += 1
            recipient.received_bytes += entry.size
            if draft.kind == "message":
                self.outbox.announce(draft.recipient, draft.sender, entry.peer_seq, now)
        if target is not None and draft.kind == "edit":
            target.edits.append(entry)
        elif target is not None and draft.kind == "delete":
            target.delete()
        stored = Stored(entry.seq, entry.peer_seq, sent_at, text=_changed(text, draft))
        self._sent[draft.sender, draft.id] = self._digest(draft), entry, stored
        return stored

    def _is_full(self, user: User) -> bool:
        first = max(user.delivered - user.floor, 0)
        taken, taken_bytes = user.before[first] if first < len(user.before) else (user.received, user.received_bytes)
        return (
            user.received - taken >= self.settings.mailbox
            or user.received_bytes - taken_bytes >= self.settings.mailbox_bytes
        )  # fmt: skip

    @staticmethod
    def _enter(user: User, entry: Entry) -> int:
        user.sent_at = entry.sent_at
        user.before.append((user.received, user.received_bytes))
        user.entries.append(entry)
        return user.head

    def _page(self, request: PageRequest) -> Page:
        user = self._contents.users.get(request.user)
        if user is None:
            return Page((), 0)
        start = max(request.after - user.floor, 0)
        messages: list[Message] = []
        size = 0
        for entry in user.entries[start : start + max(1, request.limit)]:
            size += entry.size + OVERHEAD
            if messages and size > request.size:
                break
            messages.append(entry.stored(request.user))
        return Page(tuple(messages), user.floor)


def _merged(progress: Iterable[Progress]) -> list[Progress]:
    """One for each pair."""
    marks: dict[tuple[str, str], tuple[int, int]] = {}
    for one in progress:
        delivered, read = marks.get((one.user, one.peer), (0, 0))
        marks[one.user, one.peer] = max(delivered, one.delivered), max(read, one.read)
    return [Progress(user, peer, *values) for (user, peer), values in marks.items()]


def _changed(stored: str | None, draft: Draft) -> str | None:
    """What is stored in place of what the client sent; None if it is the same, or deleted by now."""
    return None if stored == draft.said else stored


def _require_text(batch: Batch) -> None:
    """Raises `RowRefused` if something in the batch is not Unicode text: a lone surrogate."""
    try:
        for change in batch.push:
            "".join(value for value in msgspec.structs.astuple(change) if isinstance(value, str)).encode()
        for draft in batch.drafts:
            f"{draft.sender}{draft.recipient}{draft.id}{draft.text}{draft.target}".encode()
        moving: tuple[Mark | Opening | Removal, ...] = (*batch.marks, *batch.openings, *batch.removals)
        for one in moving:
            f"{one.user}{one.device}".encode()
        between: tuple[ReadMark | BlockChange, ...] = (*batch.reads, *batch.blocks)
        for pair in between:
            f"{pair.user}{pair.peer}".encode()
    except UnicodeEncodeError as error:
        raise RowRefused(f"a value cannot be stored: {type(error).__name__}") from error
