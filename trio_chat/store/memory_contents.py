"""What a `MemoryStore` holds: users, their logs, and messages with their places in two logs."""

from __future__ import annotations

from ..model import Kind, Message

__all__ = ["Contents", "Device", "Entry", "User"]


class Device:
    """A device the store remembers."""

    def __init__(self, cursor: int, now: int) -> None:
        self.cursor = cursor
        self.seen = now
        self.created: int = now


class Entry:
    """A message, an edit or a deletion; one object, whichever log it stands in."""

    def __init__(
        self, id: str, sender: str, recipient: str, text: str | None, kind: Kind, target: Entry | None, sent_at: int
    ) -> None:
        self.id = id
        self.sender = sender
        self.recipient = recipient
        self.text = text
        self.kind = kind
        self.target = target
        self.sent_at = sent_at
        self.size: int = len((text or "").encode())  # as it was stored: a deletion changes no page's end
        self.seq = 0
        self.peer_seq = 0
        self.edits: list[Entry] = []  # of a message, the oldest first

    def seq_of(self, user: str) -> int:
        """Its position in the log of one of the two, 0 if it is not there."""
        return self.seq if user == self.sender else self.peer_seq

    def peer_of(self, user: str) -> str:
        """The other one of the two."""
        return self.recipient if user == self.sender else self.sender

    def stored(self, user: str) -> Message:
        """It as an entry of the user's log, as it was stored, but for a text that was deleted."""
        about = None if self.target is None else self.target.id
        return Message(
            seq=self.seq_of(user), id=self.id, sender=self.sender, recipient=self.recipient, text=self.text,
            sent_at=self.sent_at, kind=self.kind,
            reply_to=about if self.kind == "message" else None,
            target=None if self.kind == "message" else about,
        )  # fmt: skip

    def delete(self) -> None:
        """Forget the text and those of all edits."""
        self.text = None
        for edit in self.edits:
            edit.text = None


class User:
    """A user's log and what belongs to it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []  # floor+1 … head
        self.before: list[tuple[int, int]] = []  # of each entry: messages and bytes received before it
        self.received = 0
        self.received_bytes = 0
        self.floor: int = 0
        self.delivered = 0
        self.sent_at = 0
        self.epoch = 0
        self.devices: dict[str, Device] = {}
        self.read: dict[str, int] = {}  # of each peer: up to where its messages were read

    @property
    def head(self) -> int:
        """The newest position."""
        return self.floor + len(self.entries)

    def drop(self, count: int) -> None:
        """Forget the first entries; the head stays where it is."""
        del self.entries[:count], self.before[:count]
        self.floor += count

    def between(self, after: int, last: int) -> list[Entry]:
        """The entries after the one position up to the other."""
        return self.entries[max(after - self.floor, 0) : max(last - self.floor, 0)]


class Contents:
    """Everything in the store, by name."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.blocks: set[tuple[str, str]] = set()  # who does not want to hear, from whom
        self.parted: dict[frozenset[str], dict[str, tuple[int, int]]] = {}  # by pair and user: marks when they were parted
        self.talked: set[frozenset[str]] = set()  # the pairs between which anything was ever sent

    def blocked(self, user: str) -> tuple[str, ...]:
        """Whom the user blocks, by name."""
        return tuple(sorted(peer for blocker, peer in self.blocks if blocker == user))

    def apart(self, one: str, other: str) -> bool:
        """Whether one of the two blocks the other."""
        return (one, other) in self.blocks or (other, one) in self.blocks

    def part(self, one: str, other: str) -> None:
        """Keep how far the two are with one another if they were just parted; forget it if they no longer are."""
        pair = frozenset((one, other))
        if not self.apart(one, other):
            self.parted.pop(pair, None)
        elif pair not in self.parted:
            self.parted[pair] = {one: self._marks(one, other), other: self._marks(other, one)}

    def marks(self, name: str, peer: str) -> tuple[int, int]:
        """What `name` had delivered, and read of `peer`, as far as `peer` may know: until a block, while it lasts (B1)."""
        if self.apart(name, peer):
            return self.parted.get(frozenset((name, peer)), {}).get(name, (0, 0))
        return self._marks(name, peer)

    def _marks(self, name: str, peer: str) -> tuple[int, int]:
        user = self.users.get(name) or User()
        return user.delivered, user.read.get(peer, 0)

    def newest_reached(self, sender: str, reader: str, first: int, last: int) -> int:
        """The sender's newest entry, in the sender's log, that the reader's log has at `first` to `last`; 0 if none."""
        user = self.users[reader]
        found = [entry.seq for entry in user.between(first - 1, last) if entry.sender == sender != reader]
        return found[-1] if found else 0
