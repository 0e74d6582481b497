"""The registry: the one task that owns the core. It feeds it what happened and carries out what it wants.

Nothing else touches that state, so there are no locks. It never awaits a socket, a disk, a hook or a provider: whatever
takes time is handed to a task that reports back through the inbox.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

import trio
from msgspec import Struct

from .committer import Commits, Committer, Loader, Ride
from .core.batch import Batch, ConnectionId, Refused, Results, Stored
from .core.effects import Ask, Close, Effect, Fulfil, Judge, Load, Offer, Pause, Ping, Question, Resume, Send, Tell, Unjudge
from .core.events import Connected, Event, Received, Requested, Tick, Ticket
from .core.intake import Command
from .core.machine import Core
from .core.outbox import PushChange, Unregister
from .core.workload import Workload
from .errors import ChatClosed, CloseCode, ErrorCode
from .observation import Observers
from .policy import Hooks, Policy
from .push.settings import Push
from .push_requests import PushRequests
from .questions import Questions
from .settings import Settings
from .store.base import Store
from .wire import PushRequest, ServerFrame

__all__ = ["Outcome", "Progress", "Queues", "Registry", "SessionPort"]

Outcome: TypeAlias = Stored | Refused | tuple[str, ...] | None
"""What became of it: see `Fulfil`."""


class Queues(Struct, frozen=True, kw_only=True):
    """What waits: events for the registry, pages and questions for the store, drafts for the application's hooks.

    What waits for a commit is `Workload.waiting`.
    """

    events: int
    pages: int
    questions: int
    drafts: int


class Progress(Struct, frozen=True, kw_only=True):
    """What was done since the chat began, and what waits for more.

    `stored` are the messages, edits and deletions that are durable, each counted once however often it was sent; `refused`
    the ``error`` frames by their code. Codes that did not occur are not there.
    """

    stored: int
    refused: dict[ErrorCode, int]
    commits: Commits
    queues: Queues


class SessionPort(Protocol):
    """A session as the registry sees it. Every method returns at once."""

    def send(self, frame: ServerFrame) -> None: ...
    def offer(self, frame: ServerFrame) -> None: ...
    def tell(self, key: tuple[str, str], frame: ServerFrame) -> None: ...
    def ping(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def taken(self) -> None: ...
    def close(self, code: CloseCode, reason: str) -> None: ...


class _Inbox:
    """What happened and was not yet taken in.

    A list and an Event, and still bounded: a session has at most one batch of frames in it and reads no further until that
    is taken, at most one page is loading for it, one question of it is being answered, and one batch of the store's is in
    flight. Putting never blocks, so that an end can be reported from a ``finally`` under cancellation.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._filled = trio.Event()

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._filled.set()

    def wake(self) -> None:
        self._filled.set()

    def __len__(self) -> int:
        return len(self._events)

    async def take(self, deadline: float) -> list[Event]:
        """Everything that is there, waiting for something until `deadline`. Always a checkpoint: others get their turn."""
        with trio.move_on_at(deadline):
            await self._filled.wait()
        self._filled = trio.Event()
        events, self._events = self._events, []
        return events


