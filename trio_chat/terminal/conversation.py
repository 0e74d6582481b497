"""What is to be seen of a conversation: its lines in the order of the log, and what became of one's own. Without I/O."""

from __future__ import annotations

import enum
import math
from bisect import insort
from typing import Final

from msgspec import Struct

from ..client import IncomingMessage
from ..model import Message

__all__ = ["Conversation", "Line", "Note", "State"]

_LINES: Final = 2_000
"""So many are kept; what is older is asked for again when somebody leafs back."""


class State(enum.Enum):
    """What is known of an own message. The words are shown."""

    SENT = "sent"
    STORED = "stored"
    DELIVERED = "delivered"
    READ = "read"
    REFUSED = "refused"


class Line(Struct, eq=False):
    """A message. `seq` and `at` (Unix milliseconds) are None as long as it is not known to be stored."""

    id: str
    sender: str
    mine: bool
    text: str | None
    seq: int | None = None
    at: int | None = None
    edited: int = 0
    """The seq of the newest edit that is shown, 0 if none is."""
    refusal: str | None = None
    place: tuple[float, int] = (math.inf, 0)


class Note(Struct, eq=False):
    """Something that the program itself says, between the messages."""

    text: str
    place: tuple[float, int] = (math.inf, 0)


class Conversation:
    """One user's conversation with `peer`, as far as it is known.

    Lines stand in the order of the log; those that are not stored yet at the end, in the order in which they were written.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.me: str | None = None
        self.items: list[Line | Note] = []
        self._lines: dict[tuple[bool, str], Line] = {}
        self._delivered = 0
        self._read = 0
        self._count = 0
        self._newest = 0  # seq

    @property
    def oldest(self) -> int | None:
        """The first seq that is known; None if none is."""
        return next((item.seq for item in self.items if isinstance(item, Line) and item.seq is not None), None)

    @property
    def heard(self) -> int:
        """The seq of the newest message from `peer`, 0 if there is none."""
        return next((line.seq for line in reversed(self.items) if isinstance(line, Line) and not line.mine and line.seq), 0)

    @property
    def mutual(self) -> bool:
        """Whether both have written."""
        return {line.mine for line in self._lines.values() if line.seq is not None} == {True, False}

    @property
    def unsettled(self) -> int:
        """How many own lines are not known to be stored, or to be refused."""
        return sum(self.state(line) is State.SENT for line in self._lines.values() if line.mine)

    def state(self, line: Line) -> State:
        """What is known of an own line."""
        if line.refusal is not None:
            return State.REFUSED
        if line.seq is None:
            return State.SENT
        if line.seq <= self._read:
            return State.READ
        return State.DELIVERED if line.seq <= self._delivered else State.STORED

    # What happens.

    def note(self, text: str) -> None:
        """Say something below what there is."""
        self._insert(Note(text, self._place(self._newest)))

    def said(self, id: str, text: str) -> None:
        """A line of one's own, on its way."""
        line = Line(id, self.me or "", mine=True, text=text)
        line.place = self._place(None)
        self._lines[True, id] = line
        self._insert(line)

    def stored(self, id: str, seq: int, at: int) -> None:
        """An own line has its place in the log."""
        if line := self._lines.get((True, id)):
            self._settle(line, seq, at)

    def refused(self, id: str, why: str) -> None:
        """An own line is not stored, for `why`."""
        if line := self._lines.get((True, id)):
            line.refusal = why

    def receipt(self, delivered: int, read: int) -> None:
        """`peer` has the own messages up to a seq, and has read those up to another."""
        self._read = max(self._read, read)
        self._delivered = max(self._delivered, delivered, read)

    def entry(self, message: Message | IncomingMessage) -> None:
        """An entry of the log, or a message as it is now; whichever, however often."""
        mine = message.sender != self.peer or message.recipient == message.sender
        if message.kind != "message":
            self._change(message, mine=mine)
            return
        edited = (message.edit_seq or 0) if isinstance(message, Message) else 0
        line = self._lines.get((mine, message.id))
        if line is None:
            line = self._lines[mine, message.id] = Line(message.id, message.sender, mine, message.text, edited=edited)
            line.seq, line.at = message.seq, message.sent_at
            line.place = self._place(message.seq)
            self._insert(line)
        else:
            if message.text is None or (line.text is not None and edited > line.edited):
                line.text, line.edited = message.text, edited
            self._settle(line, message.seq, message.sent_at)
        self._newest = max(self._newest, message.seq)
        self._trim()

    def _change(self, message: Message | IncomingMessage, *, mine: bool) -> None:
        """An edit or a deletion; the page that has its target will show it as well, if that is not here yet."""
        line = self._lines.get((mine, message.target or ""))
        if line is None:
            return
        if message.kind == "delete":
            line.text = None
        elif line.text is not None and message.seq > line.edited:
            line.text, line.edited = message.text, message.seq

    def _settle(self, line: Line, seq: int, at: int) -> None:
        line.refusal = None
        if line.seq != seq:
            self.items.remove(line)
            line.seq, line.at = seq, at
            line.place = self._place(seq)
            self._newest = max(self._newest, seq)
            self._insert(line)

    def _place(self, seq: int | None) -> tuple[float, int]:
        self._count += 1
        return (math.inf if seq is None else seq), self._count

    def _insert(self, item: Line | Note) -> None:
        insort(self.items, item, key=lambda item: item.place)

    def _trim(self) -> None:
        while len(self.items) > _LINES:
            item = self.items.pop(0)
            if isinstance(item, Line):
                del self._lines[item.mine, item.id]
