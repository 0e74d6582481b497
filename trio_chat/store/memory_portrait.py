"""Everything that a `MemoryStore` holds about one user: what `portrait` means, in the plainest words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .memory_contents import Contents, Entry
from .memory_outbox import MemoryOutbox
from .portrait import VERSION

__all__ = ["portray"]


def portray(
    contents: Contents, entries: Iterable[Entry], outbox: MemoryOutbox, store: str, user: str, now: int
) -> Iterator[dict[str, object]]:
    """What there is about the user. `entries` are all there are, `store` is the store's epoch."""
    known = contents.users.get(user)
    if known is None:
        return
    yield {
        "type": "export", "version": VERSION, "user": user, "at": now, "log": f"{store}-{known.epoch}", "head": known.head,
        "floor": known.floor, "delivered": known.delivered,
    }  # fmt: skip
    for name, device in sorted(known.devices.items()):
        yield {"type": "device", "name": name, "cursor": device.cursor, "seen": device.seen, "created": device.created}
    for peer in contents.blocked(user):
        yield {"type": "block", "user": peer}
    theirs = [entry for entry in entries if user in (entry.sender, entry.recipient)]
    last = {entry.peer_of(user): entry.seq_of(user) for entry in theirs if entry.seq_of(user)}
    for pair in sorted(sorted(pair - {user} or pair) for pair in contents.talked if user in pair):
        (peer,) = pair
        yield {"type": "conversation", "peer": peer, "last": last.get(peer, 0), "read": known.read.get(peer, 0)}
    yield from outbox.portray(user)
    for entry in known.entries:
        yield _entry(entry, entry.seq_of(user))
    for entry in sorted(theirs, key=lambda entry: entry.id):
        if entry.sender == user and entry.seq <= known.floor and entry.text is not None:
            yield _entry(entry, None)
    yield {"type": "end"}


def _entry(entry: Entry, seq: int | None) -> dict[str, object]:
    about = None if entry.target is None else entry.target.id
    return {
        "type": "entry", "seq": seq, "kind": entry.kind, "id": entry.id, "from": entry.sender, "to": entry.recipient,
        "text": entry.text, "sent_at": entry.sent_at, "reply_to" if entry.kind == "message" else "target": about,
    }  # fmt: skip
