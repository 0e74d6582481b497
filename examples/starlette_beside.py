"""Starlette on Hypercorn's trio worker, and the chat beside it on a port of its own: the recommended way.

Run it with ``hypercorn -k trio starlette_beside:app``; in production nginx is in front of both ports.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from trio_chat import authenticators, open_chat, serve_tcp

PATH, PORT = os.environ.get("CHAT_DB", "chat.db"), int(os.environ.get("CHAT_PORT", "6662"))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """The chat lives as long as the application. Here everybody may say who they are: use an authenticator of yours."""
    async with open_chat(PATH) as chat, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_tcp, chat, PORT, authenticate=authenticators.demo))
        app.state.chat = chat
        yield
        await chat.drain()  # and `serve_tcp` returns


async def unread(request: Request) -> JSONResponse:
    """The application's own routes ask the chat whatever they like."""
    page = await request.app.state.chat.history(request.path_params["user"], unread=True)
    return JSONResponse({"unread": len(page.messages)})


app = Starlette(routes=[Route("/unread/{user}", unread)], lifespan=lifespan)
