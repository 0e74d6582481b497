"""Messages on their way into the logs: numbered, de-duplicated, refused or stored (L1, L6, S2, S4, B1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..core.batch import Draft, Refused, Stored
from ..errors import ErrorCode
from ..settings import Settings
from .conversations import Conversations, Pair
from .digest import digest
from .mailbox import is_full, look_at
from .rows import look_up, write
from .users import Users

__all__ = ["NEWEST", "Drafts"]

KNOWN = """
    SELECT json_group_array(json_array(v.column1, m.digest = v.column4, m.seq, m.peer_seq, m.sent_at))
    FROM (VALUES {rows}) AS v CROSS JOIN messages AS m ON m.sender = v.column2 AND m.client_id = v.column3"""
BLOCKED = """
    SELECT json_group_array(json_array(k.blocker, k.blocked))
    FROM (VALUES {rows}) AS v CROSS JOIN blocks AS k ON k.blocker = v.column1 AND k.blocked = v.column2"""
NEWEST = "SELECT coalesce(max(id), 0) FROM messages"
INSERT_MESSAGES = """
    INSERT INTO messages (conversation, id, sender, client_id, digest, seq, peer_seq, sent_at, size, text)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""
INSERT_LOG = """
    INSERT INTO log (user, seq, message, before, before_bytes)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""


class Drafts:
    """The messages of one transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        users: Users,
        conversations: Conversations,
        settings: Settings,
        key: bytes,
        first_id: int,
        now: int,
    ) -> None:
        self.connection = connection
        self.users = users
        self.conversations = conversations
        self.settings = settings
        self.key = key
        self.first_id = first_id
        self.now = now
        self.messages: list[tuple[object, ...]] = []  # rows, but for the conversation
        self.entries: list[tuple[Pair, int, int]] = []  # what each of them means to its conversation
        self.log: list[tuple[int, int, int, int, int]] = []

    def carry_out(self, drafts: Sequence[Draft]) -> list[Stored | Refused]:
        """Decide on each in turn; `flush` writes what follows from it.

        Raises:
            UnicodeEncodeError: one holds a lone surrogate, which no store of ours can hold.
        """
        digests = [digest(self.key, draft.recipient, draft.text) for draft in drafts]
        known, blocked = self._look_up(drafts, digests)
        results: list[Stored | Refused] = []
        here: dict[tuple[str, str], tuple[bytes, Stored]] = {}
        stopped: dict[int, Refused] = {}
        for index, draft in enumerate(drafts):
            result: Stored | Refused | None = known.get(index)
            if result is None and (first := here.get((draft.sender, draft.id))) is not None:
                result = _again(first[1]) if first[0] == digests[index] else Refused(ErrorCode.ID_CONFLICT)
            if result is None:
                result = stopped.get(draft.source)
            if result is None:
                result = self._store(draft, digests[index], blocked)
                if isinstance(result, Stored):
                    here[draft.sender, draft.id] = digests[index], result
                else:
                    stopped[draft.source] = result  # so far every refusal of policy can be tried again
            results.append(result)
        return results

    def _look_up(
        self, drafts: Sequence[Draft], digests: Sequence[bytes]
    ) -> tuple[dict[int, Stored | Refused], set[tuple[int, int]]]:
        """What was answered before to those whose id is in the store, by their index; and who blocks whom."""
        sent: list[tuple[object, ...]] = []
        pairs = set()
        recipients = {}
        size = 0
        for index, draft in enumerate(drafts):
            sender = self.users.get(draft.sender)
            recipient = self.users.get(draft.recipient)
            size += 4 * len(draft.text)
            if recipient is not None:
                recipients[recipient.id] = recipient
            if sender is not None:
                sent.append((index, sender.id, draft.id, digests[index]))
                if recipient is not None:
                    pairs.add((recipient.id, sender.id))
        look_at(self.connection, recipients.values(), self.settings, messages=len(drafts), size=size)
        known: dict[int, Stored | Refused] = {
            index: Stored(seq, peer_seq, sent_at, new=False) if same else Refused(ErrorCode.ID_CONFLICT)
            for index, same, seq, peer_seq, sent_at in look_up(self.connection, KNOWN, sent)
        }
        return known, {(blocker, blocked) for blocker, blocked in look_up(self.connection, BLOCKED, list(pairs))}

    def _store(self, draft: Draft, digest: bytes, blocked: set[tuple[int, int]]) -> Stored | Refused:
        recipient = self.users.get(draft.recipient)
        if recipient is not None and draft.recipient != draft.sender and is_full(recipient, self.settings):
            return Refused(ErrorCode.MAILBOX_FULL)
        sender = self.users.get_or_create(self.connection, draft.sender)
        recipient = self.users.get_or_create(self.connection, draft.recipient)
        id = self.first_id + len(self.messages)
        sent_at = max(self.now, sender.sent_at, recipient.sent_at)
        size = len(draft.text) if draft.text.isascii() else len(draft.text.encode())

        seq = sender.head = sender.head + 1
        sender.sent_at = sent_at
        self.users.changed[sender.id] = sender
        self.log.append((sender.id, seq, id, sender.received, sender.received_bytes))
        peer_seq = 0
        if recipient is not sender and (recipient.id, sender.id) not in blocked:
            peer_seq = recipient.head = recipient.head + 1
            recipient.sent_at = sent_at
            self.users.changed[recipient.id] = recipient
            self.log.append((recipient.id, peer_seq, id, recipient.received, recipient.received_bytes))
            recipient.received += 1
            recipient.received_bytes += size
        if sender.id <= recipient.id:
            self.entries.append(((sender.id, recipient.id), seq, peer_seq))
        else:
            self.entries.append(((recipient.id, sender.id), peer_seq, seq))
        self.messages.append((id, sender.id, draft.id, digest, seq, peer_seq, sent_at, size, draft.text))
        return Stored(seq, peer_seq, sent_at)

    def flush(self) -> None:
        """Write conversations, messages and log rows. The users must have been written before."""
        conversations = self.conversations.flush(self.connection, self.entries)
        rows = [(conversation, *message) for conversation, message in zip(conversations, self.messages, strict=True)]
        write(self.connection, INSERT_MESSAGES, rows)
        write(self.connection, INSERT_LOG, self.log)


def _again(first: Stored) -> Stored:
    return Stored(first.seq, first.peer_seq, first.sent_at, new=False)
