"""The kit: a chat in memory, its time, and the people who connect to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import trio
from msgspec.structs import replace

from .. import authenticators
from ..chat import Chat
from ..client.raw import RawClient, open_background, wrap_stream
from ..policy import Hooks
from ..push.settings import Push
from ..revalidation import Revalidate
from ..settings import Settings
from ..store.base import Store
from ..transport.front import Authenticate
from . import clocks
from .participant import Participant
from .server import InMemoryServer, open_test_server
from .telling import RecordingProvider

__all__ = ["ChatKit", "open_test_chat"]


class ChatKit:
    """A chat under test. Made by `open_test_chat`."""

    def __init__(self, server: InMemoryServer, nursery: trio.Nursery, provider: RecordingProvider | None = None) -> None:
        self.server = server
        """For what the kit has no word for: bare streams, and the reconnecting client (`InMemoryServer.open_client`)."""
        self._nursery = nursery
        self._provider = provider

    @property
    def chat(self) -> Chat:
        """The chat itself: what an application is given."""
        return self.server.chat

    @property
    def store(self) -> Store:
        """Where its messages are; given to another `open_test_chat`, that one goes on with them."""
        return self.server.store

    @property
    def push(self) -> RecordingProvider:
        """Who was told while they were away: a push provider that sends nothing and remembers what it was to send.

        Raises:
            RuntimeError: the chat was opened without ``push``.
        """
        if self._provider is None:
            raise RuntimeError("nobody is told of anything in this chat: open it with open_test_chat(push=True)")
        return self._provider

    async def register_push(self, user: str, device: str = "default", *, target: str | None = None) -> None:
        """This device of the user's can be reached by `push` from now on. Returns when that is stored.

        Args:
            user: who is to be told.
            device: on which device.
            target: where it is; if none is given, one that no other device has.

        Raises:
            RuntimeError: the chat was opened without ``push``.
        """
        where = f"{user} {device}" if target is None else target
        await self.chat.register_push(user, device, self.push.name, "token", where)

    def now(self) -> int:
        """The chat's clock, in Unix milliseconds; it goes as Trio's does."""
        return self.chat.clock()

    async def advance(self, seconds: float) -> None:
        """Let time go by, with everything that is due meanwhile. Needs a virtual clock.

        Raises:
            RuntimeError: the clock of this run is a real one.
        """
        await clocks.advance(seconds)

    async def connect(
        self,
        user: str | None = None,
        device: str = "default",
        *,
        headers: Mapping[str, str] | None = None,
        acknowledge: bool = True,
        **parameters: str | int,
    ) -> Participant:
        """A device of a user, connected.

        Args:
            user: who it is, said in the query, which the demo's authenticator believes. None says nothing.
            device: which of the user's devices.
            headers: more headers of the request, for an authenticator of yours: ``{"Authorization": "Bearer …"}``.
            acknowledge: False leaves that to `Participant.ack`: a device that has nothing safely yet.
            parameters: more of the query, e.g. ``window=0``.

        Raises:
            NotConnected: the server refused; `status` is that of its answer.
        """
        query: dict[str, str | int] = {} if user is None else {"user": user}
        query |= {"device": device, **parameters}

        async def dial(more: Mapping[str, str | int]) -> tuple[trio.abc.Stream, RawClient]:
            stream = await self.server.stream()
            url = f"ws://localhost/ws?{urlencode({**query, **more})}"
            return stream, await wrap_stream(self._nursery, stream, url, headers)

        participant = Participant(self._nursery, dial, acknowledge=acknowledge)
        await participant.open()
        return participant


@asynccontextmanager
async def open_test_chat(
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    authenticate: Authenticate = authenticators.demo,
    revalidate: Revalidate | None = None,
    allowed_origins: Collection[str] = (),
    hooks: Hooks | None = None,
    push: Push | bool = False,
    start: int | None = None,
) -> AsyncIterator[ChatKit]:
    """A chat in memory, to test with: no socket, no thread.

    ::

        async with open_test_chat() as t:
            alice, bob = await t.connect("alice"), await t.connect("bob")
            await alice.send("bob", "hi")
            await bob.expect(sender="alice", text="hi")

    Under Trio, and under AnyIO's pytest plugin on the trio backend. With a `trio.testing.MockClock` nothing waits. When the
    block is left the chat is drained and all participants are gone; what the block raises leaves as it is.

    Args:
        settings: limits and times.
        store: None makes a `MemoryStore`, which is gone afterwards.
        authenticate: who a request comes from; by default it says so itself (``?user=…&device=…``).
        revalidate: whether a connection may go on; see `serve_tcp`.
        allowed_origins: pages that may connect; see `serve_tcp`.
        hooks: the application's say; see `Hooks`.
        push: True tells who is away, through `ChatKit.push`; a `Push` by its rules, and through its own providers as well.
        start: what the chat's clock shows at first, in Unix milliseconds; None is the true time.
    """
    provider = None if push is False else RecordingProvider()
    rules = Push(providers=()) if isinstance(push, bool) else push
    told = None if provider is None else replace(rules, providers=(*rules.providers, provider))
    async with (
        open_test_server(
            settings=settings,
            store=store,
            authenticate=authenticate,
            revalidate=revalidate,
            allowed_origins=allowed_origins,
            hooks=hooks,
            push=told,
            clock=clocks.in_step(start),
        ) as server,
        open_background() as nursery,
    ):
        yield ChatKit(server, nursery, provider)
