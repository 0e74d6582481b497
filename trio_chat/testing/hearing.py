"""What one device has heard: sorted, and told to whom an expectation has failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from .. import wire
from ..model import Message

__all__ = ["Hearing", "described"]

Frame = TypeVar("Frame", bound=wire.ServerFrame)

_SHOWN: Final = 20
"""So many of the latest frames are shown: more hide what matters."""


class Hearing:
    """The frames that came to one device, over all its connections."""

    def __init__(self) -> None:
        self.position: int = 0
        """The device has everything up to here (A2): what it acknowledges, and where it resumes."""
        self._ahead: set[int] = set()
        self._all: list[wire.ServerFrame] = []
        self._messages: list[Message] = []
        self._others: list[wire.ServerFrame] = []
        self._awaited: set[str] = set()
        self._answers: dict[str, wire.StoredItem | wire.Error] = {}

    def welcomed(self, welcome: wire.Welcome, *, same: bool) -> None:
        """A connection begins, by the same history as before or another one."""
        self._all.append(welcome)
        if not same:
            self._ahead.clear()
            self.position = welcome.cursor

    def forget_unacknowledged(self) -> None:
        """The device has lost what it did not have safely; it comes again."""
        self._ahead.clear()
        self._messages = [message for message in self._messages if message.seq <= self.position]

    def hear(self, frame: wire.ServerFrame) -> None:
        """Sort what came."""
        self._all.append(frame)
        match frame:
            case wire.Messages(messages=messages):
                self._messages += [message for message in messages if self._is_new(message.seq)]
            case wire.Stored(messages=items):
                for item in items:
                    self._is_new(item.seq)
                    if item.id in self._awaited:
                        self._answers[item.id] = item
                if any(item.id not in self._awaited for item in items):
                    self._others.append(frame)
            case wire.Error(id=str(id)) if id in self._awaited:
                self._answers[id] = frame
            case wire.Gap(last=last):
                self._ahead |= set(range(self.position + 1, last + 1))
                self._others.append(frame)
            case _:
                self._others.append(frame)

    def _is_new(self, seq: int) -> bool:
        """What was sent again after a lost acknowledgement is held already (A3)."""
        if seq <= self.position or seq in self._ahead:
            return False
        self._ahead.add(seq)
        return True

    def settle(self) -> bool:
        """Move the position over what has come without a hole; whether it moved."""
        before = self.position
        while self.position + 1 in self._ahead:
            self.position += 1
            self._ahead.discard(self.position)
        return self.position > before

    def awaits(self, id: str) -> None:
        """What is said about the message `id` is for `answer`, and for no expectation."""
        self._awaited.add(id)
        self._answers.pop(id, None)

    def answer(self, id: str) -> wire.StoredItem | wire.Error | None:
        """What the server said about the message `id`, if it has."""
        return self._answers.get(id)

    def next_message(self, *, own_of: str | None) -> Message | None:
        """The oldest message that nobody expected yet; those sent by `own_of` are passed over."""
        while self._messages:
            message = self._messages.pop(0)
            if message.sender != own_of:
                return message
        return None

    def next_frame(self, kind: type[Frame], fields: Mapping[str, Any]) -> Frame | None:
        """The oldest frame of this kind with these fields that nobody expected yet, whatever came before it."""
        for index, frame in enumerate(self._others):
            if isinstance(frame, kind) and fits(frame, fields):
                del self._others[index]
                return frame
        return None

    def __str__(self) -> str:
        lines = [f"    {described(frame)}" for frame in self._all[-_SHOWN:]]
        if len(self._all) > _SHOWN:
            lines.insert(0, f"    … {len(self._all) - _SHOWN} frames before")
        return "\n".join(lines)


def fits(value: object, fields: Mapping[str, Any]) -> bool:
    """Whether `value` has these fields.

    Raises:
        AttributeError: it has no field of such a name.
    """
    return all(getattr(value, name) == wanted for name, wanted in fields.items())


def described(value: wire.ServerFrame | Message) -> str:
    """A frame or a message on one line, with what matters to a reader."""
    match value:
        case Message(text=None):
            return f"{value.seq}: {value.kind} from {value.sender} to {value.recipient}, target={value.target!r}"
        case Message():
            kind = "" if value.kind == "message" else f"{value.kind} "
            return f"{value.seq}: {kind}from {value.sender} to {value.recipient}: {value.text!r}"
        case wire.Messages(messages=messages):
            return "messages " + "; ".join(map(described, messages))
        case wire.Welcome(user=user, device=device, cursor=cursor, head=head):
            return f"welcome user={user!r} device={device!r} cursor={cursor} head={head}"
    return repr(value)
