"""Several tenants, each with a chat of its own, mounted by path. Run it with ``hypercorn -k trio tenants:app``.

Nothing crosses: each has a store, a registry and an authenticator of its own, and an ``alice`` here is nobody there.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from hmac import compare_digest
from pathlib import Path

from starlette.applications import Starlette

from trio_chat import Identity, Refused, Request, open_chat
from trio_chat.asgi import ChatEndpoint

FOLDER = Path(os.environ.get("CHAT_DB", "."))
TENANTS = {
    "acme": {"acme-alice": "alice", "acme-bob": "bob"},  # what each tenant's log-in has given out
    "zoo": {"zoo-alice": "alice", "zoo-bob": "bob"},
}


async def authenticate(sessions: dict[str, str], request: Request) -> Identity:
    """Whose session is it, among this tenant's?"""
    token = (request.header("authorization") or "").removeprefix("Bearer ")
    for known, user in sessions.items():
        if compare_digest(known.encode(), token.encode()):
            return Identity(user, request.parameter("device") or "default")
    raise Refused("unknown token")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One block for each tenant; all of them drain at the end. Clients connect to ``/acme/ws`` and ``/zoo/ws``."""
    async with AsyncExitStack() as stack:
        for tenant, sessions in TENANTS.items():
            chat = await stack.enter_async_context(open_chat(FOLDER / f"{tenant}.db"))
            app.mount(f"/{tenant}", ChatEndpoint(chat, authenticate=partial(authenticate, sessions)))
        yield


app = Starlette(lifespan=lifespan)
