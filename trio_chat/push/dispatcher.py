"""Works off the outbox: asks what is due, decides, has providers send it, and notes what came of it.

One line for each provider, so that one that is down holds up nobody else. What is due stays in the store; in memory are as
many jobs as are being tried. A note is committed before its job is let go, so that nothing is tried twice unless the process
dies in between.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import trio
from msgspec import Struct
from msgspec.structs import replace

from ..core.batch import Refused
from ..core.outbox import Job, Note, Prune, PushChange, TargetGone
from ..errors import ChatClosed, RowRefused, StoreError
from ..hooks import HookFailed, HookTookTooLong, run_hook
from .attempt import clearing, decide, is_outcome, noted, telling
from .base import Gone, Misconfigured, Notification, Outcome, Provider, RetryAfter, Scattered, Sent, Target
from .breaker import FIRST, Breaker, Breakers, backoff
from .settings import Push

__all__ = ["Backlog", "Dispatcher", "ProviderFigures"]

_log = logging.getLogger("trio_chat.push")

PAUSE: Final = 1.0
"""Seconds between two looks at an outbox in which nothing was due."""
COUNT_SECONDS: Final = 5.0
"""Between two looks at how much waits: they go through all of it."""
STALE_DAYS: Final = 60
GRACE: Final = 1.0
"""Seconds for attempts under way to end when the chat does."""
_DAY_MS: Final = 86_400_000
_TRIES: Final = 5.0
"""Seconds until a store that could not be read or written is tried again."""


class ProviderFigures(Struct, frozen=True, kw_only=True):
    """What came of the attempts with one provider so far.

    `retried` counts the answers that said later, or none, `alarms` those that said that something is misconfigured; both are
    tried again. `gone` is how many targets were forgotten for it. `dropped` were given up without asking anybody.

    `open` says that the provider is left alone for a while after failures in a row; where each target has a host of its own
    (Web Push), `resting` is the number of hosts that are, and `open` is False. `misconfigured` is what it says is wrong, or
    None.
    """

    sent: int
    cleared: int
    gone: int
    retried: int
    alarms: int
    dropped: int
    trying: int
    open: bool
    resting: int
    misconfigured: str | None


class Backlog(Struct, frozen=True):
    """What waits to be told: so many jobs, the oldest of them for `age` seconds; the usual delay is part of that."""

    length: int = 0
    age: float = 0.0


class _Outbox(Protocol):
    async def length(self) -> tuple[int, int | None]: ...
    async def due(self, provider: str, now: int, limit: int) -> tuple[Job, ...]: ...
    async def next(self, provider: str) -> int | None: ...


class _Ride(Protocol):
    done: trio.Event
    refused: Refused | None


Commit: TypeAlias = Callable[[PushChange], _Ride]


class _Line:
    """What goes to one provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.name = provider.name
        self.trying: set[tuple[int, str]] = set()
        self.breaker = Breaker()
        self.hosts: Breakers | None = None
        if isinstance(provider, Scattered):
            self.hosts, self.host = Breakers(), provider.host
        self.stuck: set[tuple[int, str]] = set()
        """Of which it cannot be noted what came of them: they are due for ever, and must not be sent again and again."""
        self.stir = trio.Event()
        self.counts = dict.fromkeys(("sent", "cleared", "gone", "retried", "alarms", "dropped"), 0)
        self.misconfigured: str | None = None

    def answered(self, host: str) -> None:
        """The provider, or the host, did what it is there for."""
        if self.hosts is None:
            self.breaker.answered()
        else:
            self.hosts.answered(host)

    def failed(self, host: str, now: float) -> None:
        """An attempt failed, and not because of the target."""
        if self.hosts is None:
            self.breaker.failed(now)
        else:
            self.hosts.failed(host, now)


