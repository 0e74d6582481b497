"""Messages on their way into the logs: numbered, de-duplicated, refused or stored (L1, L6, S2, S4, B1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..core.batch import Draft, Refused, Stored
from ..errors import ErrorCode
from ..settings import Settings
from .digest import digest
from .mailbox import is_full, look_at
from .rows import look_up, write
from .users import Lru, User, Users

__all__ = ["Drafts", "Pairs"]

KNOWN = """
    SELECT json_group_array(json_array(v.column1, m.digest = v.column4, m.seq, m.peer_seq, m.sent_at))
    FROM (VALUES {rows}) AS v CROSS JOIN messages AS m ON m.sender = v.column2 AND m.client_id = v.column3"""
BLOCKED = """
    SELECT json_group_array(json_array(k.blocker, k.blocked))
    FROM (VALUES {rows}) AS v CROSS JOIN blocks AS k ON k.blocker = v.column1 AND k.blocked = v.column2"""
PAIRS = """
    SELECT json_group_array(json_array(c.a, c.b, c.id))
    FROM (VALUES {rows}) AS v CROSS JOIN conversations AS c ON c.a = v.column1 AND c.b = v.column2"""
NEWEST_PAIR = "SELECT coalesce(max(id), 0) FROM conversations"
NEWEST_MESSAGE = "SELECT coalesce(max(id), 0) FROM messages"
INSERT_PAIRS = "INSERT INTO conversations (id, a, b, last_a, last_b) VALUES {rows}"
UPDATE_PAIRS = """
    UPDATE conversations SET last_a = max(last_a, v.column2), last_b = max(last_b, v.column3)
    FROM (VALUES {rows}) AS v WHERE conversations.id = v.column1"""
INSERT_MESSAGES = """
    INSERT INTO messages (id, conversation, sender, client_id, digest, seq, peer_seq, sent_at, size, text) VALUES {rows}"""
INSERT_LOG = "INSERT INTO log (user, seq, message, before, before_bytes) VALUES {rows}"

Pairs = Lru[tuple[int, int], int]
"""The conversations a writer remembers, by the two users' ids, the lower one first."""


