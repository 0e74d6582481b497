"""Getting a log's entries to a connection: in order, each at most once, without a queue of its own (C4–C7, A1).

Every connection is either *caught up*, and then gets a new entry straight from memory when it is committed, or *behind*, and then is
fed from the store, a page at a time, as its acks make room. The path through memory is only a short cut: with it switched
off, the same entries arrive.
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
                connection.sent = message.seq
                return
            size = wire.encoded_size(message)
            if self._memory_path and connection.window.fits(size):
                connection.window.add(message.seq, size)
                self._send(connection, [message])
                return
        self.feed(connection)

    def feed(self, connection: Connection, *, eagerly: bool = False) -> None:
        """Ask for the next page if the connection is behind and has room.

        A client that acknowledges one by one would cost a page each time, so small room waits for more of it; `eagerly`, called
        from time to time, sees to it that a client that never makes much room is served all the same.
        """
        behind = connection.user.head - connection.sent
        window = connection.window
        if behind <= 0 or connection.loading or not connection.open or connection.send_only or not window.room:
            return
        if eagerly or window.half_free or (behind <= window.room and window.half_free_bytes):
            connection.loading = True
            request = PageRequest(connection.user.name, connection.sent, window.room, window.room_bytes)
            self._emit(Load(connection.id, request))

    def loaded(self, connection: Connection, page: Page) -> None:
        """The page arrived: send what fits, and ask for the next if there is still room."""
        connection.loading = False
        self.skip_to(connection, page.floor)
        fitting: list[Message] = []
        position = connection.sent
        for message in page.messages:
            if message.seq <= position:
                continue
            # The page may have seen a commit that the core has not been told of yet: that entry comes in its turn.
            if message.seq != position + 1 or message.seq > connection.user.head:
                break
            size = wire.encoded_size(message)
            if not connection.window.fits(size):
                break
            connection.window.add(message.seq, size)
            fitting.append(message)
            position = message.seq
        if fitting:
            self._send(connection, fitting)
            self.feed(connection)
        # A page without anything to send is not asked for again at once: a store that has a hole must not be hammered.

    def skip_to(self, connection: Connection, floor: int) -> None:
        """Entries up to `floor` are gone: say so once, and go on behind them (C7)."""
        if floor > connection.sent:
            self._emit(Send(connection.id, wire.Gap(first=connection.sent + 1, last=floor)))
            connection.sent = floor

    def acknowledge(self, connection: Connection, seq: int) -> bool:
        """The device has everything up to `seq` (A1). False if it was never sent that far."""
        if seq > connection.sent:
            return False
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
        connection.sent = messages[-1].seq
        self._emit(Send(connection.id, wire.Messages(messages=list(messages), head=user.head)))
