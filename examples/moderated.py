"""A chat with rules of its own: who may write to whom, what may be said, and who sees whom."""

from functools import partial

import trio
from msgspec.structs import replace

from trio_chat import Hooks, Outgoing, Rejected, authenticators, open_chat, serve_tcp

CONTACTS = {("alice", "bob"), ("bob", "alice")}  # what the application knows
SWEAR_WORDS = {"darn": "d**n"}


async def may_send(sender: str, recipient: str) -> bool:
    """Contacts only. A message that was stored before is not asked about again."""
    return (sender, recipient) in CONTACTS


async def before_send(message: Outgoing) -> Outgoing:
    """Refuse advertising, and soften what remains: everybody gets the changed text, the sender's devices included."""
    if "buy now" in message.text.lower():
        raise Rejected(message="no advertising, please")
    text = message.text
    for word, softer in SWEAR_WORDS.items():
        text = text.replace(word, softer)
    return replace(message, text=text)


async def main(path: str = "chat.db", port: int = 6662) -> None:
    """Serve on this machine only, where everybody may say who they are."""
    hooks = Hooks(may_send=may_send, before_send=before_send, may_watch=may_send)
    async with open_chat(path, hooks=hooks) as chat, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(serve_tcp, chat, port, authenticate=authenticators.demo))
        print(f"listening on port {listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
