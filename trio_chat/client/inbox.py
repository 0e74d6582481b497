"""What was received, given to the program and acknowledged (A1–A3, C4–C7), without I/O.

Three positions in the log matter. Up to *received* this connection has brought everything; up to *position* the program is
done with everything; up to *durable* that is safe in the state file. What may be acknowledged is the lowest of them, so
that nothing is that was not brought by this connection, or that a crash could take back.

At most one window of entries is held. An entry that comes in its turn and finds no room is let go, and so is everything
after it: none of it is acknowledged, so the next connection brings it again, from the first on that the program is not done
with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from ..model import Message
from .ranges import Ranges
from .records import Done, Position, Record, Seen

__all__ = ["Held", "Inbox", "Remembered", "key_of"]

WINDOW: Final = 256
"""Entries held, until a ``welcome`` names another window."""
_MESSAGES: Final = frozenset({"message"})
_CHANGES: Final = frozenset({"message", "edit", "delete"})
"""Kinds that are given to a program that wants to hear of changes; those of a newer server are passed over (L5)."""
_INTERVALS: Final = 1024
"""Own messages that were stored ahead of their turn are told by ``stored``, and come again in their turn if forgotten."""


def key_of(message: Message) -> bytes:
    """What tells a message from any other, in whichever log: its sender and its id."""
    return blake2b(f"{message.sender}\0{message.id}".encode(), digest_size=16).digest()


class Remembered:
    """The keys of the messages that the program is done with: the newest so many."""

    def __init__(self, keys: Iterable[bytes] = (), *, limit: int) -> None:
        self._keys = dict.fromkeys(keys)
        self._limit = limit

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def add(self, key: bytes) -> None:
        self._keys[key] = None
        if len(self._keys) > self._limit:
            del self._keys[next(iter(self._keys))]


class Held(Struct, eq=False):
    """An entry in the client's hands. `history` counts the logs the client has seen: a `seq` is good in one of them."""

    message: Message
    history: int
    key: bytes