class Dispatcher:
    """Runs in a task of the chat's. `commit` has a change ride in a batch; `clock` gives Unix milliseconds."""

    def __init__(
        self,
        push: Push,
        outbox: _Outbox,
        commit: Commit,
        clock: Callable[[], int],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._push = push
        self._outbox = outbox
        self._commit = commit
        self._clock = clock
        self._chance = chance
        self._lines = {provider.name: _Line(provider) for provider in push.providers}
        self._scope = trio.CancelScope()
        self._stopping = False
        self._ended = trio.Event()
        self._counted: tuple[int, int | None] = 0, None
        self._count_again = trio.Event()

    def backlog(self) -> Backlog:
        """What waits, as of the last look some seconds ago at most."""
        length, since = self._counted
        return Backlog(length, 0.0 if since is None else max(self._clock() - since, 0) / 1000)

    def figures(self) -> dict[str, ProviderFigures]:
        """What came of the attempts so far, by provider."""
        now = trio.current_time()
        return {
            name: ProviderFigures(
                **line.counts,
                trying=len(line.trying),
                open=line.breaker.open_until > now,
                resting=0 if line.hosts is None else line.hosts.resting(now),
                misconfigured=line.misconfigured,
            )
            for name, line in self._lines.items()
        }

    def stir(self) -> None:
        """Something may be due."""
        self._count_again.set()
        for line in self._lines.values():
            line.stir.set()

    async def stop(self) -> None:
        """Begin nothing more, and wait a second for what is being tried. What is cut off then is tried again next time."""
        self._stopping = True
        self.stir()
        self._scope.deadline = trio.current_time() + (GRACE if any(line.trying for line in self._lines.values()) else 0)
        await self._ended.wait()

    async def run(self) -> None:
        """Work until `stop`. Raises nothing that a provider, a hook or the store raises."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._prune)
                    nursery.start_soon(self._count)
                    for line in self._lines.values():
                        nursery.start_soon(self._feed, line, nursery)
        finally:
            self._ended.set()

    async def _prune(self) -> None:
        while not self._stopping:
            await self._committed(Prune(self._clock() - STALE_DAYS * _DAY_MS, 100))
            await trio.sleep(3600)

    async def _count(self) -> None:
        """Look how much waits: when something may have changed, but not all the time."""
        while not self._stopping:
            self._count_again = trio.Event()
            try:
                self._counted = await self._outbox.length()
            except StoreError as error:
                _log.error("the push outbox could not be counted: %s", error)
            await trio.sleep(COUNT_SECONDS)
            if not self._counted[0]:
                await self._count_again.wait()

    async def _feed(self, line: _Line, nursery: trio.Nursery) -> None:
        while not self._stopping:
            line.stir = trio.Event()
            room = (1 if line.breaker.tripped else self._push.concurrency) - len(line.trying)
            if room <= 0:
                await line.stir.wait()
            elif line.breaker.open_until > trio.current_time():
                await trio.sleep_until(line.breaker.open_until)
            else:
                await self._look(line, room, nursery)

    async def _look(self, line: _Line, room: int, nursery: trio.Nursery) -> None:
        try:
            # Those that are being tried are due still: they stand before the others.
            passed = line.trying | line.stuck
            jobs = await self._outbox.due(line.name, self._clock(), room + len(passed))
            fresh = [job for job in jobs if (job.key, job.peer) not in passed][:room]
            for job in fresh:
                line.trying.add((job.key, job.peer))
                nursery.start_soon(self._try, line, job)
            if not fresh:
                due = None if line.trying else await self._outbox.next(line.name)
                await self._rest(line, due)
        except StoreError as error:
            _log.error("the push outbox could not be read: %s", error)
            await trio.sleep(_TRIES)

    async def _rest(self, line: _Line, due: int | None) -> None:
        """Until something is due or may be; but not for less than a pause, however many messages come."""
        seconds = float("inf") if due is None else max((due - self._clock()) / 1000, PAUSE if line.stuck else 0)
        with trio.move_on_after(seconds):
            await line.stir.wait()
            await trio.sleep(min(PAUSE, self._push.delay))

    async def _try(self, line: _Line, job: Job) -> None:
        target = Target(user=job.user, device=job.device, provider=job.provider, kind=job.kind, target=job.target)
        change = await (
            self._carry_out(line, job, target) if line.hosts is None else self._at_host(line, line.hosts, job, target)
        )
        refused = await self._committed(change)
        if refused is not None and isinstance(change, Note):
            refused = await self._committed(replace(change, answer="it could not be kept"))
        if refused is not None:
            _log.error("what came of a push job of %s cannot be stored: it is not tried again before a restart", line.name)
            line.stuck.add((job.key, job.peer))
        line.trying.discard((job.key, job.peer))
        line.stir.set()

    async def _at_host(self, line: _Line, hosts: Breakers, job: Job, target: Target) -> PushChange:
        """Carry it out, or put it off while its host is left alone."""
        host = line.host(target)
        wait = hosts.wait(host, trio.current_time())
        if wait and decide(job, self._clock(), self._push.expiry) in ("tell", "clear"):
            wait += self._chance() * FIRST  # not all at once
            return noted(job, "put off", self._clock() + round(wait * 1000), "its push service is left alone for a while")
        hosts.begin(host)
        try:
            return await self._carry_out(line, job, target, host)
        finally:
            hosts.end(host)

    async def _committed(self, change: PushChange) -> Refused | None:
        """Have it committed, however long that takes: what is not noted would be sent again.

        Gives the refusal of what can never be.
        """
        while True:
            try:
                ride = self._commit(change)
            except ChatClosed:
                return None
            await ride.done.wait()
            if ride.refused is None or ride.refused.code is RowRefused.code:
                return ride.refused
            await trio.sleep(_TRIES)

    async def _carry_out(self, line: _Line, job: Job, target: Target, host: str = "") -> PushChange:
        push, now = self._push, self._clock()
        decision = decide(job, now, push.expiry)
        if decision == "tell" and job.newest is not None and push.should_push is not None:
            try:
                wanted = await run_hook(
                    "should_push", push.should_push, job.newest, target, seconds=push.hook_timeout, returns=bool
                )
            except HookFailed:
                wanted = False
            decision = "tell" if wanted else "should_push said no"
        if decision not in ("tell", "clear"):
            line.counts["dropped"] += 1
            return self._note(job, "dropped", decision)
        if decision == "clear" or job.newest is None:
            notification = clearing(job, push)
        else:
            notification = await telling(job, job.newest, push, now)
        return self._outcome(line, host, job, notification, await self._send(line, target, notification))

    async def _send(self, line: _Line, target: Target, notification: Notification) -> Outcome:
        try:
            outcome: object = await run_hook(
                f"the push provider {line.name}", line.provider.send, target, notification,
                seconds=self._push.timeout, returns=object, accepts=is_outcome,
            )  # fmt: skip
        except HookTookTooLong:
            return RetryAfter(None, "no answer in time")
        except HookFailed:
            return RetryAfter(None, "the provider failed")
        if not isinstance(outcome, Outcome):
            raise AssertionError("run_hook has looked")  # noqa: TRY004
        return outcome

    def _outcome(self, line: _Line, host: str, job: Job, notification: Notification, outcome: Outcome) -> PushChange:
        match outcome:
            case Sent():
                line.answered(host)
                line.misconfigured = None
                kind: str = "cleared" if notification.clear else "sent"
                line.counts[kind] += 1
                return self._note(job, "cleared" if notification.clear else "sent", f"sent {outcome.receipt}".strip())
            case Gone():
                line.answered(host)
                line.counts["gone"] += 1
                _log.info("a push target of %s is gone: %s", line.name, outcome.reason)
                return TargetGone(job.key, job.registered)
            case Misconfigured():
                if line.misconfigured != outcome.reason:
                    _log.error("the push provider %s is not configured as it must be: %s", line.name, outcome.reason)
                line.misconfigured = outcome.reason
                line.counts["alarms"] += 1
                return self._later(line, host, job, None, f"misconfigured: {outcome.reason}")
            case RetryAfter():
                line.counts["retried"] += 1
                return self._later(line, host, job, outcome.seconds, outcome.reason)

    def _later(self, line: _Line, host: str, job: Job, seconds: float | None, answer: str) -> PushChange:
        line.failed(host, trio.current_time())
        wait = backoff(job.attempts, self._chance) if seconds is None else min(max(seconds, 1.0), self._push.expiry)
        return noted(job, "later", self._clock() + round(wait * 1000), answer)

    def _note(self, job: Job, outcome: str, answer: str) -> PushChange:
        return noted(job, outcome, self._clock() + round(self._push.delay * 1000), answer)
