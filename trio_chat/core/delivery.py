"""Getting a log's entries to a connection: in order, each at most once, without a queue of its own (C4–C7, A1).

Every connection is either *caught up*, and then gets a new entry straight from memory when it is committed, or *behind*, and
then is fed from the store, a page at a time, as its acks make room. The path through memory is only a short cut: with it
switched off, the same entries arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import wire
from ..model import Message
from .batch import Page, PageRequest
from .connection import Connection
from .effects import Effect, Load, Send

__all__ = ["Delivery"]


class Delivery:
    """Moves connections along their logs. `emit` takes the effects."""

    def __init__(self, emit: Callable[[Effect], None], *, memory_path: bool) -> None:
        self._emit = emit
        self._memory_path = memory_path

    def committed(self, connection: Connection, message: Message, *, own: bool) -> None:
        """An entry of the connection's log became durable. `own`: this connection sent it and is told by ``stored`` (C5)."""
        if not connection.open or connection.send_only:
            return
        if connection.sent == message.seq - 1 and not connection.loading:
            if own:
                _advance(connection, message.seq)
                return
            if self._memory_path:
                size = wire.encoded_size(message)
                if connection.window.fits(size):
                    connection.window.add(message.seq, size)
                    self._send(connection, [message])
                    return
                connection.next_size = size
        self.feed(connection)

    def named(self, connection: Connection, seq: int) -> None:
        """A ``stored`` item names an entry of the connection's log: the client has it now, if out of turn (C5, A2)."""
        if seq > connection.sent and not connection.send_only:
            connection.named.add(seq, connection.sent)

    def feed(self, connection: Connection, *, eagerly: bool = False) -> None:
        """Ask for the next page if the connection is behind and has room.

        A client that acknowledges one by one would cost a page each time, so small room waits for more of it; `eagerly`,
        called from time to time, sees to it that a client that never makes much room is served all the same.
        """
        behind = connection.user.head - connection.sent
        window = connection.window
        if behind <= 0 or connection.loading or not connection.open or connection.send_only:
            return
        if not window.room or not window.fits(connection.next_size):
            return
        if eagerly or window.half_free or (behind <= window.room and window.half_free_bytes):
            connection.loading = True
            connection.asked = connection.sent
            request = PageRequest(connection.user.name, connection.sent, window.room, window.room_bytes)
            self._emit(Load(connection.id, request))

    def loaded(self, connection: Connection, page: Page) -> None:
        """The page arrived: send what fits, and ask for the next if there is still room."""
        connection.loading = False
        self.skip_to(connection, page.floor)
        fitting: list[Message] = []
        position, next_size = connection.sent, 0
        for message in page.messages:
            if message.seq <= position:
                continue
            # The page may have seen a commit that the core has not been told of yet: that entry comes in its turn.
            if message.seq != position + 1 or message.seq > connection.user.head:
                break
            size = wire.encoded_size(message)
            if not connection.window.fits(size):
                next_size = size
                break
            connection.window.add(message.seq, size)
            fitting.append(message)
            position = message.seq
        if fitting:
            self._send(connection, fitting)
        connection.next_size = next_size
        # A page that was of no use is not asked for again at once: a store that has a hole must not be hammered.
        if connection.sent > connection.asked:
            self.feed(connection)

    def skip_to(self, connection: Connection, floor: int) -> None:
        """Entries up to `floor` are gone: say so once, and go on behind them (C7)."""
        if floor > connection.sent:
            self._emit(Send(connection.id, wire.Gap(first=connection.sent + 1, last=floor)))
            _advance(connection, floor)

    def acknowledge(self, connection: Connection, seq: int) -> bool:
        """The device has everything up to `seq` (A1). False if it was never sent that far.

        An own message may be acknowledged as soon as ``stored`` named it, even while the connection is still behind; it need
        not come again then. (It must not be refused: a client that acknowledges only what is new to it would never do so
        again, and its window would never empty.)
        """
        if seq > connection.sent:
            if seq > connection.named.reach(connection.sent):
                return False
            _advance(connection, seq)
        if seq > connection.acked:
            connection.acked = seq
            connection.window.acknowledge(seq)
            self.feed(connection)
        return True

    def _send(self, connection: Connection, messages: Sequence[Message]) -> None:
        """The one place where entries leave for a connection; they are its user's own, or nothing leaves (failures R7)."""
        user = connection.user
        for message in messages:
            if user.name not in (message.sender, message.recipient):
                raise AssertionError("an entry was about to leave for a user it does not belong to")
        _advance(connection, messages[-1].seq)
        self._emit(Send(connection.id, wire.Messages(messages=list(messages), head=user.head)))


def _advance(connection: Connection, seq: int) -> None:
    connection.sent = seq
    connection.next_size = 0
