"""Who has read what: the user's own marks, and how far the peers are (R2, R3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from .. import wire
from ..errors import ErrorCode
from .batch import Progress, ReadMark, Refused
from .connection import Connection, User
from .effects import Effect, Fulfil, Tell
from .events import Ticket
from .intake import Intake, Pending, weigh
from .refusals import Refusals

__all__ = ["Receipts"]

_REMEMBERED: Final = 256
"""Of how many peers a connected user's read marks are remembered: enough for who reads here and now."""


class Receipts:
    """Takes read marks in, and tells what follows from marks once they are committed. `emit` takes the effects."""

    def __init__(
        self, users: Mapping[str, User], intake: Intake, refusals: Refusals, emit: Callable[[Effect], None]
    ) -> None:
        self._users = users
        self._intake = intake
        self._refusals = refusals
        self._emit = emit

    def read(self, connection: Connection, frame: wire.Read, now: float) -> None:
        """The user has read a peer's messages up to a position in the user's log (R3)."""
        user = connection.user
        if frame.seq > user.head:
            message = "The read mark lies behind the end of the log; it is ignored."
            self._refusals.tell(connection, ErrorCode.CURSOR_AHEAD, message=message)
            return
        mark = ReadMark(user.name, frame.peer, frame.seq, connection.device)
        if frame.seq <= user.reads.get(frame.peer, 0) or self._intake.raise_read(connection.id, mark):
            return
        if self._intake.full:
            self._refusals.tell(connection, ErrorCode.OVERLOADED)
            return
        size = weigh(frame.peer)
        connection.take_on(size)
        self._intake.add_read(Pending(mark, size, connection), now)

    def request(self, ticket: Ticket, mark: ReadMark, now: float) -> None:
        """Commit a read mark of the application's own."""
        self._intake.add_read(Pending(mark, weigh(mark.user, mark.peer), ticket=ticket), now)

    def committed(self, pending: Pending[ReadMark], refused: Refused | None) -> None:
        """A read mark is committed, or is lost: a client says again what it has read when it has read more."""
        if pending.connection is not None:
            pending.connection.answered(pending.size)
        if pending.ticket is not None:
            self._emit(Fulfil(pending.ticket, refused))
        mark = pending.command
        user = self._users.get(mark.user)
        if refused is not None or user is None:
            return
        seq = min(mark.seq, user.head)  # as the store takes it: the application may mean "everything there is"
        if seq <= user.reads.get(mark.peer, 0):
            return
        user.reads[mark.peer] = seq
        user.reads.move_to_end(mark.peer)
        if len(user.reads) > _REMEMBERED:
            user.reads.popitem(last=False)
        frame = wire.ReadElsewhere(peer=mark.peer, seq=seq)
        for connection in user.present:
            if connection is not pending.connection:
                self._emit(Tell(connection.id, ("read", mark.peer), frame))

    def progress(self, steps: Sequence[Progress]) -> None:
        """Peers are further with the messages of users. Told once for each commit, however many steps it was.

        A frame that waits is replaced by the next of its key, so what one says the next must say, too. Either mark only
        rises, but not both at once: each has a key to itself, and what is read says that it was delivered.
        """
        for (name, peer), (delivered, read) in _furthest(steps).items():
            user = self._users.get(name)
            if user is None or _parted(user, peer, self._users):
                continue
            for connection in user.present:
                if read:
                    frame = wire.Receipt(peer=peer, delivered=read, read=read)
                    self._emit(Tell(connection.id, ("read receipt", peer), frame))
                if delivered > read:
                    self._emit(Tell(connection.id, ("receipt", peer), wire.Receipt(peer=peer, delivered=delivered)))


def _furthest(steps: Iterable[Progress]) -> dict[tuple[str, str], tuple[int, int]]:
    furthest: dict[tuple[str, str], tuple[int, int]] = {}
    for step in steps:
        delivered, read = furthest.get((step.user, step.peer), (0, 0))
        furthest[step.user, step.peer] = max(delivered, step.delivered), max(read, step.read)
    return furthest


def _parted(user: User, peer: str, users: Mapping[str, User]) -> bool:
    """Whether one of the two blocks the other, as far as is known: the block may stand in the same commit (B1)."""
    other = users.get(peer)
    return peer in user.blocked or (other is not None and user.name in other.blocked)
