"""Commands that are sent until their fate is known (S4, S5), without I/O.

Whoever drives it asks `next` what to send, whenever something has happened or `deadline` has come, and says what was
answered. Commands leave in the order in which they were added, except that after ``mailbox_full`` those to that recipient
wait behind the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final, TypeAlias, Union

from msgspec import Struct

from .. import wire
from ..errors import ErrorCode, Fate, NotOffered, RequestRefused

__all__ = ["Command", "Outbox", "Refusal"]

Command: TypeAlias = Union[wire.Send, wire.Edit, wire.Delete]
"""A frame that has an `id` and is answered by ``stored``."""

_UNDER_WAY: Final = 64
_AT_FIRST: Final = 2
"""Under way on a fresh connection, and one more with each answer: on a line that breaks all the time, a connection would
else be used up by sending everything again before the first answer comes."""
_UNDER_WAY_BYTES: Final = 128 * 1024  # the server reads no more than that ahead of its commits
_LONGEST: Final = 60.0
"""Seconds: the pause grows with each refusal in a row, up to this."""
_UNSETTLING: Final = {ErrorCode.TOO_LARGE, ErrorCode.NOT_ALLOWED}
"""They say nothing about an earlier attempt whose fate is unknown: the limit, or the policy, may have changed since."""


class Refusal(Struct, frozen=True):
    """A command has left the outbox without being stored, as far as is known."""

    command: Command
    error: RequestRefused


class _Item(Struct, eq=False):
    command: Command
    size: int
    tried: bool
    """Whether there was an attempt of unknown fate."""
    before: bool = False
    """The same, before the attempt that is under way."""
    probe: bool = False

    @property
    def recipient(self) -> str:
        return self.command.to


class _Full(Struct):
    times: int
    at: float


class Outbox:
    """See the module. All times are monotonic seconds of one clock."""

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self._ready: deque[_Item] = deque()  # not under way, in order
        self._under_way: dict[str, _Item] = {}
        self._bytes = 0  # of those under way
        self._allowed = _AT_FIRST
        self._open = False
        self._features: Collection[str] = ()
        self._limits: Mapping[str, float] = {}
        # Since the first error of a refusal, until nothing is under way (S4).
        self._refused = False
        self._counted = False
        self._found = False
        self._refusals = 0
        self._not_before = 0.0
        self._full: dict[str, _Full] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, id: str) -> Command | None:
        """The command with this id, if it is in here."""
        item = self._items.get(id)
        return None if item is None else item.command

    def add(self, command: Command, *, tried: bool = False) -> None:
        """Have a command sent after those that are there.

        Args:
            command: its `id` is none that is in here.
            tried: it may have been sent before, by an earlier process.
        """
        item = _Item(command, len(wire.encode(command)), tried)
        assert command.id not in self._items
        self._items[command.id] = item
        self._ready.append(item)

    def begin(self, features: Collection[str], limits: Mapping[str, float]) -> None:
        """A connection is open, to a server that takes these frames within these limits."""
        self._open, self._features, self._limits = True, features, limits
        self._allowed = _AT_FIRST

    def end(self) -> None:
        """The connection is gone. What was under way is of unknown fate, and goes first again."""
        self._open = False
        self._under_way.clear()
        self._bytes = 0
        self._rebuild()

    def stored(self, id: str) -> Command | None:
        """The server has it; None if it is not in here (any more)."""
        item = self._take(id)
        if item is None:
            return None
        self._refusals = 0
        self._allowed = min(self._allowed + 1, _UNDER_WAY)
        if item.probe:
            self._full.pop(item.recipient, None)
            self._rebuild()
        return item.command

    def error(self, frame: wire.Error, now: float) -> Refusal | None:
        """An ``error`` that names an id; gives what it ends for good, if anything."""
        item = self._under_way.get(frame.id or "")
        if item is None:
            return None
        final = frame.retry_after is None
        if not item.before and (final or _fate(frame.code) is Fate.LATER):
            item.tried = False
        if final:
            return self._drop(item, frame.code, frame.message)
        self._land(item)
        self._refuse(item, frame.code, frame.retry_after or 0.0, now)
        return None

    def next(self, now: float) -> list[Command | Refusal]:
        """What is to be sent now; and what is not even sent, because the server has said that it does not take it."""
        if not self._open or (self._refused and (self._under_way or now < self._not_before)):
            return []
        if self._refused:
            self._refused = self._counted = self._found = False
            self._rebuild()
        sends: list[Command | Refusal] = []
        aside: dict[str, _Item] = {}
        skipped: list[_Item] = []
        while self._ready and len(self._under_way) < self._allowed:
            item = self._ready[0]
            if item.recipient in self._full:
                aside.setdefault(item.recipient, item)
                skipped.append(self._ready.popleft())
                continue
            if self._under_way and self._bytes + item.size > _UNDER_WAY_BYTES:
                break
            self._ready.popleft()
            item.probe = False
            sends.append(self._attempt(item))
        if not self._ready and aside and not any(item.probe for item in self._under_way.values()):
            recipient = min(aside, key=lambda recipient: self._full[recipient].at)
            if self._full[recipient].at <= now:
                item = aside[recipient]
                skipped.remove(item)
                item.probe = True
                sends.append(self._attempt(item))
        self._ready.extendleft(reversed(skipped))
        return sends

    def deadline(self) -> float | None:
        """When `next` may have something, though nothing happens before."""
        if not self._open or not self._items or self._under_way:
            return None  # an answer comes first
        if self._refused:
            return self._not_before
        return min((self._full[item.recipient].at for item in self._ready if item.recipient in self._full), default=None)

    def _attempt(self, item: _Item) -> Command | Refusal:
        command = item.command
        tag = str(command.__struct_config__.tag)
        if tag not in self._features:
            error = NotOffered(f"this server does not take {tag!r}", fate=_after(item))
            del self._items[command.id]
            return Refusal(command, error)
        text = getattr(command, "text", "")
        if (
            len(text.encode()) > self._limits.get("text_bytes", float("inf"))
            or item.size > self._limits.get("frame_bytes", float("inf"))
        ):  # fmt: skip
            return self._drop(item, ErrorCode.TOO_LARGE, "The text is longer than the server takes.")
        item.before, item.tried = item.tried, True
        self._under_way[command.id] = item
        self._bytes += item.size
        return command

    def _drop(self, item: _Item, code: str, message: str) -> Refusal:
        fate = _after(item) if code in _UNSETTLING else Fate.NEVER
        self._take(item.command.id)
        return Refusal(item.command, RequestRefused.of(code, message, fate=fate))

    def _refuse(self, item: _Item, code: str, pause: float, now: float) -> None:
        self._refused = True
        if code != ErrorCode.MAILBOX_FULL:
            if not self._counted:
                self._refusals += 1
            self._counted = True
            pause = _longer(pause, self._refusals - 1)
        elif not self._found:
            self._found = True  # those after it have the same code because they came later, whomever they are to
            full = self._full.get(item.recipient)
            times = 0 if full is None else full.times + 1
            self._full[item.recipient] = _Full(times, now + _longer(pause, times))
        self._not_before = max(self._not_before, now + pause)

    def _take(self, id: str) -> _Item | None:
        item = self._items.pop(id, None)
        if item is not None and not self._land(item):
            self._rebuild()  # an entry told of it before it was sent again
        return item

    def _land(self, item: _Item) -> bool:
        """It is no longer under way; False if it was not."""
        if self._under_way.pop(item.command.id, None) is None:
            return False
        self._bytes -= item.size
        return True

    def _rebuild(self) -> None:
        self._ready = deque(item for id, item in self._items.items() if id not in self._under_way)


def _fate(code: str) -> Fate:
    return next((known.fate for known in ErrorCode if known == code), Fate.UNKNOWN)


def _after(item: _Item) -> Fate:
    return Fate.UNKNOWN if item.tried else Fate.NEVER


def _longer(pause: float, times: int) -> float:
    return max(pause, min(_LONGEST, pause * 2.0 ** min(times, 32)))