class Inbox:
    """See the module. Made for one device; `begin` starts each connection.

    Args:
        log: the history that the rest is about, None if there is none yet.
        position: the program is done with everything up to here…
        done: …and with these beyond it.
        remembered: what it was done with, in whichever history.
    """

    def __init__(self, log: str | None, position: int, done: Iterable[int], remembered: Remembered) -> None:
        self.log = log
        self.position: int = position
        self._own = True  # until the program has chosen, everything is kept for it
        self._changes = True
        self._user = ""
        self._durable = position
        self._history = 0
        self._done = Ranges(done)
        self._remembered = remembered
        self._queue: deque[Held] = deque()
        self._given: dict[bytes, Held] = {}
        self._held: dict[bytes, Held] = {}  # both, by key
        self._limit = WINDOW
        # Of the present connection.
        self._active = False
        self._received = 0
        self._acked = 0
        self._early = Ranges()
        self._early_entries: dict[int, Message] = {}
        self._cut = False

    @property
    def buffered(self) -> int:
        """How many entries are held."""
        return len(self._held) + len(self._early_entries)

    @property
    def starved(self) -> bool:
        """Whether another connection is needed to get at what there was no room for."""
        return self._cut and not self._held

    # Connections.

    def begin(self, user: str, log: str, cursor: int, window: int) -> list[Record]:
        """A connection starts behind `cursor` of `log`."""
        self._user, self._limit = user, max(1, window)
        changes: list[Record] = []
        if log != self.log or cursor < self.position:
            # Another history, or this one taken back (restored from a backup): what was counted in it means nothing (C1).
            self._history += 1
            self._done.clear()
            self.log, self.position, self._durable = log, cursor, cursor
            changes.append(Position(log, cursor))
        elif cursor > self.position:
            self.position = self._durable = self._done.pop_through(cursor)
            changes.append(Position(log, self.position))
        self._active = True
        self._received = self._acked = cursor
        self._early.clear()
        self._early_entries.clear()
        self._cut = False
        return changes

    def end(self) -> None:
        """The connection is gone; what it brought stays."""
        self._active = False
        self._early_entries.clear()

    def entry(self, message: Message) -> list[Record]:
        """An entry in its turn (C4). One that this connection has brought before is dropped."""
        if self._cut or message.seq <= self._received:
            return []
        if message.seq != self._received + 1:  # a hole: nothing behind it may be acknowledged, and it must not grow
            self._ahead(message.seq, message)
            return []
        self._early_entries[message.seq] = message
        self._early.add(message.seq, message.seq)
        return self._advance()

    def stored(self, seq: int, message: Message | None) -> list[Record]:
        """An own message is at `seq` (C5); None if its contents are not known, since they came before."""
        if self._cut or not self._active or seq <= self._received:
            return []
        if message is not None and not self._is_wanted(message):
            message = None
        if seq != self._received + 1:
            self._ahead(seq, message)
            return []
        if message is not None:
            self._early_entries[seq] = message
        self._early.add(seq, seq)
        return self._advance()

    def gap(self, last: int) -> list[Record]:
        """The server no longer holds what is up to `last` (C7): what of it is not in our hands will not come."""
        if self._cut or last <= self._received:
            return []
        held = sorted(held.message.seq for held in self._held.values() if held.history == self._history)
        begin = self.position + 1
        for seq in [*(seq for seq in held if begin <= seq <= last), last + 1]:
            if begin < seq:
                self._done.add(begin, seq - 1)
            begin = seq + 1
        for seq in [seq for seq in self._early_entries if seq <= last]:
            del self._early_entries[seq]
        self._received = last
        self._early.forget(last)
        return self._advance()

    def _ahead(self, seq: int, message: Message | None) -> None:
        """Note what came ahead of its turn, if there is room. Unless it is acknowledged before, it comes again (C5)."""
        if len(self._early) >= _INTERVALS or (message is not None and self.buffered >= self._limit):
            return
        self._early.add(seq, seq)
        if message is not None:
            self._early_entries[seq] = message

    def _advance(self) -> list[Record]:
        while self._received + 1 in self._early:
            seq = self._received + 1
            message = self._early_entries.pop(seq, None)
            if not self._admit(seq, message):
                self._cut = True
                self._early_entries.clear()
                break
            self._received = seq
        self._early.forget(self._received)
        return self._settle()

    def _admit(self, seq: int, message: Message | None) -> bool:
        """Take an entry in; False if there is no room."""
        if seq <= self.position or seq in self._done:
            return True
        if message is None or not self._is_wanted(message):
            self._done.add(seq, seq)
            return True
        key = key_of(message)
        if held := self._held.get(key):  # from an earlier connection
            held.message, held.history = message, self._history
        elif key in self._remembered:
            self._done.add(seq, seq)
        elif len(self._held) >= self._limit:
            return False
        else:
            self._held[key] = Held(message, self._history, key)
            self._queue.append(self._held[key])
            if self.buffered > self._limit:  # what came ahead of its turn makes room: it comes again
                last = max(self._early_entries)
                del self._early_entries[last]
                self._early.discard(last)
        return True

    # The program.

    def choose(self, *, own: bool, changes: bool) -> list[Record]:
        """The program wants its user's own messages, too, or does not; edits and deletions, too, or not.

        And it wants again what it was given and is not done with.
        """
        self._own, self._changes = own, changes
        again = sorted(self._given.values(), key=lambda held: (held.history, held.message.seq))
        self._given.clear()
        self._queue.extendleft(reversed(again))
        for held in [held for held in self._queue if not self._is_wanted(held.message)]:
            self._let_go(held)
        for seq in [seq for seq, message in self._early_entries.items() if not self._is_wanted(message)]:
            del self._early_entries[seq]
        return self._settle()

    def _is_wanted(self, message: Message) -> bool:
        kinds = _CHANGES if self._changes else _MESSAGES
        return message.kind in kinds and (self._own or message.sender != self._user)

    def take(self) -> Held | None:
        """The next entry for the program, which is to `finish` it; None if there is none now."""
        if not self._queue:
            return None
        held = self._queue.popleft()
        self._given[held.key] = held
        return held

    def finish(self, held: Held) -> list[Record]:
        """The program is done with an entry. Nothing happens the second time."""
        if self._held.get(held.key) is not held:
            return []
        self._let_go(held)
        self._remembered.add(held.key)
        changes: list[Record] = [Seen(held.key)]
        if held.history == self._history:
            changes.append(Done(held.message.seq))
        return changes + self._settle()

    def _let_go(self, held: Held) -> None:
        del self._held[held.key]
        if self._given.pop(held.key, None) is None:
            self._queue.remove(held)
        if held.history == self._history:
            self._done.add(held.message.seq, held.message.seq)

    def _settle(self) -> list[Record]:
        position = self._done.pop_through(self.position)
        if position == self.position:
            return []
        self.position = position
        assert self.log is not None
        return [Position(self.log, position)]

    # Acknowledging.

    def committed(self, log: str, position: int) -> None:
        """The state file has it."""
        if log == self.log:
            self._durable = max(self._durable, min(position, self.position))

    def due(self) -> int | None:
        """What is to be acknowledged now, if anything is; it counts as acknowledged then."""
        position = min(self._durable, self._received)
        if not self._active or position <= self._acked:
            return None
        self._acked = position
        return position
