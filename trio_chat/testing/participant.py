"""One device of a user, played by a test."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import trio
import trio.testing

from .. import wire
from ..client.raw import ClosedByServer, RawClient
from ..errors import RequestRefused
from ..model import Message
from .hearing import Hearing, described, fits

__all__ = ["Dial", "Participant"]

T = TypeVar("T")
Frame = TypeVar("Frame", bound=wire.ServerFrame)
Dial: TypeAlias = Callable[[Mapping[str, str | int]], Awaitable[tuple[trio.abc.Stream, RawClient]]]
"""Connects, with more in the query; gives the stream as well, to be cut."""

WITHIN: Final = 5.0
"""Seconds, by Trio's clock, after which what has not come will not."""


class Participant:
    """One device of a user, as a test plays it. Made by `ChatKit.connect`; it is gone when the kit's block is left.

    It hears in the background, whatever the test does meanwhile: so pings are answered, and messages are acknowledged when
    they come. What an *expectation* is about is what has come and was not expected before.
    """

    def __init__(self, nursery: trio.Nursery, dial: Dial, *, acknowledge: bool) -> None:
        self._nursery = nursery
        self._dial = dial
        self._acknowledge = acknowledge
        self._hearing = Hearing()
        self._news = trio.Event()
        self._welcome: wire.Welcome | None = None
        self._stream: trio.abc.Stream | None = None
        self._client: RawClient | None = None
        self._closed: ClosedByServer | None = None

    @property
    def welcome(self) -> wire.Welcome:
        """The first frame of the newest connection: who the server takes this for, and where it begins."""
        assert self._welcome is not None
        return self._welcome

    @property
    def user(self) -> str:
        """Who the server takes this for."""
        return self.welcome.user

    @property
    def device(self) -> str:
        """Which of the user's devices this is."""
        return self.welcome.device

    @property
    def position(self) -> int:
        """Up to where in the user's log the device has everything; kept while it is not connected."""
        return self._hearing.position

    @property
    def closed(self) -> ClosedByServer | None:
        """How the newest connection ended: `code` 1006 if it was cut. None while it lasts."""
        return self._closed

    async def send(self, to: str, text: str, *, id: str | None = None, reply_to: str | None = None) -> wire.StoredItem:
        """Send a message, and wait until it is stored.

        Args:
            to: the recipient.
            text: what is said.
            id: a fresh UUID if none is given.
            reply_to: the id of the message that this one answers.

        Returns:
            `id`, `seq` in this user's own log, `sent_at` in Unix milliseconds, and `text` if a hook has changed it.

        Raises:
            RequestRefused: it is not; `NotAllowed` and the like are such.
            ClosedByServer: there is no connection.
            AssertionError: there was no answer, because the connection ended, for instance.
        """
        id = str(uuid.uuid4()) if id is None else id
        self._hearing.awaits(id)
        await self.say(wire.Send(id=id, to=to, text=text, reply_to=reply_to))
        what = f"an answer about its message to {to}"
        answer: wire.StoredItem | wire.Error = await self._expected(lambda: self._hearing.answer(id), what, WITHIN)
        if isinstance(answer, wire.Error):
            raise RequestRefused.of(answer.code, answer.message, answer.retry_after)
        return answer

    async def say(self, *frames: wire.ClientFrame) -> None:
        """Send any frames of the protocol: ``wire.Typing(to="bob", typing=True)``, say. Waits for no answer.

        Raises:
            ClosedByServer: there is no connection.
        """
        if self._client is None or self._closed is not None:
            raise self._closed or ClosedByServer(1006, "")
        await self._client.send(*frames)

    async def read(self, message: Message) -> None:
        """Say that the user has read `message`, and with it all before it in that conversation."""
        await self.say(wire.Read(peer=message.sender, seq=message.seq))

    async def ack(self) -> None:
        """Acknowledge everything that has come. For a device that does not do so by itself."""
        self._hearing.settle()
        await self.say(wire.Ack(seq=self.position))

    async def expect(self, *, own: bool = False, within: float = WITHIN, **fields: Any) -> Message:
        """The next message, which is to have these fields of `Message`: ``sender="alice"``, ``text="hi"``, ``kind="edit"``.

        There is one order, so the *next* one is meant: if another comes first, that is the failure. Cancelling loses none.

        Args:
            own: the user's own messages, too, sent from another device or before a reconnect; else they are passed over.
            within: seconds by Trio's clock; on a virtual one, none really go by.
            fields: what the message is to be.

        Raises:
            AssertionError: it is not, or none came; the failure shows what did.
            AttributeError: a message has no such field.
        """
        __tracebackhide__ = True
        wanted = _wanted("a message", fields)
        passed_over = None if own else self.user
        message = await self._expected(lambda: self._hearing.next_message(own_of=passed_over), wanted, within)
        if not fits(message, fields):
            raise AssertionError(self._told(wanted, f"the next one is {described(message)}"))
        return message

    async def expect_frame(self, kind: type[Frame], *, within: float = WITHIN, **fields: Any) -> Frame:
        """A frame of a kind, with these fields: ``wire.Receipt, peer="bob", read=3``, say. For all that is no message.

        Receipts, presence and typing have no order among them: those that do not fit are left for another expectation. The
        arguments, and what is raised, are as for `expect`.
        """
        __tracebackhide__ = True
        wanted = _wanted(kind.__name__, fields)
        return await self._expected(lambda: self._hearing.next_frame(kind, fields), wanted, within)

    async def expect_nothing(self) -> None:
        """No message comes, once everybody has done what there was to do. Time does not go on for that.

        Raises:
            AssertionError: one has come, and was not expected.
        """
        __tracebackhide__ = True
        await trio.testing.wait_all_tasks_blocked()
        message = self._hearing.next_message(own_of=self.user)
        if message is not None:
            raise AssertionError(self._told("nothing more", f"there is {described(message)}"))

    async def cut(self) -> None:
        """Break the connection without a word, as a train in a tunnel does; returns when the server has noticed.

        Nothing happens if there is none.
        """
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
        await trio.testing.wait_all_tasks_blocked()

    async def leave(self) -> None:
        """Close the connection properly, with 1000. Nothing happens if there is none."""
        if self._client is not None:
            await self._client.aclose()
        await trio.testing.wait_all_tasks_blocked()

    async def reconnect(self) -> None:
        """Connect again as the same device, which has kept its position and resumes there; cut first if it is connected.

        A device that does not acknowledge has lost what it did not have safely, and gets it again.

        Raises:
            NotConnected: the server refused.
        """
        if self._closed is None:
            await self.cut()
        if not self._acknowledge:
            self._hearing.forget_unacknowledged()
        await self.open(log=self.welcome.log, after=self.position)

    async def open(self, **parameters: str | int) -> None:
        """Connect. `ChatKit.connect` and `reconnect` do so."""
        self._stream, self._client = await self._dial(parameters)
        first = await self._client.receive()
        assert isinstance(first, wire.Welcome), first
        same = self._welcome is not None and self._welcome.log == first.log and first.cursor == self.position
        self._welcome, self._closed = first, None
        self._hearing.welcomed(first, same=same)
        self._nursery.start_soon(self._hear, self._client)

    async def _hear(self, client: RawClient) -> None:
        try:
            while True:
                self._hearing.hear(await client.receive())
                if self._acknowledge and self._hearing.settle() and "ack" in self.welcome.features:
                    with suppress(ClosedByServer):  # the next `receive` says how
                        await client.send(wire.Ack(seq=self.position))
                self._tell()
        except ClosedByServer as closed:
            if client is self._client:
                self._closed = closed
                self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _expected(self, look: Callable[[], T | None], wanted: str, within: float) -> T:
        __tracebackhide__ = True
        try:
            with trio.fail_after(within):  # noqa: ASYNC912  (what has come needs no waiting)
                while (found := look()) is None and self._closed is None:  # after that nothing more comes
                    await self._news.wait()
        except trio.TooSlowError:
            raise AssertionError(self._told(wanted, f"none came within {within:g} s")) from None
        if found is None:
            raise AssertionError(self._told(wanted, f"its connection was {self._closed}"))
        return found

    def _told(self, wanted: str, instead: str) -> str:
        return f"{self.user}'s {self.device} expected {wanted}, but {instead}. It has heard:\n{self._hearing}"


def _wanted(what: str, fields: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"{what} with {shown}" if shown else what
