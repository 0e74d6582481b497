"""A bot inside of the server: it looks on at what is stored, and answers with the application's own voice."""

from functools import partial

import trio

from trio_chat import Chat, MessageStored, Missed, authenticators, open_chat, serve_tcp

BOT = "echo"


async def answer(chat: Chat) -> None:
    """Answer each message to the bot once: under an id made of the message's, so that a repetition changes nothing."""
    with chat.events() as events:
        async for event in events:
            match event:
                case MessageStored(recipient=to, sender=sender, text=str(text), id=id, kind="message") if (
                    to == BOT != sender
                ):
                    await chat.send(BOT, sender, f"you said: {text}", id=f"re-{id}"[:64], reply_to=id)
                    await chat.mark_read(BOT, sender, event.peer_seq)
                case Missed(count=count):
                    print(
                        f"too slow: {count} events are missing", flush=True
                    )  # chat.history(BOT, unread=True) has the messages
                case _:
                    pass


async def main(path: str = "chat.db", port: int = 6662) -> None:
    """Serve on this machine only, where everybody may say who they are."""
    async with open_chat(path) as chat, trio.open_nursery() as nursery:
        nursery.start_soon(answer, chat)
        listeners = await nursery.start(partial(serve_tcp, chat, port, authenticate=authenticators.demo))
        print(f"listening on port {listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
