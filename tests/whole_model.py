"""What a chat is, in the fewest words: logs, marks, blocks and who is there. For the state machine to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from trio_chat.errors import ErrorCode
from trio_chat.model import Kind, Message
from trio_chat.retrieval import Conversation, HistoryQuery

PRESENCE_DELAY = 3.0


@dataclass(eq=False)
class Entry:
    id: str
    sender: str
    recipient: str
    text: str | None
    kind: Kind
    target: Entry | None
    sent_at: int = 0
    places: dict[str, int] = field(default_factory=dict)
    edits: list[Entry] = field(default_factory=list)

    def peer(self, user: str) -> str:
        return self.recipient if user == self.sender else self.sender

    def as_stored(self, user: str) -> Message:
        about = None if self.target is None else self.target.id
        return Message(
            seq=self.places[user], id=self.id, sender=self.sender, recipient=self.recipient, text=self.text,
            sent_at=self.sent_at, kind=self.kind,
            reply_to=about if self.kind == "message" else None, target=about if self.kind != "message" else None,
        )  # fmt: skip

    def as_it_is(self, user: str) -> Message:
        edits = [edit for edit in self.edits if user in edit.places and self.text is not None]
        edit = edits[-1] if edits else None
        return Message(
            seq=self.places[user], id=self.id, sender=self.sender, recipient=self.recipient,
            text=edit.text if edit else self.text, sent_at=self.sent_at,
            reply_to=None if self.target is None else self.target.id,
            edit_seq=edit.places[user] if edit else None, edited_at=edit.sent_at if edit else None,
            deleted=self.text is None,
        )  # fmt: skip


@dataclass(eq=False)
class Here:
    """A connection: where it began, what it holds, and what it was told of others."""

    user: str
    device: str
    start: int
    acked: int
    receipts: dict[str, tuple[int, int]] = field(default_factory=dict)
    elsewhere: dict[str, int] = field(default_factory=dict)
    watched: dict[str, bool] = field(default_factory=dict)
    parting: dict[str, float] = field(default_factory=dict)
    """Whom a block has parted from it while it saw them there, and when it is told that they are away."""


class Model:
    def __init__(self) -> None:
        self.now = 0.0
        self.logs: dict[str, list[Entry]] = {}
        self.sent: dict[tuple[str, str], Entry] = {}
        self.cursors: dict[tuple[str, str], int] = {}
        self.delivered: dict[str, int] = {}
        self.read: dict[tuple[str, str], int] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.parted: dict[frozenset[str], dict[str, tuple[int, int]]] = {}
        """How far either had got, delivered and read, when the first of them blocked the other."""
        self.here: dict[tuple[str, str], Here] = {}
        self.leaving: dict[str, float] = {}

    def log(self, user: str) -> list[Entry]:
        return self.logs.setdefault(user, [])

    def head(self, user: str) -> int:
        return len(self.log(user))

    def present(self, user: str) -> list[Here]:
        return [here for here in self.here.values() if here.user == user]

    def apart(self, one: str, other: str) -> bool:
        return (one, other) in self.blocks or (other, one) in self.blocks

    # What is sent.

    def draft(
        self, sender: str, to: str, id: str, text: str | None, kind: Kind = "message", target: str | None = None
    ) -> Entry | ErrorCode:
        """The entry that this is, the one it was before, or why it is refused."""
        known = self.sent.get((sender, id))
        if known is not None:
            about = self.said_target[sender, id]
            same = (known.recipient, known.kind, self.said[sender, id], about) == (to, kind, text, target)
            return known if same else ErrorCode.ID_CONFLICT
        about_entry = None
        if target is not None:
            about_entry = self._target(sender, to, kind, target)
            if about_entry is None:
                return ErrorCode.BAD_QUERY
        entry = Entry(id, sender, to, text, kind, about_entry)
        self.sent[sender, id] = entry
        self.said[sender, id], self.said_target[sender, id] = text, target
        self._enter(sender, entry)
        reaches = kind == "message" or (about_entry is not None and to in about_entry.places)
        if to != sender and reaches and (to, sender) not in self.blocks:
            self._enter(to, entry)
        if about_entry is not None and kind == "edit":
            about_entry.edits.append(entry)
        elif about_entry is not None and kind == "delete":
            about_entry.text = None
            for edit in about_entry.edits:
                edit.text = None
        return entry

    @property
    def said(self) -> dict[tuple[str, str], str | None]:
        """The text that each was sent with."""
        return self.__dict__.setdefault("_said", {})  # type: ignore[no-any-return]

    @property
    def said_target(self) -> dict[tuple[str, str], str | None]:
        return self.__dict__.setdefault("_said_target", {})  # type: ignore[no-any-return]

    def _target(self, sender: str, to: str, kind: Kind, target: str) -> Entry | None:
        for author in (to, sender) if kind == "message" else (sender,):
            entry = self.sent.get((author, target))
            if (
                entry is not None
                and entry.kind == "message"
                and {entry.sender, entry.recipient} == {sender, to}
                and sender in entry.places
                and (kind == "message" or entry.text is not None)
            ):
                return entry
        return None

    def _enter(self, user: str, entry: Entry) -> None:
        self.log(user).append(entry)
        entry.places[user] = self.head(user)

    # What is acknowledged and read.

    def connect(self, user: str, device: str, after: int | None) -> Here:
        """A device connects, perhaps with a position of its own."""
        new = (user, device) not in self.cursors
        cursor = self.cursors.setdefault((user, device), self.delivered.get(user, 0) if new else 0)
        start = cursor if after is None else after
        here = Here(user, device, start, start)
        self._reach(user, device, start)  # before it is there: it is not told what follows from its own coming
        self.here[user, device] = here
        self.leaving.pop(user, None)
        for watcher in self.here.values():
            if watcher.watched.get(user) is False:
                watcher.watched[user] = True
        return here

    def disconnect(self, user: str, device: str) -> None:
        del self.here[user, device]
        if not self.present(user) and any(here.watched.get(user) for here in self.here.values()):
            self.leaving[user] = self.now + PRESENCE_DELAY

    def ack(self, here: Here, seq: int) -> None:
        here.acked = max(here.acked, seq)
        self._reach(here.user, here.device, seq)

    def _reach(self, user: str, device: str, seq: int) -> None:
        self.cursors[user, device] = max(self.cursors[user, device], seq)
        before = self.delivered.get(user, 0)
        self.delivered[user] = max(before, seq)
        news = {entry.sender: entry for entry in self.log(user)[before:seq] if entry.sender != user}
        for sender, entry in news.items():
            self._tell(sender, user, entry.places[sender], 0)

    def mark_read(self, user: str, peer: str, seq: int, by: Here | None) -> None:
        before = self.read.get((user, peer), 0)
        if seq <= before or peer == user or all(entry.peer(user) != peer for entry in self.log(user)):
            return
        self.read[user, peer] = seq
        news = [entry for entry in self.log(user)[before:seq] if entry.sender == peer]
        if news:
            self._tell(peer, user, news[-1].places[peer], news[-1].places[peer])
        for here in self.present(user):
            if here is not by:
                here.elsewhere[peer] = max(here.elsewhere.get(peer, 0), seq)

    def _tell(self, user: str, peer: str, delivered: int, read: int) -> None:
        if self.apart(user, peer):
            return
        for here in self.present(user):
            old = here.receipts.get(peer, (0, 0))
            here.receipts[peer] = max(old[0], delivered), max(old[1], read)

    # Who knows of whom.

    def block(self, user: str, peer: str) -> None:
        if not self.apart(user, peer):
            marks = {
                one: (self.delivered.get(one, 0), self.read.get((one, other), 0))
                for one, other in ((user, peer), (peer, user))
            }
            self.parted[frozenset((user, peer))] = marks
        self.blocks.add((user, peer))
        for viewer, name in ((user, peer), (peer, user)):
            for here in self.present(viewer):
                if here.watched.pop(name, False):
                    here.parting[name] = self.now + PRESENCE_DELAY

    def acquainted(self, one: str, other: str) -> bool:
        senders = {entry.sender for entry in self.log(one) if {one, other} == {*entry.places}}
        return one != other and senders == {one, other} and not self.apart(one, other)

    def watch(self, here: Here, names: tuple[str, ...]) -> dict[str, bool]:
        """What it is told of each."""
        here.parting.clear()
        here.watched = {name: bool(self.present(name)) for name in names if self.acquainted(here.user, name)}
        return {name: here.watched.get(name, False) for name in names}

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for name in [name for name, until in self.leaving.items() if until <= self.now]:
            del self.leaving[name]
            for here in self.here.values():
                if name in here.watched:
                    here.watched[name] = False

    # What is asked.

    def unread(self, user: str, entry: Entry) -> bool:
        return (
            entry.kind == "message"
            and entry.sender != user
            and entry.text is not None
            and entry.places[user] > self.read.get((user, entry.sender), 0)
        )

    def history(self, user: str, query: HistoryQuery) -> tuple[list[Message], bool]:
        """The page, and whether there is more."""
        found = [
            entry.as_it_is(user)
            for entry in self.log(user)
            if entry.kind == "message"
            and (query.peer is None or entry.peer(user) == query.peer)
            and (query.before is None or entry.places[user] < query.before)
            and (query.after is None or entry.places[user] > query.after)
            and (query.ids is None or entry.id in query.ids)
            and (query.since is None or entry.sent_at >= query.since)
            and (query.until is None or entry.sent_at < query.until)
            and (not query.unread or self.unread(user, entry))
            and (query.direction is None or (entry.sender == user) == (query.direction == "out"))
        ]
        if query.around is not None:
            older = [one for one in found if one.seq < query.around][-query.limit :]
            newer = [one for one in found if one.seq > query.around]
            middle = [one for one in found if one.seq == query.around]
            return [*older, *middle, *newer[: query.limit]], len(newer) > query.limit
        if not query.ascending:
            found.reverse()
        return found[: query.limit], len(found) > query.limit

    def search(self, user: str, words: list[str], peer: str | None) -> list[Message]:
        found = []
        for entry in self.log(user):
            if entry.kind == "message" and (peer is None or entry.peer(user) == peer):
                message = entry.as_it_is(user)
                said = (message.text or "").split()
                if {*words[:-1]} <= {*said} and any(word.startswith(words[-1]) for word in said):
                    found.append(message)
        return sorted(found, key=lambda message: message.edit_seq or message.seq, reverse=True)

    def conversations(self, user: str) -> list[Conversation]:
        latest = {entry.peer(user): entry.places[user] for entry in self.log(user)}
        return [self._conversation(user, peer) for peer in sorted(latest, key=lambda peer: -latest[peer])]

    def _conversation(self, user: str, peer: str) -> Conversation:
        entries = [entry for entry in self.log(user) if entry.peer(user) == peer]
        messages = [entry for entry in entries if entry.kind == "message"]
        read, own_read = self.read.get((peer, user), 0), self.read.get((user, peer), 0)
        there = self.delivered.get(peer, 0)
        if self.apart(user, peer):  # nothing that the peer does since then is to be seen
            there, read = self.parted[frozenset((user, peer))][peer]
        there = max(there, read)
        here = max(self.delivered.get(user, 0), own_read)

        def furthest(author: str, reader: str, upto: int) -> int:
            found: Iterator[int] = (
                entry.places[user] for entry in entries
                if entry.sender == author != reader and entry.places.get(reader, upto + 1) <= upto
            )  # fmt: skip
            return max(found, default=0)

        return Conversation(
            peer=peer,
            last=messages[-1].as_it_is(user) if messages else None,
            unread=sum(self.unread(user, entry) for entry in entries),
            delivered=furthest(user, peer, there),
            read=furthest(user, peer, read),
            own_delivered=furthest(peer, user, here),
            own_read=furthest(peer, user, own_read),
        )
