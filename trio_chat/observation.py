"""What happened, for the application that looks on: `Chat.events`.

Nothing is made up for nobody: without a stream, none of this costs anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Self, TypeAlias
from weakref import WeakSet

import trio
from msgspec import Struct

from .core.batch import Batch, Results, Stored
from .core.events import Connected
from .model import Kind

__all__ = [
    "BlockChanged",
    "DeviceConnected",
    "DeviceDisconnected",
    "EventStream",
    "MessageStored",
    "Missed",
    "Observers",
    "ReadMarked",
    "ReceiptChanged",
]


class MessageStored(Struct, frozen=True, kw_only=True):
    """A message, an edit or a deletion is durable. `seq` is its place in the sender's log, `peer_seq` in the recipient's.

    `peer_seq` is 0 if it has none there: a note to oneself, or to somebody who blocks the sender.
    """

    id: str
    sender: str
    recipient: str
    text: str | None
    sent_at: int
    seq: int
    peer_seq: int
    kind: Kind = "message"
    reply_to: str | None = None
    target: str | None = None


class ReceiptChanged(Struct, frozen=True, kw_only=True):
    """`peer` has `user`'s messages up to `delivered` and read them up to `read`, in `user`'s seq (R2); 0 is nothing new."""

    user: str
    peer: str
    delivered: int
    read: int


class ReadMarked(Struct, frozen=True, kw_only=True):
    """`user` has read `peer`'s messages up to `seq` of `user`'s own log (R3); it may be no further than before."""

    user: str
    peer: str
    seq: int


class BlockChanged(Struct, frozen=True, kw_only=True):
    """`user` wants to hear of `peer` no more, or again (B1)."""

    user: str
    peer: str
    blocked: bool


class DeviceConnected(Struct, frozen=True, kw_only=True):
    """A device has a connection, from now on. `send_only`: it takes no messages by it."""

    user: str
    device: str
    send_only: bool


class DeviceDisconnected(Struct, frozen=True, kw_only=True):
    """A connection of a device has ended; it may have another one by now."""

    user: str
    device: str
    send_only: bool


class Missed(Struct, frozen=True, kw_only=True):
    """Here `count` events are missing: they happened while the stream was full."""

    count: int


ChatEvent: TypeAlias = (
    MessageStored | ReceiptChanged | ReadMarked | BlockChanged | DeviceConnected | DeviceDisconnected | Missed
)


class EventStream(AsyncIterator[ChatEvent]):
    """Events in the order in which they became true, from the moment the stream was made. Made by `Chat.events`.

    Holds `room` events; what happens while it is full is counted by a `Missed` in its place. Iteration ends when the chat
    has drained, after what the stream still holds, or when the stream is closed. One task at a time may iterate.
    """

    def __init__(self, room: int, forget: Callable[[EventStream], None] = lambda _: None) -> None:
        if room < 1:
            raise ValueError("a stream has room for one event at least")
        self._room = room
        self._held: deque[ChatEvent] = deque()
        self._filled = trio.Event()
        self._closed = False
        self._forget = forget
        self._iterating = False

    def put(self, event: ChatEvent) -> None:
        """For `Observers` alone."""
        if self._closed:
            return
        last = self._held[-1] if self._held else None
        if len(self._held) < self._room:
            self._held.append(event)
        elif isinstance(last, Missed):
            self._held[-1] = Missed(count=last.count + 1)
        else:
            self._held.append(Missed(count=1))
        self._filled.set()

    def close(self) -> None:
        """Take nothing more; iteration ends after what is held. May be called twice, and by any task."""
        self._closed = True
        self._filled.set()
        self._forget(self)

    async def __anext__(self) -> ChatEvent:
        """The next event. Cancelling loses none.

        Raises:
            trio.BusyResourceError: another task is iterating.
        """
        if self._iterating:
            raise trio.BusyResourceError("another task is iterating over this stream")
        self._iterating = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._held:
                if self._closed:
                    raise StopAsyncIteration
                self._filled = trio.Event()
                await self._filled.wait()
            return self._held.popleft()
        finally:
            self._iterating = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._held.clear()


class Observers:
    """The streams of a chat. One that nobody holds any more is forgotten."""

    def __init__(self) -> None:
        self._streams: WeakSet[EventStream] = WeakSet()
        self._ended = False

    def __bool__(self) -> bool:
        """Whether anybody looks on."""
        return bool(self._streams)

    def open(self, room: int) -> EventStream:
        """A stream of what happens from now on."""
        stream = EventStream(room, self._streams.discard)
        if self._ended:
            stream.close()
        else:
            self._streams.add(stream)
        return stream

    def tell(self, event: ChatEvent) -> None:
        for stream in list(self._streams):
            stream.put(event)

    def end(self) -> None:
        """Nothing happens any more."""
        self._ended = True
        for stream in list(self._streams):
            stream.close()
        self._streams.clear()

    def connected(self, event: Connected) -> None:
        """A device is welcome."""
        if self:
            self.tell(DeviceConnected(user=event.user, device=event.device, send_only=event.send_only))

    def disconnected(self, event: Connected) -> None:
        """A connection that was welcome has ended."""
        if self:
            self.tell(DeviceDisconnected(user=event.user, device=event.device, send_only=event.send_only))

    def committed(self, batch: Batch, results: Results) -> None:
        """A batch is durable: tell what became true by it."""
        if not self:
            return
        for block, blocked in zip(batch.blocks, results.blocks, strict=True):
            if isinstance(blocked, tuple):
                self.tell(BlockChanged(user=block.user, peer=block.peer, blocked=block.blocked))
        for read, refused in zip(batch.reads, results.reads or (None,) * len(batch.reads), strict=True):
            if refused is None:
                self.tell(ReadMarked(user=read.user, peer=read.peer, seq=read.seq))
        for one in results.progress:
            self.tell(ReceiptChanged(user=one.user, peer=one.peer, delivered=one.delivered, read=one.read))
        for draft, stored in zip(batch.drafts, results.drafts, strict=True):
            if isinstance(stored, Stored) and stored.new:
                is_message = draft.kind == "message"
                self.tell(
                    MessageStored(
                        id=draft.id,
                        sender=draft.sender,
                        recipient=draft.recipient,
                        text=draft.text,
                        sent_at=stored.sent_at,
                        seq=stored.seq,
                        peer_seq=stored.peer_seq,
                        kind=draft.kind,
                        reply_to=draft.target if is_message else None,
                        target=None if is_message else draft.target,
                    )
                )
