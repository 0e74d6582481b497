"""What the client makes of the server's frames, and what it answers: all its decisions, without I/O.

Frames go in, effects come out: what is to be told to the program, and what has to be written down. Nothing here waits, and
time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, Union

from msgspec import Struct

from .. import wire
from ..errors import ClosedForGood, ConnectionClosed, ErrorCode, WrongOwner
from ..model import Message
from .inbox import Inbox
from .outbox import Command, Outbox, Refusal
from .records import Forgotten, Owner, Record
from .requests import Answered, Requests
from .values import Connected, Event, Gap, PresenceChanged, ReadElsewhere, ReceiptChanged, Stored, Typing

__all__ = ["Answered", "Dialogue", "Effect", "Fault", "Notice", "Refusal", "Stored", "Write", "wrong_owner"]


class Write(Struct, frozen=True):
    """To be written to the state file, if there is one."""

    record: Record


class Notice(Struct, frozen=True):
    """To be told to whoever listens to events."""

    event: Event


class Fault(Struct, frozen=True):
    """The client is to close, for good."""

    error: ConnectionClosed


_WATCH: Final = "watch"
_MARKS: Final = 1000
"""Peers whose read marks are sent again after a reconnect."""

Effect: TypeAlias = Union[Write, Notice, Fault, Stored, Refusal, Answered]


class Dialogue:
    """The client's side of the conversation with the server, over one connection after the other.

    Args:
        inbox: what was received so far.
        owner: the user and device that it is of, None if that is not known yet; the device may be "" as long as it is not.
    """

    def __init__(self, inbox: Inbox, owner: Owner | None) -> None:
        self.inbox = inbox
        self.outbox: Outbox = Outbox()
        self.requests: Requests = Requests()
        self.owner = owner
        self.send_only = False
        self.welcome: wire.Welcome | None = None
        """Of the present connection; None between two."""
        self._typing: dict[str, bool] = {}
        self._receipts: dict[str, tuple[int, int]] = {}
        self._read: dict[str, int] = {}  # marks to be sent
        self._read_sent: dict[str, int] = {}  # …and those that this connection may take with it when it breaks
        self._watched: tuple[str, ...] | None = None
        self._watch_due = False
        self._handlers: dict[type, Callable[..., list[Effect]]] = {
            wire.Messages: self._messages,
            wire.Stored: self._stored,
            wire.Gap: self._gap,
            wire.Error: self._error,
            wire.TypingFrom: self._typed,
            wire.Receipt: self._receipt,
            wire.ReadElsewhere: self._read_elsewhere,
            wire.Presence: self._presence,
        }

    # Connections.

    def begin(self, welcome: wire.Welcome) -> list[Effect]:
        """The first frame of a connection."""
        here = Owner(welcome.user, welcome.device)
        if self.owner is not None and here != Owner(self.owner.user, self.owner.device or here.device):
            return [Fault(wrong_owner(here, self.owner))]
        effects: list[Effect] = []
        if self.owner is None or not self.owner.device:
            self.owner = here
            effects.append(Write(here))
        self.welcome = welcome
        self.outbox.begin(welcome.features, welcome.limits)
        self.requests.begin(welcome.features)
        self._watch_due = self._watched is not None
        if self.inbox.log not in (None, welcome.log):  # positions of another history
            self._receipts.clear()
            self._read.clear()
        if not self.send_only:
            window = int(welcome.limits.get("window", 256))
            effects += map(Write, self.inbox.begin(welcome.user, welcome.log, welcome.cursor, window))
        effects.append(Notice(Connected(welcome.user, welcome.device, welcome.new)))
        return effects

    def end(self) -> None:
        """The connection is gone."""
        self.welcome = None
        self._typing.clear()
        self._read = _higher(self._read_sent, self._read)
        self._read_sent = {}
        self.inbox.end()
        self.outbox.end()
        self.requests.end()

    # The server's frames.

    def receive(self, frame: wire.ServerFrame, now: float) -> list[Effect]:
        """A frame that is not the first."""
        if handler := self._handlers.get(type(frame)):
            return handler(frame, now)
        ref = getattr(frame, "ref", None)
        if ref is not None and (answered := self.requests.answer(ref, frame)):
            return [answered]
        return []

    def _messages(self, frame: wire.Messages, _: float) -> list[Effect]:
        assert self.welcome is not None
        effects: list[Effect] = []
        for message in frame.messages:
            if message.sender == self.welcome.user:  # it may be one whose answer was lost
                effects += self._settled(message.id, message.seq, message.sent_at)
            effects += map(Write, self.inbox.entry(message))
        return effects

    def _stored(self, frame: wire.Stored, _: float) -> list[Effect]:
        assert self.welcome is not None
        effects: list[Effect] = []
        for item in frame.messages:
            command = self.outbox.get(item.id)
            effects += self._settled(item.id, item.seq, item.sent_at)
            if not self.send_only:
                message = None if command is None else _entry(self.welcome.user, command, item)
                effects += map(Write, self.inbox.stored(item.seq, message))
        return effects

    def _settled(self, id: str, seq: int, sent_at: int) -> list[Effect]:
        if self.outbox.stored(id) is None:
            return []
        return [Stored(id, seq, sent_at), Write(Forgotten(id))]

    def _gap(self, frame: wire.Gap, _: float) -> list[Effect]:
        return [Notice(Gap(frame.first, frame.last)), *map(Write, self.inbox.gap(frame.last))]

    def _error(self, frame: wire.Error, now: float) -> list[Effect]:
        if frame.ref is not None:
            answered = self.requests.error(frame, now)
            return [answered] if answered else []
        if frame.id is not None:
            refused = self.outbox.error(frame, now)
            return self._refused(refused) if refused else []
        if frame.code == ErrorCode.BAD_FRAME:  # S3: a send that nobody can name would be under way for ever
            return [Fault(ClosedForGood(f"a fault of this client: {frame.message}"))]
        return []

    def _refused(self, refused: Refusal) -> list[Effect]:
        return [refused, Write(Forgotten(refused.command.id))]

    def _typed(self, frame: wire.TypingFrom, _: float) -> list[Effect]:
        return [Notice(Typing(frame.sender, frame.typing))]

    def _receipt(self, frame: wire.Receipt, _: float) -> list[Effect]:
        delivered, read = self._receipts.get(frame.peer, (0, 0))
        now = (max(delivered, frame.delivered, frame.read), max(read, frame.read))
        if now == (delivered, read):
            return []
        self._receipts[frame.peer] = now
        return [Notice(ReceiptChanged(frame.peer, *now))]

    def _read_elsewhere(self, frame: wire.ReadElsewhere, _: float) -> list[Effect]:
        return [Notice(ReadElsewhere(frame.peer, frame.seq))]

    def _presence(self, frame: wire.Presence, _: float) -> list[Effect]:
        return [Notice(PresenceChanged(frame.user, frame.online, frame.last_seen))]

    # The client's frames.

    def mark_read(self, peer: str, seq: int) -> None:
        """To be sent as soon as possible, and again if the connection breaks: marks only ever rise."""
        if seq > self._read_sent.get(peer, -1):
            self._read = _higher(self._read, {peer: seq})

    def watch(self, users: tuple[str, ...]) -> None:
        """Whose presence to follow, on this connection and those after it."""
        self._watched, self._watch_due = users, True

    def typing(self, to: str, *, on: bool) -> None:
        """To be sent as soon as possible, or not at all."""
        if self.welcome is not None:
            self._typing[to] = on

    def next(self, now: float) -> tuple[list[wire.ClientFrame], list[Effect]]:
        """What is to be sent now."""
        frames: list[wire.ClientFrame] = []
        effects: list[Effect] = []
        if self.welcome is None:
            return frames, effects
        features = self.welcome.features
        if "ack" in features and (seq := self.inbox.due()) is not None:
            frames.append(wire.Ack(seq=seq))
        for command in self.outbox.next(now):
            if isinstance(command, Refusal):
                effects += self._refused(command)
            else:
                frames.append(command)
        for request in self.requests.next(now):
            if isinstance(request, Answered):
                effects.append(request)
            else:
                frames.append(request)
        if "read" in features:
            frames += [wire.Read(peer=peer, seq=seq) for peer, seq in self._read.items()]
            self._read_sent = _higher(self._read_sent, self._read)
            self._read = {}
        if self._watch_due and self._watched is not None and "watch" in features:
            self._watch_due = False
            frames.append(wire.Watch(ref=_WATCH, users=self._watched))
        if "typing" in features:
            frames += [wire.Typing(to=to, typing=on) for to, on in self._typing.items()]
        self._typing.clear()
        return frames, effects

    def deadline(self) -> float | None:
        """When `next` may have something, though nothing happens before."""
        deadlines = [at for at in (self.outbox.deadline(), self.requests.deadline()) if at is not None]
        return min(deadlines, default=None)


def _higher(marks: dict[str, int], others: dict[str, int]) -> dict[str, int]:
    """The higher of the marks for each peer; the latest so many peers."""
    marks = {peer: seq for peer, seq in marks.items() if peer not in others} | {
        peer: max(seq, marks.get(peer, 0)) for peer, seq in others.items()
    }
    return dict(list(marks.items())[-_MARKS:])


def _entry(user: str, command: Command, item: wire.StoredItem) -> Message:
    """The own message as it stands in the log: the server does not send it back (C5)."""
    return Message(
        seq=item.seq,
        id=item.id,
        sender=user,
        recipient=command.to,
        text=None if isinstance(command, wire.Delete) else command.text if item.text is None else item.text,
        sent_at=item.sent_at,
        kind="message" if isinstance(command, wire.Send) else str(command.__struct_config__.tag),
        reply_to=command.reply_to if isinstance(command, wire.Send) else None,
        target=None if isinstance(command, wire.Send) else command.target,
    )


def wrong_owner(here: Owner, expected: Owner) -> WrongOwner:
    """The server takes the client for another than its state is of: a position must not be used for it."""
    device = f", device {expected.device!r}" if expected.device else ""
    return WrongOwner(
        f"the server takes this client for {here.user!r}, device {here.device!r}, and not for {expected.user!r}{device}"
    )
