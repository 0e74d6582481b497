"""The client: what a program does with it, and how long it lives."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import singledispatchmethod
from typing import Any, Final

import anyio
import anyio.lowlevel

from .. import wire
from ..errors import ConnectionClosed, ErrorCode, IdConflict
from .checks import named, recipient, whole
from .dialogue import Answered, Dialogue, Effect, Fault, Notice, Refusal, Write
from .inbox import Held
from .journal import Journal
from .link import Link
from .outbox import Command
from .records import Pending, Position, Record
from .streams import EventStream, IncomingMessage, MessageStream
from .values import Connected, Event, Statistics, Stored, Undelivered
from .waiter import Waiter

__all__ = ["ChatClient"]

_FLUSH: Final = 5.0
"""Seconds for the state file to be written when the client is closed."""


class ChatClient:
    """One device of one user, connected again and again. Made by `trio_chat.client.open_client`.

    Its methods may be called by any number of tasks of the event loop it was opened in. When it is closed, because its
    block is left or because the server ended it for good, everything that waits raises `ConnectionClosed`.
    """

    def __init__(self, dialogue: Dialogue, journal: Journal | None) -> None:
        self._dialogue = dialogue
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

    @property
    def user(self) -> str | None:
        """Who the server says this is; None before the first connection, unless the state file knows."""
        return self._dialogue.owner.user if self._dialogue.owner else None

    @property
    def device(self) -> str | None:
        """Which of the user's devices this is; None as for `user`."""
        return self._dialogue.owner.device if self._dialogue.owner else None

    def statistics(self) -> Statistics:
        """What the client holds at the moment."""
        return Statistics(
            connected=self._dialogue.welcome is not None,
            connections=self._link.connections if self._link else 0,
            pending=len(self._dialogue.outbox) + len(self._journalled),
            buffered=self._dialogue.inbox.buffered,
        )

    async def wait_connected(self) -> None:
        """Wait until there has been a connection, for however long the server is away. Cancelling it does nothing else.

        Nothing needs it: what is sent before is sent then. It tells whether the server lets this client in.

        Raises:
            ConnectionClosed: it does not (`Unauthorized`, `NotAccepted`), or the client is closed.
        """
        await self._welcomed.wait()
        self._check_open()

    async def send(self, to: str, text: str, *, id: str | None = None) -> Stored:
        """Send a message, and wait until the server has stored it, over however many reconnects.

        Messages are sent in the order of the calls. What the server refuses for the moment (``rate_limited`` and the like)
        is sent again when it says, with everything after it (S4). What is not stored yet is kept in memory, however much it
        is: see `statistics`.

        With a state file the message is on the disk before it is sent. From then on, cancelling this, closing the client or
        the death of its process only means that nobody learns the outcome: the message is still sent, now or when the
        file is used again. Without one, a message whose `send` was cancelled may or may not be stored; as long as the client
        is open it is still tried. To learn the outcome after all, send it again with the same `id`: it is stored once.

        Args:
            to: the recipient, 1 to 128 characters without control characters.
            text: not empty, without NUL, and not longer than the server takes (16 KiB of UTF-8, as a rule).
            id: unique among all messages of this user; a fresh UUID if none is given.

        Raises:
            RefusedByServer: it is not stored, and trying again would be of no use; or, if its `fate` is ``unknown``, it
                may be. `TooLarge`, `IdConflict`, `NotAllowed` and `BadFrame` are such.
            ConnectionClosed: the client is closed; with a state file the message is sent when that is used again.
        """
        return await self._command(wire.Send(id=named(id), to=recipient(to), text=whole(text)))

    def messages(self, *, own: bool = False, auto_ack: bool = True) -> MessageStream:
        """The messages to this user, in log order, each once for this device.

        ::

            async for message in chat.messages():
                ...

        A message is acknowledged when the loop comes back for the next one, so that a crash inside of the body means that it
        comes again: to the next iterator that is made, or to the next process. At most a window (256) is held; as long as
        nobody iterates, the rest waits at the server.

        The newest iterator gets the messages, beginning with those that were given and not acknowledged; an older one raises
        RuntimeError.

        Args:
            own: this user's own messages, too, sent from here or from another device (and those to oneself). Else they are
                acknowledged and passed over.
            auto_ack: False leaves acknowledging to `IncomingMessage.ack`, in any order.

        Iterating raises `ConnectionClosed` when the client is closed. It ends in no other way.
        """
        self._write(self._dialogue.inbox.choose(own=own))
        self._stream = MessageStream(self, auto_ack=auto_ack)
        self._arrive()
        self._wake()
        return self._stream

    def typing(self, to: str, on: bool) -> None:  # noqa: FBT001  (an on/off switch)
        """Let `to` see that this user is writing, or has stopped. Dropped if there is no connection now.

        To be repeated every five seconds while it goes on.

        Raises:
            BadFrame: `to` is no user's name.
            ConnectionClosed: the client is closed.
        """
        self._check_open()
        self._dialogue.typing(recipient(to), on=on)
        self._wake()

    def events(self) -> EventStream:
        """What happens from now on: `Connected`, `Disconnected`, `Gap`, `Typing`, `Undelivered`.

        Each call makes an iterator of its own. One that is not read holds a thousand events and then forgets the oldest.
        Iterating raises `ConnectionClosed` when the client is closed.
        """
        stream = EventStream()
        if self._closed is not None:
            stream.close(self._closed)
        elif (welcome := self._dialogue.welcome) is not None:
            stream.put(Connected(welcome.user, welcome.device, welcome.new))
        self._events.add(stream)
        return stream

    async def aclose(self) -> None:
        """Close the client, as leaving its block does. May be called twice.

        What is acknowledged is told to the server if that takes a second at most. Messages that are not stored are not
        waited for.
        """
        self._end(ConnectionClosed("the client was closed"))
        await anyio.lowlevel.checkpoint()

    # Commands and requests.

    async def _command(self, command: Command) -> Stored:
        """Have a command that is answered by ``stored`` sent, and wait for that."""
        self._check_open()
        outbox, id = self._dialogue.outbox, command.id
        known = self._journalled.get(id) or outbox.get(id)
        if known is not None and known != command:
            raise IdConflict(ErrorCode.ID_CONFLICT, "This client is sending another message with the id.")
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
        self._dialogue.outbox.add(command)
        self._wake()

    async def _request(self, request: Any) -> Any:
        """Send a frame that has a ``ref``, and give the frame that answers it. Cancelling forgets it.

        The request may be sent several times, so it must be one that changes nothing twice.

        Raises:
            RefusedByServer: the answer was an error.
            ConnectionClosed: the client is closed.
        """
        self._check_open()
        waiter = self._requests[request.ref] = Waiter(anyio.Event())
        self._dialogue.requests.add(request)
        self._wake()
        try:
            return await waiter.outcome()
        finally:
            self._dialogue.requests.forget(request.ref)
            self._requests.pop(request.ref, None)

    # What the message streams need.

    def take(self, stream: MessageStream) -> IncomingMessage | None:
        """The next message for `stream`, if there is one now. For `MessageStream`."""
        self._check_open()
        if stream is not self._stream:
            raise RuntimeError("another messages() has taken over")
        held = self._dialogue.inbox.take()
        return None if held is None else IncomingMessage(held, self._finish)

    async def arrival(self) -> None:
        """Wait until `take` may give something. For `MessageStream`."""
        await self._arrived.wait()

    async def _finish(self, held: Held) -> None:
        self._check_open()
        self._write(self._dialogue.inbox.finish(held))
        self._wake()
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
                self._dialogue.inbox.committed(record.log, record.position)
            self._wake()

        if self._journal is None:
            written()
        else:
            self._journal.write(records, written if positions else None)

    def _arrive(self) -> None:
        self._arrived.set()
        self._arrived = anyio.Event()

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    # The end. `run` and `leave` are for `open_client`.

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _end(self, error: ConnectionClosed) -> None:
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
        self._end(ConnectionClosed("the client was closed"))
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 2 * _FLUSH):
            await self._gone.wait()

    async def _stay(self, link: Link) -> None:
        self._end(await link.run())

    async def _keep(self, journal: Journal) -> None:
        self._end(await journal.run())
