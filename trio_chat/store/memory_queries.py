"""What a `MemoryStore` answers to queries: what each means in the plainest words, for other stores to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ..model import Message
from ..retrieval import (
    UNREAD_LIMIT,
    Conversation,
    ConversationsPage,
    ConversationsQuery,
    Device,
    HistoryPage,
    HistoryQuery,
    SearchHit,
    SearchPage,
    SearchQuery,
    Standing,
)
from .around import around
from .memory_contents import Contents, Entry, User
from .pages import OVERHEAD
from .scope import require_few
from .snippets import shorten
from .words import words

__all__ = ["conversations", "devices", "history", "search", "standing"]

T = TypeVar("T")
NOBODY = User()


def history(contents: Contents, name: str, query: HistoryQuery, size: int) -> HistoryPage:
    """Chosen messages, as they are now."""
    require_few(query, sum(name in pair for pair in contents.talked))
    user = contents.users.get(name, NOBODY)
    chosen = [entry for entry in user.entries if entry.kind == "message" and _is_chosen(user, name, entry, query)]
    found = [as_it_is(entry, name) for entry in chosen]
    if query.around is None:
        return _history_page(found if query.ascending else found[::-1], query.limit, size)
    before = [message for message in reversed(found) if message.seq < query.around]
    older = _history_page(before, query.limit, size // 2).messages
    middle = [message for message in found if message.seq == query.around]
    newer = _history_page([message for message in found if message.seq > query.around], query.limit, size // 2)
    return around(query.around, older, middle, newer, size // 2)


def _history_page(found: Sequence[Message], limit: int, size: int) -> HistoryPage:
    page = _cut(found, limit, size, [len((message.text or "").encode()) for message in found])
    more = len(page) < len(found)
    return HistoryPage(messages=tuple(page), more=more, next=page[-1].seq if more else None)


def _is_chosen(user: User, name: str, entry: Entry, query: HistoryQuery) -> bool:
    seq = entry.seq_of(name)
    return (
        (query.peer is None or entry.peer_of(name) == query.peer)
        and (query.before is None or seq < query.before)
        and (query.after is None or seq > query.after)
        and (query.since is None or entry.sent_at >= query.since)
        and (query.until is None or entry.sent_at < query.until)
        and (query.ids is None or entry.id in query.ids)
        and (not query.unread or is_unread(user, name, entry))
        and (query.direction is None or (query.direction == "out") == (entry.sender == name))
    )


def is_unread(user: User, name: str, entry: Entry) -> bool:
    """R4."""
    return (
        entry.kind == "message"
        and entry.sender != name
        and entry.text is not None
        and entry.seq_of(name) > user.read.get(entry.sender, 0)
    )


def _newest_edit(message: Entry, user: str) -> Entry | None:
    """The newest edit of it that is in the user's own log (L5)."""
    edits = [edit for edit in message.edits if edit.seq_of(user)]
    return edits[-1] if edits and message.text is not None else None


def as_it_is(message: Entry, user: str) -> Message:
    """A message as the user sees it now."""
    edit = _newest_edit(message, user)
    return Message(
        seq=message.seq_of(user),
        id=message.id,
        sender=message.sender,
        recipient=message.recipient,
        text=message.text if edit is None else edit.text,
        sent_at=message.sent_at,
        reply_to=None if message.target is None else message.target.id,
        edit_seq=None if edit is None else edit.seq_of(user),
        edited_at=None if edit is None else edit.sent_at,
        deleted=message.text is None,
    )


def search(contents: Contents, name: str, query: SearchQuery, size: int) -> SearchPage:
    """Messages found by their words, the one whose current text is the newest first."""
    *whole, last = [word for word, _, _ in words(query.query)] or [""]
    found: list[tuple[int, SearchHit]] = []
    for entry in contents.users.get(name, NOBODY).entries:
        if entry.kind != "message" or (query.peer is not None and entry.peer_of(name) != query.peer):
            continue
        message = as_it_is(entry, name)
        seq = message.edit_seq or message.seq
        there = words(message.text or "")
        said = [word for word, _, _ in there]
        has_all = last and {*whole} <= {*said} and any(word.startswith(last) for word in said)
        if has_all and (query.before is None or seq < query.before):
            parts = [(start, end) for word, start, end in there if word in whole or word.startswith(last)]
            found.append((seq, SearchHit(message=message, snippet=shorten(_pieces(message.text or "", parts)))))
    found.sort(key=lambda pair: pair[0], reverse=True)
    page = _cut(found, query.limit, size, [len((hit.message.text or "").encode()) for _, hit in found])
    more = len(page) < len(found)
    return SearchPage(hits=tuple(hit for _, hit in page), more=more, next=page[-1][0] if more else None)