class Drafts:
    """The messages of one transaction."""

    def __init__(
        self, connection: sqlite3.Connection, users: Users, pairs: Pairs, settings: Settings, key: bytes, now: int
    ) -> None:
        self.connection = connection
        self.users = users
        self.pairs = pairs
        self.settings = settings
        self.key = key
        self.now = now
        self.stored: list[tuple[User, User, Draft, bytes, Stored, int]] = []
        self.log: list[tuple[int, int, int, int, int]] = []

    def carry_out(self, drafts: Sequence[Draft]) -> list[Stored | Refused]:
        """Decide on each in turn; `flush` writes what follows from it.

        Raises:
            UnicodeEncodeError: one holds a lone surrogate, which no store of ours can hold.
        """
        digests = [digest(self.key, draft.recipient, draft.text) for draft in drafts]
        known = self._known(drafts, digests)
        blocked = self._blocked(drafts)
        recipients = {user for draft in drafts if (user := self.users.get(draft.recipient)) is not None}
        size = sum(4 * len(draft.text) for draft in drafts)
        look_at(self.connection, recipients, self.settings, messages=len(drafts), size=size)
        (newest,) = self.connection.execute(NEWEST_MESSAGE).fetchone()

        results: list[Stored | Refused] = []
        here: dict[tuple[str, str], tuple[bytes, Stored]] = {}
        stopped: dict[int, Refused] = {}
        for index, draft in enumerate(drafts):
            result: Stored | Refused | None = stopped.get(draft.source)
            if result is None:
                result = known.get(index)
            if result is None and (first := here.get((draft.sender, draft.id))) is not None:
                result = _again(first[1]) if first[0] == digests[index] else Refused(ErrorCode.ID_CONFLICT)
            if result is None:
                result = self._store(draft, digests[index], newest + len(self.stored) + 1, blocked)
                if isinstance(result, Stored):
                    here[draft.sender, draft.id] = digests[index], result
                else:
                    stopped[draft.source] = result  # so far every refusal of policy can be tried again
            results.append(result)
        self.first_id = newest + 1
        return results

    def _known(self, drafts: Sequence[Draft], digests: Sequence[bytes]) -> dict[int, Stored | Refused]:
        """What was answered before to those whose id is in the store, by their index."""
        rows = [
            (index, sender.id, draft.id, digests[index])
            for index, draft in enumerate(drafts)
            if (sender := self.users.get(draft.sender)) is not None
        ]
        return {
            index: Stored(seq, peer_seq, sent_at, new=False) if same else Refused(ErrorCode.ID_CONFLICT)
            for index, same, seq, peer_seq, sent_at in look_up(self.connection, KNOWN, rows)
        }

    def _blocked(self, drafts: Sequence[Draft]) -> set[tuple[int, int]]:
        """Who of them blocks whom."""
        pairs = {
            (recipient.id, sender.id)
            for draft in drafts
            if (recipient := self.users.get(draft.recipient)) is not None
            and (sender := self.users.get(draft.sender)) is not None
        }
        return {(blocker, blocked) for blocker, blocked in look_up(self.connection, BLOCKED, list(pairs))}

    def _store(self, draft: Draft, digest: bytes, id: int, blocked: set[tuple[int, int]]) -> Stored | Refused:
        recipient = self.users.get(draft.recipient)
        if recipient is not None and draft.recipient != draft.sender and is_full(recipient, self.settings):
            return Refused(ErrorCode.MAILBOX_FULL)
        sender = self.users.get_or_create(self.connection, draft.sender)
        recipient = self.users.get_or_create(self.connection, draft.recipient)
        sent_at = max(self.now, sender.sent_at, recipient.sent_at)
        size = len(draft.text) if draft.text.isascii() else len(draft.text.encode())

        sender.head += 1
        sender.sent_at = sent_at
        self.users.changed[sender.id] = sender
        self.log.append((sender.id, sender.head, id, sender.received, sender.received_bytes))
        peer_seq = 0
        if recipient is not sender and (recipient.id, sender.id) not in blocked:
            peer_seq = recipient.head = recipient.head + 1
            recipient.sent_at = sent_at
            self.users.changed[recipient.id] = recipient
            self.log.append((recipient.id, peer_seq, id, recipient.received, recipient.received_bytes))
            recipient.received += 1
            recipient.received_bytes += size
        stored = Stored(sender.head, peer_seq, sent_at)
        self.stored.append((sender, recipient, draft, digest, stored, size))
        return stored

    def flush(self) -> None:
        """Write conversations, messages and log rows. The users must have been written before."""
        conversations = self._flush_conversations()
        write(
            self.connection,
            INSERT_MESSAGES,
            [
                (
                    id, conversation, sender.id, draft.id, digest, stored.seq, stored.peer_seq, stored.sent_at, size,
                    draft.text,
                )
                for id, (conversation, (sender, _, draft, digest, stored, size)) in enumerate(
                    zip(conversations, self.stored, strict=True), self.first_id
                )
            ],
        )  # fmt: skip
        write(self.connection, INSERT_LOG, self.log)

    def _flush_conversations(self) -> list[int]:
        """The conversation of each stored message; new ones are made."""
        last: dict[tuple[int, int], list[int]] = {}
        keys = []
        for sender, recipient, _, _, stored, _ in self.stored:
            if sender.id <= recipient.id:
                key, a, b = (sender.id, recipient.id), stored.seq, stored.peer_seq
            else:
                key, a, b = (recipient.id, sender.id), stored.peer_seq, stored.seq
            keys.append(key)
            newest = last.setdefault(key, [0, 0])
            newest[0] = a or newest[0]
            newest[1] = b or newest[1]
        kept = self.pairs.kept
        missing = [key for key in last if self.pairs.get(key) is None]
        for a, b, id in look_up(self.connection, PAIRS, missing):
            kept[a, b] = id
        new = [key for key in missing if key not in kept]
        old = [key for key in last if key in kept]
        if new:
            (newest_id,) = self.connection.execute(NEWEST_PAIR).fetchone()
            kept.update(zip(new, range(newest_id + 1, newest_id + 1 + len(new)), strict=True))
        write(self.connection, INSERT_PAIRS, [(kept[key], *key, *last[key]) for key in new])
        write(self.connection, UPDATE_PAIRS, [(kept[key], *last[key]) for key in old])
        return [kept[key] for key in keys]


def _again(first: Stored) -> Stored:
    return Stored(first.seq, first.peer_seq, first.sent_at, new=False)
