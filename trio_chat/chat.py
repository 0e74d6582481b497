"""`open_chat`: the chat of one application, from its store to its sessions."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final, Protocol

import msgspec
import trio

from .admission import Admission
from .committer import unix_ms
from .core.batch import ConnectionId
from .core.events import Connected, Drain, Revoked
from .core.outbox import Unregister
from .core.workload import Workload
from .errors import CloseCode, ConfigurationError
from .keep_voice import KeepVoice
from .observation import EventStream
from .policy import Hooks
from .push.dispatcher import Backlog, Dispatcher, ProviderFigures
from .push.settings import Push
from .registry import Progress, Registry, SessionPort
from .settings import Settings
from .sparing import SparingLog
from .store.base import Sizes, Store
from .store.sqlite import SqliteStore

__all__ = ["NO_TRIO", "Chat", "Statistics", "open_chat"]

NO_TRIO: Final = (
    "trio-chat runs under Trio, and this program runs under another event loop: let Hypercorn's or Anycorn's trio worker "
    "run the application (hypercorn -k trio), or run `trio-chat serve` beside it and send with trio_chat.client"
)
"""What is said under asyncio."""

_LAST_COMMIT: Final = 5.0
"""Seconds for what was read to be committed when everything is cancelled."""
_FAREWELLS: Final = 1.5
"""Seconds for those to be gone who are cut off at the end of a drain."""


_UNWELL: Final = 10.0
"""Seconds after which a refusal says nothing about now."""


class Statistics(Workload, frozen=True, kw_only=True):
    """What a chat holds at one moment, and what it has done since it began.

    `handshakes` are those of the `connections` that nobody knows yet. `closed` counts the connections that the server
    closed, by the code they were told; who left is not among them. `turned_away` counts the requests that were refused
    before there was a WebSocket, by their HTTP status. `uptime` is in seconds. `push` is what came of telling people who are
    away, by provider, and `outbox` what waits for that.
    """

    connections: int
    handshakes: int
    closed: dict[CloseCode, int]
    turned_away: dict[int, int]
    progress: Progress
    sizes: Sizes
    uptime: float
    push: dict[str, ProviderFigures] = msgspec.field(default_factory=dict)
    outbox: Backlog = Backlog()


class _LiveSession(SessionPort, Protocol):
    connection: ConnectionId
    closed: CloseCode | None

    def stop_reading(self, *, end_by: float = ...) -> None: ...
    def cancel(self) -> None: ...


class Chat(KeepVoice):
    """A running chat. Made by `open_chat`; served by `serve_tcp` and its siblings; `KeepVoice` is what it does for it.

    `draining` is set when no new connection is to be taken.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Callable[[], int],
        memory_path: bool,
        hooks: Hooks | None = None,
        push: Push | None = None,
    ) -> None:
        registry = Registry(store, settings, clock, memory_path=memory_path, hooks=hooks, push=push)
        super().__init__(store, registry, settings, push, clock)
        self._dispatcher = None if push is None else Dispatcher(push, store.outbox, registry.ride, clock)
        self.admission: Admission = Admission(settings)
        self.revalidations: trio.CapacityLimiter = trio.CapacityLimiter(settings.revalidations)
        self._live: dict[ConnectionId, _LiveSession] = {}
        self._last_connection = 0
        self._began = trio.current_time()
        self.closed: Counter[CloseCode] = Counter()
        self.refusals: SparingLog = SparingLog("trio_chat.front")
        """Where each request that is turned away is told, over all listeners."""
        self._handshakes: dict[object, set[tuple[str, str | None]]] = {}
        self._drain_by = math.inf
        self._ended = False
        self._failed = False
        self._lifeline = trio.CancelScope(shield=True)

    @property
    def failure(self) -> str | None:
        """Why messages cannot be stored now, in one sentence for the operator; None while all is well."""
        return "a task of the chat failed" if self._failed else self._store.failure

    @property
    def healthy(self) -> bool:
        """Whether messages can be stored, as far as is known: what ``/healthz`` says.

        After a refusal for want of space or of a lock it is False until a message is stored, or for `_UNWELL` seconds: if
        nobody were sent here any more, nobody would find out that all is well again.
        """
        recent = trio.current_time() - self.registry.refused_at < _UNWELL
        return self.failure is None and not self.draining.is_set() and not recent

    def statistics(self) -> Statistics:
        """What the chat holds at the moment; a frozen snapshot."""
        return Statistics(
            connections=self.admission.connections,
            handshakes=self.admission.half_open,
            closed=dict(self.closed),
            turned_away=dict(self.admission.turned_away),
            progress=self.registry.progress(),
            sizes=self._store.space(),
            uptime=trio.current_time() - self._began,
            push={} if self._dispatcher is None else self._dispatcher.figures(),
            outbox=Backlog() if self._dispatcher is None else self._dispatcher.backlog(),
            **msgspec.structs.asdict(self.registry.workload()),
        )

    def events(self, room: int = 1024) -> EventStream:
        """What happens from now on: messages stored, receipts, read marks, blocks, devices that come and go.

        ::

            with chat.events() as events:
                async for event in events:
                    match event:
                        case MessageStored(recipient="bot", sender=sender, text=text): ...

        An event is told when it is durable, and in the order of the commits. The application's own messages are among them.

        Args:
            room: so many events wait for whoever iterates; what happens beyond them is counted by one `Missed`.

        Raises:
            ValueError: there is no room.
        """
        return self.registry.observers.open(room)

    @property
    def farewell(self) -> tuple[CloseCode, str]:
        """What a session that is cancelled tells its peer."""
        return (CloseCode.INTERNAL, "") if self._failed else (CloseCode.GOING_AWAY, "")

    def next_connection(self) -> ConnectionId:
        """A number that no connection of this chat has had."""
        self._last_connection += 1
        return self._last_connection

    def join(self, session: _LiveSession, event: Connected) -> None:
        """A session begins. For `Session` alone."""
        self._live[event.connection] = session
        self.registry.join(session, event)
        if self.draining.is_set():
            session.stop_reading(end_by=self._drain_by)
        if self._ended:  # nobody is there any more to say so
            session.cancel()

    def leave(self, session: _LiveSession) -> None:
        """A session has ended. For `Session` alone."""
        del self._live[session.connection]
        if session.closed is not None:
            self.closed[session.closed] += 1
        self.registry.leave(session.connection)

    def revoke(self, user: str, device: str | None = None) -> None:
        """Close the user's connections (only that device's, if given) with 4401.

        They may connect again if the authenticator lets them: change what it knows first.
        """
        self.registry.put(Revoked(user, device))
        if self._push is not None and not self.registry.ended:
            self.registry.ride(Unregister(user, device), soon=True)
        for revoked in self._handshakes.values():
            revoked.add((user, device))

    @contextmanager
    def handshake(self) -> Iterator[set[tuple[str, str | None]]]:
        """Collects who is revoked while the block lasts: the authenticator may have looked before it knew."""
        key = object()
        self._handshakes[key] = revoked = set[tuple[str, str | None]]()
        try:
            yield revoked
        finally:
            del self._handshakes[key]

    async def drain(self) -> None:
        """Stop taking connections, answer what was received, close all connections with 1001, and wait for that.

        What has not gone within ``settings.drain_timeout`` seconds is cut off. May be called more than once. When
        cancelled, the drain goes on by itself, without anybody waiting for it.
        """
        self._begin_drain()
        with trio.move_on_at(self._drain_by + _FAREWELLS):
            await self.registry.wait_idle()
            self.registry.observers.end()  # nothing happens any more: whoever looks on need not wait for the block's end

    def _begin_drain(self) -> None:
        self.draining.set()
        self._drain_by = min(self._drain_by, trio.current_time() + self.settings.drain_timeout)
        for session in self._live.values():
            session.stop_reading(end_by=self._drain_by)
        self.registry.put(Drain())

    def dismiss(self, connections: Iterable[ConnectionId]) -> None:
        """Begin to drain these connections only; their listener is going away."""
        dismissed = frozenset(connections)
        for connection in dismissed & self._live.keys():
            self._live[connection].stop_reading()
        self.registry.put(Drain(dismissed))

    async def _run(self) -> None:
        """The registry and what it needs, out of reach of cancellations until `_let_go` sets a deadline."""
        well = False
        try:
            with self._lifeline:
                await self._run_all()
            well = True
        finally:
            self._ended = True
            self._failed = not well
            for session in self._live.values():
                session.cancel()

    async def _run_all(self) -> None:
        if not self._retention:
            await self.registry.run()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            await self.registry.run()
            nursery.cancel_scope.cancel()

    async def _close(self) -> None:
        """Drain, and then have what push is at come to an end."""
        await self.drain()
        if self._dispatcher is not None:
            await self._dispatcher.stop()

    def _let_go(self) -> None:
        """Let the registry end when what was received is committed; after a drain that is so already."""
        self._begin_drain()
        for session in self._live.values():
            session.cancel()
        self._lifeline.deadline = trio.current_time() + _LAST_COMMIT
        self.registry.end()