class _Call:
    """Somebody of the application's who waits for what became of a request."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: Outcome = None
        self.lost = False


class Registry:
    """Runs a core over a store. `sessions` are those that were joined and have not left."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Callable[[], int],
        *,
        memory_path: bool = True,
        hooks: Hooks | None = None,
        push: Push | None = None,
    ) -> None:
        hooks = hooks or Hooks()
        self._core = Core(settings, memory_path=memory_path, judged=hooks.judge, push=push is not None)
        self._inbox = _Inbox()
        self.put: Callable[[Event], None] = self._inbox.put
        self.observers: Observers = Observers()
        self._loader = Loader(store, self.put)
        self._policy = Policy(hooks, store, self.put, settings)
        onlookers = [self.observers.committed, *([self._policy.stored] if hooks.judge else [])]
        self._committer = Committer(store, self.put, clock, [*onlookers, self._committed])
        self._committer.rode = self._inbox.wake
        self._push_delay = settings.ack_delay
        self.stirred: Callable[[], None] = lambda: None
        """Called when a commit may have made work for push."""
        watching = self._policy.standings if hooks.may_watch is not None else None
        self._questions = Questions(store, self.put, settings, judge=watching)
        self._calls: dict[Ticket, _Call] = {}
        self._last_ticket: Ticket = 0
        self._sessions: dict[ConnectionId, SessionPort] = {}
        self._opening: dict[ConnectionId, Connected] = {}
        self._open: dict[ConnectionId, Connected] = {}
        soon = partial(self.ride, soon=True)
        self._about_push = (
            None if push is None else PushRequests(store, self.put, settings, push, soon, self._open.__getitem__)
        )
        self.alive: set[ConnectionId] = set()
        """Transports add their connection's id here whenever bytes moved."""
        self._idle = trio.Event()
        self._ending = False
        self._ended = False

    def join(self, session: SessionPort, event: Connected) -> None:
        """A session begins."""
        self._sessions[event.connection] = session
        self._opening[event.connection] = event
        self.put(event)

    def leave(self, connection: ConnectionId) -> None:
        """A session has ended and released everything. `Disconnected` was put before."""
        self._sessions.pop(connection, None)
        self._opening.pop(connection, None)
        if (event := self._open.pop(connection, None)) is not None:
            self.observers.disconnected(event)
        self._questions.withdraw(connection)
        if self._about_push is not None:
            self._about_push.withdraw(connection)
        self.alive.discard(connection)
        self._inbox.wake()

    @property
    def refused_at(self) -> float:
        """See `Committer.refused_at`."""
        return self._committer.refused_at

    @property
    def ended(self) -> bool:
        """Whether `run` has ended, however it did."""
        return self._ended

    def workload(self) -> Workload:
        """How much the core has to do."""
        return self._core.workload()

    def progress(self) -> Progress:
        """What was done so far, and what waits."""
        tally = self._core.tally
        return Progress(
            stored=tally.stored,
            refused=dict(tally.refused),
            commits=self._committer.commits(),
            queues=Queues(
                events=len(self._inbox),
                pages=self._loader.waiting,
                questions=self._questions.waiting + (0 if self._about_push is None else self._about_push.waiting),
                drafts=self._policy.waiting,
            ),
        )

    def connected(self, user: str) -> frozenset[str]:
        """The user's devices that are connected."""
        return self._core.connected(user)

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._sessions)

    async def request(self, command: Command) -> Outcome:
        """Have a command of the application's committed, and wait for what became of it.

        When cancelled, it is carried out or not: nobody waits for it any more.

        Raises:
            ChatClosed: it was not taken, or nobody is there any more who could know what became of it.
        """
        if self._ended:
            raise ChatClosed("the chat has ended")
        self._last_ticket += 1
        ticket = self._last_ticket
        call = self._calls[ticket] = _Call()
        try:
            self.put(Requested(ticket, command))
            await call.done.wait()
        finally:
            del self._calls[ticket]
        if call.lost:
            raise ChatClosed("the chat ended before this was answered: it may have been carried out")
        return call.result

    async def wait_idle(self) -> None:
        """Wait until there is no session, and nothing waits for the store or is in flight; or until `run` has ended."""
        if self._idle.is_set() and not self._ended:
            self._idle = trio.Event()
            self._inbox.wake()
        await self._idle.wait()

    async def run(self) -> None:
        """Run until `end` was called and all is idle. Raises what a task of its own raised; then nothing may be trusted."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._committer.run)
                nursery.start_soon(self._loader.run)
                nursery.start_soon(self._questions.run)
                nursery.start_soon(self._policy.run)
                if self._about_push is not None:
                    nursery.start_soon(self._about_push.run)
                await self._turns()
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            self._idle.set()
            self.observers.end()
            for call in self._calls.values():
                call.lost = True
                call.done.set()

    def ride(self, change: PushChange, *, soon: bool = False) -> Ride:
        """Have a change of push's committed: `soon`, or with what is committed anyway, as an acknowledgement is.

        Raises:
            ChatClosed: the chat has ended.
        """
        if self._ended:
            raise ChatClosed("the chat has ended")
        return self._committer.ride(change, 0 if soon else self._push_delay)

    def _committed(self, batch: Batch, _: Results) -> None:
        if batch.drafts or batch.reads or batch.push:
            self.stirred()

    def end(self) -> None:
        """Return from `run` as soon as there is no session and nothing in flight."""
        self._ending = True
        self._inbox.wake()

    async def _turns(self) -> None:
        core = self._core
        while True:
            deadline = core.deadline()
            happened = await self._inbox.take(math.inf if deadline is None else deadline)
            now = trio.current_time()
            for event in happened:
                self._perform(core.handle(event, now))
                if type(event) is Received and (session := self._sessions.get(event.connection)):
                    session.taken()
            if deadline is not None and now >= deadline:
                alive = frozenset(self.alive)
                self.alive.clear()
                self._perform(core.handle(Tick(alive), now))
            batch = core.next_batch(now)
            if batch is not None:
                self._committer.submit(batch)
            if not self._sessions and core.idle and not self._committer.riding:
                self._idle.set()
                if self._ending:
                    return

    def _perform(self, effects: list[Effect]) -> None:
        sessions = self._sessions
        for effect in effects:
            if isinstance(effect, Send):  # as nearly all are
                if (session := sessions.get(effect.connection)) is not None:
                    session.send(effect.frame)
            elif isinstance(effect, Fulfil):
                self._fulfil(effect)
            elif isinstance(effect, Judge):
                self._policy.submit(effect)
            elif isinstance(effect, Unjudge):
                self._policy.withdraw(effect.serials)
            elif (session := sessions.get(effect.connection)) is None:
                pass  # it has ended, and its Disconnected is on the way
            elif isinstance(effect, Load):
                self._loader.submit(effect.connection, effect.request)
            elif isinstance(effect, Ask):
                self._questions_about(effect.question).submit(effect)
            elif isinstance(effect, Close):
                self._close(effect, session)
            else:
                if (event := self._opening.get(effect.connection)) is not None and isinstance(effect, Resume):
                    self._open[effect.connection] = self._opening.pop(effect.connection)  # it is welcome
                    self.observers.connected(event)
                _carry_out(effect, session)

    def _questions_about(self, question: Question) -> Questions:
        return self._about_push if self._about_push is not None and isinstance(question, PushRequest) else self._questions

    def _close(self, effect: Close, session: SessionPort) -> None:
        connected = self._open.get(effect.connection)
        if self._about_push is not None and connected is not None and effect.code is CloseCode.UNAUTHORIZED:
            # The device was revoked or removed, and its targets with it: so must be what it has registered since.
            self._about_push.withdraw(effect.connection)
            self.ride(Unregister(connected.user, connected.device), soon=True)
        session.close(effect.code, effect.reason)

    def _fulfil(self, effect: Fulfil) -> None:
        call = self._calls.get(effect.ticket)
        if call is not None:  # else nobody waits for it any more
            call.result = effect.result
            call.done.set()


def _carry_out(effect: Offer | Tell | Pause | Resume | Ping, session: SessionPort) -> None:
    match effect:
        case Offer(_, frame):
            session.offer(frame)
        case Tell(_, key, frame):
            session.tell(key, frame)
        case Resume():
            session.resume()
        case Pause():
            session.pause()
        case Ping():
            session.ping()
