"""Between the program and the dialogue: who waits for what, what is told to whom, and how it ends."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import singledispatchmethod
from typing import Any, Final

import anyio
import anyio.lowlevel

from .. import wire
from ..errors import ConnectionClosed, IdConflict
from .dialogue import Answered, Dialogue, Effect, Fault, Notice, Refusal, Write
from .inbox import Held
from .journal import Journal
from .link import Link
from .outbox import Command
from .records import Pending, Position, Record
from .streams import EventStream, IncomingMessage, MessageStream
from .values import Connected, Event, Statistics, Stored, Undelivered
from .waiter import Waiter

__all__ = ["Exchange"]

_FLUSH: Final = 5.0
"""Seconds for the state file to be written when the client is closed."""


class Exchange:
    """What a `ChatClient` works with. `run` has to run; after `leave` nothing of it does."""

    def __init__(self, dialogue: Dialogue, journal: Journal | None) -> None:
        self.dialogue = dialogue
        self._journal = journal
        self._link: Link | None = None
        self._closed: ConnectionClosed | None = None
        self._closing = anyio.Event()
        self._gone = anyio.Event()
        self._welcomed = anyio.Event()
        self._arrived = anyio.Event()
        self._waiters: dict[str, Waiter] = {}
        self._requests: dict[str, Waiter] = {}
        self._acks: set[Waiter] = set()
        self._events: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._stream: MessageStream | None = None
        self._journalled: dict[str, Command] = {}  # on their way to the state file, and not in the outbox yet

    def statistics(self) -> Statistics:
        """What is held at the moment."""
        return Statistics(
            connected=self.dialogue.welcome is not None,
            connections=self._link.connections if self._link else 0,
            unwritten=len(self._journalled),
            pending=len(self.dialogue.outbox),
            buffered=self.dialogue.inbox.buffered,
        )

    async def welcomed(self) -> None:
        """Wait for the first connection."""
        await self._welcomed.wait()
        self.check_open()

    def listen(self) -> EventStream:
        """Whatever happens from now on."""
        stream = EventStream()
        if self._closed is not None:
            stream.close(self._closed)
        elif (welcome := self.dialogue.welcome) is not None:
            stream.put(Connected(welcome.user, welcome.device, welcome.new))
        self._events.add(stream)
        return stream

    def iterate(self, *, own: bool, changes: bool, auto_ack: bool) -> MessageStream:
        """The messages, for this iterator and none before it."""
        self._write(self.dialogue.inbox.choose(own=own, changes=changes))
        self._stream = MessageStream(self, auto_ack=auto_ack)
        self._arrive()
        self.wake()
        return self._stream

    # Commands and requests.

    async def command(self, command: Command) -> Stored:
        """Have a command that is answered by ``stored`` sent, and wait for that."""
        self.check_open()
        outbox, id = self.dialogue.outbox, command.id
        known = self._journalled.get(id) or outbox.get(id)
        if known is not None and known != command:
            raise IdConflict("This client is sending another message with the id.")
        waiter = self._waiters.get(id)
        if waiter is None:
            waiter = self._waiters[id] = Waiter(anyio.Event())
        if known is None:
            if self._journal is None:
                self._put(command)
            else:
                self._journalled[id] = command
                self._journal.write([Pending(id, wire.encode(command))], lambda: self._put(command))
        stored: Stored = await waiter.outcome()
        return stored

    def _put(self, command: Command) -> None:
        self._journalled.pop(command.id, None)
        self.dialogue.outbox.add(command)
        self.wake()

    async def request(self, request: Any) -> Any:
        """Have a frame that has a ``ref`` sent, any number of times, and give the frame that answers it."""
        self.check_open()
        waiter = self._requests[request.ref] = Waiter(anyio.Event())
        self.dialogue.requests.add(request)
        self.wake()
        try:
            return await waiter.outcome()
        finally:
            self.dialogue.requests.forget(request.ref)
            self._requests.pop(request.ref, None)

    # What the message streams need.

    def take(self, stream: MessageStream) -> IncomingMessage | None:
        """The next message for `stream`, if there is one now. For `MessageStream`."""
        self.check_open()
        if stream is not self._stream:
            raise RuntimeError("another messages() has taken over")
        held = self.dialogue.inbox.take()
        return None if held is None else IncomingMessage(held, self._finish)

    async def arrival(self) -> None:
        """Wait until `take` may give something. For `MessageStream`."""
        await self._arrived.wait()

    async def _finish(self, held: Held) -> None:
        self.check_open()
        self._write(self.dialogue.inbox.finish(held))
        self.wake()
        if self._journal is None:
            await anyio.lowlevel.checkpoint()
            return
        waiter = Waiter(anyio.Event())
        self._acks.add(waiter)
        try:
            self._journal.write((), waiter.done.set)
            await waiter.outcome()
        finally:
            self._acks.discard(waiter)

    # Effects.

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Do what came of the server's frames."""
        for effect in effects:
            self._perform(effect)
        self._arrive()

    @singledispatchmethod
    def _perform(self, effect: Effect) -> None:
        raise TypeError(effect)

    @_perform.register
    def _(self, effect: Write) -> None:
        self._write([effect.record])

    @_perform.register
    def _(self, effect: Notice) -> None:
        self._tell(effect.event)

    @_perform.register
    def _(self, effect: Fault) -> None:
        pass  # the connection hears of it, and the link ends

    @_perform.register
    def _(self, effect: Stored) -> None:
        if waiter := self._waiters.pop(effect.id, None):
            waiter.answer = effect
            waiter.done.set()

    @_perform.register
    def _(self, effect: Refusal) -> None:
        waiter = self._waiters.pop(effect.command.id, None)
        if waiter is None or not waiter.waiting:
            self._tell(Undelivered(effect.command.id, effect.error))
        if waiter is not None:
            waiter.error = effect.error
            waiter.done.set()

    @_perform.register
    def _(self, effect: Answered) -> None:
        if waiter := self._requests.pop(effect.ref, None):
            waiter.answer, waiter.error = effect.answer, effect.error
            waiter.done.set()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._welcomed.set()
        for stream in list(self._events):
            stream.put(event)

    def _write(self, records: Sequence[Record]) -> None:
        if not records:
            return
        positions = [record for record in records if isinstance(record, Position)]

        def written() -> None:
            for record in positions:
                self.dialogue.inbox.committed(record.log, record.position)
            self.wake()

        if self._journal is None:
            written()
        else:
            self._journal.write(records, written if positions else None)

    def _arrive(self) -> None:
        self._arrived.set()
        self._arrived = anyio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        if self._link is not None:
            self._link.wake()

    # The end.

    def check_open(self) -> None:
        """Raise why the client is closed, if it is."""
        if self._closed is not None:
            raise self._closed

    def end(self, error: ConnectionClosed) -> None:
        """Close: everything that waits hears of `error`. Nothing happens the second time."""
        if self._closed is not None:
            return
        self._closed = error
        for waiter in [*self._waiters.values(), *self._requests.values(), *self._acks]:
            waiter.error = error
            waiter.done.set()
        self._waiters.clear()
        self._requests.clear()
        for stream in list(self._events):
            stream.close(error)
        self._welcomed.set()
        self._arrive()
        self._closing.set()

    async def run(self, link: Link) -> None:
        """Be connected until that ends for good, or the client is closed."""
        self._link = link
        try:
            async with anyio.create_task_group() as tasks:
                if self._journal is not None:
                    tasks.start_soon(self._keep, self._journal)
                tasks.start_soon(self._stay, link)
                await self._closing.wait()
                if self._journal is not None:
                    with anyio.move_on_after(_FLUSH):  # what is acknowledged may be told to the server then
                        await self._journal.flushed()
                tasks.cancel_scope.cancel()
        finally:
            self._gone.set()

    async def leave(self) -> None:
        """Close, and wait until nothing of it runs any more: each of its steps has a limit of its own."""
        self.end(ConnectionClosed("the client was closed"))
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 2 * _FLUSH):
            await self._gone.wait()

    async def _stay(self, link: Link) -> None:
        self.end(await link.run())

    async def _keep(self, journal: Journal) -> None:
        self.end(await journal.run())
