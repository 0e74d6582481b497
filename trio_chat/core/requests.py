"""Requests: what a client asks with a ``ref``, one after the other, each answered exactly once.

One request of a connection is carried out at a time, in the order they came; so what asks for a list after a change sees the
change. A few may wait, further ones are refused. A question is put to the store by `Ask`; a change goes into the next batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from .. import wire
from ..errors import ErrorCode
from ..settings import Settings
from .batch import BlockChange, Refused, Removal
from .changes import Changes
from .connection import Asked, Connection, Request
from .effects import Ask, Effect, Fulfil, Send
from .events import Answered, Stood, Ticket
from .intake import Command, Intake, Pending, weigh
from .presence import Presence
from .refusals import Refusals

__all__ = ["Requests"]

_NO_PUSH: Final = "This server tells nobody of messages who is away: no push is configured."


class Requests:
    """Takes requests in and answers them. `emit` takes the effects."""

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        changes: Changes,
        presence: Presence,
        refusals: Refusals,
        emit: Callable[[Effect], None],
        *,
        push: bool,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._changes = changes
        self._presence = presence
        self._refusals = refusals
        self._emit = emit
        self._push = push

    # What clients and the application ask.

    def ask(self, connection: Connection, frame: Request, now: float) -> None:
        """A client asks for something."""
        wait = connection.user.buckets.requests.take(now)
        if wait:
            self._refusals.request(connection, frame.ref, ErrorCode.RATE_LIMITED, now, wait)
        elif connection.request is not None and len(connection.waiting) >= self._settings.queries:
            self._refusals.request(connection, frame.ref, ErrorCode.OVERLOADED, now)
        elif isinstance(frame, wire.PushRequest) and not self._push:
            self._refusals.tell(connection, ErrorCode.NOT_ALLOWED, ref=frame.ref, message=_NO_PUSH)
        else:
            asked = Asked(frame, _size(frame))
            connection.take_on(asked.size)
            connection.waiting.append(asked)
            self._next(connection)

    def request(self, ticket: Ticket, change: BlockChange | Removal) -> None:
        """The application itself wants a change."""
        code = self._changes.refusal(change)
        if code is None:
            self._add(change, weigh(change.user), ticket=ticket)
        else:
            self._emit(Fulfil(ticket, Refused(code)))

    # What the store says.

    def answered(self, connection: Connection, event: Answered) -> None:
        """It answered, or could not."""
        if connection.request is None:
            return
        answer = event.answer
        if isinstance(answer, wire.DevicesAnswer):
            present = {other.device for other in connection.user.present}
            devices = (replace(device, connected=device.name in present) for device in answer.devices)
            answer = replace(answer, devices=tuple(devices))
        self._finish(connection, answer, event.message)

    def stood(self, connection: Connection, event: Stood) -> None:
        """What a watcher may know of each user it wants to follow."""
        if connection.request is None:
            return
        self._presence.watch(connection, event.standings, connection.request.parted)
        self._finish(connection)

    def blocked(self, pending: Pending[BlockChange], result: tuple[str, ...] | Refused, at: int, now: float) -> None:
        """A block or its end is committed, as of Unix milliseconds `at`, or refused."""
        if not isinstance(result, Refused):
            self._changes.blocked(pending.command, result, at, now)
        if pending.ticket is not None:
            self._emit(Fulfil(pending.ticket, result))
        elif (asked := _asked(pending)) is not None:
            connection, request = asked
            answer = result.code if isinstance(result, Refused) else wire.Blocked(ref=request.ref, users=result)
            self._finish(connection, answer)

    def removed(self, pending: Pending[Removal], result: Refused | None, now: float) -> None:
        """A device is removed, or that was refused. A client is answered with those that are left."""
        if result is None:
            self._changes.removed(pending.command, now)
        if pending.ticket is not None:
            self._emit(Fulfil(pending.ticket, result))
        elif (asked := _asked(pending)) is not None:
            connection, request = asked
            if result is not None:
                self._finish(connection, result.code)
            else:
                self._emit(Ask(connection.id, connection.user.name, wire.Devices(ref=request.ref)))

    # One after the other.

    def _finish(
        self, connection: Connection, answer: wire.ServerFrame | ErrorCode | None = None, message: str | None = None
    ) -> None:
        """Answer the request that is carried out, if it is not answered in another way, and begin with the next."""
        asked = connection.request
        assert asked is not None
        if isinstance(answer, ErrorCode):
            self._refusals.tell(connection, answer, ref=asked.request.ref, message=message)
        elif answer is not None:
            self._emit(Send(connection.id, answer))
        connection.request = None
        connection.answered(asked.size)
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        if connection.request is not None or not connection.waiting:
            return
        asked = connection.request = connection.waiting.pop(0)
        user = connection.user.name
        match asked.request:
            case wire.Block(user=peer):
                self._change(connection, asked, BlockChange(user, peer, blocked=True))
            case wire.Unblock(user=peer):
                self._change(connection, asked, BlockChange(user, peer, blocked=False))
            case wire.RemoveDevice(device=device):
                self._change(connection, asked, Removal(user, device))
            case question:
                self._emit(Ask(connection.id, user, question))

    def _change(self, connection: Connection, asked: Asked, change: BlockChange | Removal) -> None:
        code = self._changes.refusal(change)
        if code is None:
            self._add(change, asked.size, connection)
        else:
            self._finish(connection, code)

    def _add(
        self, change: BlockChange | Removal, size: int, connection: Connection | None = None, ticket: Ticket | None = None
    ) -> None:
        if isinstance(change, BlockChange):
            self._intake.add_block(Pending(change, size, connection, ticket))
        else:
            self._intake.add_removal(Pending(change, size, connection, ticket))


def _asked(pending: Pending[Command]) -> tuple[Connection, Request] | None:
    """Who is to be answered, and what it asked; None if it is gone."""
    connection = pending.connection
    if connection is None or connection.gone or connection.request is None:
        return None
    return connection, connection.request.request


def _size(frame: Request) -> int:
    match frame:
        case wire.Watch(users=names) | wire.History(ids=tuple(names)):
            return weigh(*names) + 60 * len(names)  # a string is more than its characters
        case wire.PushRegister(target=target):
            return weigh(frame.ref, target)
        case _:
            return weigh(frame.ref)
