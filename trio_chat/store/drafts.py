"""Messages on their way into the logs: numbered, de-duplicated, refused or stored (L1, L6, S2, S4, B1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from msgspec.structs import replace

from ..core.batch import Draft, Refused, Stored
from ..errors import ErrorCode
from ..settings import Settings
from . import search_index
from .blocks import those_blocked
from .conversations import Conversations, Pair
from .digest import digest
from .edits import KINDS, Target, Targets, delete_texts
from .mailbox import is_full, look_at
from .rows import look_up, write
from .users import Users

__all__ = ["NEWEST", "Drafts"]

KNOWN = """
    SELECT json_group_array(json_array(v.column1, m.digest = v.column4, m.seq, m.peer_seq, m.sent_at))
    FROM (VALUES {rows}) AS v CROSS JOIN messages AS m ON m.sender = v.column2 AND m.client_id = v.column3"""
# The texts of those that were sent again; a row may have more values than this needs.
TEXTS = """
    SELECT json_group_array(json_array(v.column1, m.text))
    FROM (VALUES {rows}) AS v CROSS JOIN messages AS m ON m.sender = v.column2 AND m.client_id = v.column3"""
NEWEST = "SELECT coalesce(max(id), 0) FROM messages"
INSERT_MESSAGES = """
    INSERT INTO messages (conversation, id, sender, client_id, digest, seq, peer_seq, sent_at, size, kind, target, text)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""
INSERT_LOG = """
    INSERT INTO log (user, seq, message, before, before_bytes)
    SELECT * FROM (VALUES {rows}) WHERE column1 NOTNULL"""


Row: TypeAlias = tuple[int, int, str, bytes, int, int, int, int, int, int | None, str | None]
"""A message, as it goes into the table, but for the conversation."""


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
        self.targets: Targets | None = None  # None while no draft is about another message
        self.messages: list[Row] = []
        self.entries: list[tuple[Pair, int, int]] = []  # what each of them means to its conversation
        self.log: list[tuple[int, int, int, int, int]] = []
        self.announced: dict[tuple[int, int], int] = {}  # by recipient and sender, where there is whom to tell: the newest

    def carry_out(self, drafts: Sequence[Draft]) -> list[Stored | Refused]:
        """Decide on each in turn; `flush` writes what follows from it.

        Raises:
            UnicodeEncodeError: one holds a lone surrogate, which no store of ours can hold.
        """
        digests = [digest(self.key, draft.recipient, draft.said, draft.kind, draft.target) for draft in drafts]
        known, blocked = self._look_up(drafts, digests)
        if any(draft.target is not None for draft in drafts):
            self.targets = Targets(self.connection, self.users, drafts)
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
                elif result.code.retryable:
                    stopped[draft.source] = result
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
            size += 4 * len(draft.text or "")
            if recipient is not None:
                recipients[recipient.id] = recipient
            if sender is not None:
                sent.append((index, sender.id, draft.id, digests[index]))
                if recipient is not None and recipient.blocks:
                    pairs.add((recipient.id, sender.id))
        look_at(self.connection, recipients.values(), self.settings, messages=len(drafts), size=size)
        found = look_up(self.connection, KNOWN, sent)
        texts = dict(look_up(self.connection, TEXTS, [row for row in sent if row[0] in {index for index, *_ in found}]))
        known: dict[int, Stored | Refused] = {
            index: Stored(seq, peer_seq, sent_at, new=False, text=_changed(texts[index], drafts[index]))
            if same
            else Refused(ErrorCode.ID_CONFLICT)
            for index, same, seq, peer_seq, sent_at in found
        }
        return known, those_blocked(self.connection, pairs)

    def _store(self, draft: Draft, digest: bytes, blocked: set[tuple[int, int]]) -> Stored | Refused:
        sender, recipient = self.users.get(draft.sender), self.users.get(draft.recipient)
        about: Target | None = None
        if draft.target is not None or draft.kind != "message":
            about = None if self.targets is None else self.targets.find(draft, sender, recipient)
            if about is None:
                return Refused(ErrorCode.BAD_QUERY)
        if recipient is not None and recipient is not sender and is_full(recipient, self.settings):
            return Refused(ErrorCode.MAILBOX_FULL)
        sender = sender or self.users.get_or_create(self.connection, draft.sender)
        recipient = self.users.get_or_create(self.connection, draft.recipient)
        id = self.first_id + len(self.messages)
        sent_at = max(self.now, sender.sent_at, recipient.sent_at)
        text = None if draft.kind == "delete" else draft.text
        size = 0 if text is None else len(text) if text.isascii() else len(text.encode())

        seq = sender.head = sender.head + 1
        sender.sent_at = sent_at
        self.users.changed[sender.id] = sender
        self.log.append((sender.id, seq, id, sender.received, sender.received_bytes))
        peer_seq = 0
        # Of what the recipient does not have, edits and deletions mean nothing to it.
        concerns = about is None or draft.kind == "message" or about.peer_seq > 0
        if concerns and recipient is not sender and (recipient.id, sender.id) not in blocked:
            peer_seq = recipient.head = recipient.head + 1
            recipient.sent_at = sent_at
            self.users.changed[recipient.id] = recipient
            self.log.append((recipient.id, peer_seq, id, recipient.received, recipient.received_bytes))
            recipient.received += 1
            recipient.received_bytes += size
            if recipient.targets and draft.kind == "message":
                self.announced[recipient.id, sender.id] = peer_seq
        if sender.id <= recipient.id:
            self.entries.append(((sender.id, recipient.id), seq, peer_seq))
        else:
            self.entries.append(((recipient.id, sender.id), peer_seq, seq))
        kind = KINDS[draft.kind]
        target = None if about is None else about.id
        self.messages.append((id, sender.id, draft.id, digest, seq, peer_seq, sent_at, size, kind, target, text))
        if self.targets is not None:
            self.targets.stored(draft, sender, Target(id, recipient.id, peer_seq, kind), about)
        return Stored(seq, peer_seq, sent_at, text=_changed(draft.text, draft))

    def flush(self) -> None:
        """Write conversations, messages, log rows and the index of words. The users must have been written before."""
        changed = self.targets.edited | self.targets.deleted if self.targets is not None else set()
        if changed:
            search_index.take_out(self.connection, [id for id in changed if id < self.first_id])
        conversations = self.conversations.flush(self.connection, self.entries)
        rows = [(conversation, *message) for conversation, message in zip(conversations, self.messages, strict=True)]
        write(self.connection, INSERT_MESSAGES, rows)
        write(self.connection, INSERT_LOG, self.log)
        if self.targets is not None and changed:
            delete_texts(self.connection, self.targets.deleted)
            search_index.put_in(self.connection, self.targets.edited - self.targets.deleted)
        search_index.insert(self.connection, self._words(conversations, changed))

    def _words(self, conversations: Sequence[int], changed: set[int]) -> list[search_index.Row]:
        """The messages for the index of words, but for those that are out of date already."""
        words: list[search_index.Row] = []
        for conversation, (pair, *_), message in zip(conversations, self.entries, self.messages, strict=True):
            id, sender, _, _, seq, peer_seq, _, _, kind, _, text = message
            if kind == 0 and text is not None and id not in changed:
                recipient = pair[0] + pair[1] - sender
                words.append((id, search_index.owners(sender, seq, recipient, peer_seq, conversation), text))
        return words


def _again(first: Stored) -> Stored:
    return replace(first, new=False)


def _changed(stored: str | None, draft: Draft) -> str | None:
    """What is stored in place of what the client sent; None if it is the same, or deleted by now."""
    return None if stored == draft.said else stored
