"""What the core knows of one connection: where it stands in its user's log, and what is under way for it."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from ..errors import CloseCode, ErrorCode
from ..settings import Settings
from .batch import ConnectionId
from .buckets import Bucket, UserBuckets
from .events import Connected

__all__ = ["Connection", "Refusal", "User", "Window"]


class Window:
    """The entries sent in ``messages`` frames and not yet acknowledged (C6)."""

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_max_entries")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: deque[tuple[int, int]] = deque()  # (seq, bytes), ascending
        self._bytes = 0

    @property
    def room(self) -> int:
        """How many more entries may be sent."""
        return max(0, self._max_entries - len(self._entries)) if self.room_bytes else 0

    @property
    def room_bytes(self) -> int:
        return max(0, self._max_bytes - self._bytes)

    @property
    def half_free_bytes(self) -> bool:
        return 2 * self._bytes <= self._max_bytes

    @property
    def half_free(self) -> bool:
        """Whether a page would be worth its cost."""
        return 2 * len(self._entries) <= self._max_entries and self.half_free_bytes

    def fits(self, size: int) -> bool:
        """Whether an entry of `size` bytes may be sent now. Into an empty window everything fits, or it would never."""
        if not self._entries:
            return True
        return len(self._entries) < self._max_entries and self._bytes + size <= self._max_bytes

    def add(self, seq: int, size: int) -> None:
        self._entries.append((seq, size))
        self._bytes += size

    def acknowledge(self, seq: int) -> None:
        """The device has everything up to `seq`."""
        while self._entries and self._entries[0][0] <= seq:
            self._bytes -= self._entries.popleft()[1]


class Refusal(Struct, frozen=True):
    """Until when every further send of a connection is refused, and with which code (S4)."""

    code: ErrorCode
    until: float


class Connection:
    """One connection. `sent` and `acked` are positions in the user's log: ``acked <= sent <= head``."""

    __slots__ = (
        "acked", "bad_frames", "closing", "device", "heard", "id", "loading", "offered", "open", "paused",
        "pinged", "refusal", "send_only", "sent", "uncommitted", "uncommitted_bytes", "user", "wants", "window",
    )  # fmt: skip

    def __init__(self, event: Connected, user: User, settings: Settings, now: float) -> None:
        self.id: ConnectionId = event.connection
        self.user = user
        self.device = event.device
        self.send_only = event.send_only
        self.wants = (event.log, event.after)
        self.offered = user.buckets.new_devices.take(now) == 0.0 if not event.send_only else True
        """Whether the device may be a new one; if so, a token was taken for it."""

        self.open = False
        """Whether ``welcome`` was sent."""
        self.sent = 0
        self.acked = 0
        self.window = Window(settings.window, settings.window_bytes)
        self.loading = False

        self.uncommitted = 0
        self.uncommitted_bytes = 0
        self.paused = True
        self.refusal: Refusal | None = None
        self.bad_frames = Bucket(settings.bad_frames / 60, settings.bad_frames, now)
        self.closing: CloseCode | None = None
        """The code to close with once everything received is answered."""

        self.heard = now
        self.pinged: float | None = None


class User:
    """A user with at least one connection. `head` is the last position of the log that is committed, as far as is known."""

    __slots__ = ("buckets", "connections", "head", "name")

    def __init__(self, name: str, buckets: UserBuckets) -> None:
        self.name = name
        self.buckets = buckets
        self.head = 0
        self.connections: dict[ConnectionId, Connection] = {}

    @property
    def devices(self) -> frozenset[str]:
        """The names of the connected devices."""
        return frozenset(c.device for c in self.connections.values() if not c.send_only)
