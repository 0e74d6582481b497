"""Alice on her phone and her laptop, Bob in a browser: ticks, unread counts, edits, searching, and being left alone."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import trio

from trio_chat import authenticators, open_chat, serve_tcp, wire
from trio_chat.client.raw import RawClient, open_raw_client

Frame = TypeVar("Frame", bound=wire.ServerFrame)


class Device:
    """One device: says what it is shown. A client of yours keeps what comes; this one only looks for what it waits for."""

    def __init__(self, name: str, client: RawClient) -> None:
        self.name = name
        self.send = client.send
        self._receive = client.receive

    def say(self, what: str) -> None:
        """Print a line in this device's column."""
        print(f"{self.name:>14}  {what}", flush=True)

    async def until(self, kind: type[Frame]) -> Frame:
        """The next frame of this kind."""
        while not isinstance(frame := await self._receive(), kind):
            pass
        return frame

    async def entry(self) -> None:
        """Show the next entry of the log, and say that it is safe here."""
        (entry,) = (await self.until(wire.Messages)).messages
        match entry.kind:
            case "message":
                self.say(f"{entry.sender}: {entry.text}")
            case "edit":
                self.say(f"{entry.sender} changed that to: {entry.text}")
            case "delete":
                self.say(f"{entry.sender} deleted that")
        await self.send(wire.Ack(seq=entry.seq))

    async def tick(self, *, read: bool) -> None:
        """Show a tick, or two."""
        while (receipt := await self.until(wire.Receipt)).read < receipt.delivered and read:
            pass
        self.say(f"{receipt.peer} has {'read' if read else 'received'} {receipt.read if read else receipt.delivered}")


@asynccontextmanager
async def device(url: str, user: str, name: str) -> AsyncIterator[Device]:
    """A device that has been told where it stands."""
    async with open_raw_client(f"{url}?user={user}&device={name}") as client:
        one = Device(f"{user}'s {name}", client)
        await one.until(wire.Welcome)
        yield one


async def talk(phone: Device, laptop: Device, web: Device) -> None:
    """What they do, one after the other."""
    first = str(uuid4())  # unique among all devices of a user: a counter is not
    await phone.send(wire.Send(id=first, to="bob", text="Are you coming at seven?"))
    await phone.until(wire.Stored)
    await laptop.entry()
    await web.entry()
    for one in (phone, laptop):
        await one.tick(read=False)

    await laptop.send(wire.Edit(id=str(uuid4()), to="bob", target=first, text="Are you coming at eight?"))
    await laptop.until(wire.Stored)
    await phone.entry()
    await web.entry()

    await web.send(wire.Read(peer="alice", seq=2))
    for one in (phone, laptop):
        await one.tick(read=True)

    await web.send(wire.Send(id=str(uuid4()), to="alice", text="Of course!", reply_to=first))
    await web.until(wire.Stored)
    for one in (phone, laptop):
        await one.entry()

    await laptop.send(wire.Conversations(ref="c1"))
    (conversation,) = (await laptop.until(wire.ConversationsAnswer)).conversations
    laptop.say(f"{conversation.peer}: {conversation.unread} unread")
    await phone.send(wire.Read(peer="bob", seq=3))
    elsewhere = await laptop.until(wire.ReadElsewhere)
    laptop.say(f"{elsewhere.peer} was read elsewhere, up to {elsewhere.seq}")

    await phone.send(wire.Watch(ref="w1", users=("bob",)))
    presence = await phone.until(wire.Presence)
    phone.say(f"{presence.user} is {'there' if presence.online else 'away'}")

    await web.send(wire.History(ref="h1", peer="alice"))
    for message in (await web.until(wire.HistoryAnswer)).messages:
        web.say(f"history: {message.sender}: {message.text}{' (edited)' if message.edit_seq else ''}")
    await laptop.send(wire.Search(ref="s1", query="coming eig"))
    (hit,) = (await laptop.until(wire.SearchAnswer)).hits
    laptop.say("found: " + "".join(f"[{piece}]" if n % 2 else piece for n, piece in enumerate(hit.snippet)))

    await web.send(wire.Block(ref="b1", user="eve"))
    web.say(f"blocks {', '.join((await web.until(wire.Blocked)).users)}")


async def main() -> None:
    """A server, three clients, and what the application itself may ask."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_chat(Path(folder) / "chat.db") as chat, trio.open_nursery() as nursery:
            listen = partial(serve_tcp, chat, 0, authenticate=authenticators.demo)
            (listener,) = await nursery.start(listen)
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"
            async with (
                device(url, "alice", "phone") as phone,
                device(url, "alice", "laptop") as laptop,
                device(url, "bob", "web") as web,
            ):
                await talk(phone, laptop, web)
                await chat.send("eve", "bob", "Buy now!")  # nobody is told, and eve cannot tell
                names = [f"{one.name}{'' if one.connected else ' (away)'}" for one in await chat.devices("alice")]
                print(f"{'application':>14}  alice has {' and '.join(names)}", flush=True)
                page = await chat.history("bob", unread=True)
                print(f"{'application':>14}  bob has {len(page.messages)} unread", flush=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
