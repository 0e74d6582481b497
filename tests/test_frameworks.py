"""`ChatEndpoint`, mounted as each framework's users would, on a real host under Trio."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import fastapi
import hypercorn.config
import hypercorn.trio
import litestar
import litestar.types
import pytest
import quart_trio
import starlette.applications
from hypercorn.middleware.dispatcher import TrioDispatcherMiddleware

from trio_chat import open_chat
from trio_chat.asgi import ChatEndpoint
from trio_chat.client.raw import NotConnected, open_background
from trio_chat.store.memory import MemoryStore

from .support import entries
from .ways import hosted


def by_starlette(endpoint: ChatEndpoint) -> Any:
    app = starlette.applications.Starlette()
    app.mount("/", endpoint)
    return app


def by_fastapi(endpoint: ChatEndpoint) -> Any:
    app = fastapi.FastAPI()
    app.mount("/", endpoint)
    return app


def by_litestar(endpoint: ChatEndpoint) -> Any:
    @litestar.asgi("/", is_mount=True, copy_scope=True)
    async def chat(scope: litestar.types.Scope, receive: litestar.types.Receive, send: litestar.types.Send) -> None:
        await endpoint(scope, receive, send)  # type: ignore[arg-type]

    return litestar.Litestar([chat], openapi_config=None)


def by_quart_trio(endpoint: ChatEndpoint) -> Any:
    app = quart_trio.QuartTrio(__name__)
    mounts: Any = {"/ws": endpoint, "": app}
    return TrioDispatcherMiddleware(mounts)


@pytest.mark.parametrize("mounted", [by_starlette, by_fastapi, by_litestar, by_quart_trio])
async def test_mounted_it_is_a_chat(mounted: Callable[[ChatEndpoint], Any]) -> None:
    """Else a framework's way of mounting, or its scope, is one that the endpoint does not know."""
    mount = partial(hosted, serve=hypercorn.trio.serve, config=hypercorn.config.Config(), mounted=mounted)
    async with open_chat(MemoryStore()) as chat, open_background() as nursery, mount(chat, nursery) as server:
        alice, bob = await server.enter("alice"), await server.enter("bob")
        await chat.send("eve", "alice", "good morning")
        (entry,) = await entries(alice, 1)
        assert (entry.sender, entry.text) == ("eve", "good morning")
        await chat.send("alice", "bob", "hi")
        (entry,) = await entries(bob, 1)
        assert (entry.sender, entry.text) == ("alice", "hi")
        with pytest.raises(NotConnected, match="401"):
            await server.connect("")
        await server.hang_up()
