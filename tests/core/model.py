"""What a store does, in plain dictionaries: the model the core is tested over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from trio_chat import wire
from trio_chat.core.batch import (
    Batch,
    BlockChange,
    Draft,
    Opened,
    Opening,
    Page,
    PageRequest,
    Progress,
    Refused,
    Removal,
    Results,
    Stored,
)
from trio_chat.errors import ErrorCode
from trio_chat.model import Message
from trio_chat.retrieval import Device, Standing

LOG = "log-1"
DEVICES = 32


def accept(draft: Draft) -> ErrorCode | None:
    """Refuse nothing."""
    return None


class Row(msgspec.Struct):
    """A message, an edit or a deletion that is stored."""

    draft: Draft
    stored: Stored
    deleted: bool = False


def _digest(draft: Draft) -> tuple[str, str | None, str, str | None]:
    return draft.recipient, draft.said, draft.kind, draft.target


class ModelStore:
    """Numbers, de-duplicates and tests blocks (L1, L2, S2, B1); knows cursors, floors and devices (C1, C2, A1)."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Message]] = {}  # every entry there ever was; those up to the floor are no longer shown
        self.floors: dict[str, int] = {}
        self.cursors: dict[tuple[str, str], int] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.begun: dict[tuple[str, str], int] = {}  # where a device began when it was new
        self.removed: set[tuple[str, str]] = set()  # devices that were removed once, whether or not they came back
        self.delivered: dict[str, int] = {}
        self.reads: dict[tuple[str, str], int] = {}  # by who has read and whose messages
        self.blocks: set[tuple[str, str]] = set()  # (who blocks, who is blocked)
        self._rows: dict[tuple[str, str], Row] = {}
        self._steps: dict[tuple[str, str], tuple[int, int]] = {}
        self._at = 0

    def head(self, user: str) -> int:
        """The last position of the user's log."""
        return len(self.logs.get(user, ()))

    def append(self, batch: Batch, sent_at: int, refuse: Callable[[Draft], ErrorCode | None] = accept) -> Results:
        """Carry out a batch. `refuse` says which drafts cannot be stored, and why."""
        self._at, self._steps = sent_at, {}
        for mark in batch.marks:
            self._mark(mark.user, mark.device, mark.seq)
        for read in batch.reads:
            self._read(read.user, read.peer, read.seq)
        removals = tuple(self._remove(removal) for removal in batch.removals)
        openings = tuple(self._open(opening) for opening in batch.openings)
        blocks = tuple(self._block(change) for change in batch.blocks)
        stopped: dict[int, ErrorCode] = {}
        drafts = []
        for draft in batch.drafts:
            code = stopped.get(draft.source) or refuse(draft)
            result = self._store(draft, sent_at) if code is None else Refused(code)
            if isinstance(result, Refused) and result.code.retryable:
                stopped[draft.source] = result.code
            drafts.append(result)
        progress = tuple(Progress(*pair, *marks) for pair, marks in self._steps.items())
        return Results(openings, tuple(drafts), blocks, removals, progress, sent_at, (None,) * len(batch.reads))

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

    # What is asked.

    def devices(self, user: str) -> tuple[Device, ...]:
        """The user's devices, by name."""
        return tuple(
            Device(name=name, cursor=cursor, seen=self.seen[owner, name], created=0)
            for (owner, name), cursor in sorted(self.cursors.items())
            if owner == user
        )

    def blocked(self, user: str) -> tuple[str, ...]:
        """Whom the user blocks."""
        return tuple(sorted(peer for blocker, peer in self.blocks if blocker == user))

    def standings(self, viewer: str, users: Iterable[str]) -> tuple[Standing, ...]:
        """What the viewer may know of the users."""
        return tuple(
            Standing(
                user=user,
                acquainted=self.acquainted(viewer, user),
                last_seen=max((at for (name, _), at in self.seen.items() if name == user), default=None),
            )
            for user in users
        )

    def acquainted(self, one: str, other: str, blocks: Collection[tuple[str, str]] | None = None) -> bool:
        """Whether the two have written to one another, and neither blocks the other (now, or by these blocks)."""
        spoken = {(row.draft.sender, row.draft.recipient) for row in self._rows.values() if row.stored.peer_seq}
        both = {(one, other), (other, one)}
        return both.isdisjoint(self.blocks if blocks is None else blocks) and both <= spoken

    def parted(self, one: str, other: str) -> bool:
        """Whether one of the two blocks the other."""
        return not self.blocks.isdisjoint({(one, other), (other, one)})

    # What a batch does.

    def _mark(self, user: str, device: str, seq: int) -> None:
        if (user, device) not in self.cursors:
            return
        self.cursors[user, device] = max(self.cursors[user, device], seq)
        self.seen[user, device] = self._at
        before = self.delivered.get(user, 0)
        self.delivered[user] = max(before, seq)
        for row in self._received(user, before, seq):
            self._step(row.draft.sender, user, row.stored.seq, 0)

    def _read(self, user: str, peer: str, seq: int) -> None:
        before = self.reads.get((user, peer), 0)
        self.reads[user, peer] = max(before, seq)
        for row in self._received(user, before, seq):
            if row.draft.sender == peer:
                self._step(peer, user, row.stored.seq, row.stored.seq)

    def _received(self, user: str, after: int, upto: int) -> Iterator[Row]:
        for entry in self.logs.get(user, [])[after:upto]:
            if entry.sender != user:
                yield self._rows[entry.sender, entry.id]

    def _step(self, user: str, peer: str, delivered: int, read: int) -> None:
        if not self.parted(user, peer):
            before = self._steps.get((user, peer), (0, 0))
            self._steps[user, peer] = max(before[0], delivered), max(before[1], read)

    def _remove(self, removal: Removal) -> Refused | None:
        self.removed.add((removal.user, removal.device))
        self.cursors.pop((removal.user, removal.device), None)
        self.seen.pop((removal.user, removal.device), None)
        return None

    def _block(self, change: BlockChange) -> tuple[str, ...]:
        pair = change.user, change.peer
        assert pair[0] != pair[1]
        self.blocks = self.blocks | {pair} if change.blocked else self.blocks - {pair}
        return self.blocked(change.user)

    def _open(self, opening: Opening) -> Opened | Refused:
        user, device, head = opening.user, opening.device, self.head(opening.user)
        floor = self.floors.get(user, 0)
        if opening.send_only:
            return Opened(LOG, head, floor, head, new=False, blocked=self.blocked(user))
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
            self.seen[user, device] = self._at
        start = self.cursors[user, device]
        if opening.log == LOG and opening.after is not None and opening.after <= head:
            start = opening.after
            self._mark(user, device, start)
        return Opened(LOG, head, floor, start, new=new, blocked=self.blocked(user))

    def _store(self, draft: Draft, sent_at: int) -> Stored | Refused:
        known = self._rows.get((draft.sender, draft.id))
        if known is not None:
            first = known.stored
            same = _digest(known.draft) == _digest(draft)
            return Stored(first.seq, first.peer_seq, first.sent_at, new=False) if same else Refused(ErrorCode.ID_CONFLICT)
        one_entry = draft.recipient == draft.sender or (draft.recipient, draft.sender) in self.blocks
        if draft.target is not None:
            target = self._target(draft, draft.target)
            if target is None:
                return Refused(ErrorCode.BAD_QUERY)
            if draft.kind != "message":
                one_entry = one_entry or not target.stored.peer_seq
        seq = self._enter(draft.sender, draft, sent_at)
        peer_seq = 0 if one_entry else self._enter(draft.recipient, draft, sent_at)
        stored = Stored(seq, peer_seq, sent_at, text=None if draft.text == draft.said else draft.text)
        self._rows[draft.sender, draft.id] = Row(draft, stored)
        if draft.kind == "delete":
            self._delete(draft)
        return stored

    def _target(self, draft: Draft, target: str) -> Row | None:
        pair = draft.sender, draft.recipient
        own = self._rows.get((draft.sender, target))
        theirs = self._rows.get((draft.recipient, target))
        for row in (theirs, own) if draft.kind == "message" else (own,):
            if row is not None and row.draft.kind == "message" and {row.draft.sender, row.draft.recipient} == set(pair):
                return None if draft.kind != "message" and row.deleted else row
        return None

    def _delete(self, draft: Draft) -> None:
        self._rows[draft.sender, str(draft.target)].deleted = True
        for user in {draft.sender, draft.recipient}:
            self.logs[user] = [
                replace(entry, text=None)
                if entry.sender == draft.sender
                and draft.target in (entry.id if entry.kind == "message" else None, entry.target)
                else entry
                for entry in self.logs.get(user, [])
            ]

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
                kind=draft.kind,
                reply_to=draft.target if draft.kind == "message" else None,
                target=draft.target if draft.kind != "message" else None,
            )
        )
        return len(log)
