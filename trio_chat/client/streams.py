"""What the program iterates over: messages and events."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol, Self

import anyio
import anyio.lowlevel

from ..errors import ConnectionClosed
from .inbox import Held
from .values import Event, PresenceChanged, Typing

__all__ = ["EventStream", "IncomingMessage", "MessageStream", "Source"]

_EVENTS: Final = 1000


class IncomingMessage:
    """A message from the log. Frozen, but for `ack`.

    `seq` is its position in this user's log; `sender` and `recipient` are users; `sent_at` is the server's clock in Unix
    milliseconds; `text` is None if it was removed. `reply_to` is the id of the message that it answers, if it does.

    `kind` is ``message``; or ``edit`` or ``delete`` for who asks for `changes`, and then `target` is the id of the sender's
    message whose text is replaced by `text`, or removed.
    """

    __slots__ = (
        "_finish", "_held", "id", "kind", "recipient", "reply_to", "sender", "sent_at", "seq", "target", "text"
    )  # fmt: skip

    def __init__(self, held: Held, finish: Callable[[Held], Awaitable[None]]) -> None:
        message = held.message
        self._held = held
        self._finish = finish
        self.seq: int = message.seq
        self.id: str = message.id
        self.sender: str = message.sender
        self.recipient: str = message.recipient
        self.text: str | None = message.text
        self.sent_at: int = message.sent_at
        self.kind: str = message.kind
        self.reply_to: str | None = message.reply_to
        self.target: str | None = message.target

    def __repr__(self) -> str:
        return f"<IncomingMessage {self.seq} ({self.kind}) from {self.sender!r} to {self.recipient!r}>"

    async def ack(self) -> None:
        """This device has the message safely. May be called twice.

        The server is told as soon as everything before it in the log is acknowledged, too (A2). With a state file this
        returns when that has it: the message is not given to the program again, whatever happens. Cancelling takes nothing
        back.

        Raises:
            ConnectionClosed: the client is closed. The message will come again.
        """
        await self._finish(self._held)


class Source(Protocol):
    """What a `MessageStream` needs of its client."""

    def take(self, stream: MessageStream) -> IncomingMessage | None:
        """The next message; raises if there will be none."""

    async def arrival(self) -> None:
        """Wait until there may be another."""


class MessageStream:
    """The messages, in log order. Made by `ChatClient.messages`."""

    def __init__(self, source: Source, *, auto_ack: bool) -> None:
        self._source = source
        self._auto_ack = auto_ack
        self._last: IncomingMessage | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> IncomingMessage:
        """Acknowledge the last one, if that is wanted, and wait for the next. Cancelling loses no message.

        Raises:
            ConnectionClosed: the client is closed.
            RuntimeError: a newer iterator has taken over.
        """
        await anyio.lowlevel.checkpoint()
        if self._auto_ack and self._last is not None:
            await self._last.ack()
        self._last = None
        while (message := self._source.take(self)) is None:
            await self._source.arrival()
        self._last = message
        return message


class EventStream(AsyncIterator[Event]):
    """What happens, from the moment this was made by `ChatClient.events`."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._some = anyio.Event()
        self._closed: ConnectionClosed | None = None

    def put(self, event: Event) -> None:
        """Add an event. Of a thousand that nobody takes, the oldest is forgotten, typing and presence first."""
        if len(self._events) >= _EVENTS:
            ephemeral = next((at for at, old in enumerate(self._events) if isinstance(old, Typing | PresenceChanged)), 0)
            del self._events[ephemeral]
        self._events.append(event)
        self._some.set()

    def close(self, error: ConnectionClosed) -> None:
        """There will be no more."""
        self._closed = error
        self._some.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Cancelling loses none.

        Raises:
            ConnectionClosed: the client is closed, and everything before that was told.
        """
        await anyio.lowlevel.checkpoint()
        while not self._events:
            if self._closed is not None:
                raise self._closed
            self._some = anyio.Event()
            await self._some.wait()
        return self._events.popleft()
