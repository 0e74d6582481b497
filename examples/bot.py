"""A bot inside of the server: it looks on at what is stored, and answers with the application's own voice."""

from functools import partial
from uuid import UUID, uuid5

import trio

from trio_chat import (
    Chat,
    MessageStored,
    Missed,
    RequestRefused,
    StoreError,
    authenticators,
    open_chat,
    serve_tcp,
)

BOT = "echo"
NAMESPACE = UUID("0b8f1c6e-6f0d-4c39-9d5b-6f3a2f1f7f55")
"""Of the ids of the answers; any UUID of the bot's own."""


async def answer(chat: Chat) -> None:
    """Answer each message to the bot once, and go on whatever becomes of one answer."""
    with chat.events() as events:
        async for event in events:
            match event:
                case MessageStored(recipient=to, sender=sender, text=str(), kind="message") if to == BOT != sender:
                    try:
                        await reply(chat, event)
                    except (RequestRefused, StoreError) as error:  # e.g. the sender's mailbox is full
                        print(f"no answer to {event.id!r} of {sender!r}: {error}", flush=True)
                case Missed(count=count):
                    print(
                        f"too slow: {count} events are missing", flush=True
                    )  # chat.history(BOT, unread=True) has the messages
                case _:
                    pass


async def reply(chat: Chat, message: MessageStored) -> None:
    """Answer under an id made of the sender and of the sender's own: so a repetition changes nothing."""
    id = str(uuid5(NAMESPACE, f"{message.sender}\n{message.id}"))
    await chat.send(BOT, message.sender, f"you said: {message.text}", id=id, reply_to=message.id)
    await chat.mark_read(BOT, message.sender, message.peer_seq)


async def main(path: str = "chat.db", port: int = 6662) -> None:
    """Serve on this machine only, where everybody may say who they are."""
    async with open_chat(path) as chat, trio.open_nursery() as nursery:
        nursery.start_soon(answer, chat)
        listeners = await nursery.start(partial(serve_tcp, chat, port, authenticate=authenticators.demo))
        print(f"listening on port {listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
