"""A chat for an application whose log-in issues web tokens. Needs the extra: pip install 'trio-chat[jwt]'."""

import secrets
import sys
import time
from collections.abc import AsyncIterable
from functools import partial

import trio

from trio_chat import Identity, Refused, authenticators, open_chat, serve_tcp

# Shared by the log-in and the chat. Or the log-in keeps a private key, and the chat has the public one.
SECRET = secrets.token_bytes(32)
LOGGED_OUT: set[str] = set()


def log_in(user: str) -> str:
    """What a user is given once the password was right: it is good for an hour."""
    return authenticators.mint(SECRET, {"sub": user, "aud": "chat", "exp": int(time.time()) + 3600})


async def revalidate(identity: Identity) -> None:
    """May this connection go on? Asked every 30 seconds: in real life it asks a database that others write to."""
    if identity.user in LOGGED_OUT:
        raise Refused("logged out")


async def main(path: str = "chat.db", port: int = 6662, log_outs: AsyncIterable[str] | None = None) -> None:
    """The application: its own tasks beside the chat's listener, in one nursery."""
    authenticate = authenticators.jwt(SECRET, audience="chat")
    async with open_chat(path) as chat, trio.open_nursery() as nursery:
        serve = partial(serve_tcp, chat, port, authenticate=authenticate, revalidate=revalidate)
        listeners = await nursery.start(serve)
        print(f"alice's token for port {listeners[0].socket.getsockname()[1]}: {log_in('alice')}", flush=True)
        print("type a user's name to log that user out", flush=True)
        async for line in log_outs or trio.wrap_file(sys.stdin):
            LOGGED_OUT.add(line.strip())
            chat.revoke(line.strip())  # whoever is connected to this very process need not wait to be asked about


if __name__ == "__main__":
    trio.run(main)
