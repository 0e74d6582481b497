"""What keeps a `MemoryStore` in order: what each of it means, in the plainest words, for other stores to compare with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager

import msgspec
import trio
from msgspec.structs import replace

from ..core.batch import Stored
from ..keeping import WEIGHT, Advance, DeviceDelivery, Erased, Explanation, Retained, Retention, account
from .explaining import JOBS, push_states
from .memory_contents import Contents, Entry, User
from .memory_outbox import MemoryOutbox
from .memory_portrait import portray

__all__ = ["MemoryKeeping"]


class MemoryKeeping:
    """`Keeping`, at once."""

    def __init__(
        self,
        contents: Contents,
        sent: dict[tuple[str, str], tuple[bytes, Entry, Stored]],
        outbox: MemoryOutbox,
        epoch: str,
    ) -> None:
        self._contents = contents
        self._sent = sent
        self._outbox = outbox
        self._epoch = epoch

    async def retain(self, retention: Retention, now: int, advance: Advance) -> Retained:
        """Remove what has to go; see `Keeping.retain`. Cancelling leaves it undone."""
        await trio.lowlevel.checkpoint()
        gone = self._too_much(retention.max_bytes)
        users = entries = 0
        for user in self._contents.users.values():
            count = _count(user, retention, now, gone) if retention else 0
            users += bool(count)
            entries += count
            user.drop(count)
        advance(entries, entries)
        return Retained(users=users, entries=entries, messages=self._remove())

    async def erase(self, user: str, advance: Advance) -> Erased:
        """Erase a user; see `Keeping.erase`. Cancelling leaves it undone."""
        await trio.lowlevel.checkpoint()
        known = self._contents.users.get(user)
        if known is None:
            return account(user, None, {}, {})
        blocks = {pair for pair in self._contents.blocks if pair[0] == user}
        removed = {"devices": len(known.devices), "blocks": len(blocks), "log": len(known.entries), "texts": 0}
        removed |= self._outbox.erase(user)
        known.devices.clear()
        self._contents.blocks -= blocks
        for _, peer in blocks:
            self._contents.part(user, peer)
        known.drop(len(known.entries))
        known.epoch += 1
        for key, (_, entry, stored) in self._sent.items():
            if entry.sender == user:
                removed["texts"] += entry.text is not None
                entry.text = None
                self._sent[key] = b"", entry, replace(stored, text=None)
        removed["messages"] = self._remove()
        advance(removed["log"], removed["log"])
        kept = {
            "messages": sum(user in (entry.sender, entry.recipient) for _, entry, _ in self._sent.values()),
            "conversations": sum(user in pair for pair in self._contents.talked),
            "users": 1,
        }
        return account(user, f"{self._epoch}-{known.epoch}", removed, kept)

    @asynccontextmanager
    async def export(self, user: str, now: int) -> AsyncIterator[AsyncIterator[str]]:
        """All there is about the user; see `Keeping.export`."""
        await trio.lowlevel.checkpoint()
        entries = [entry for _, entry, _ in self._sent.values()]
        told = [*portray(self._contents, entries, self._outbox, self._epoch, user, now)]
        async with aclosing(_lines(told)) as lines:
            yield lines

    async def explain(self, sender: str, id: str) -> Explanation | None:
        """What became of a message; see `Keeping.explain`."""
        if (sender, id) not in self._sent:
            await trio.lowlevel.checkpoint()
            return None
        _, entry, _ = self._sent[sender, id]
        owner, other = self._contents.users[sender], self._contents.users[entry.recipient]
        read = other.read.get(sender, 0)
        devices = [*_devices(sender, owner, entry.seq), *(_devices(entry.recipient, other, entry.peer_seq))]
        return Explanation(
            sender=sender,
            id=id,
            recipient=entry.recipient,
            kind=entry.kind,
            target=None if entry.target is None else entry.target.id,
            sent_at=entry.sent_at,
            size=entry.size,
            deleted=entry.text is None,
            edits=tuple(edit.id for edit in entry.edits if (sender, edit.id) in self._sent),
            seq=entry.seq,
            held=entry.seq > owner.floor,
            peer_seq=entry.peer_seq,
            peer_held=entry.peer_seq > other.floor,
            delivered=0 < entry.peer_seq <= max(other.delivered, read),
            read=0 < entry.peer_seq <= read,
            devices=tuple(devices),
            push=push_states(await self._outbox.waiting(entry.recipient, JOBS), sender),
        )

    def _too_much(self, max_bytes: int | None) -> set[Entry]:
        """The oldest messages, so that the others weigh no more than this."""
        entries = [entry for _, entry, _ in self._sent.values()]
        weight = 0
        for index in reversed(range(len(entries))):
            weight += entries[index].size + WEIGHT
            if max_bytes is not None and weight > max_bytes:
                return {*entries[: index + 1]}
        return set()

    def _remove(self) -> int:
        """Remove what is in no log any more, but for what something is about that stays: that loses its text."""
        held = {entry for user in self._contents.users.values() for entry in user.entries}
        free = {key: entry for key, (_, entry, _) in self._sent.items() if entry not in held}
        for entry in free.values():
            entry.target = None
        about = {entry.target for _, entry, _ in self._sent.values()}
        for key, entry in free.items():
            entry.text = None
            if entry not in about:
                del self._sent[key]
        return sum(key not in self._sent for key in free)


async def _lines(told: Iterable[object]) -> AsyncGenerator[str, None]:  # noqa: ASYNC900  (closed in `export`)
    for one in told:
        await trio.lowlevel.checkpoint()
        yield msgspec.json.encode(one).decode()


def _devices(name: str, user: User, seq: int) -> Iterator[DeviceDelivery]:
    """How the user's devices stand to the entry `seq`; none if it is not in the log."""
    for device in sorted(user.devices) if seq else ():
        one = user.devices[device]
        yield DeviceDelivery(user=name, device=device, delivered=one.cursor >= seq, cursor=one.cursor, seen=one.seen)


def _count(user: User, retention: Retention, now: int, gone: set[Entry]) -> int:
    """How many entries leave the beginning of a user's log."""
    since = retention.since(now)
    wanted = max(
        0 if since is None else _leading(user.entries, lambda entry: entry.sent_at < since),
        0 if retention.per_user is None else len(user.entries) - retention.per_user,
        _leading(user.entries, lambda entry: entry in gone),
    )
    old = _leading(user.entries, lambda entry: entry.sent_at < retention.undelivered_since(now))
    return max(0, min(wanted, max(user.delivered - user.floor, old)))


def _leading(entries: Iterable[Entry], condition: Callable[[Entry], bool]) -> int:
    count = 0
    for entry in entries:
        if not condition(entry):
            break
        count += 1
    return count
