"""What waits for the store, and the one batch that is in flight (L2, A3).

The committer pulls a batch when it is free, so whatever became ready meanwhile shares one transaction.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, Generic, TypeAlias, TypeVar

from msgspec import Struct

from ..settings import Settings
from .batch import Batch, BlockChange, ConnectionId, Draft, Mark, Opening, ReadMark, Removal, Results
from .connection import Connection
from .events import Ticket

__all__ = ["Command", "Flight", "Intake", "Pending", "weigh"]

Command: TypeAlias = Draft | ReadMark | BlockChange | Removal
"""What clients and the application may have committed."""
C_co = TypeVar("C_co", bound=Command, covariant=True)
Item = TypeVar("Item")

_MARKS_PER_BATCH: Final = 1024
_OVERHEAD: Final = 200
"""What a waiting command weighs beside its strings, in bytes."""


def weigh(*texts: str | None) -> int:
    """About how many bytes a command with these strings takes while it waits."""
    size = _OVERHEAD
    for text in texts:
        if text:
            size += len(text) if text.isascii() else len(text.encode())
    return size


class Pending(Struct, Generic[C_co], frozen=True):
    """A command that waits, its weight in bytes, and who wants to know: a connection, or the application by a ticket."""

    command: C_co
    size: int
    connection: Connection | None = None
    ticket: Ticket | None = None

    @property
    def source(self) -> int:
        """Tells apart who wants to know: the connection's id, or a negative number for each ticket."""
        return self.connection.id if self.connection is not None else -1 - (self.ticket or 0)


class Flight(Struct, frozen=True):
    """A batch in flight, and then done: who asked for what, in the order of its results."""

    marks: tuple[Mark, ...]
    openings: tuple[Connection, ...]
    drafts: tuple[Pending[Draft], ...]
    reads: tuple[Pending[ReadMark], ...]
    blocks: tuple[Pending[BlockChange], ...]
    removals: tuple[Pending[Removal], ...]


