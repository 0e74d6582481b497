"""Quart-Trio, and the chat beside it on a port of its own. Run it with ``hypercorn -k trio quart_app:app``."""

import os
from functools import partial

import trio
from quart_trio import QuartTrio

from trio_chat import Chat, authenticators, open_chat, serve_tcp

PATH, PORT = os.environ.get("CHAT_DB", "chat.db"), int(os.environ.get("CHAT_PORT", "6662"))

app = QuartTrio(__name__)


async def run_chat(*, task_status: trio.TaskStatus[Chat] = trio.TASK_STATUS_IGNORED) -> None:
    """The chat, from the application's start to its end. Here everybody may say who they are."""
    async with open_chat(PATH) as chat, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_tcp, chat, PORT, authenticate=authenticators.demo))
        task_status.started(chat)
        # `serve_tcp` returns when the chat is drained


@app.before_serving
async def start() -> None:
    """Quart-Trio has a nursery for what lives as long as the application does."""
    app.extensions["chat"] = await app.nursery.start(run_chat)


@app.after_serving
async def stop() -> None:
    """Tell the clients when to come back, before that nursery is cancelled."""
    await app.extensions["chat"].drain()


@app.get("/unread/<user>")
async def unread(user: str) -> dict[str, int]:
    """The application's own routes ask the chat whatever they like."""
    page = await app.extensions["chat"].history(user, unread=True)
    return {"unread": len(page.messages)}
