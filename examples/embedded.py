"""A chat inside an application that already knows its users."""

import os
import signal
from functools import partial
from hmac import compare_digest

import trio

from trio_chat import Chat, Identity, Refused, Request, open_chat, serve_tcp

SESSIONS = {"s3cr3t": "alice", "0th3r": "bob"}  # what the application's log-in has given out


async def authenticate(request: Request) -> Identity:
    """Who is it? Called before the WebSocket is accepted; whoever is refused gets a 401."""
    token = (request.header("authorization") or "").removeprefix("Bearer ")
    for known, user in SESSIONS.items():
        if compare_digest(known.encode(), token.encode()):  # takes as long for a near miss as for any other
            return Identity(user, request.parameter("device") or "default")
    raise Refused("unknown token")


async def drain_at_the_end(chat: Chat) -> None:
    """Let the clients hear when to come back; without this, SIGTERM cuts them off (and loses nothing)."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await chat.drain()  # `serve_tcp` returns then
            return


async def main(path: str = "chat.db", port: int = 6662) -> None:
    """The application: its own tasks beside the chat's listener, in one nursery."""
    async with open_chat(path) as chat, trio.open_nursery() as nursery:
        nursery.start_soon(drain_at_the_end, chat)
        listeners = await nursery.start(partial(serve_tcp, chat, port, authenticate=authenticate))
        print(f"listening on port {listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main, os.environ.get("CHAT_DB", "chat.db"), int(os.environ.get("CHAT_PORT", "6662")))
