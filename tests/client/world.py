"""A server for one user, a line that breaks, and a program: what a `Dialogue` is driven by, without I/O.

The server does what the protocol says and nothing else; whatever it is asked that it must not be asked is an assertion here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from trio_chat import wire
from trio_chat.client.dialogue import Answered, Dialogue, Effect, Fault, Notice, Refusal, Write
from trio_chat.client.inbox import Held, Inbox, Remembered
from trio_chat.client.outbox import Command
from trio_chat.client.records import Done, Forgotten, Owner, Pending, Position, Record, Seen
from trio_chat.client.values import Event, Stored
from trio_chat.model import Message

USER, DEVICE = "alice", "phone"
WINDOW = 4
FEATURES = [*wire.FEATURES]
MANY = 10_000


def entry(seq: int, id: str, sender: str = "bob", recipient: str = USER, kind: str = "message") -> Message:
    return Message(seq=seq, id=id, sender=sender, recipient=recipient, text=f"text of {id}", sent_at=seq, kind=kind)


def welcome(log: str = "log", cursor: int = 0, head: int = 0, **limits: float) -> wire.Welcome:
    return wire.Welcome(
        user=USER,
        device=DEVICE,
        log=log,
        head=head,
        floor=0,
        cursor=cursor,
        new=False,
        features=FEATURES,
        limits={"window": WINDOW, **limits},
    )


class Memory:
    """What a state file holds; also the model that the file is compared with."""

    def __init__(self) -> None:
        self.owner: Owner | None = None
        self.log: str | None = None
        self.position = 0
        self.done: set[int] = set()
        self.seen: list[bytes] = []
        self.outbox: dict[str, bytes] = {}

    def apply(self, records: Sequence[Record]) -> None:
        for record in records:
            match record:
                case Owner():
                    self.owner = record
                case Position(log, position):
                    self.done = {seq for seq in self.done if seq > position} if log == self.log else set()
                    self.log, self.position = log, position
                case Done(seq):
                    self.done.add(seq)
                case Seen(key):
                    self.seen.append(key)
                case Pending(id, frame):
                    self.outbox.setdefault(id, frame)
                case Forgotten(id):
                    self.outbox.pop(id, None)

    def dialogue(self) -> Dialogue:
        """A client that starts from this."""
        dialogue = Dialogue(Inbox(self.log, self.position, sorted(self.done), Remembered(self.seen, limit=MANY)), self.owner)
        for frame in self.outbox.values():
            command = wire.decode(frame, text_bytes=len(frame))
            assert isinstance(command, wire.Send | wire.Edit | wire.Delete)
            dialogue.outbox.add(command, tried=True)
        return dialogue


class Server:
    """The log of one user, and what has been made of its sends."""

    def __init__(self) -> None:
        self.histories = 1
        self.entries: list[Message] = []
        self.floor = 0
        self.cursor = 0
        self.answers: dict[str, wire.StoredItem] = {}

    @property
    def log(self) -> str:
        return f"log-{self.histories}"

    @property
    def head(self) -> int:
        return len(self.entries)

    def append(self, id: str, sender: str, kind: str = "message") -> Message:
        message = entry(self.head + 1, id, sender, "bob" if sender == USER else USER, kind)
        self.entries.append(message)
        return message

    def restore(self, keep: int, *, renamed: bool) -> None:
        """A backup is put back, in which only so many entries were."""
        self.entries = self.entries[: max(keep, self.floor)]
        self.answers = {id: item for id, item in self.answers.items() if item.seq <= self.head}
        self.cursor = min(self.cursor, self.head)
        self.histories += renamed


class Line:
    """A connection: frames under way in both directions, and what the server knows of it."""

    def __init__(self, server: Server, log: str | None, after: int) -> None:
        self.server = server
        self.log = server.log
        known = log == server.log and after <= server.head
        self.start = after if known else server.cursor
        if known:
            server.cursor = max(server.cursor, after)
        self.sent = self.acked = self.start
        self.own: set[int] = set()  # sent by `stored` alone
        self.told: set[int] = set()  # told by `stored`
        self.window = WINDOW
        self.refusing: tuple[str, float] | None = None
        self.to_client: list[wire.ServerFrame] = []
        self.to_server: list[wire.ClientFrame] = []

    def read(self, frame: wire.ClientFrame, refuse: str | None, now: float) -> None:
        """The server takes a frame."""
        match frame:
            case wire.Ack(seq=seq):
                unsent = [at for at in range(self.sent + 1, seq + 1) if at not in self.told]
                assert not unsent, "acknowledged what was not sent (A1)"
                assert seq > self.acked, "acknowledged the same again"
                self.acked = seq
                self.sent = max(self.sent, seq)
                self.server.cursor = max(self.server.cursor, seq)
            case wire.Send() | wire.Edit() | wire.Delete():
                self._send(frame, refuse, now)
            case _:
                raise AssertionError(frame)

    def _send(self, frame: Command, refuse: str | None, now: float) -> None:
        server = self.server
        if item := server.answers.get(frame.id):
            self.told.add(item.seq)
            self.to_client.append(wire.Stored(messages=[item]))
            return
        if self.refusing is not None:
            code, until = self.refusing
            if now < until:
                self._error(frame, code, 1.0)
                return
            self.refusing = None
        if refuse in ("rate_limited", "overloaded", "mailbox_full"):
            self.refusing = (refuse, now + 1.0)
            self._error(frame, refuse, 1.0)
        elif refuse is not None:
            self._error(frame, refuse, None)
        else:
            caught_up = self.sent == server.head
            message = server.append(frame.id, USER, "message")
            item = server.answers[frame.id] = wire.StoredItem(frame.id, message.seq, message.sent_at)
            if caught_up:  # C5
                self.sent = message.seq
                self.own.add(message.seq)
            self.told.add(item.seq)
            self.to_client.append(wire.Stored(messages=[item]))

    def _error(self, frame: Command, code: str, retry_after: float | None) -> None:
        self.to_client.append(wire.Error(code=code, message="no", id=frame.id, retry_after=retry_after))

    def push(self, count: int) -> None:
        """The server sends what the window allows, at most `count` entries."""
        server = self.server
        if self.sent < server.floor:
            self.to_client.append(wire.Gap(first=self.sent + 1, last=server.floor))
            self.sent = server.floor
        outstanding = self.sent - self.acked - sum(seq > self.acked for seq in self.own)
        count = min(count, self.window - outstanding)
        if count > 0 and (page := server.entries[self.sent : self.sent + count]):
            self.sent = page[-1].seq
            self.to_client.append(wire.Messages(messages=page, head=server.head))


class Program:
    """The client, and a program that uses it: what it was given, what it is done with, and what it sent."""

    def __init__(self, memory: Memory, *, own: bool) -> None:
        self.memory = memory
        self.own = own
        self.dialogue = memory.dialogue()
        self.unwritten: list[tuple[Record | None, Callable[[], None] | None]] = []
        self.given: list[Held] = []
        self.order: list[tuple[str, int]] = []
        """In which log, and where, what was given stood."""
        self.finished: set[bytes] = set()
        self.promised: set[bytes] = set()
        """Of that, what is written down."""
        self.stored: dict[str, int] = {}
        self.refused: dict[str, Refusal] = {}
        self.answered: list[Answered] = []
        self.events: list[Event] = []
        self.fault: Fault | None = None
        self.carry_out(list(map(Write, self.dialogue.inbox.choose(own=own, changes=False))))

    def carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Write(record):
                    self.unwritten.append((record, None))
                case Stored(id, seq, _):
                    self.stored[id] = seq
                case Refusal(command, _):
                    self.refused[command.id] = effect
                case Answered():
                    self.answered.append(effect)
                case Notice(event):
                    self.events.append(event)
                case Fault():
                    self.fault = effect

    def commit(self) -> None:
        """What was to be written is."""
        unwritten, self.unwritten = self.unwritten, []
        self.memory.apply([record for record, _ in unwritten if record is not None])
        for record, then in unwritten:
            if isinstance(record, Position):
                self.dialogue.inbox.committed(record.log, record.position)
            if isinstance(record, Seen):
                self.promised.add(record.key)
            if then is not None:
                then()

    def send(self, id: str, to: str) -> None:
        command = wire.Send(id=id, to=to, text="hi")
        self.unwritten.append((Pending(id, wire.encode(command)), lambda: self.dialogue.outbox.add(command)))

    def take(self) -> Held | None:
        held = self.dialogue.inbox.take()
        if held is not None:
            assert held.key not in self.finished, "given though the program is done with it"
            assert held.message.kind == "message"
            assert self.own or held.message.sender != USER
            self.given.append(held)
        return held

    def finish(self, held: Held) -> None:
        self.given.remove(held)
        self.finished.add(held.key)
        self.carry_out(list(map(Write, self.dialogue.inbox.finish(held))))

    def iterate_anew(self) -> None:
        self.given.clear()
        self.carry_out(list(map(Write, self.dialogue.inbox.choose(own=self.own, changes=False))))


def plain(frame: msgspec.Struct) -> dict[str, object]:
    """The frame as JSON has it."""
    return dict(msgspec.json.decode(wire.encode(frame)))  # type: ignore[arg-type]
