"""`open_chat`: the chat of one application, from its store to its sessions."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

import trio

from .admission import Admission
from .committer import unix_ms
from .core.batch import ConnectionId
from .core.events import Connected, Drain, Revoked
from .errors import CloseCode
from .registry import Registry, SessionPort
from .settings import Settings
from .store.base import Store
from .store.sqlite import SqliteStore

__all__ = ["Chat", "open_chat"]

_LAST_COMMIT: Final = 5.0
"""Seconds for what was read to be committed when everything is cancelled."""


class _LiveSession(SessionPort, Protocol):
    connection: ConnectionId

    def stop_reading(self) -> None: ...
    def cancel(self) -> None: ...


class Chat:
    """A running chat. Made by `open_chat`; served by `serve_tcp` and its siblings.

    `draining` is set when no new connection is to be taken.
    """

    def __init__(self, store: Store, settings: Settings, *, clock: Callable[[], int], memory_path: bool) -> None:
        self.settings = settings
        self.registry = Registry(store, settings, clock, memory_path=memory_path)
        self.admission = Admission(settings)
        self.draining = trio.Event()
        self._store = store
        self._live: dict[ConnectionId, _LiveSession] = {}
        self._last_connection = 0
        self._failed = False
        self._lifeline = trio.CancelScope(shield=True)

    @property
    def failure(self) -> str | None:
        """Why messages cannot be stored now, in one sentence for the operator; None while all is well."""
        return "a task of the chat failed" if self._failed else self._store.failure

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

    def leave(self, session: _LiveSession) -> None:
        """A session has ended. For `Session` alone."""
        del self._live[session.connection]
        self.registry.leave(session.connection)

    def revoke(self, user: str, device: str | None = None) -> None:
        """Close the user's connections (only that device's, if given) with 4401.

        They may connect again if the authenticator lets them: change what it knows first.
        """
        self.registry.put(Revoked(user, device))

    async def drain(self) -> None:
        """Stop taking connections, answer what was received, close all connections with 1001, and wait for that.

        What has not gone within ``settings.drain_timeout`` seconds is cut off. May be called more than once. When cancelled, the
        drain goes on by itself, without anybody waiting for it.
        """
        self.draining.set()
        for session in self._live.values():
            session.stop_reading()
        self.registry.put(Drain())
        if self._failed:
            return
        with trio.move_on_after(self.settings.drain_timeout) as patience:
            await self.registry.wait_idle()
        if patience.cancelled_caught:
            for session in self._live.values():
                session.cancel()

    def dismiss(self, connections: Iterable[ConnectionId]) -> None:
        """Begin to drain these connections only; their listener is going away."""
        dismissed = frozenset(connections)
        for connection in dismissed & self._live.keys():
            self._live[connection].stop_reading()
        self.registry.put(Drain(dismissed))

    async def _run(self) -> None:
        """The registry and what it needs, out of reach of cancellations until `_end` sets a deadline."""
        well = False
        try:
            with self._lifeline:
                await self.registry.run()
            well = True
        finally:
            if not well:
                self._failed = True
                for session in self._live.values():
                    session.cancel()

    async def _end(self, *, hurry: bool) -> None:
        """Drain and let the registry end. After a cancellation, only what is in the store's hands is waited for."""
        with trio.CancelScope(shield=True):
            if hurry:
                self.dismiss(self._live)
                self.draining.set()
                self._lifeline.deadline = trio.current_time() + _LAST_COMMIT
                for session in self._live.values():
                    session.cancel()
            else:
                await self.drain()
                self._lifeline.deadline = trio.current_time() + _LAST_COMMIT
            self.registry.end()


@asynccontextmanager
async def open_chat(
    store: str | os.PathLike[str] | Store,
    *,
    settings: Settings | None = None,
    clock: Callable[[], int] = unix_ms,
    memory_path: bool = True,
) -> AsyncIterator[Chat]:
    """Run a chat for as long as the block lasts.

    Leaving the block drains (`Chat.drain`), commits what was received, and closes the store; nothing of it outlives the block. A
    block that is cancelled does the same in a hurry: a second for the farewells, five for the last commit.

    Args:
        store: the path of an SQLite file, made if there is none, or a `Store`, which is entered and left here.
        settings: limits and times.
        clock: gives Unix milliseconds; for tests.
        memory_path: False feeds every connection from the store; for tests.

    Raises:
        ConfigurationError: the store cannot be served (`StoreLocked`, `SchemaMismatch`); the block was not entered.
        BaseExceptionGroup: a task of the chat failed, which cancels the block. An exception of the block itself leaves as it is.
    """
    settings = settings or Settings()
    opened: AbstractAsyncContextManager[Store]
    if isinstance(store, str | os.PathLike):
        opened = SqliteStore(store, settings)
    else:
        opened = store
    body: BaseException | None = None
    async with opened as entered:
        chat = Chat(entered, settings, clock=clock, memory_path=memory_path)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chat._run)
                try:
                    yield chat
                finally:
                    body = sys.exception()
                    await chat._end(hurry=body is not None and _holds_cancelled(body))
        except BaseExceptionGroup as group:
            if body is None or group.exceptions != (body,):
                raise
        if body is not None:
            raise body  # nothing of ours failed, so it leaves as it came


def _holds_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
