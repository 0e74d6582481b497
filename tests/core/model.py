"""What a store does, in plain dictionaries: the model the core is tested over."""

from __future__ import annotations

from collections.abc import Callable

from trio_chat import wire
from trio_chat.core.batch import Batch, Draft, Opened, Opening, Page, PageRequest, Refused, Results, Stored
from trio_chat.errors import ErrorCode
from trio_chat.model import Message

LOG = "log-1"
DEVICES = 32


def accept(draft: Draft) -> ErrorCode | None:
    """Refuse nothing."""
    return None


class ModelStore:
    """Numbers, de-duplicates and tests blocks (L1, L2, S2, B1); knows cursors, floors and devices (C1, C2, A1)."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Message]] = {}  # every entry there ever was; those up to the floor are no longer shown
        self.floors: dict[str, int] = {}
        self.cursors: dict[tuple[str, str], int] = {}
        self.begun: dict[tuple[str, str], int] = {}  # where a device began when it was new
        self.delivered: dict[str, int] = {}
        self.blocks: set[tuple[str, str]] = set()  # (who blocks, who is blocked)
        self._known: dict[tuple[str, str], tuple[tuple[str, str], Stored]] = {}

    def head(self, user: str) -> int:
        """The last position of the user's log."""
        return len(self.logs.get(user, ()))

    def append(self, batch: Batch, sent_at: int, refuse: Callable[[Draft], ErrorCode | None] = accept) -> Results:
        """Carry out a batch. `refuse` says which drafts cannot be stored, and why."""
        for mark in batch.marks:
            self._mark(mark.user, mark.device, mark.seq)
        openings = tuple(self._open(opening) for opening in batch.openings)
        stopped: dict[int, ErrorCode] = {}
        drafts = []
        for draft in batch.drafts:
            code = stopped.get(draft.source) or refuse(draft)
            result = self._store(draft, sent_at) if code is None else Refused(code)
            if isinstance(result, Refused) and result.code.retryable:
                stopped[draft.source] = result.code
            drafts.append(result)
        return Results(openings, tuple(drafts))

    def page(self, request: PageRequest) -> Page:
        """Read a page."""
        floor = self.floors.get(request.user, 0)
        messages: list[Message] = []
        size = 0
        for message in self.logs.get(request.user, [])[max(request.after, floor) :][: request.limit]:
            size += wire.encoded_size(message)
            if messages and size > request.size:
                break
            messages.append(message)
        return Page(tuple(messages), floor)

    def _mark(self, user: str, device: str, seq: int) -> None:
        if (user, device) in self.cursors:
            self.cursors[user, device] = max(self.cursors[user, device], seq)
            self.delivered[user] = max(self.delivered.get(user, 0), seq)

    def _open(self, opening: Opening) -> Opened | Refused:
        user, device, head = opening.user, opening.device, self.head(opening.user)
        floor = self.floors.get(user, 0)
        if opening.send_only:
            return Opened(LOG, head, floor, head, new=False)
        new = (user, device) not in self.cursors
        if new:
            if not opening.may_be_new:
                return Refused(ErrorCode.RATE_LIMITED)
            devices = [key for key in self.cursors if key[0] == user]
            unused = [key for key in devices if key[1] not in opening.connected]
            if len(devices) >= DEVICES:
                if not unused:
                    return Refused(ErrorCode.NOT_ALLOWED)
                del self.cursors[unused[0]]
            self.cursors[user, device] = self.begun[user, device] = self.delivered.get(user, 0)
        start = self.cursors[user, device]
        if opening.log == LOG and opening.after is not None and opening.after <= head:
            start = opening.after
            self._mark(user, device, start)
        return Opened(LOG, head, floor, start, new=new)

    def _store(self, draft: Draft, sent_at: int) -> Stored | Refused:
        digest = (draft.recipient, draft.text)
        known = self._known.get((draft.sender, draft.id))
        if known is not None:
            first = known[1]
            same = known[0] == digest
            return Stored(first.seq, first.peer_seq, first.sent_at, new=False) if same else Refused(ErrorCode.ID_CONFLICT)
        one_entry = draft.recipient == draft.sender or (draft.recipient, draft.sender) in self.blocks
        seq = self._enter(draft.sender, draft, sent_at)
        stored = Stored(seq, 0 if one_entry else self._enter(draft.recipient, draft, sent_at), sent_at)
        self._known[draft.sender, draft.id] = (digest, stored)
        return stored

    def _enter(self, user: str, draft: Draft, sent_at: int) -> int:
        log = self.logs.setdefault(user, [])
        log.append(
            Message(
                seq=len(log) + 1,
                id=draft.id,
                sender=draft.sender,
                recipient=draft.recipient,
                text=draft.text,
                sent_at=sent_at,
            )
        )
        return len(log)
