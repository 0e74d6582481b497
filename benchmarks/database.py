"""A large database of messages, the same every time: what the store's queries are measured on.

One user, ``alice``, has a fifth of everything, and the rest is shared out unevenly, as it is in life. Some of it is there to
be hard to find:

- of 100,000 messages between alice and bob all but the first are hers;
- one message in her log is unread, and it is the oldest that is not hers;
- eve is blocked by her, and has gone on writing all the same;
- mallory has edited one message to her thousands of times, and deleted thousands of others;
- every message says ``the``; those that are not alice's often say ``zebra``, hers never do.

``python benchmarks/database.py chat.db`` makes it, in a minute or two.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Final

from trio_chat.store import migration

MESSAGES: Final = 1_000_000
USERS: Final = 2_000
EPOCH: Final = 1_700_000_000_000
"""When the first message was sent, Unix milliseconds."""

ALICE, BOB, EVE, MALLORY = 1, 2, 3, 4
NAMES: Final = {ALICE: "alice", BOB: "bob", EVE: "eve", MALLORY: "mallory"}
ROWS: Final = 20_000

CONVERSATION = "INSERT INTO conversations (id, a, b, last_a, last_b, read_a, read_b) VALUES (?, ?, ?, ?, ?, ?, ?)"
USER = """
    INSERT INTO users (id, name, head, delivered, sent_at, received, received_bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"""
MESSAGE = """
    INSERT INTO messages (id, conversation, sender, client_id, digest, seq, peer_seq, sent_at, size, kind, target, text)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
LOG = "INSERT INTO log (user, seq, message, before, before_bytes) VALUES (?, ?, ?, ?, ?)"


class _User:
    __slots__ = ("before", "before_bytes", "head", "sent_at")

    def __init__(self) -> None:
        self.head = self.before = self.before_bytes = self.sent_at = 0


class _Pair:
    __slots__ = ("id", "last", "old", "read")

    def __init__(self, id: int) -> None:
        self.id = id
        self.last: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.old: list[tuple[int, int]] = []  # the messages of late: id and sender


class Generator:
    """Writes message after message, as the store would have."""

    def __init__(self, messages: int = MESSAGES, users: int = USERS, seed: int = 1) -> None:
        self.count = messages
        self.chance = random.Random(seed)  # noqa: S311  (the same every time)
        self.users = {id: _User() for id in range(1, users + 1)}
        self.pairs: dict[tuple[int, int], _Pair] = {}
        self.deleted: list[int] = []
        self.said: dict[int, int] = {}  # of each message that may be edited: its kind's target
        self.messages: list[tuple[object, ...]] = []
        self.log: list[tuple[int, int, int, int, int]] = []
        self.made = 0
        self.now = EPOCH
        vocabulary = [self._word() for _ in range(20_000)]
        weights = list(accumulate(1 / (rank + 3) for rank in range(len(vocabulary))))
        self.words = self.chance.choices(vocabulary, cum_weights=weights, k=500_000)
        popularity = list(accumulate(1 / (rank + 10) ** 0.8 for rank in range(users)))
        self.crowd = popularity

    def _word(self) -> str:
        syllables = ("ba", "ce", "di", "fu", "gu", "ha", "li", "mo", "nu", "ra", "se", "ti", "vo", "zy", "é", "京")
        return "".join(self.chance.choices(syllables, k=self.chance.randint(1, 4)))

    def _text(self, *, hers: bool) -> str:
        start = self.chance.randrange(len(self.words) - 40)
        words = self.words[start : start + self.chance.choice((2, 4, 6, 8, 10, 14, 30))]
        words.append("the")
        if not hers and self.chance.random() < 0.3:
            words.append("zebra")
        return " ".join(words)

    def send(self, sender: int, recipient: int, *, kind: int = 0, target: int | None = None, withheld: bool = False) -> int:
        """One message, edit or deletion; its id."""
        self.made = id = self.made + 1
        self.now += self.chance.choice((0, 0, 1, 40, 900))
        a, b = sorted((sender, recipient))
        pair = self.pairs.get((a, b))
        if pair is None:
            pair = self.pairs[a, b] = _Pair(len(self.pairs) + 1)
        text = None if kind == 2 else self._text(hers=ALICE in (sender, recipient))
        size = len(text.encode()) if text else 0
        seq = self._enter(sender, pair, id)
        peer_seq = 0
        if sender != recipient and not withheld:
            peer_seq = self._enter(recipient, pair, id)
            user = self.users[recipient]
            user.before += 1
            user.before_bytes += size
        digest = id.to_bytes(16, "big")
        client_id = f"{id:032x}"
        row = (id, pair.id, sender, client_id, digest, seq, peer_seq, self.now, size, kind, target, text)
        self.messages.append(row)
        if kind == 0:
            pair.old = [*pair.old[-7:], (id, sender)]
        return id

    def _enter(self, user_id: int, pair: _Pair, message: int) -> int:
        user = self.users[user_id]
        user.head += 1
        user.sent_at = self.now
        pair.last[user_id] = user.head
        self.log.append((user_id, user.head, message, user.before, user.before_bytes))
        return user.head

    def _ordinary(self, sender: int, recipient: int) -> None:
        """Mostly a message; sometimes an answer, an edit or a deletion."""
        pair = self.pairs.get((min(sender, recipient), max(sender, recipient)))
        fate = self.chance.random()
        if pair is None or fate > 0.05:
            self.send(sender, recipient)
            return
        mine = [id for id, by in pair.old if by == sender and id not in self.said]
        if fate > 0.02 or not mine:
            self.send(sender, recipient, target=self.chance.choice(pair.old)[0])
        elif fate > 0.005:
            self.send(sender, recipient, kind=1, target=self.chance.choice(mine))
        else:
            gone = self.chance.choice(mine)
            self.said[gone] = 2
            self.send(sender, recipient, kind=2, target=gone)
            self.deleted.append(gone)

    def fill(self) -> Iterator[None]:
        """All messages; stops now and then for what is there to be written."""
        some = self.count // 10
        scale = self.count / MESSAGES
        everybody = range(1, len(self.users) + 1)
        ancient = self.send(7, ALICE)
        self.send(BOB, ALICE)
        first = self.send(MALLORY, ALICE)
        others = self.chance.choices(everybody[ALICE:], cum_weights=self.crowd[ALICE:], k=2 * self.count)
        partners = self.chance.choices(everybody[ALICE:], cum_weights=self.crowd[ALICE:], k=self.count)
        step = 0
        while self.made < self.count - 2:
            step += 1
            fate = self.chance.random()
            if fate < 0.10:
                self.send(ALICE, BOB)
            elif fate < 0.18:
                peer = partners[step]
                if peer in (BOB, EVE, MALLORY, 7):
                    peer = ALICE if peer == 7 else 50
                self._ordinary(*((ALICE, peer) if self.chance.random() < 0.5 else (peer, ALICE)))
            elif fate < 0.19:
                self.send(EVE, ALICE, withheld=True)
            elif fate < 0.20:
                self.send(MALLORY, ALICE, kind=1, target=first)
            elif fate < 0.21:
                gone = self.send(MALLORY, ALICE)
                self.send(MALLORY, ALICE, kind=2, target=gone)
                self.deleted.append(gone)
            else:
                # People talk with few others, and with some of them often.
                sender = others[2 * step]
                recipient = (sender * 7 + int(self.chance.paretovariate(0.7))) % len(self.users) + 1
                if ALICE in (sender, recipient):
                    continue
                self._ordinary(*((sender, recipient) if self.chance.random() < 0.5 else (recipient, sender)))
            if len(self.messages) >= ROWS:
                yield
        del ancient, some, scale
        yield

    def marks(self) -> Iterator[tuple[object, ...]]:
        """Rows of conversations. Alice has read everything but the one; others are as far behind as it comes."""
        for (a, b), pair in self.pairs.items():
            read = {}
            for user in {a, b}:
                head = pair.last.get(user, 0)
                if user == ALICE:
                    read[user] = 0 if 7 in (a, b) else head
                else:
                    read[user] = head if self.chance.random() < 0.8 else int(head * self.chance.random())
            yield pair.id, a, b, pair.last.get(a, 0), pair.last.get(b, 0), read[a], read[b]


def generate(path: Path, *, messages: int = MESSAGES, users: int = USERS, seed: int = 1) -> None:
    """Make the database `path`, which must not exist.

    Args:
        path: the file.
        messages: how many, edits and deletions among them.
        users: how many, 100 at least.
        seed: another one makes other messages.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already")
    migration.up(path, lambda _: None)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # half a database is of no use anyway
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute("BEGIN")
        made = Generator(messages, users, seed)
        for _ in made.fill():
            connection.executemany(MESSAGE, made.messages)
            connection.executemany(LOG, made.log)
            made.messages.clear()
            made.log.clear()
        connection.executemany(CONVERSATION, made.marks())
        connection.executemany(USER, made_users(made))
        connection.executemany(
            "UPDATE messages SET text = NULL WHERE id = ?1 OR target = ?1 AND kind = 1", [(id,) for id in made.deleted]
        )
        connection.execute("INSERT INTO blocks (blocker, blocked) VALUES (?, ?)", (ALICE, EVE))
        connection.executemany("INSERT INTO devices VALUES (?, ?, ?, ?, ?)", devices(made))
        connection.execute("INSERT INTO search (search) VALUES ('rebuild')")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def made_users(made: Generator) -> Iterator[tuple[object, ...]]:
    """Rows of users. Most have everything."""
    for id, user in made.users.items():
        delivered = user.head if id == ALICE or made.chance.random() < 0.7 else int(user.head * made.chance.random())
        yield id, NAMES.get(id, f"user-{id}"), user.head, delivered, user.sent_at, user.before, user.before_bytes


def devices(made: Generator) -> Iterator[tuple[object, ...]]:
    """Rows of devices: two for everybody."""
    for id, user in made.users.items():
        for name in ("phone", "web"):
            yield id, name, user.head // 2, EPOCH + id, EPOCH


if __name__ == "__main__":
    began = time.monotonic()
    generate(Path(sys.argv[1]), messages=int(sys.argv[2]) if len(sys.argv) > 2 else MESSAGES)
    print(f"made in {time.monotonic() - began:.0f} s")
