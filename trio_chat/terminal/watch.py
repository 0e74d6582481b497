"""What a command tells of its connection, and how long it goes on without one."""

from __future__ import annotations

import math

import anyio

from ..client import ChatClient, Connected, Disconnected, Gap, Undelivered
from ..errors import CloseCode, ConnectionClosed
from .outcome import UNREACHABLE, Failure, say
from .visible import visible

__all__ = ["Watch", "reason_of"]


def reason_of(event: Disconnected) -> str:
    """Why there is no connection, for people: a hint for the client is none."""
    known = next((known for known in CloseCode if known == event.code), None)
    if known is not None and (not event.reason or event.reason.startswith("retry_after=")):
        meaning = known.meaning.partition(";")[0].removesuffix(".")
        return meaning[:1].lower() + meaning[1:]
    return visible(event.reason)


class Watch:
    """Tells on standard error when the connection is lost and when it is back, and of what is lost for good.

    Made when the client is opened; `run` has to run.

    Args:
        client: whose connection.
        patience: seconds without a connection after which `run` gives up; None: never.
    """

    def __init__(self, client: ChatClient, patience: float | None = None) -> None:
        self._client = client
        self._events = client.events()
        self._patience = math.inf if patience is None else patience
        self._leaving = False
        self.connected: bool = False
        """Whether there ever was a connection."""
        self.reason: str = "it did not answer"
        """Why there is none, or was none."""
        self.undelivered: int = 0
        """Messages that were refused and that nobody waits for."""

    async def run(self) -> None:
        """Tell, until `leave`.

        Raises:
            Failure: there was no connection for too long.
            ConnectionClosed: the server ended it for good.
        """
        told = False
        with anyio.CancelScope(deadline=anyio.current_time() + self._patience) as scope:  # noqa: ASYNC912
            try:
                async for event in self._events:
                    if isinstance(event, Connected):
                        scope.deadline = math.inf
                        self.connected = True
                        if told:
                            say("connected")
                        told = False
                    elif isinstance(event, Disconnected):
                        scope.deadline = min(scope.deadline, anyio.current_time() + self._patience)
                        self.reason = reason_of(event)
                        if not told:
                            say(f"no connection: {self.reason}; trying again")
                        told = True
                    elif isinstance(event, Gap):
                        say(f"the messages {event.first} to {event.last} are no longer held")
                    elif isinstance(event, Undelivered):
                        self.undelivered += 1
                        say(visible(f"the message {event.id} was refused with {event.error.code}: {event.error}"))
            except ConnectionClosed:
                if not self._leaving:
                    raise
        if scope.cancelled_caught:
            raise Failure(self.unreachable(), UNREACHABLE)

    def unreachable(self) -> str:
        """What to say if there is no answer."""
        if not self.connected:
            return f"the server was not reached: {self.reason}"
        return f"the server went away: {self.reason}"

    async def leave(self) -> None:
        """Close the client; `run` tells what there still is to tell, and ends."""
        self._leaving = True
        await self._client.aclose()
