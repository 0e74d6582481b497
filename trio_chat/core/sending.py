"""Messages, edits and deletions: one ordered stream of drafts for each connection (S2–S4, L5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from .. import wire
from ..errors import ErrorCode
from ..model import Message
from .batch import Draft, Refused, Stored
from .connection import Connection, User
from .delivery import Delivery
from .effects import Effect, Fulfil, Send
from .events import Judged, Ticket
from .intake import Intake, Pending, weigh
from .judging import Judging
from .refusals import Refusals
from .tally import Tally

__all__ = ["Sending"]


class Sending:
    """Takes drafts in, and says what became of them. `users` are those with a connection, `emit` takes the effects."""

    def __init__(
        self,
        users: Mapping[str, User],
        intake: Intake,
        delivery: Delivery,
        refusals: Refusals,
        emit: Callable[[Effect], None],
        tally: Tally,
        *,
        judged: bool,
    ) -> None:
        self._users = users
        self._intake = intake
        self._delivery = delivery
        self._refusals = refusals
        self._emit = emit
        self._tally = tally
        self._judging = Judging(intake, emit)
        self._judged = judged

    # What clients send.

    def send(self, connection: Connection, frame: wire.Send, now: float) -> None:
        sender = connection.user.name
        self._draft(connection, Draft(connection.id, sender, frame.to, frame.id, frame.text, target=frame.reply_to), now)

    def edit(self, connection: Connection, frame: wire.Edit, now: float) -> None:
        sender = connection.user.name
        self._draft(connection, Draft(connection.id, sender, frame.to, frame.id, frame.text, "edit", frame.target), now)

    def delete(self, connection: Connection, frame: wire.Delete, now: float) -> None:
        sender = connection.user.name
        self._draft(connection, Draft(connection.id, sender, frame.to, frame.id, None, "delete", frame.target), now)

    def _draft(self, connection: Connection, draft: Draft, now: float) -> None:
        if self._refusals.in_force(connection, draft.id, now):
            return
        buckets = connection.user.buckets
        wait = buckets.sends.take(now)
        if not wait and (wait := buckets.texts.take(now, len((draft.text or "").encode()))):
            buckets.sends.put_back()
        if wait:
            self._refusals.draft(connection, draft.id, ErrorCode.RATE_LIMITED, now, wait)
        elif self._intake.full:
            self._refusals.draft(connection, draft.id, ErrorCode.OVERLOADED, now)
        else:
            size = _size(draft)
            connection.take_on(size)
            pending = Pending(draft, size, connection)
            if self._judged:
                self._judging.submit(pending)
            else:
                self._intake.add_draft(pending)

    # What the application says of it.

    def judged(self, event: Judged, now: float) -> Connection | None:
        """Store the draft, or refuse it; returns the connection that sent it, if it was answered."""
        pending = self._judging.judged(event.serial)
        if pending is None:
            return None
        verdict = event.verdict
        if isinstance(verdict, Draft):
            size = _size(verdict)
            assert pending.connection is not None  # the application's own drafts are not judged
            pending.connection.unanswered_bytes += size - pending.size
            self._intake.add_draft(replace(pending, command=verdict, size=size))
            return None
        self._refuse(pending, verdict.code, now, verdict.message)
        if verdict.code.retryable:
            for later in self._judging.withdraw({pending.source}):
                self._refuse(later, verdict.code, now)
        return pending.connection

    # What the application sends.

    def request(self, ticket: Ticket, draft: Draft) -> None:
        """Commit a draft of the application's own: beside all streams, so it has a source to itself (S4)."""
        pending = Pending(draft, _size(draft), ticket=ticket)
        self._intake.add_draft(replace(pending, command=replace(draft, source=pending.source)))

    # What the store says.

    def committed(self, drafts: Sequence[Pending[Draft]], results: Sequence[Stored | Refused], now: float) -> None:
        """Answer each draft, and bring the entries to who is connected."""
        pairs = list(zip(drafts, results, strict=True))
        gone = {
            (pending.command.sender, pending.command.target)
            for pending, result in pairs
            if pending.command.kind == "delete" and isinstance(result, Stored) and result.new
        }
        refused: dict[int, ErrorCode] = {}
        for pending, result in pairs:
            if isinstance(result, Stored):
                self._stored(pending, result, gone)
            else:
                self._refuse(pending, result.code, now)
                if result.code.retryable:
                    refused.setdefault(pending.source, result.code)
        # Looking through all that waits is worth it only for who has something waiting.
        waiting = {
            pending.source
            for pending in drafts
            if pending.source in refused and pending.connection is not None and pending.connection.unanswered
        }
        withdrawn = [*self._intake.withdraw_drafts(waiting), *self._judging.withdraw(waiting)] if waiting else ()
        for pending in withdrawn:
            self._refuse(pending, refused[pending.source], now)

    def _refuse(self, pending: Pending[Draft], code: ErrorCode, now: float, message: str | None = None) -> None:
        connection = pending.connection
        if connection is None:
            self._fulfil(pending, Refused(code))
            return
        connection.answered(pending.size)
        if not connection.gone:
            self._refusals.draft(connection, pending.command.id, code, now, message=message)

    def _stored(self, pending: Pending[Draft], stored: Stored, gone: Iterable[tuple[str, str | None]]) -> None:
        draft, connection = pending.command, pending.connection
        if stored.new:
            self._tally.stored += 1
            # What is deleted by the time it is committed must not leave with its text: the store would not show it, either.
            own = draft.id if draft.kind == "message" else draft.target
            text = None if (draft.sender, own) in gone else draft.text
            self._enter(draft.sender, pending, stored, stored.seq, text)
            if stored.peer_seq:
                self._enter(draft.recipient, pending, stored, stored.peer_seq, text)
        if connection is None:
            self._fulfil(pending, stored)
            return
        connection.answered(pending.size)
        if not connection.gone:
            self._delivery.named(connection, stored.seq)
            item = wire.StoredItem(id=draft.id, seq=stored.seq, sent_at=stored.sent_at, text=stored.text)
            self._emit(Send(connection.id, wire.Stored(messages=[item])))

    def _fulfil(self, pending: Pending[Draft], result: Stored | Refused) -> None:
        assert pending.ticket is not None
        self._emit(Fulfil(pending.ticket, result))

    def _enter(self, name: str, pending: Pending[Draft], stored: Stored, seq: int, text: str | None) -> None:
        """The log of the user `name` has a new last entry."""
        user = self._users.get(name)
        if user is None:
            return
        user.head = max(user.head, seq)
        draft = pending.command
        message = Message(
            seq=seq,
            id=draft.id,
            sender=draft.sender,
            recipient=draft.recipient,
            text=text,
            sent_at=stored.sent_at,
            kind=draft.kind,
            reply_to=draft.target if draft.kind == "message" else None,
            target=draft.target if draft.kind != "message" else None,
        )
        for connection in user.connections.values():
            self._delivery.committed(connection, message, own=connection is pending.connection)


def _size(draft: Draft) -> int:
    return weigh(draft.id, draft.recipient, draft.text, draft.target)
