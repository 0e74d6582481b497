"""What the core knows of one connection: where it stands in its user's log, and what is under way for it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TypeAlias

from msgspec import Struct

from ..errors import CloseCode, ErrorCode
from ..settings import Settings
from ..wire import Block, RemoveDevice, Unblock
from .batch import ConnectionId
from .buckets import UserBuckets
from .effects import Question
from .events import Connected

__all__ = ["Asked", "Connection", "Named", "Refusal", "Request", "User", "Window"]

Request: TypeAlias = Question | Block | Unblock | RemoveDevice
"""What is answered with a ``ref``: by reading the store, or by changing something in it first."""


class Window:
    """The entries sent in ``messages`` frames and not yet acknowledged (C6)."""

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_max_entries")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: deque[tuple[int, int]] = deque()  # (seq, bytes), ascending
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

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


class Named:
    """Own entries that a ``stored`` item named before their turn came: the client holds them and may acknowledge them (A2).

    Kept as runs of consecutive positions. There are at most `size`: beyond that the last run stretches over what lies
    between, which trusts the client to know what it holds.
    """

    __slots__ = ("_runs", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._runs: list[tuple[int, int]] = []  # (first, last), ascending, never adjacent

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, seq: int, sent: int) -> None:
        """The entry `seq` was named on a connection that was sent everything up to `sent`."""
        runs: list[tuple[int, int]] = []
        for first, last in sorted([*self._runs, (seq, seq)]):
            if runs and first <= runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
            elif last > sent:
                runs.append((first, last))
        if len(runs) > self._size:
            _, last = runs.pop()
            runs[-1] = (runs[-1][0], last)
        self._runs = runs

    def reach(self, sent: int) -> int:
        """Up to where a client holds everything that was sent everything up to `sent`."""
        while self._runs and self._runs[0][1] <= sent:
            del self._runs[0]
        return self._runs[0][1] if self._runs and self._runs[0][0] <= sent + 1 else sent


class Refusal(Struct, frozen=True):
    """Until when every further send of a connection is refused, and with which code (S4)."""

    code: ErrorCode
    until: float


class Asked:
    """A request that is being answered, or waits for its turn; `size` is its weight in bytes."""

    __slots__ = ("parted", "request", "size")

    def __init__(self, request: Request, size: int) -> None:
        self.request: Request = request
        self.size: int = size
        self.parted: set[str] = set()
        """Of the users that a ``watch`` is about, those whom a block has parted from the watcher since it was asked."""


class Connection:
    """One connection. `sent` and `acked` are positions in the user's log: ``acked <= sent <= head``."""

    __slots__ = (
        "acked", "asked", "closing", "device", "gone", "heard", "id", "loading", "named", "next_size", "offered",
        "open", "parting", "paused", "pinged", "refusal", "request", "send_only", "sent", "unanswered",
        "unanswered_bytes", "user", "waiting", "wants", "watched", "window",
    )  # fmt: skip

    def __init__(self, event: Connected, user: User, settings: Settings, now: float) -> None:
        self.id: ConnectionId = event.connection
        self.user: User = user
        self.device: str = event.device
        self.send_only: bool = event.send_only
        self.wants: tuple[str | None, int | None] = (event.log, event.after)
        self.offered: bool = not event.send_only and user.buckets.new_devices.take(now) == 0.0
        """Whether a token was taken for the case that the device is a new one."""

        self.open: bool = False
        """Whether ``welcome`` was sent."""
        self.gone: bool = False
        """Whether it has ended: no effect for it comes any more (I7)."""
        self.sent: int = 0
        self.acked: int = 0
        self.window: Window = Window(settings.window, settings.window_bytes)
        self.named: Named = Named(settings.window)
        self.next_size: int = 0
        """What the next entry weighs, if it is known that it did not fit into the window."""
        self.loading: bool = False
        self.asked: int = 0
        """From where the page that is loading was asked for."""

        self.unanswered: int = 0
        """How many commands of it are not committed, or requests not answered (C8)."""
        self.unanswered_bytes: int = 0
        self.request: Asked | None = None
        """The request that is being answered."""
        self.waiting: list[Asked] = []
        """Those that come after it."""
        self.watched: dict[str, bool] = {}
        """Whose presence it follows, and whether it was told last that the user is online."""
        self.parting: set[str] = set()
        """Whom it follows no more because of a block, and was not told yet that they are away."""
        self.paused: bool = True
        self.refusal: Refusal | None = None
        self.closing: CloseCode | None = None
        """The code to close with once everything received is answered."""

        self.heard: float = now
        self.pinged: float | None = None

    @property
    def present(self) -> bool:
        """Whether its user is there: receives entries, is told what others do, and is online to who may know."""
        return self.open and not self.send_only

    def take_on(self, size: int) -> None:
        """Something of `size` bytes is to be answered."""
        self.unanswered += 1
        self.unanswered_bytes += size

    def answered(self, size: int) -> None:
        """It is."""
        self.unanswered -= 1
        self.unanswered_bytes -= size


class User:
    """A user with at least one connection. `head` is the last position of the log that is committed, as far as is known."""

    __slots__ = ("blocked", "buckets", "connections", "devices", "head", "name", "reads")

    def __init__(self, name: str, buckets: UserBuckets) -> None:
        self.name: str = name
        self.buckets: UserBuckets = buckets
        self.head: int = 0
        self.connections: dict[ConnectionId, Connection] = {}
        self.devices: dict[str, Connection] = {}
        """The connection of each connected device; send-only connections are none."""
        self.blocked: frozenset[str] = frozenset()
        """From whom the user does not want to hear."""
        self.reads: OrderedDict[str, int] = OrderedDict()
        """The last read marks that were committed, by peer: a lower one is no news (R3)."""

    @property
    def present(self) -> list[Connection]:
        """The connections by which the user is there."""
        return [connection for connection in self.connections.values() if connection.present]

    def is_replaced_by(self, event: Connected) -> bool:
        """Whether one of the user's connections goes when this one comes (C3)."""
        return not event.send_only and event.device in self.devices

    def add(self, connection: Connection) -> Connection | None:
        """The connection belongs to the user from now on. Returns the one it replaces, which is still to be removed."""
        self.connections[connection.id] = connection
        if connection.send_only:
            return None
        older = self.devices.get(connection.device)
        self.devices[connection.device] = connection
        return older

    def remove(self, connection: Connection) -> None:
        """The connection is gone."""
        del self.connections[connection.id]
        if self.devices.get(connection.device) is connection:
            del self.devices[connection.device]
