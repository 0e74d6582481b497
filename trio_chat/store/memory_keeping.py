"""What keeps a `MemoryStore` in order: what each of it means, in the plainest words, for other stores to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from ..core.batch import Stored
from ..keeping import WEIGHT, Advance, Retained, Retention
from .memory_contents import Contents, Entry, User

__all__ = ["MemoryKeeping"]


class MemoryKeeping:
    """`Keeping`, at once."""

    def __init__(self, contents: Contents, sent: dict[tuple[str, str], tuple[bytes, Entry, Stored]]) -> None:
        self._contents = contents
        self._sent = sent

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