class Intake:
    """The waiting list, bounded in count and bytes, and the batch in flight.

    Marks and read marks are the riders: they go with the next batch, and wait a while for one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._drafts: deque[Pending[Draft]] = deque()
        self._blocks: deque[Pending[BlockChange]] = deque()
        self._removals: deque[Pending[Removal]] = deque()
        self._reads: OrderedDict[tuple[int, str], Pending[ReadMark]] = OrderedDict()
        self._bytes = 0
        self._openings: OrderedDict[ConnectionId, Connection] = OrderedDict()
        self._marks: dict[tuple[str, str], int] = {}
        self._riders_since: float | None = None
        self._in_flight: Flight | None = None
        self._held = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not (self._urgent or self._marks or self._reads or self._in_flight or self._held)

    @property
    def full(self) -> bool:
        """Whether one more command would be too much."""
        count, size = self.load
        return count >= self._settings.waiting or size >= self._settings.waiting_bytes

    @property
    def load(self) -> tuple[int, int]:
        """How many commands wait, and their bytes."""
        count = self._held + len(self._drafts) + len(self._blocks) + len(self._removals) + len(self._reads)
        return count, self._bytes

    @property
    def due(self) -> float | None:
        """When the riders that wait are to be committed even without company."""
        if self._riders_since is None or self._in_flight is not None:
            return None
        return self._riders_since + self._settings.ack_delay

    @property
    def _urgent(self) -> bool:
        return bool(self._drafts or self._openings or self._blocks or self._removals)

    def hold(self, pending: Pending[Draft]) -> None:
        """A draft is on its way here: it takes room already."""
        self._held += 1
        self._bytes += pending.size

    def let_go(self, pending: Pending[Draft]) -> None:
        """A draft that was held is added now, or never."""
        self._held -= 1
        self._bytes -= pending.size

    def add_draft(self, pending: Pending[Draft]) -> None:
        self._drafts.append(pending)
        self._bytes += pending.size

    def add_block(self, pending: Pending[BlockChange]) -> None:
        self._blocks.append(pending)
        self._bytes += pending.size

    def add_removal(self, pending: Pending[Removal]) -> None:
        self._removals.append(pending)
        self._bytes += pending.size

    def raise_read(self, source: int, mark: ReadMark) -> bool:
        """Whether a read mark of this source for the same peer waits already: then it is raised, and takes no more room."""
        key = source, mark.peer
        waiting = self._reads.get(key)
        if waiting is None:
            return False
        if mark.seq > waiting.command.seq:
            self._reads[key] = Pending(mark, waiting.size, waiting.connection)
        return True

    def add_read(self, pending: Pending[ReadMark], now: float) -> None:
        self._reads[pending.source, pending.command.peer] = pending
        self._bytes += pending.size
        self._ride(now)

    def add_opening(self, connection: Connection) -> None:
        self._openings[connection.id] = connection

    def add_mark(self, connection: Connection, now: float) -> None:
        """Record how far the connection's device is, soon."""
        key = _device(connection)
        self._marks[key] = max(self._marks.get(key, 0), connection.acked)
        self._ride(now)

    def drop_mark(self, user: str, device: str) -> None:
        """The device was removed: nothing is to be recorded of it."""
        self._marks.pop((user, device), None)
        self._riders_since = self._riders_since if self._marks or self._reads else None

    def _ride(self, now: float) -> None:
        if self._riders_since is None:
            self._riders_since = now

    def withdraw(self, connection: Connection) -> bool:
        """The connection is gone. Whether it was still waiting to be opened: then its opening never happens."""
        return self._openings.pop(connection.id, None) is not None

    def withdraw_drafts(self, sources: Container[int]) -> list[Pending[Draft]]:
        """Take out and return what waits of these sources: it was sent after something that is refused for now (S4)."""
        withdrawn = [pending for pending in self._drafts if pending.source in sources]
        self._drafts = deque(pending for pending in self._drafts if pending.source not in sources)
        self._bytes -= sum(pending.size for pending in withdrawn)
        return withdrawn

    def next_batch(self, now: float, *, hurry: bool) -> Batch | None:
        """What to commit now, if a batch is not in flight already. Riders alone wait for company, unless `hurry`."""
        if self._in_flight is not None:
            return None
        due = self.due
        if not self._urgent and (due is None or not (hurry or now >= due)):
            return None
        limit = self._settings.batch
        openings = [self._openings.popitem(last=False)[1] for _ in range(min(len(self._openings), limit))]
        flight = self._in_flight = Flight(
            marks=tuple(self._take_marks(openings)),
            openings=tuple(openings),
            drafts=tuple(_take(self._drafts, limit)),
            reads=tuple(self._reads.popitem(last=False)[1] for _ in range(min(len(self._reads), _MARKS_PER_BATCH))),
            blocks=tuple(_take(self._blocks, limit)),
            removals=tuple(_take(self._removals, limit)),
        )
        self._riders_since = now if self._marks or self._reads else None
        commands: Iterable[Pending[Command]] = chain(flight.drafts, flight.reads, flight.blocks, flight.removals)
        self._bytes -= sum(pending.size for pending in commands)
        return Batch(
            marks=flight.marks,
            openings=tuple(_openings(openings)),
            drafts=tuple(pending.command for pending in flight.drafts),
            reads=tuple(pending.command for pending in flight.reads),
            blocks=tuple(pending.command for pending in flight.blocks),
            removals=tuple(pending.command for pending in flight.removals),
        )

    def done(self, results: Results) -> Flight:
        """The batch in flight came back."""
        flight = self._in_flight
        if flight is None:
            raise RuntimeError("no batch is in flight")
        if (
            len(results.openings) != len(flight.openings)
            or len(results.drafts) != len(flight.drafts)
            or len(results.blocks) != len(flight.blocks)
            or len(results.removals) != len(flight.removals)
            or len(results.reads) not in (0, len(flight.reads))
        ):
            raise RuntimeError("a batch came back with another number of results than it had rows")
        self._in_flight = None
        return flight

    def _take_marks(self, openings: Sequence[Connection]) -> list[Mark]:
        # A device that comes back begins where it left, so its mark goes before its opening however many others wait.
        returning = (key for connection in openings if (key := _device(connection)) in self._marks)
        keys = dict.fromkeys(chain(returning, islice(self._marks, _MARKS_PER_BATCH)))
        return [Mark(*key, self._marks.pop(key)) for key in keys]


def _take(waiting: deque[Item], limit: int) -> list[Item]:
    return [waiting.popleft() for _ in range(min(len(waiting), limit))]


def _device(connection: Connection) -> tuple[str, str]:
    return connection.user.name, connection.device


def _openings(connections: Sequence[Connection]) -> Iterator[Opening]:
    connected: dict[str, frozenset[str]] = {}  # by user: somebody may be opening hundreds of connections at once
    for connection in connections:
        user = connection.user
        if user.name not in connected:
            connected[user.name] = frozenset(user.devices)
        log, after = connection.wants
        yield Opening(
            connection=connection.id,
            user=user.name,
            device=connection.device,
            log=log,
            after=after,
            connected=connected[user.name],
            may_be_new=connection.offered or connection.send_only,
            send_only=connection.send_only,
        )
