"""What happens while somebody chats: what the client tells, and what it is told to do."""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
import anyio.abc

from ..client import (
    ChatClient,
    Connected,
    Disconnected,
    Event,
    Gap,
    IncomingMessage,
    NotOffered,
    PresenceChanged,
    ReceiptChanged,
    RequestRefused,
    Typing,
    Undelivered,
)
from ..errors import ConnectionClosed
from .conversation import Conversation
from .watch import reason_of

__all__ = ["Talk", "standing"]

_PAGE: Final = 100
_CONVERSATIONS: Final = 200
_AGAIN: Final = 4.0
"""Seconds after which typing that goes on is told again: it is forgotten after ten, and told at most every few."""
_IDLE: Final = 6.0
"""Seconds without a key after which somebody no longer types."""
_FORGET: Final = 10.0


class Talk:
    """A conversation that goes on. `run` has to run.

    Args:
        client: the way to the server.
        conversation: is kept as it is.
        changed: called when there is something else to be seen.
    """

    def __init__(self, client: ChatClient, conversation: Conversation, changed: Callable[[], None]) -> None:
        self.conversation = conversation
        self.connected: bool = False
        self.reason: str | None = None
        """Why there is no connection, None if none was tried yet."""
        self.typing: bool = False
        self.presence: PresenceChanged | None = None
        self.more: bool = False
        """Whether there are older messages than those that are here."""
        self._client = client
        self._peer = conversation.peer
        self._changed = changed
        self._events = client.events()
        self._said: deque[tuple[str, str]] = deque()
        self._to_say = anyio.Event()
        self._asked = anyio.Event()
        self._older = anyio.Event()
        self._heard_typing = anyio.Event()
        self._typed = anyio.Event()
        self._typed_at = self._told_at = -math.inf
        self._marked = 0
        self._mutual = False
        self._unpaged = True

    # What somebody does.

    def say(self, text: str) -> None:
        """Send a message."""
        id = str(uuid.uuid4())
        self.conversation.said(id, text)
        self._said.append((id, text))
        self._to_say.set()
        self._told_at = -math.inf  # a message says that nobody types any more (and the server, so much)
        self._typed_at = -math.inf

    def types(self, *, something: bool) -> None:
        """A key was pressed, and there is something in the line now, or nothing."""
        now = anyio.current_time()
        if not something:
            self._typed_at = -math.inf
            self._stop_typing()
            return
        self._typed_at = now
        if now - self._told_at >= _AGAIN:
            self._told_at = now
            self._tell_typing(on=True)
        self._typed.set()

    def seen(self) -> None:
        """Everything is on the screen."""
        heard = self.conversation.heard
        if heard > self._marked:
            self._marked = heard
            with suppress(ConnectionClosed):  # `run` says so
                self._client.read(self._peer, heard)

    def leaf(self) -> None:
        """Fetch older messages, if there are any."""
        if self.more:
            self.more = False
            self._older.set()

    # What happens.

    async def run(self) -> None:
        """Keep the conversation up to date.

        Raises:
            ConnectionClosed: the server ended it, for good.
        """
        self._watch()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hear)
            tasks.start_soon(self._listen)
            tasks.start_soon(self._send)
            tasks.start_soon(self._retrieve)
            tasks.start_soon(self._leaf)
            tasks.start_soon(self._forget_typing)
            tasks.start_soon(self._notice_idleness)

    async def _hear(self) -> None:
        async for message in self._client.messages(own=True, changes=True):
            self._take(message)
            self._follow()
            self._changed()

    def _take(self, message: IncomingMessage) -> None:
        if self._peer in (message.sender, message.recipient):
            self.conversation.entry(message)
            if message.sender == self._peer:
                self.typing = False
        elif message.recipient == self._client.user and message.kind == "message":
            # This device will not be given it again, and there may be no other, so it is shown.
            self.conversation.note(f"{message.sender} writes: {message.text}")

    def _follow(self) -> None:
        """Ask once more where the other is when both have written: before that, the server does not tell."""
        if not self._mutual and self.conversation.mutual:
            self._mutual = True
            self._watch()

    def _watch(self) -> None:
        with suppress(ConnectionClosed):  # `run` says so
            self._client.watch([self._peer])

    async def _listen(self) -> None:
        async for event in self._events:
            self._note(event)
            self._changed()

    def _note(self, event: Event) -> None:
        if isinstance(event, Connected):
            self.conversation.me = event.user
            self.connected, self.reason = True, None
            self._asked.set()
        elif isinstance(event, Disconnected):
            self.connected, self.reason = False, reason_of(event)
            self.typing, self.presence = False, None
        elif isinstance(event, Typing) and event.user == self._peer:
            self.typing = event.typing
            self._heard_typing.set()
        elif isinstance(event, PresenceChanged) and event.user == self._peer:
            self.presence = event
        elif isinstance(event, ReceiptChanged) and event.peer == self._peer:
            self.conversation.receipt(event.delivered, event.read)
        elif isinstance(event, Gap):
            self.conversation.note(f"the entries {event.first} to {event.last} of the log are no longer held")
        elif isinstance(event, Undelivered):
            self.conversation.note(f"an earlier message was refused with {event.error.code}: {event.error}")

    async def _send(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                await self._to_say.wait()
                self._to_say = anyio.Event()
                while self._said:
                    await tasks.start(self._send_one, *self._said.popleft())

    async def _send_one(self, id: str, text: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()  # and only then others run: the order is that of the calls of `send`
        try:
            stored = await self._client.send(self._peer, text, id=id)
        except RequestRefused as error:
            self.conversation.refused(id, str(error))
        else:
            self.conversation.stored(id, stored.seq, stored.sent_at)
        self._changed()

    # What is asked.

    async def _retrieve(self) -> None:
        """After each connection: what was said before the first, and how far the other is, which nobody tells (R4)."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            try:
                if self._unpaged:
                    await self._page(None)
                    self._unpaged = False
                await self._marks()
            except NotOffered:
                pass  # an older server
            except RequestRefused as error:
                self.conversation.note(f"what was said before cannot be shown: {error}")
            self._changed()

    async def _marks(self) -> None:
        before: int | None = None
        while True:
            page = await self._client.conversations(before=before, limit=_CONVERSATIONS)
            found = next((known for known in page.conversations if known.peer == self._peer), None)
            if found is not None:
                self._marked = max(self._marked, found.own_read)
                self.conversation.receipt(found.delivered, found.read)
            if found is not None or not page.more:
                return
            before = page.next

    async def _leaf(self) -> None:
        while True:
            await self._older.wait()
            self._older = anyio.Event()
            try:
                await self._page(self.conversation.oldest)
            except RequestRefused as error:
                self.conversation.note(f"older messages cannot be shown: {error}")
            self._changed()

    async def _page(self, before: int | None) -> None:
        page = await self._client.history(peer=self._peer, before=before, limit=_PAGE)
        for message in page.messages:
            self.conversation.entry(message)
        self.more = page.more

    # Typing.

    def _stop_typing(self) -> None:
        if self._told_at > -math.inf:
            self._told_at = -math.inf
            self._tell_typing(on=False)

    def _tell_typing(self, *, on: bool) -> None:
        with suppress(ConnectionClosed):  # `run` says so
            self._client.typing(self._peer, on)

    async def _notice_idleness(self) -> None:
        while True:
            await self._typed.wait()
            self._typed = anyio.Event()
            while (left := self._typed_at + _IDLE - anyio.current_time()) > 0:  # noqa: ASYNC110  (each time until then)
                await anyio.sleep(left)
            self._stop_typing()

    async def _forget_typing(self) -> None:
        while True:
            await self._heard_typing.wait()
            self._heard_typing = anyio.Event()
            with anyio.move_on_after(_FORGET):
                await self._heard_typing.wait()
                continue
            self.typing = False
            self._changed()


def standing(talk: Talk) -> str:
    """What is known of the other one at the moment, in a few words; of the client, if it is not connected."""
    if not talk.connected:
        return "connecting …" if talk.reason is None else f"no connection: {talk.reason}; trying again"
    if talk.typing:
        return "is writing …"
    if talk.presence is not None and talk.presence.online:
        return "is here"
    return ""
