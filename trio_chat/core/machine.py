"""The state machine: events in, effects out. No I/O, no clock, no randomness; never raises for what a client does.

Feed it with `Core.handle`, carry out the effects it returns, in order; after a turn, ask `Core.next_batch` for what is to be
committed and report the outcome with `Committed`. The same events at the same times give the same effects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from .. import wire
from ..errors import CloseCode, ErrorCode, InvalidFrame
from ..model import Message
from ..settings import Settings
from . import events
from .batch import Batch, ConnectionId, Draft, Opened, Refused, Stored
from .buckets import Allowances
from .connection import Connection, Refusal, User
from .delivery import Delivery
from .effects import Close, Effect, Offer, Ping, Send
from .events import Event
from .intake import Intake, Pending
from .pace import Pace

__all__ = ["Core"]

_HEARTBEAT: Final = 1.0
"""Seconds between two looks at who is silent or behind: fine enough for limits of ten seconds and more."""
_DRAFT_OVERHEAD: Final = 200
"""What a waiting draft weighs beside its strings, in bytes."""
_GOLDEN: Final = 0.6180339887498949
"""Multiples of it, taken modulo 1, spread evenly, however many there are: a jitter that can be replayed."""


class Core:
    """Everything the server decides.

    Args:
        settings: limits and times.
        memory_path: False sends every entry by way of the store; the same entries arrive (C4). For tests.
    """

    def __init__(self, settings: Settings, *, memory_path: bool = True) -> None:
        self._settings = settings
        self._effects: list[Effect] = []
        self._emit = self._effects.append
        self._connections: dict[ConnectionId, Connection] = {}
        self._users: dict[str, User] = {}
        self._allowances = Allowances(settings)
        self._intake = Intake(settings)
        self._delivery = Delivery(self._emit, memory_path=memory_path)
        self._pace = Pace(settings, self._emit)
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
            events.Disconnected: self._disconnected,
            events.Revoked: self._revoked,
            events.Drain: self._drain,
            events.Tick: self._tick,
        }
        self._on_frame: dict[type[Any], Callable[[Connection, Any, float], None]] = {
            wire.Send: self._send,
            wire.Ack: self._ack,
            wire.Typing: self._typing,
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
        times = [t for t in (self._next_heartbeat, self._intake.due, self._pace.deadline) if t is not None]
        return min(times, default=None)

    @property
    def idle(self) -> bool:
        """Whether there are no connections and nothing is waiting or in flight: after a drain, the end."""
        return not self._connections and self._intake.idle

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

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
        connection.user.head = max(connection.user.head, result.head)
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
            features=list(wire.FEATURES),
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
        user = connection.user
        user.remove(connection)
        self._pace.forget(connection)
        if self._intake.withdraw(connection) and connection.offered:
            user.buckets.new_devices.put_back()
        if connection.open and not connection.send_only:
            self._intake.add_mark(connection, now)  # also records when the device was last seen
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

    def _send(self, connection: Connection, frame: wire.Send, now: float) -> None:
        refusal = connection.refusal
        if refusal is not None:
            if now < refusal.until:
                self._tell_refusal(connection, frame.id, refusal.code, refusal.until - now)
                return
            connection.refusal = None
        wait = connection.user.buckets.sends.take(now)
        if wait:
            self._refuse(connection, frame.id, ErrorCode.RATE_LIMITED, now, wait)
        elif self._intake.full:
            self._refuse(connection, frame.id, ErrorCode.OVERLOADED, now)
        else:
            draft = Draft(connection.id, connection.user.name, frame.to, frame.id, frame.text)
            size = sum(len(part.encode()) for part in (frame.id, frame.to, frame.text)) + _DRAFT_OVERHEAD
            connection.uncommitted += 1
            connection.uncommitted_bytes += size
            self._intake.add_draft(Pending(draft, connection, size))

    def _refuse(self, connection: Connection, id: str, code: ErrorCode, now: float, wait: float = 0.0) -> None:
        """Answer a send with an error. After a retryable one the connection's later sends are refused likewise (S4)."""
        if code.retryable:
            until = now + max(wait, self._settings.retry_after)
            if connection.refusal is None or connection.refusal.until < until:
                connection.refusal = Refusal(code, until)
        self._tell_refusal(connection, id, code, wait)

    def _tell_refusal(self, connection: Connection, id: str, code: ErrorCode, wait: float) -> None:
        # Rounded up: who comes back a part of a millisecond early is refused for another second.
        retry_after = max(math.ceil(wait * 1000) / 1000, self._settings.retry_after) if code.retryable else None
        self._emit(Send(connection.id, wire.Error(code=code, message=code.meaning, id=id, retry_after=retry_after)))

    def _ack(self, connection: Connection, frame: wire.Ack, now: float) -> None:
        if connection.send_only:
            return  # it was sent no entries and has no cursor (C3); its own messages it may count as held (A2)
        before = connection.acked
        if not self._delivery.acknowledge(connection, frame.seq):
            code = ErrorCode.CURSOR_AHEAD
            self._emit(Send(connection.id, wire.Error(code=code, message=code.meaning)))
        elif connection.acked > before:
            self._intake.add_mark(connection, now)

    def _typing(self, connection: Connection, frame: wire.Typing, now: float) -> None:
        peer = self._users.get(frame.to)
        if peer is None or peer is connection.user or connection.user.buckets.typing.take(now):
            return
        for other in peer.connections.values():
            if other.open and not other.send_only:
                self._emit(Offer(other.id, wire.TypingFrom(sender=connection.user.name, typing=frame.typing)))

    def _ping(self, connection: Connection, frame: wire.Ping, now: float) -> None:  # noqa: ARG002  (as every frame)
        self._emit(Send(connection.id, wire.Pong()))

    def _bad_frame(self, connection: Connection, error: InvalidFrame, now: float) -> None:
        self._emit(Send(connection.id, wire.Error(code=error.code, message=error.message, id=error.id, ref=error.ref)))
        if connection.user.buckets.bad_frames.take(now):
            self._close(connection, now, CloseCode.FLOODING, "too many bad frames")

    # What the store says.

    def _committed(self, event: events.Committed, now: float) -> None:
        outcome = self._intake.done(event.results)
        for connection, opened in zip(outcome.openings, event.results.openings, strict=True):
            self._opened(connection, opened, now)
        refused: dict[ConnectionId, ErrorCode] = {}
        for pending, result in zip(outcome.drafts, event.results.drafts, strict=True):
            if isinstance(result, Stored):
                self._stored(pending, result)
            else:
                self._refuse_pending(pending, result.code, now)
                if result.code.retryable:
                    refused.setdefault(pending.connection.id, result.code)
            self._answered(pending)
        # Looking through all that waits is worth it only for who has something waiting.
        waiting = {p.connection.id for p in outcome.drafts if p.connection.id in refused and p.connection.uncommitted}
        for pending in self._intake.withdraw_drafts(waiting) if waiting else ():
            self._refuse_pending(pending, refused[pending.connection.id], now)
            self._answered(pending)
        for connection in {pending.connection.id: pending.connection for pending in outcome.drafts}.values():
            self._after_answers(connection, now)

    def _refuse_pending(self, pending: Pending, code: ErrorCode, now: float) -> None:
        if pending.connection.id in self._connections:
            self._refuse(pending.connection, pending.draft.id, code, now)

    def _answered(self, pending: Pending) -> None:
        pending.connection.uncommitted -= 1
        pending.connection.uncommitted_bytes -= pending.size

    def _stored(self, pending: Pending, stored: Stored) -> None:
        draft = pending.draft
        if stored.new:
            self._enter(draft.sender, pending, stored, stored.seq)
            if stored.peer_seq:
                self._enter(draft.recipient, pending, stored, stored.peer_seq)
        if pending.connection.id in self._connections:
            self._delivery.named(pending.connection, stored.seq)
            item = wire.StoredItem(id=draft.id, seq=stored.seq, sent_at=stored.sent_at)
            self._emit(Send(pending.connection.id, wire.Stored(messages=[item])))

    def _enter(self, name: str, pending: Pending, stored: Stored, seq: int) -> None:
        """The log of the user `name` has a new last entry."""
        user = self._users.get(name)
        if user is None:
            return
        user.head = max(user.head, seq)
        draft = pending.draft
        message = Message(
            seq=seq, id=draft.id, sender=draft.sender, recipient=draft.recipient, text=draft.text, sent_at=stored.sent_at
        )
        for connection in user.connections.values():
            self._delivery.committed(connection, message, own=connection is pending.connection)

    def _after_answers(self, connection: Connection, now: float) -> None:
        if connection.id not in self._connections:
            return
        if connection.closing is not None:
            if not connection.uncommitted:
                self._close(connection, now, connection.closing, self._retry_hint(connection.id))
        else:
            self._pace.lighter(connection)

    def _loaded(self, event: events.Loaded, now: float) -> None:  # noqa: ARG002  (as every event)
        connection = self._connections.get(event.connection)
        if connection is not None:
            self._delivery.loaded(connection, event.page)

    def _load_failed(self, event: events.LoadFailed, now: float) -> None:  # noqa: ARG002  (as every event)
        connection = self._connections.get(event.connection)
        if connection is not None:
            connection.loading = False  # the next heartbeat asks again

    # Time and the end.

    def _tick(self, event: events.Tick, now: float) -> None:
        for id in event.alive:
            heard = self._connections.get(id)
            if heard is not None:
                heard.heard = now
                heard.pinged = None
        self._pace.tick(now)
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
            if connection.uncommitted:
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
