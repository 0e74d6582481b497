"""What waits for push, in memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

import trio

from ..core.batch import ReadMark, Refused
from ..core.outbox import (
    USER_TARGETS,
    Job,
    Mute,
    Note,
    Preferences,
    PushChange,
    Quiet,
    Register,
    Registered,
    TargetGone,
    Unregister,
    Waiting,
)
from ..errors import ErrorCode
from ..model import Message
from ..retrieval import UNREAD_LIMIT
from ..settings import Settings
from .memory_contents import Contents, User
from .memory_queries import as_it_is, is_unread

__all__ = ["MemoryOutbox"]


class _Target:
    def __init__(self, key: int, where: Register, now: int) -> None:
        self.key = key
        self.where = where
        self.registered = now


class _Job:
    """A row of the outbox, for one target and peer."""

    def __init__(self, target: _Target, peer: str) -> None:
        self.target = target
        self.peer = peer
        self.id = ""
        self.seq = self.notified = self.since = self.attempts = self.answered = 0
        self.clear = False
        self.due: int | None = None
        self.answer = ""

    def begin(self, now: int, due: int, *, clear: bool = False) -> None:
        """Something waits from now on."""
        self.id, self.since, self.due, self.attempts, self.clear = secrets.token_hex(16), now, due, 0, clear


class MemoryOutbox:
    """`Outbox`, in dictionaries."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._delay: int | None = None
        self._last_key = 0
        self._targets: dict[tuple[str, str, str], _Target] = {}
        self._jobs: dict[tuple[int, str], _Job] = {}
        self._mutes: set[tuple[str, str]] = set()
        self._quiet: set[str] = set()

    def open(self, delay: int | None) -> None:
        """From now on a message is announced so many milliseconds after it; see `Outbox.open`."""
        self._delay = delay

    # What is written.

    def announce(self, user: str, peer: str, seq: int, now: int) -> None:
        """A message is stored."""
        if self._delay is None:
            return
        for target in self._of(user):
            job = self._jobs.setdefault((target.key, peer), _Job(target, peer))
            job.seq = seq
            if job.due is None or job.clear:
                job.begin(now, now + self._delay)

    def read(self, reads: Iterable[ReadMark], now: int) -> None:
        """Read marks moved: what the user's other devices still show is to go."""
        if self._delay is None:
            return
        marks = list(reads)
        for one in marks:
            if one.device is not None:
                self._seen(one.user, one.peer, one.device)
        for one in marks:
            self._clear(one.user, one.peer, now)

    def _seen(self, user: str, peer: str, device: str) -> None:
        mark = self._user(user).read.get(peer, 0)
        for target in self._of(user):
            job = self._jobs.get((target.key, peer))
            if job is not None and target.where.device == device and job.notified <= mark:
                job.notified = 0

    def _clear(self, user: str, peer: str, now: int) -> None:
        mark = self._user(user).read.get(peer, 0)
        for target in self._of(user):
            job = self._jobs.get((target.key, peer))
            if job is not None and job.due is None and 0 < job.notified <= mark:
                job.begin(now, now, clear=True)

    def forget_device(self, user: str, device: str) -> None:
        """A device was removed, and its targets with it."""
        self._forget([target for target in self._of(user) if target.where.device == device])

    def change(self, settings: Settings, changes: Iterable[PushChange], now: int) -> tuple[Refused | None, ...]:
        """Carry out the changes, one after the other."""
        return tuple([self._change(settings, one, now) for one in changes])

    def _change(self, settings: Settings, one: PushChange, now: int) -> Refused | None:
        match one:
            case Register():
                self._register(one, now)
                self._forget(sorted(self._of(one.user), key=_age)[:-USER_TARGETS])
            case Unregister():
                self._forget([target for target in self._of(one.user) if _is_meant(one, target.where)])
            case Mute():
                return self._mute(settings, one)
            case Quiet():
                self._quiet.discard(one.user)
                if one.quiet:
                    self._quiet.add(one.user)
            case Note():
                self._note(one, now)
            case TargetGone():
                gone = one.target, one.registered
                self._forget([target for target in self._targets.values() if (target.key, target.registered) == gone])
            case _:
                old = sorted((target for target in self._targets.values() if target.registered < one.before), key=_age)
                self._forget(old[: one.limit])
        return None

    def _mute(self, settings: Settings, one: Mute) -> Refused | None:
        pair = one.user, one.peer
        if not one.muted:
            self._mutes.discard(pair)
        elif pair not in self._mutes:
            if sum(user == one.user for user, _ in self._mutes) >= settings.blocks:
                return Refused(ErrorCode.NOT_ALLOWED)
            self._mutes.add(pair)
        return None

    def _register(self, where: Register, now: int) -> None:
        secret = where.provider, where.kind, where.target
        target = self._targets.get(secret)
        if target is not None and target.where != where:
            self._forget_jobs(target)  # nobody's news any more
        if target is None:
            self._last_key += 1
            self._targets[secret] = _Target(self._last_key, where, now)
        else:
            target.where, target.registered = where, max(target.registered + 1, now)

    def _note(self, note: Note, now: int) -> None:
        job = self._jobs.get((note.target, note.peer))
        if job is None or job.id != note.id:
            return
        job.answered, job.answer = now, note.answer
        if note.outcome in ("later", "put off"):
            job.due = note.due
            job.attempts += note.outcome == "later"
            return
        if note.outcome != "dropped":
            job.notified = note.seq if note.outcome == "sent" else 0
        job.begin(now, note.due)
        if job.seq <= note.seq:
            job.due = None
        if note.outcome == "sent":
            self._clear(job.target.where.user, job.peer, now)  # it may have been read while it was on its way

    def _forget(self, targets: list[_Target]) -> None:
        for target in targets:
            del self._targets[target.where.provider, target.where.kind, target.where.target]
            self._forget_jobs(target)

    def _forget_jobs(self, target: _Target) -> None:
        self._jobs = {key: job for key, job in self._jobs.items() if job.target is not target}

    # What is read.

    async def due(self, provider: str, now: int, limit: int) -> tuple[Job, ...]:
        """The jobs that are due; see `Outbox.due`."""
        await trio.lowlevel.checkpoint()
        return tuple(self._look(job) for due, job in self._by_due(provider)[:limit] if due <= now)

    async def next(self, provider: str) -> int | None:
        """When the next job is due; see `Outbox.next`."""
        await trio.lowlevel.checkpoint()
        return next((due for due, _ in self._by_due(provider)), None)

    async def length(self) -> tuple[int, int | None]:
        """How many jobs wait; see `Outbox.length`."""
        await trio.lowlevel.checkpoint()
        waiting = [job.since for job in self._jobs.values() if job.due is not None]
        return len(waiting), min(waiting, default=None)

    async def waiting(self, user: str | None, limit: int) -> tuple[Waiting, ...]:
        """What waits; see `Outbox.waiting`."""
        await trio.lowlevel.checkpoint()
        if user is not None:
            jobs = [job for job in self._jobs.values() if job.target.where.user == user]
        else:
            providers = sorted({target.where.provider for target in self._targets.values()})
            jobs = [job for provider in providers for _, job in self._by_due(provider)]
        return tuple(
            Waiting(
                id=job.id, user=job.target.where.user, device=job.target.where.device, provider=job.target.where.provider,
                peer=job.peer, since=job.since, due=job.due, attempts=job.attempts, answered=job.answered,
                answer=job.answer,
            )
            for job in jobs[:limit]
        )  # fmt: skip

    async def targets(self, user: str) -> tuple[Registered, ...]:
        """Where the user can be reached; see `Outbox.targets`."""
        await trio.lowlevel.checkpoint()
        return tuple(
            Registered(
                device=target.where.device,
                provider=target.where.provider,
                kind=target.where.kind,
                registered=target.registered,
            )
            for target in sorted(self._of(user), key=lambda target: (target.where.device, target.key))
        )

    async def preferences(self, user: str) -> Preferences:
        """What the user wants to be told; see `Outbox.preferences`."""
        await trio.lowlevel.checkpoint()
        muted = tuple(sorted(peer for muter, peer in self._mutes if muter == user))
        return Preferences(muted=muted, quiet=user in self._quiet)

    def _of(self, user: str) -> list[_Target]:
        return [target for target in self._targets.values() if target.where.user == user]

    def _user(self, name: str) -> User:
        return self._contents.users.get(name) or User()

    def _by_due(self, provider: str) -> list[tuple[int, _Job]]:
        jobs = [job for job in self._jobs.values() if job.target.where.provider == provider]
        return sorted(((job.due, job) for job in jobs if job.due is not None), key=lambda one: one[0])

    def _look(self, job: _Job) -> Job:
        where = job.target.where
        user = self._user(where.user)
        device = user.devices.get(where.device)
        unread = list(self._unread(where.user, job.peer))
        everything = sum(1 for entry in user.entries if is_unread(user, where.user, entry))
        return Job(
            key=job.target.key, registered=job.target.registered, user=where.user, device=where.device,
            provider=where.provider, kind=where.kind, target=where.target, peer=job.peer, id=job.id, seq=job.seq,
            notified=job.notified, since=job.since, attempts=job.attempts,
            cursor=0 if device is None else device.cursor,
            silent=where.user in self._quiet or (where.user, job.peer) in self._mutes
            or (where.user, job.peer) in self._contents.blocks,
            unread=min(len(unread), UNREAD_LIMIT), badge=min(everything, UNREAD_LIMIT),
            newest=unread[-1] if unread else None,
        )  # fmt: skip

    def _unread(self, name: str, peer: str) -> Iterator[Message]:
        user = self._user(name)
        for entry in user.entries:
            if entry.sender == peer and is_unread(user, name, entry):
                now = as_it_is(entry, name)
                yield Message(
                    seq=now.seq, id=now.id, sender=now.sender, recipient=now.recipient, text=now.text, sent_at=now.sent_at
                )


def _age(target: _Target) -> int:
    return target.registered


def _is_meant(one: Unregister, where: Register) -> bool:
    asked = one.device, one.provider, one.target
    return all(
        wanted in (None, given) for wanted, given in zip(asked, (where.device, where.provider, where.target), strict=True)
    )
