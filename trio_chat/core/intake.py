"""What waits for the store: drafts, openings and marks, and the one batch that is in flight (L2, A3).

The committer pulls a batch when it is free, so whatever became ready meanwhile shares one transaction.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterator, Sequence
from itertools import chain, islice

from msgspec import Struct

from ..settings import Settings
from .batch import Batch, ConnectionId, Draft, Mark, Opening, Results
from .connection import Connection

__all__ = ["Intake", "Outcome", "Pending"]

_MARKS_PER_BATCH = 1024


class Pending(Struct, frozen=True):
    """A draft that waits, the connection that wants to know, and its weight in bytes."""

    draft: Draft
    connection: Connection
    size: int


class Outcome(Struct, frozen=True):
    """A batch that is done: who asked for what, in the order of its results."""

    openings: tuple[Connection, ...]
    drafts: tuple[Pending, ...]


class Intake:
    """The waiting list, bounded in count and bytes, and the batch in flight."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._drafts: deque[Pending] = deque()
        self._bytes = 0
        self._openings: OrderedDict[ConnectionId, Connection] = OrderedDict()
        self._marks: dict[tuple[str, str], int] = {}
        self._marks_since: float | None = None
        self._in_flight: Outcome | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not (self._drafts or self._openings or self._marks or self._in_flight)

    @property
    def full(self) -> bool:
        """Whether one more draft would be too much."""
        return len(self._drafts) >= self._settings.waiting or self._bytes >= self._settings.waiting_bytes

    @property
    def due(self) -> float | None:
        """When the marks that wait are to be committed even without company."""
        if self._marks_since is None or self._in_flight is not None:
            return None
        return self._marks_since + self._settings.ack_delay

    def add_draft(self, pending: Pending) -> None:
        self._drafts.append(pending)
        self._bytes += pending.size

    def add_opening(self, connection: Connection) -> None:
        self._openings[connection.id] = connection

    def add_mark(self, connection: Connection, now: float) -> None:
        """Record how far the connection's device is, soon."""
        key = _device(connection)
        self._marks[key] = max(self._marks.get(key, 0), connection.acked)
        if self._marks_since is None:
            self._marks_since = now

    def withdraw(self, connection: Connection) -> bool:
        """The connection is gone. Whether it was still waiting to be opened: then its opening never happens."""
        return self._openings.pop(connection.id, None) is not None

    def withdraw_drafts(self, connections: Container[ConnectionId]) -> list[Pending]:
        """Take out and return what waits for these connections: it was sent after something that is refused for now (S4)."""
        withdrawn = [p for p in self._drafts if p.connection.id in connections]
        self._drafts = deque(p for p in self._drafts if p.connection.id not in connections)
        self._bytes -= sum(p.size for p in withdrawn)
        return withdrawn

    def next_batch(self, now: float, *, hurry: bool) -> Batch | None:
        """What to commit now, if a batch is not in flight already. Marks alone wait for company, unless `hurry`."""
        if self._in_flight is not None:
            return None
        due = self.due
        if not self._drafts and not self._openings and (due is None or not (hurry or now >= due)):
            return None
        openings = [self._openings.popitem(last=False)[1] for _ in range(min(len(self._openings), self._settings.batch))]
        drafts = [self._drafts.popleft() for _ in range(min(len(self._drafts), self._settings.batch))]
        self._bytes -= sum(pending.size for pending in drafts)
        self._in_flight = Outcome(tuple(openings), tuple(drafts))
        return Batch(
            marks=tuple(self._take_marks(now, openings)),
            openings=tuple(_openings(openings)),
            drafts=tuple(pending.draft for pending in drafts),
        )

    def done(self, results: Results) -> Outcome:
        """The batch in flight came back."""
        outcome = self._in_flight
        if outcome is None:
            raise RuntimeError("no batch is in flight")
        if len(results.openings) != len(outcome.openings) or len(results.drafts) != len(outcome.drafts):
            raise RuntimeError("a batch came back with another number of results than it had rows")
        self._in_flight = None
        return outcome

    def _take_marks(self, now: float, openings: Sequence[Connection]) -> list[Mark]:
        # A device that comes back begins where it left, so its mark goes before its opening however many others wait.
        returning = (key for connection in openings if (key := _device(connection)) in self._marks)
        keys = dict.fromkeys(chain(returning, islice(self._marks, _MARKS_PER_BATCH)))
        taken = [Mark(*key, self._marks.pop(key)) for key in keys]
        self._marks_since = now if self._marks else None
        return taken


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