@asynccontextmanager
async def open_chat(
    store: str | os.PathLike[str] | Store,
    *,
    settings: Settings | None = None,
    hooks: Hooks | None = None,
    push: Push | None = None,
    clock: Callable[[], int] = unix_ms,
    memory_path: bool = True,
) -> AsyncIterator[Chat]:
    """Run a chat for as long as the block lasts.

    Leaving the block drains (`Chat.drain`), commits what was received, and closes the store; nothing of it outlives the
    block. A block that is cancelled does the same in a hurry: a second for the farewells, five for the last commit.

    Args:
        store: the path of an SQLite file, made if there is none, or a `Store`, which is entered and left here.
        settings: limits and times.
        hooks: the application's say in who may send and see what.
        push: how people are told of messages when they are away; without it nobody is.
        clock: gives Unix milliseconds; for tests.
        memory_path: False feeds every connection from the store; for tests.

    Raises:
        ConfigurationError: a setting is out of its range, or the store cannot be served (`StoreLocked`,
            `SchemaMismatch`), or this is not Trio; the block was not entered.
        BaseExceptionGroup: a task of the chat failed, which cancels the block. An exception of the block itself leaves as
            it is.
    """
    if not trio.lowlevel.in_trio_run():
        raise ConfigurationError(NO_TRIO)
    settings = Settings.of(**msgspec.structs.asdict(settings or Settings()))
    if push is not None:
        push.check()
    opened: AbstractAsyncContextManager[Store]
    opened = SqliteStore(store, settings) if isinstance(store, str | os.PathLike) else store
    body: BaseException | None = None
    async with opened as entered:
        chat = Chat(entered, settings, clock=clock, memory_path=memory_path, hooks=hooks, push=push)
        if chat._dispatcher is not None and push is not None:  # noqa: SLF001
            entered.outbox.open(round(push.delay * 1000))
            chat.registry.stirred = chat._dispatcher.stir  # noqa: SLF001
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chat._run)  # noqa: SLF001  (the two are one)
                if chat._dispatcher is not None:  # noqa: SLF001
                    nursery.start_soon(chat._dispatcher.run)  # noqa: SLF001
                try:
                    yield chat
                    await chat._close()  # noqa: SLF001
                except BaseException as error:
                    body = error
                    if not _holds_cancelled(error):
                        await chat._close()  # noqa: ASYNC102, SLF001  (no cancellation)
                    raise
                finally:
                    chat._let_go()  # noqa: SLF001
        except BaseExceptionGroup:
            if body is None or chat._failed:  # noqa: SLF001
                raise
        if body is not None:
            raise body  # nothing of ours failed, so it leaves as it came


def _holds_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