def _pieces(text: str, parts: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The text, taken apart so that every second piece, from the second, is one of the parts."""
    pieces = []
    done = 0
    for start, end in parts:
        pieces += [text[done:start], text[start:end]]
        done = end
    return (*pieces, text[done:])


def conversations(contents: Contents, name: str, query: ConversationsQuery, size: int) -> ConversationsPage:
    """The user's conversations, the one with the latest entry first."""
    user = contents.users.get(name, NOBODY)
    latest = {entry.peer_of(name): entry.seq_of(name) for entry in user.entries}  # the last one stays
    found = sorted(
        ((seq, peer) for peer, seq in latest.items() if query.before is None or seq < query.before), reverse=True
    )  # fmt: skip
    all_of_them = [(seq, _conversation(contents, name, peer)) for seq, peer in found]
    texts = [one.last.text if one.last is not None else None for _, one in all_of_them]
    page = _cut(all_of_them, query.limit, size, [len((text or "").encode()) for text in texts])
    more = len(page) < len(all_of_them)
    return ConversationsPage(
        conversations=tuple(one for _, one in page), more=more, next=page[-1][0] if more else None
    )  # fmt: skip


def _conversation(contents: Contents, name: str, peer: str) -> Conversation:
    user = contents.users[name]
    entries = [entry for entry in user.entries if entry.peer_of(name) == peer]
    messages = [entry for entry in entries if entry.kind == "message"]
    own_read = user.read.get(peer, 0)
    peers_delivered, peers_read = contents.marks(peer, name)
    own = [entry for entry in entries if entry.sender == name != peer]
    theirs = [entry for entry in entries if entry.sender == peer != name]
    return Conversation(
        peer=peer,
        last=as_it_is(messages[-1], name) if messages else None,
        unread=min(sum(is_unread(user, name, entry) for entry in entries), UNREAD_LIMIT),
        delivered=_newest(entry.seq for entry in own if 0 < entry.peer_seq <= max(peers_delivered, peers_read)),
        read=_newest(entry.seq for entry in own if 0 < entry.peer_seq <= peers_read),
        own_delivered=_newest(entry.peer_seq for entry in theirs if entry.peer_seq <= max(user.delivered, own_read)),
        own_read=_newest(entry.peer_seq for entry in theirs if entry.peer_seq <= own_read),
    )


def _newest(seqs: Iterator[int]) -> int:
    return max(seqs, default=0)


def devices(contents: Contents, name: str) -> tuple[Device, ...]:
    """The devices that are remembered, by name."""
    known = contents.users.get(name, NOBODY).devices
    return tuple(
        Device(name=name, cursor=known[name].cursor, seen=known[name].seen, created=known[name].created)
        for name in sorted(known)
    )  # fmt: skip


def standing(contents: Contents, viewer: str, name: str) -> Standing:
    """What the viewer may know of a user's presence."""
    shared = [
        entry.sender
        for entry in contents.users.get(viewer, NOBODY).entries
        if entry.peer_of(viewer) == name != viewer and entry.peer_seq > 0
    ]
    seen = [device.seen for device in contents.users.get(name, NOBODY).devices.values()]
    parted = contents.apart(viewer, name)
    return Standing(
        user=name,
        acquainted={*shared} == {viewer, name} and not parted,
        last_seen=max(seen, default=None),
        parted=parted,
    )


def _cut(found: Sequence[T], limit: int, size: int, texts: Sequence[int]) -> list[T]:
    """So many of them, of about `size` bytes, but at least one."""
    page: list[T] = []
    for one, text in zip(found[:limit], texts, strict=False):
        size -= text + OVERHEAD
        if page and size < 0:
            break
        page.append(one)
    return page
