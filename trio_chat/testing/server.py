"""The server of the kit: a whole chat whose connections are real WebSockets over streams in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode

import anyio.abc
import trio
import trio.testing

from .. import authenticators
from ..chat import Chat, open_chat
from ..client import ChatClient, open_client
from ..client.raw import RawClient, open_background, wrap_stream
from ..committer import unix_ms
from ..policy import Hooks
from ..push.settings import Push
from ..revalidation import Revalidate
from ..serve import handle
from ..settings import Settings
from ..store.base import Store
from ..store.memory import MemoryStore
from ..transport.front import Authenticate
from .streams import ByteStream

__all__ = ["InMemoryServer", "open_test_server"]


class InMemoryServer:
    """A running chat and the way to connect to it. Made by `open_test_server`."""

    def __init__(
        self,
        chat: Chat,
        store: Store,
        authenticate: Authenticate,
        nursery: trio.Nursery,
        *,
        revalidate: Revalidate | None = None,
        allowed_origins: Collection[str] = (),
    ) -> None:
        self.chat = chat
        self.store = store
        self._handle = partial(
            handle, chat, authenticate=authenticate, revalidate=revalidate, allowed_origins=allowed_origins
        )
        self._nursery = nursery

    async def stream(self) -> trio.abc.Stream:
        """The client's end of a fresh connection, before any byte was sent."""
        here, there = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._handle, there)
        await trio.lowlevel.checkpoint()
        return here

    async def connect(self, user: str, device: str = "default", **parameters: str | int) -> RawClient:
        """A client that is connected as `user`; its first frame will be the ``welcome``.

        Args:
            user: who it is, for the demo authenticator.
            device: which of the user's devices.
            parameters: more of the query, e.g. ``log``, ``after``, ``window``.

        Raises:
            NotConnected: the server refused.
        """
        query = urlencode({"user": user, "device": device, **parameters})
        return await wrap_stream(self._nursery, await self.stream(), f"ws://localhost/ws?{query}")

    async def byte_stream(self) -> anyio.abc.ByteStream:
        """A fresh connection as `trio_chat.client.open_client` takes one for its ``connect``."""
        return ByteStream(await self.stream())

    def open_client(self, user: str, device: str = "default", **options: Any) -> AbstractAsyncContextManager[ChatClient]:
        """`trio_chat.client.open_client` for `user`, who may find the server gone and come back.

        Args:
            user: who it is, for the demo authenticator.
            device: which of the user's devices.
            options: more of `open_client`, e.g. ``state``.
        """
        url = f"ws://localhost/ws?{urlencode({'user': user})}"
        return open_client(url, device=device, **{"connect": self.byte_stream, **options})


@asynccontextmanager
async def open_test_server(
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    authenticate: Authenticate = authenticators.demo,
    revalidate: Revalidate | None = None,
    allowed_origins: Collection[str] = (),
    hooks: Hooks | None = None,
    push: Push | None = None,
    clock: Callable[[], int] = unix_ms,
    memory_path: bool = True,
) -> AsyncIterator[InMemoryServer]:
    """A server in memory; it is drained, and all clients are cut off, when the block is left.

    Args:
        settings: limits and times.
        store: None makes a `MemoryStore` that is gone afterwards; one of yours can be used again.
        authenticate: who a request comes from; by default it says so itself (``?user=…&device=…``).
        revalidate: whether a connection may go on; see `serve_tcp`.
        allowed_origins: pages that may connect; see `serve_tcp`.
        hooks: the application's say; see `Hooks`.
        push: how people are told when they are away; see `Push`.
        clock: gives Unix milliseconds.
        memory_path: False feeds every connection from the store.
    """
    settings = settings or Settings()
    store = store or MemoryStore(settings)
    async with (
        open_chat(store, settings=settings, hooks=hooks, push=push, clock=clock, memory_path=memory_path) as chat,
        open_background() as nursery,  # a failed assertion is to be read, not to be searched for in a group
    ):
        yield InMemoryServer(chat, store, authenticate, nursery, revalidate=revalidate, allowed_origins=allowed_origins)
