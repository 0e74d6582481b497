"""The state machine: events in, effects out. No I/O, no clock, no randomness; never raises for what a client does.

Feed it with `Core.handle`, carry out the effects it returns, in order; after a turn, ask `Core.next_batch` for what is to be
committed and report the outcome with `Committed`. The same events at the same times give the same effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final, get_args

from .. import wire
from ..errors import CloseCode, ErrorCode, InvalidFrame
from ..settings import Settings
from . import events
from .batch import Batch, ConnectionId, Draft, Opened, ReadMark, Refused
from .buckets import Allowances
from .changes import Changes
from .connection import Connection, Request, User
from .delivery import Delivery
from .effects import Close, Effect, Fulfil, Offer, Ping, Send
from .events import Event
from .intake import Command, Intake, Pending
from .pace import Pace
from .presence import Presence
from .receipts import Receipts
from .refusals import Refusals
from .requests import Requests
from .sending import Sending
from .tally import Tally
from .workload import Workload, measure

__all__ = ["Core"]

_HEARTBEAT: Final = 1.0
"""Seconds between two looks at who is silent or behind: fine enough for limits of ten seconds and more."""
_REQUESTS: Final = get_args(Request)
_GOLDEN: Final = 0.6180339887498949
"""Multiples of it, taken modulo 1, spread evenly, however many there are: a jitter that can be replayed."""


class Core:
    """Everything the server decides.

    Args:
        settings: limits and times.
        memory_path: False sends every entry by way of the store; the same entries arrive (C4). For tests.
        judged: what clients send is put to the application before it is stored, by `Judge`.
        push: clients may say where they can be reached while they are away.
    """

    def __init__(self, settings: Settings, *, memory_path: bool = True, judged: bool = False, push: bool = False) -> None:
        self._settings = settings
        self._effects: list[Effect] = []
        self._emit = self._effects.append
        self._connections: dict[ConnectionId, Connection] = {}
        self._users: dict[str, User] = {}
        self._allowances = Allowances(settings)
        self._intake = Intake(settings)
        self._delivery = Delivery(self._emit, memory_path=memory_path)
        self._pace = Pace(settings, self._emit)
        tally = Tally()
        self.tally: Tally = tally
        self._refusals = Refusals(settings, self._emit, self._close, tally)
        self._sending = Sending(self._users, self._intake, self._delivery, self._refusals, self._emit, tally, judged=judged)
        self._receipts = Receipts(self._users, self._intake, self._refusals, self._emit)
        self._presence = Presence(settings, self._users, self._emit)
        self._changes = Changes(self._users, self._intake, self._presence, self._close)
        self._requests = Requests(
            settings, self._intake, self._changes, self._presence, self._refusals, self._emit, push=push
        )
        self._features = [feature for feature in wire.FEATURES if push or feature not in wire.PUSH_FEATURES]
        self._draining: CloseCode | None = None
        self._next_heartbeat: float | None = None
        self._limits = {
            "frame_bytes": settings.frame_bytes,
            "text_bytes": settings.text_bytes,
            "window": settings.window,
            "window_bytes": settings.window_bytes,
            "ping_interval": settings.ping_interval,
        }
        self._on_event: dict[type[Any], Callable[[Any, float], None]] = {
            events.Connected: self._connected,
            events.Received: self._received,
            events.Committed: self._committed,
            events.Loaded: self._loaded,
            events.LoadFailed: self._load_failed,
            events.Answered: self._answered,
            events.Stood: self._stood,
            events.Judged: self._judged,
            events.Requested: self._requested,
            events.Disconnected: self._disconnected,
            events.Revoked: self._revoked,
            events.Drain: self._drain,
            events.Tick: self._tick,
        }
        self._on_frame: dict[type[Any], Callable[[Connection, Any, float], None]] = {
            wire.Send: self._sending.send,
            wire.Edit: self._sending.edit,
            wire.Delete: self._sending.delete,
            wire.Ack: self._ack,
            wire.Read: self._receipts.read,
            wire.Typing: self._typing,
            **dict.fromkeys(_REQUESTS, self._requests.ask),
            wire.Ping: self._ping,
            InvalidFrame: self._bad_frame,
        }

    # What the driver calls.

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in an event that happened at `now` (monotonic seconds) and return what is to be done, in order."""
        self._on_event[type(event)](event, now)
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def next_batch(self, now: float) -> Batch | None:
        """What is to be committed now, or None. Until its `Committed` is handled there is no next one."""
        return self._intake.next_batch(now, hurry=self._draining is not None)

    def deadline(self) -> float | None:
        """When the core wants a `Tick` (or to be asked for a batch) at the latest; None: not before something happens."""
        times = (self._next_heartbeat, self._intake.due, self._pace.deadline, self._presence.deadline)
        return min((time for time in times if time is not None), default=None)

    @property
    def idle(self) -> bool:
        """Whether there are no connections and nothing is waiting or in flight: after a drain, the end."""
        return not self._connections and self._intake.idle

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def workload(self) -> Workload:
        """How much there is to do."""
        return measure(self._connections.values(), self._intake)

    def connected(self, user: str) -> frozenset[str]:
        """Which of the user's devices are connected."""
        known = self._users.get(user)
        return frozenset(connection.device for connection in known.present) if known is not None else frozenset()

    # Coming and going.

    def _connected(self, event: events.Connected, now: float) -> None:
        if self._draining is not None:
            self._emit(Close(event.connection, self._draining, self._retry_hint(event.connection)))
            return
        user = self._users.get(event.user)
        if user is None:
            user = self._users[event.user] = User(event.user, self._allowances.claim(event.user, now))
        elif len(user.connections) >= self._settings.user_connections and not user.is_replaced_by(event):
            self._emit(Close(event.connection, CloseCode.POLICY, "too many connections of this user"))
            return
        connection = Connection(event, user, self._settings, now)
        self._connections[connection.id] = connection
        replaced = user.add(connection)
        if replaced is not None:
            self._close(replaced, now, CloseCode.REPLACED, "a newer connection of this device took over")
        self._intake.add_opening(connection)
        if self._next_heartbeat is None:
            self._next_heartbeat = now + _HEARTBEAT

    def _opened(self, connection: Connection, result: Opened | Refused, now: float) -> None:
        if connection.offered and (isinstance(result, Refused) or not result.new):
            connection.user.buckets.new_devices.put_back()
        if connection.id not in self._connections:
            return
        if isinstance(result, Refused):
            store_failed = (CloseCode.INTERNAL, self._retry_hint(connection.id))
            self._close(connection, now, *_REFUSED_OPENING.get(result.code, store_failed))
            return
        user = connection.user
        user.head = max(user.head, result.head)
        user.blocked = frozenset(result.blocked)
        connection.open = True
        connection.heard = now
        connection.sent = connection.acked = result.cursor
        self._emit(Send(connection.id, self._welcome(connection, result)))
        if not connection.send_only:
            # `acked` stays: should the client vanish before it read of the gap, it must be told again (promise 5).
            self._delivery.skip_to(connection, result.floor)
            self._delivery.feed(connection)
        self._pace.begin(connection)

    def _welcome(self, connection: Connection, opened: Opened) -> wire.Welcome:
        return wire.Welcome(
            user=connection.user.name,
            device=connection.device,
            log=opened.log,
            head=opened.head,
            floor=opened.floor,
            cursor=opened.cursor,
            new=opened.new,
            features=self._features,
            limits=self._limits,
        )

    def _disconnected(self, event: events.Disconnected, now: float) -> None:
        connection = self._connections.get(event.connection)
        if connection is not None:
            self._forget(connection, now)

    def _close(self, connection: Connection, now: float, code: CloseCode, reason: str) -> None:
        self._emit(Close(connection.id, code, reason))
        self._forget(connection, now)

    def _forget(self, connection: Connection, now: float) -> None:
        """No effect for this connection comes after this (I7). Its drafts are committed all the same."""
        del self._connections[connection.id]
        connection.gone = True
        user = connection.user
        user.remove(connection)
        self._pace.forget(connection)
        self._presence.forget(connection)
        if self._intake.withdraw(connection) and connection.offered:
            user.buckets.new_devices.put_back()
        if connection.present:
            self._intake.add_mark(connection, now)  # also records when the device was last seen
            if not user.present:
                self._presence.left(user.name, now)
        if not user.connections:
            del self._users[user.name]
            self._allowances.give_back(user.name, user.buckets, now)
        if not self._connections:
            self._next_heartbeat = None

    def _revoked(self, event: events.Revoked, now: float) -> None:
        user = self._users.get(event.user)
        for connection in list(user.connections.values()) if user else []:
            if event.device is None or event.device == connection.device:
                self._close(connection, now, CloseCode.UNAUTHORIZED, "no longer authorised")

    # What clients send.

    def _received(self, event: events.Received, now: float) -> None:
        connection = self._connections.get(event.connection)
        if connection is None or not connection.open:
            return
        for frame in event.frames:
            self._on_frame[type(frame)](connection, frame, now)
            if connection.id not in self._connections:
                return
        self._pace.received(connection, len(event.frames), now)

    def _ack(self, connection: Connection, frame: wire.Ack, now: float) -> None:
        if connection.send_only:
            return  # it was sent no entries and has no cursor (C3); its own messages it may count as held (A2)
        before = connection.acked
        if not self._delivery.acknowledge(connection, frame.seq):
            self._refusals.tell(connection, ErrorCode.CURSOR_AHEAD)
        elif connection.acked > before:
            self._intake.add_mark(connection, now)

    def _typing(self, connection: Connection, frame: wire.Typing, now: float) -> None:
        user, peer = connection.user, self._users.get(frame.to)
        if peer is None or peer is user or user.buckets.typing.take(now):
            return
        if peer.name not in user.blocked and user.name not in peer.blocked:  # B1
            for other in peer.present:
                self._emit(Offer(other.id, wire.TypingFrom(sender=user.name, typing=frame.typing)))

    def _ping(self, connection: Connection, frame: wire.Ping, now: float) -> None:  # noqa: ARG002  (as every frame)
        self._emit(Send(connection.id, wire.Pong()))

    def _bad_frame(self, connection: Connection, error: InvalidFrame, now: float) -> None:
        self.tally.refused[error.code] += 1
        self._emit(Send(connection.id, wire.Error(code=error.code, message=error.message, id=error.id, ref=error.ref)))
        if connection.user.buckets.bad_frames.take(now):
            self._close(connection, now, CloseCode.FLOODING, "too many bad frames")

    # What the store says.

    def _committed(self, event: events.Committed, now: float) -> None:
        results = event.results
        done = self._intake.done(results)
        self._presence.seen(done.marks, results.at)
        for removal, removed in zip(done.removals, results.removals, strict=True):
            self._requests.removed(removal, removed, now)
        for connection, opened in zip(done.openings, results.openings, strict=True):
            self._opened(connection, opened, now)
        for block, blocked in zip(done.blocks, results.blocks, strict=True):
            self._requests.blocked(block, blocked, results.at, now)
        for connection in done.openings:
            if connection.present and not connection.gone:
                self._presence.came(connection.user)
        lost = None if results.at else Refused(ErrorCode.INTERNAL)
        for read, refused in zip(done.reads, results.reads or (lost,) * len(done.reads), strict=True):
            self._receipts.committed(read, refused)
        self._receipts.progress(results.progress)
        self._sending.committed(done.drafts, results.drafts, now)
        everything: Iterable[Pending[Command]] = chain(done.removals, done.blocks, done.reads, done.drafts)
        askers = (pending.connection for pending in everything)
        for asker in {asker.id: asker for asker in askers if asker is not None}.values():
            self._after_answers(asker, now)

    def _after_answers(self, connection: Connection, now: float) -> None:
        """Something was answered: close what waits for that, or read from it again."""
        if connection.gone:
            return
        if connection.closing is not None:
            if not connection.unanswered:
                self._close(connection, now, connection.closing, self._retry_hint(connection.id))
        else:
            self._pace.lighter(connection)

    def _answered(self, event: events.Answered, now: float) -> None:
        connection = self._connections.get(event.connection)
        if connection is not None:
            self._requests.answered(connection, event)
            self._after_answers(connection, now)

    def _stood(self, event: events.Stood, now: float) -> None:
        connection = self._connections.get(event.connection)
        if connection is not None:
            self._requests.stood(connection, event)
            self._after_answers(connection, now)

    def _loaded(self, event: events.Loaded, now: float) -> None:  # noqa: ARG002  (as every event)
        connection = self._connections.get(event.connection)
        if connection is not None:
            self._delivery.loaded(connection, event.page)

    def _load_failed(self, event: events.LoadFailed, now: float) -> None:  # noqa: ARG002  (as every event)
        connection = self._connections.get(event.connection)
        if connection is not None:
            connection.loading = False  # the next heartbeat asks again

    # What the application wants.

    def _judged(self, event: events.Judged, now: float) -> None:
        answered = self._sending.judged(event, now)
        if answered is not None:
            self._after_answers(answered, now)

    def _requested(self, event: events.Requested, now: float) -> None:
        ticket = event.ticket
        if self._draining is not None or self._intake.full:
            self._emit(Fulfil(ticket, Refused(ErrorCode.OVERLOADED)))
            return
        match event.command:
            case Draft() as draft:
                self._sending.request(ticket, draft)
            case ReadMark() as mark:
                self._receipts.request(ticket, mark, now)
            case change:
                self._requests.request(ticket, change)

    # Time and the end.

    def _tick(self, event: events.Tick, now: float) -> None:
        for id in event.alive:
            heard = self._connections.get(id)
            if heard is not None:
                heard.heard = now
                heard.pinged = None
        self._pace.tick(now)
        self._presence.tick(now)
        if self._next_heartbeat is None or now < self._next_heartbeat:
            return
        self._next_heartbeat = now + _HEARTBEAT
        for connection in list(self._connections.values()):
            if not connection.open:
                continue
            if connection.paused:  # its pong may lie behind what is not read from it: that silence is ours
                connection.heard, connection.pinged = now, None
            elif connection.pinged is not None:
                if now - connection.pinged >= self._settings.ping_timeout:
                    self._close(connection, now, CloseCode.SILENT, "no answer to a ping")
                    continue
            elif now - connection.heard >= self._settings.ping_interval:
                connection.pinged = now
                self._emit(Ping(connection.id))
            self._delivery.feed(connection, eagerly=True)

    def _drain(self, event: events.Drain, now: float) -> None:
        if event.connections is None:
            self._draining = event.code
        for connection in list(self._connections.values()):
            if event.connections is not None and connection.id not in event.connections:
                continue
            connection.closing = event.code
            if connection.unanswered:
                self._pace.end(connection)
            self._after_answers(connection, now)

    def _retry_hint(self, connection: ConnectionId) -> str:
        """When to come back, in seconds, spread over the clients so that they do not come as a herd."""
        wait = 0.1 + connection * _GOLDEN % 1 * self._settings.retry_spread
        return f"retry_after={wait:.1f}"


_REFUSED_OPENING: Final = {
    ErrorCode.NOT_ALLOWED: (CloseCode.POLICY, "too many devices are connected"),
    ErrorCode.RATE_LIMITED: (CloseCode.FLOODING, "too many new devices"),
}
