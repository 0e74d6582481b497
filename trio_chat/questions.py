"""What clients ask of the store: answered several at a time, and everybody in turn."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import msgspec
import trio

from . import wire
from .core.batch import ConnectionId
from .core.effects import Ask, Question
from .core.events import Answered, Event, Stood
from .errors import ErrorCode, RequestRefused, StoreError
from .retrieval import Standing
from .settings import Settings
from .store.base import Store
from .wire import ServerFrame

__all__ = ["Judge", "Questions"]

_log = logging.getLogger("trio_chat.store")

_AT_ONCE: Final = 8
"""Questions with the store at once: more than it has readers, so that none of these ever waits for one."""

Judge: TypeAlias = Callable[[str, tuple[Standing, ...]], Awaitable[tuple[Standing, ...]]]
"""What a watcher may know, by the application's policy: given the watcher and what the store says, it gives what holds.

It takes as long as it takes: nobody else's question waits for it. What it raises ends the chat; it must not.
"""


class Questions:
    """Answers questions from the store. A connection asks one at a time, so what waits is bounded.

    Of one user's questions, from however many connections, one is answered at a time, and users take turns: whoever asks a
    lot, or for what takes long, makes nobody wait but themselves.
    """

    def __init__(
        self, store: Store, report: Callable[[Event], None], settings: Settings, *, judge: Judge | None = None
    ) -> None:
        self._store = store
        self._report = report
        self._limit = settings.server_frame_bytes
        self._judge = judge
        self._waiting: dict[str, dict[ConnectionId, Ask]] = {}  # by user; one who is being answered is in it in any case
        self._askers: dict[ConnectionId, str] = {}
        self._turns: deque[str] = deque()  # users who wait and are not being answered
        self._under_way = 0
        self._changed = trio.Event()

    @property
    def waiting(self) -> int:
        """How many questions wait; not those that are being answered."""
        return len(self._askers)

    def submit(self, ask: Ask) -> None:
        """Answer this question: `Answered`, or `Stood`, is reported."""
        if ask.user not in self._waiting:
            self._waiting[ask.user] = {}
            self._turns.append(ask.user)
            self._changed.set()
        self._waiting[ask.user][ask.connection] = ask
        self._askers[ask.connection] = ask.user

    def withdraw(self, connection: ConnectionId) -> None:
        """The connection has ended: what it asked and is not being answered yet need not be."""
        user = self._askers.pop(connection, None)
        if user is not None:
            del self._waiting[user][connection]

    async def run(self) -> None:
        """Answer what is submitted, until cancelled.

        Whatever the store raises costs that one question its answer: reading changes nothing, so nothing can be wrong
        afterwards that was not before. Raises what the judge and `report` raise, in a group.
        """
        async with trio.open_nursery() as nursery:
            while True:  # noqa: ASYNC913  (every turn waits)
                await self._changed.wait()
                self._changed = trio.Event()
                while self._turns and self._under_way < _AT_ONCE:
                    self._under_way += 1
                    nursery.start_soon(self._serve, self._turns.popleft())

    async def _serve(self, user: str) -> None:
        """Answer the user's next question, and let the next user have a turn."""
        waiting = self._waiting[user]
        if waiting:
            connection = next(iter(waiting))
            del self._askers[connection]
            await self._serve_one(user, waiting.pop(connection))
        else:
            self._finished()
        if waiting:
            self._turns.append(user)
            self._changed.set()
        else:
            del self._waiting[user]

    def _finished(self) -> None:
        self._under_way -= 1
        self._changed.set()

    async def _serve_one(self, user: str, ask: Ask) -> None:
        event: Answered | Stood = Answered(ask.connection, ErrorCode.INTERNAL)
        try:
            event = await self._put(user, ask)
        except* Exception as unforeseen:
            # The edge of one connection: what only this question brings about must not end everybody's chat.
            _log.error("a %s could not be answered", type(ask.question).__name__.lower(), exc_info=unforeseen)
        self._finished()
        if isinstance(event, Stood) and self._judge is not None:
            event = Stood(event.connection, await self._judge(user, event.standings))
        self._report(event)

    async def _put(self, user: str, ask: Ask) -> Answered | Stood:
        """Put the question to the store."""
        try:
            if isinstance(ask.question, wire.Watch):
                return Stood(ask.connection, await self._store.standings(user, ask.question.users))
            return Answered(ask.connection, await self._answer(user, ask))
        except RequestRefused as refused:
            return Answered(ask.connection, ErrorCode(refused.code), str(refused))
        except StoreError as error:
            _log.error("a question could not be answered: %s", error)
            return Answered(ask.connection, error.code)

    async def _answer(self, user: str, ask: Ask) -> ServerFrame | ErrorCode:
        """The frame that answers the question, within the limit for a frame unless it holds a single item (C6)."""
        size = self._limit
        while True:
            frame, items = await self._read(user, ask.question, size)
            whole = len(items) < 2 or size == 0 or isinstance(ask.question, wire.Devices | wire.Blocks)
            if whole or len(wire.encode(frame)) <= self._limit:
                return frame
            size //= 2  # names and texts that JSON escapes take up to six times what the store reckons with

    async def _read(self, user: str, question: Question, size: int) -> tuple[ServerFrame, Sequence[object]]:
        store = self._store
        match question:
            case wire.History(ref=ref):
                history = await store.history(user, question, size=size)
                return wire.HistoryAnswer(ref=ref, **msgspec.structs.asdict(history)), history.messages
            case wire.Search(ref=ref):
                found = await store.search(user, question, size=size)
                return wire.SearchAnswer(ref=ref, **msgspec.structs.asdict(found)), found.hits
            case wire.Conversations(ref=ref):
                talks = await store.conversations(user, question, size=size)
                return wire.ConversationsAnswer(ref=ref, **msgspec.structs.asdict(talks)), talks.conversations
            case wire.Devices(ref=ref):
                devices = await store.devices(user)
                return wire.DevicesAnswer(ref=ref, devices=devices), devices
            case wire.Blocks(ref=ref):
                users = await store.blocked(user)
                return wire.Blocked(ref=ref, users=users), users
        raise AssertionError(f"{type(question).__name__} is no question for the store")
