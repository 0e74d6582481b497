"""The client: what a program does with it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import anyio.lowlevel

from .. import wire
from ..errors import BadQuery, ConnectionClosed
from .checks import named, user_name, whole
from .exchange import Exchange
from .retrieval import Retrieval
from .streams import EventStream, MessageStream
from .values import Statistics, Stored

__all__ = ["ChatClient"]


class ChatClient(Retrieval):
    """One device of one user, connected again and again. Made by `trio_chat.client.open_client`.

    Its methods may be called by any number of tasks of the event loop it was opened in. When it is closed, because its
    block is left or because the server ended it for good, everything that waits raises `ConnectionClosed`.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._dialogue = exchange.dialogue

    @property
    def user(self) -> str | None:
        """Who the server says this is; None before the first connection, unless the state file knows."""
        return self._dialogue.owner.user if self._dialogue.owner else None

    @property
    def device(self) -> str | None:
        """Which of the user's devices this is; None as for `user`."""
        return (self._dialogue.owner.device or None) if self._dialogue.owner else None

    def statistics(self) -> Statistics:
        """What the client holds at the moment."""
        return self._exchange.statistics()

    async def wait_connected(self) -> None:
        """Wait until there has been a connection, for however long the server is away. Cancelling it does nothing else.

        Nothing needs it: what is sent before is sent then. It tells whether the server lets this client in.

        Raises:
            ConnectionClosed: it does not (`Unauthorized`, `NotAccepted`), or the client is closed.
        """
        await self._exchange.welcomed()

    async def send(self, to: str, text: str, *, id: str | None = None, reply_to: str | None = None) -> Stored:
        """Send a message, and wait until the server has stored it, over however many reconnects.

        Messages are sent in the order of the calls. What the server refuses for the moment (``rate_limited`` and the like)
        is sent again when it says, with everything after it (S4). What is not stored yet is kept in memory, however much it
        is: see `statistics`.

        With a state file the message is on the disk before it is sent. From then on, cancelling this, closing the client or
        the death of its process only means that nobody learns the outcome: the message is still sent, now or when the
        file is used again. Without one, a message whose `send` was cancelled may or may not be stored; as long as the client
        is open it is still tried. To learn the outcome after all, send it again with the same `id`: it is stored once.

        Args:
            to: the recipient, 1 to 128 characters without control characters.
            text: not empty, without NUL, and not longer than the server takes (16 KiB of UTF-8, as a rule).
            id: unique among all messages of this user; a fresh UUID if none is given.
            reply_to: the id of the message in the conversation with `to` that this one answers.

        Raises:
            RequestRefused: it is not stored, and trying again would be of no use; or, if its `fate` is ``unknown``, it
                may be. `TooLarge`, `IdConflict`, `NotAllowed` and `BadFrame` are such.
            ConnectionClosed: the client is closed; with a state file the message is sent when that is used again.
        """
        reply = None if reply_to is None else named(reply_to)
        return await self._exchange.command(wire.Send(id=named(id), to=user_name(to), text=whole(text), reply_to=reply))

    async def edit(self, to: str, target: str, text: str, *, id: str | None = None) -> Stored:
        """Replace the text of this user's own message `target` to `to`. Stored, cancelled and refused as `send`.

        An edit is an entry of its own, with an `id` of its own.

        Raises:
            BadQuery: there is no such message, or it is deleted.
        """
        return await self._exchange.command(
            wire.Edit(id=named(id), to=user_name(to), target=named(target), text=whole(text))
        )

    async def delete(self, to: str, target: str, *, id: str | None = None) -> Stored:
        """Remove the text of this user's own message `target` to `to`, and of its edits. As `edit`."""
        return await self._exchange.command(wire.Delete(id=named(id), to=user_name(to), target=named(target)))

    def messages(self, *, own: bool = False, auto_ack: bool = True, changes: bool = False) -> MessageStream:
        """The messages to this user, in log order, each once for this device.

        ::

            async for message in chat.messages():
                ...

        A message is acknowledged when the loop comes back for the next one, so that a crash inside of the body means that it
        comes again: to the next iterator that is made, or to the next process. At most a window (256) is held; as long as
        nobody iterates, the rest waits at the server.

        The newest iterator gets the messages, beginning with those that were given and not acknowledged; an older one raises
        RuntimeError.

        Args:
            own: this user's own messages, too, sent from here or from another device (and those to oneself). Else they are
                acknowledged and passed over.
            changes: edits and deletions, too, each as a message of that `kind`. Else they are passed over likewise.
            auto_ack: False leaves acknowledging to `IncomingMessage.ack`, in any order.

        Iterating raises `ConnectionClosed` when the client is closed. It ends in no other way.
        """
        return self._exchange.iterate(own=own, changes=changes, auto_ack=auto_ack)

    def typing(self, to: str, on: bool) -> None:  # noqa: FBT001  (an on/off switch)
        """Let `to` see that this user is writing, or has stopped. Dropped if there is no connection now.

        To be repeated every five seconds while it goes on.

        Raises:
            BadFrame: `to` is no user's name.
            ConnectionClosed: the client is closed.
        """
        self._exchange.check_open()
        self._dialogue.typing(user_name(to), on=on)
        self._exchange.wake()

    def read(self, peer: str, seq: int) -> None:
        """Say that this user has read `peer`'s messages up to `seq`: `peer` and this user's other devices are told.

        Sent as soon as there is a connection, and again if that breaks. Raises as `typing`.
        """
        self._exchange.check_open()
        self._dialogue.mark_read(user_name(peer), seq)
        self._exchange.wake()

    def watch(self, users: Collection[str]) -> None:
        """Follow the presence of `users`, at most 200, in place of whom it was before; after a reconnect, too.

        What is told comes as `PresenceChanged` by `events`. Whom this user may not watch seems to be away.

        Raises:
            BadQuery: these are too many.
            BadFrame: one of them is no user's name.
            ConnectionClosed: the client is closed.
        """
        self._exchange.check_open()
        if len(users) > wire.WATCHED:
            raise BadQuery(f"at most {wire.WATCHED} users can be watched")
        self._dialogue.watch(tuple(map(user_name, users)))
        self._exchange.wake()

    def events(self) -> EventStream:
        """What happens from now on: `Connected`, `Disconnected`, `Gap`, `Typing`, `Undelivered` and so on.

        Each call makes an iterator of its own. One that is not read holds a thousand events and then forgets the oldest.
        Iterating raises `ConnectionClosed` when the client is closed.
        """
        return self._exchange.listen()

    async def aclose(self) -> None:
        """Close the client, as leaving its block does. May be called twice.

        What is acknowledged is told to the server if that takes a second at most. Messages that are not stored are not
        waited for.
        """
        self._exchange.end(ConnectionClosed("the client was closed"))
        await anyio.lowlevel.checkpoint()

    async def _request(self, request: Any) -> Any:
        return await self._exchange.request(request)
