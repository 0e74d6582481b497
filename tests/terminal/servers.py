"""A server in the test's own process, on a port, which the test can hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_chat import Identity, Refused, Request, authenticators, open_chat, serve_tcp
from trio_chat.store.base import Store
from trio_chat.transport.front import Authenticate


async def bearer(request: Request) -> Identity:
    """Believes in tokens that are a name in capitals, whatever the query says."""
    name = (request.header("authorization") or "").removeprefix("Bearer ")
    if not name.isupper():
        raise Refused("unknown token")
    return Identity(name.lower(), request.parameter("device") or "default")


@asynccontextmanager
async def on_a_port(store: Store, authenticate: Authenticate = authenticators.demo) -> AsyncIterator[str]:
    """The URL of a server over `store`."""
    async with open_chat(store) as chat, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticate))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/ws"
        nursery.cancel_scope.cancel()
