"""How a client comes into being, and how it ends."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from os import PathLike, fspath
from typing import Final

from .. import wire
from ..errors import StateUnusable
from .background import open_background
from .client import ChatClient
from .dialogue import Dialogue
from .exchange import Exchange
from .handshake import Address, Connect
from .inbox import Inbox, Remembered
from .journal import open_journal
from .link import Link
from .outbox import Command
from .records import Owner
from .state import KEYS, Contents
from .timing import Timing

__all__ = ["open_client"]

_REMEMBERED: Final = 10_000
"""Messages that a client without a state file knows again if the server comes back with another history."""
_NO_STATE: Final = Contents(owner=None, log=None, position=0, done=[], seen=[], outbox=[])


@asynccontextmanager
async def open_client(
    url: str,
    *,
    user: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    device: str | None = None,
    state: str | PathLike[str] | None = None,
    connect: Connect | None = None,
    ssl_context: ssl.SSLContext | None = None,
    send_only: bool = False,
    timing: Timing | None = None,
) -> AsyncIterator[ChatClient]:
    """A client that stays connected to the server at `url` for as long as the block lasts, under Trio or asyncio.

    ::

        async with open_client("wss://chat.example.com/ws", token=token, device="bot", state="bot.db") as chat:
            async for message in chat.messages():
                await chat.send(message.sender, f"You said: {message.text}")

    The block is entered at once, whether the server is there or not; see `ChatClient.wait_connected`. When a connection
    ends, another is tried after a pause that grows up to a minute, unless the server says when, or that there is no use:
    then the client is closed, and everything that waits raises the reason, a `ConnectionClosed`. The block itself is not
    interrupted.

    Leaving it closes the client and everything that belongs to it. That takes a second at most (five, if the disk is slow),
    even if the server no longer reads, and when it is cancelled.

    Args:
        url: ``ws://`` or ``wss://``. A demo server wants to hear in the query who it is: ``?user=alice``.
        user: who this is to be. If the server takes it for another, the client is closed with `WrongOwner` before anything
            is sent; so what is in the state file is never sent in another's name. None: whomever the server takes it for.
        token: sent as ``Authorization: Bearer …``.
        headers: more headers of the request.
        device: the name of this client among the user's. Use one for as long as it is installed, and never two
            clients with the same.
        state: a file for what has to outlive the process: messages that are not stored yet, and what was acknowledged. It is
            made if it is not there, belongs to this user and device, and is used by one client at a time. None keeps
            nothing.
        connect: opens a byte stream to the server in place of a connection to `url`, which is still what is asked for; TLS
            would be its business. This is how `trio_chat.testing` runs a client in memory.
        ssl_context: for ``wss://``, in place of the system's certificates.
        send_only: receive nothing, and be no device: any number of such clients do not disturb one another.
        timing: for tests, mostly.

    Raises:
        ConfigurationError: `url`, `device` or a header makes no request.
        StateUnusable: the state file is in use, is another user's, or is something else.
    """
    address = Address.of(url, token=token, headers=headers, device=device, send_only=send_only)
    async with AsyncExitStack() as stack:
        journal, contents = await stack.enter_async_context(open_journal(state)) if state is not None else (None, _NO_STATE)
        remembered = Remembered(contents.seen, limit=KEYS if journal else _REMEMBERED)
        inbox = Inbox(contents.log, contents.position, contents.done, remembered)
        dialogue = Dialogue(inbox, _owner(contents, user, state))
        if journal is not None and dialogue.owner is not None and contents.owner is None:
            journal.write([dialogue.owner])
        dialogue.send_only = address.send_only
        for frame in contents.outbox:
            dialogue.outbox.add(_decoded(frame), tried=True)
        exchange = Exchange(dialogue, journal)
        link = Link(address, dialogue, timing or Timing(), exchange.carry_out, connect=connect, ssl_context=ssl_context)
        async with open_background() as tasks:
            tasks.start_soon(exchange.run, link)
            try:
                yield ChatClient(exchange)
            finally:
                await exchange.leave()  # noqa: ASYNC102  (shielded in there)


def _owner(contents: Contents, user: str | None, state: str | PathLike[str] | None) -> Owner | None:
    """Whose the state is, or is to be."""
    owner = contents.owner
    if user is None or (owner is not None and owner.user == user):
        return owner
    if owner is not None:
        raise StateUnusable(f"the state file {fspath(state or '')} is that of {owner.user!r}")
    return Owner(user, "")


def _decoded(frame: bytes) -> Command:
    command = wire.decode(frame, text_bytes=len(frame))
    assert isinstance(command, wire.Send | wire.Edit | wire.Delete)  # nothing else is ever written
    return command
