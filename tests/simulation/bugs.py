"""Bugs that are planted into a run, one at a time, to see that the judge finds them. The product has none of this."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from msgspec.structs import replace

from trio_chat import wire
from trio_chat.client.inbox import Inbox
from trio_chat.client.outbox import Outbox
from trio_chat.core import effects
from trio_chat.core.batch import Batch, Draft, Opened, Refused, Results, Stored
from trio_chat.core.connection import Connection, Window
from trio_chat.core.delivery import Delivery
from trio_chat.core.intake import Intake
from trio_chat.core.machine import Core
from trio_chat.core.sending import Sending
from trio_chat.store.memory import MemoryStore

from .disk import Store
from .history import Committed

Plant = Callable[[ExitStack], None]


def _acknowledges_before_commit(stack: ExitStack) -> None:
    """The store answers before its transaction is on the disk; a crash meanwhile takes it back (``synchronous=OFF``)."""

    async def commit(self: Store, batch: Batch, now: int) -> Results:
        before = copy.deepcopy((self._contents, self._sent))
        results = await MemoryStore.append(self, batch, now)
        after = (self._contents, self._sent)

        def flushed() -> None:
            if self.life.powered:
                self.world.history.add(Committed(self.world.now, self.life.number, batch, results))
            elif self.world.disk._contents is after[0]:
                self.world.disk._contents, self.world.disk._sent = before

        self.world.at(0.3, flushed)
        return results

    stack.enter_context(patch.object(Store, "commit", commit))


def _cursor_moves_on_write(stack: ExitStack) -> None:
    """What was written to a device counts as delivered."""
    send, tick = Delivery._send, Core._tick

    def _send(self: Delivery, connection: Connection, messages: Sequence[Any]) -> None:
        send(self, connection, messages)
        connection.acked = messages[-1].seq

    def _tick(self: Core, event: Any, now: float) -> None:
        for connection in self._connections.values():
            if connection.open and not connection.send_only:
                self._intake.add_mark(connection, now)
        tick(self, event, now)

    stack.enter_context(patch.object(Delivery, "_send", _send))
    stack.enter_context(patch.object(Core, "_tick", _tick))


def _replay_lost_on_replace(stack: ExitStack) -> None:
    """A connection that replaces another goes on where that one was, as if its device had everything."""
    opened, connected = Core._opened, Core._connected
    written: dict[tuple[int, str, str], int] = {}

    def _connected(self: Core, event: Any, now: float) -> None:
        user = self._users.get(event.user)
        older = user.devices.get(event.device) if user is not None else None
        if older is not None:
            written[id(self), event.user, event.device] = older.sent
        connected(self, event, now)

    def _opened(self: Core, connection: Connection, result: Opened | Refused, now: float) -> None:
        sent = written.pop((id(self), connection.user.name, connection.device), 0)
        if isinstance(result, Opened) and sent > result.cursor:
            result = replace(result, cursor=min(sent, result.head))
        opened(self, connection, result, now)

    stack.enter_context(patch.object(Core, "_connected", _connected))
    stack.enter_context(patch.object(Core, "_opened", _opened))


def _stores_an_id_twice(stack: ExitStack) -> None:
    """A message that is sent again is another message."""
    stack.enter_context(patch.object(MemoryStore, "_known", lambda self, draft: None))


def _renumbers_a_retry(stack: ExitStack) -> None:
    """A message that is sent again is stored once, but its second answer names the end of the log."""
    known = MemoryStore._known

    def _known(self: MemoryStore, draft: Draft) -> Stored | Refused | None:
        first = known(self, draft)
        return replace(first, seq=self._contents.users[draft.sender].head) if isinstance(first, Stored) else first

    stack.enter_context(patch.object(MemoryStore, "_known", _known))


def _forgets_conflicts(stack: ExitStack) -> None:
    """Another message with an id that is taken gets the answer of the first."""
    stack.enter_context(patch.object(MemoryStore, "_digest", lambda self, draft: draft.id.encode()))


def _tells_no_gap(stack: ExitStack) -> None:
    """Entries that are no longer held are passed over without a word."""

    def skip_to(self: Delivery, connection: Connection, floor: int) -> None:
        connection.sent = max(connection.sent, floor)

    stack.enter_context(patch.object(Delivery, "skip_to", skip_to))


def _receipts_before_commit(stack: ExitStack) -> None:
    """An acknowledgement is passed on to the sender at once, and not when it is on the disk."""
    ack = Core._ack

    def _ack(self: Core, connection: Connection, frame: wire.Ack, now: float) -> None:
        before = connection.acked
        ack(self, connection, frame, now)
        if connection.acked > before and _newest:
            for sender, seq, recipient, peer_seq in _newest[-8:]:
                if recipient == connection.user.name and before < peer_seq <= connection.acked and sender in self._users:
                    for other in self._users[sender].present:
                        receipt = wire.Receipt(peer=recipient, delivered=seq)
                        self._emit(effects.Tell(other.id, ("receipt", recipient), receipt))

    _newest: list[tuple[str, int, str, int]] = []
    stored = Sending._stored

    def _stored(self: Sending, pending: Any, result: Stored, gone: Any) -> None:
        if result.peer_seq:
            _newest.append((pending.command.sender, result.seq, pending.command.recipient, result.peer_seq))
        stored(self, pending, result, gone)

    stack.enter_context(patch.object(Core, "_ack", _ack))
    stack.enter_context(patch.object(Sending, "_stored", _stored))


def _block_leaks(stack: ExitStack) -> None:
    """A reply reaches whoever has blocked its sender."""
    send = MemoryStore._send

    def _send(self: MemoryStore, draft: Draft, now: int) -> Stored | Refused:
        blocks = self._contents.blocks
        if draft.target is not None:
            self._contents.blocks = set()
        try:
            return send(self, draft, now)
        finally:
            self._contents.blocks = blocks

    stack.enter_context(patch.object(MemoryStore, "_send", _send))


def _reorders_a_batch(stack: ExitStack) -> None:
    """Edits and deletions are carried out before the messages that came with them in the same batch."""
    next_batch = Intake.next_batch

    def sorted_batch(self: Intake, now: float, *, hurry: bool) -> Batch | None:
        self._drafts = type(self._drafts)(sorted(self._drafts, key=lambda one: one.command.kind == "message"))
        return next_batch(self, now, hurry=hurry)

    stack.enter_context(patch.object(Intake, "next_batch", sorted_batch))


def _loses_a_refusal(stack: ExitStack) -> None:
    """What was withdrawn because of an earlier refusal is not answered."""
    withdraw = Intake.withdraw_drafts
    stack.enter_context(patch.object(Intake, "withdraw_drafts", lambda self, sources: withdraw(self, sources) and []))


def _overtakes_a_page(stack: ExitStack) -> None:
    """A new entry goes out at once, though a page with earlier ones is still being read."""
    committed = Delivery.committed

    def overtaking(self: Delivery, connection: Connection, message: Any, *, own: bool) -> None:
        if connection.open and connection.loading and connection.window.fits(1):
            self._send(connection, [message])
        else:
            committed(self, connection, message, own=own)

    stack.enter_context(patch.object(Delivery, "committed", overtaking))


def _has_no_window(stack: ExitStack) -> None:
    """However much a device has not acknowledged, it is sent more."""
    stack.enter_context(patch.object(Window, "fits", lambda self, size: True))


def _client_acknowledges_on_receipt(stack: ExitStack) -> None:
    """The client acknowledges what has arrived, and not what the program is done with."""

    def due(self: Inbox) -> int | None:
        if not self._active or self._received <= self._acked:
            return None
        self._acked = self._received
        return self._received

    stack.enter_context(patch.object(Inbox, "due", due))


def _client_forgets_what_was_under_way(stack: ExitStack) -> None:
    """The client takes a message that was under way when its connection broke for a stored one."""

    def end(self: Outbox) -> None:
        for id in self._under_way:
            del self._items[id]
        self._open = False
        self._under_way.clear()
        self._bytes = 0
        self._rebuild()

    stack.enter_context(patch.object(Outbox, "end", end))


BUGS: Final[dict[str, Plant]] = {
    plant.__name__.strip("_"): plant
    for plant in (
        _acknowledges_before_commit, _cursor_moves_on_write, _replay_lost_on_replace, _stores_an_id_twice,
        _renumbers_a_retry, _forgets_conflicts, _tells_no_gap, _receipts_before_commit, _block_leaks, _reorders_a_batch,
        _loses_a_refusal, _overtakes_a_page, _has_no_window, _client_acknowledges_on_receipt,
        _client_forgets_what_was_under_way,
    )
}  # fmt: skip


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """The block runs with this bug in the product; with None, as it is."""
    with ExitStack() as stack:
        if bug is not None:
            BUGS[bug](stack)
        yield
