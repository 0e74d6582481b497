"""The store in memory: for tests, and for chats that need not survive their process."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import trio

from ..core.batch import Batch, Draft, Mark, Opened, Opening, Page, PageRequest, Refused, Results, Stored
from ..errors import ErrorCode, RowRefused, StoreError, StoreUnavailable
from ..model import Message
from ..settings import Settings
from .pages import OVERHEAD

__all__ = ["MemoryStore"]


class _Device:
    def __init__(self, cursor: int, now: int) -> None:
        self.cursor = cursor
        self.seen = self.created = now


class _User:
    def __init__(self) -> None:
        self.entries: list[Message] = []  # floor+1 … head
        self.before: list[tuple[int, int]] = []  # of each entry: messages and bytes received before it
        self.received = 0
        self.received_bytes = 0
        self.floor = 0
        self.delivered = 0
        self.sent_at = 0
        self.epoch = 0
        self.devices: dict[str, _Device] = {}

    @property
    def head(self) -> int:
        return self.floor + len(self.entries)


class MemoryStore:
    """Keeps everything in dictionaries, and nothing after the process. Uses no threads: it is at home on a virtual clock.

    Leaving it keeps its contents, so that entering it again is a restart. `blocks` holds pairs of (who does not want to
    hear, from whom).
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.blocks: set[tuple[str, str]] = set()
        self.failure: str | None = None
        self._epoch = secrets.token_hex(8)
        self._users: dict[str, _User] = {}
        self._sent: dict[tuple[str, str], tuple[Draft, Stored]] = {}
        self._faults: list[StoreError] = []

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
        for mark in batch.marks:
            self._mark(mark, now)
        opened: dict[str, set[str]] = {}
        openings = tuple(self._open(opening, opened.setdefault(opening.user, set()), now) for opening in batch.openings)
        stopped: dict[int, Refused] = {}
        drafts = []
        for draft in batch.drafts:
            result = self._known(draft) or stopped.get(draft.source) or self._send(draft, now)
            if isinstance(result, Refused) and result.code.retryable:
                stopped[draft.source] = result
            drafts.append(result)
        return Results(openings, tuple(drafts))

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Read a page for each request; see `Store.pages`."""
        await trio.lowlevel.checkpoint()
        return [self._page(request) for request in requests]

    def _mark(self, mark: Mark, now: int) -> None:
        user = self._users.get(mark.user)
        if user is None:
            return
        cursor = min(mark.seq, user.head)
        user.delivered = max(user.delivered, cursor)
        if mark.device in user.devices:
            device = user.devices[mark.device]
            device.cursor = max(device.cursor, cursor)
            device.seen = now

    def _open(self, opening: Opening, opened: set[str], now: int) -> Opened | Refused:
        user = self._users.get(opening.user) or _User()
        log = f"{self._epoch}-{user.epoch}"
        if opening.send_only:
            self._users[opening.user] = user
            return Opened(log, user.head, user.floor, user.head, new=False)
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
                del user.devices[min(away)[2]]
            device = user.devices[opening.device] = _Device(user.delivered, now)
        start = device.cursor
        if opening.log == log and opening.after is not None and 0 <= opening.after <= user.head:
            start = opening.after
        if start > device.cursor:
            device.cursor = start
            device.seen = now
        user.delivered = max(user.delivered, start)
        self._users[opening.user] = user
        opened.add(opening.device)
        return Opened(log, user.head, user.floor, start, new=is_new)

    def _known(self, draft: Draft) -> Stored | Refused | None:
        first = self._sent.get((draft.sender, draft.id))
        if first is None:
            return None
        known, answer = first
        if (known.recipient, known.text) != (draft.recipient, draft.text):
            return Refused(ErrorCode.ID_CONFLICT)
        return Stored(answer.seq, answer.peer_seq, answer.sent_at, new=False)

    def _send(self, draft: Draft, now: int) -> Stored | Refused:
        to_self = draft.sender == draft.recipient
        recipient = self._users.get(draft.recipient) or _User()
        if not to_self and self._is_full(recipient):
            return Refused(ErrorCode.MAILBOX_FULL)
        sender = self._users.setdefault(draft.sender, recipient if to_self else _User())
        self._users[draft.recipient] = recipient
        sent_at = max(now, sender.sent_at, recipient.sent_at)
        seq = self._enter(sender, draft, sent_at)
        peer_seq = 0
        if not to_self and (draft.recipient, draft.sender) not in self.blocks:
            peer_seq = self._enter(recipient, draft, sent_at)
            recipient.received += 1
            recipient.received_bytes += len(draft.text.encode())
        stored = Stored(seq, peer_seq, sent_at)
        self._sent[draft.sender, draft.id] = draft, stored
        return stored

    def _is_full(self, user: _User) -> bool:
        first = max(user.delivered - user.floor, 0)
        taken, taken_bytes = user.before[first] if first < len(user.before) else (user.received, user.received_bytes)
        return (
            user.received - taken >= self.settings.mailbox
            or user.received_bytes - taken_bytes >= self.settings.mailbox_bytes
        )  # fmt: skip

    def _enter(self, user: _User, draft: Draft, sent_at: int) -> int:
        seq = user.head + 1
        user.sent_at = sent_at
        user.before.append((user.received, user.received_bytes))
        user.entries.append(
            Message(
                seq=seq, id=draft.id, sender=draft.sender, recipient=draft.recipient, text=draft.text, sent_at=sent_at
            )
        )  # fmt: skip
        return seq

    def _page(self, request: PageRequest) -> Page:
        user = self._users.get(request.user)
        if user is None:
            return Page((), 0)
        start = max(request.after - user.floor, 0)
        messages: list[Message] = []
        size = 0
        for entry in user.entries[start : start + max(1, request.limit)]:
            size += len((entry.text or "").encode()) + OVERHEAD
            if messages and size > request.size:
                break
            messages.append(entry)
        return Page(tuple(messages), user.floor)


def _require_text(batch: Batch) -> None:
    """Raises `RowRefused` if something in the batch is not Unicode text: a lone surrogate."""
    try:
        for draft in batch.drafts:
            f"{draft.sender}{draft.recipient}{draft.id}{draft.text}".encode()
        for mark in batch.marks:
            f"{mark.user}{mark.device}".encode()
        for opening in batch.openings:
            f"{opening.user}{opening.device}".encode()
    except UnicodeEncodeError as error:
        raise RowRefused(f"a value cannot be stored: {type(error).__name__}") from error
