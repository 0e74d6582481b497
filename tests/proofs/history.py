"""What a database file has to hold after a power cut: a beginning of the history, at least as long as anybody was told."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from trio_chat.core.batch import Batch, Draft, PageRequest, Stored
from trio_chat.errors import ConfigurationError
from trio_chat.settings import Settings
from trio_chat.store import connection
from trio_chat.store.faults import Health
from trio_chat.store.pages import read_pages
from trio_chat.store.sqlite import _OpenFile

from .disk import SUFFIXES
from .ledger import words

MESSAGES = """
    SELECT json_group_array(json_array(client_id, sender, seq, peer_seq, text)) FROM (SELECT * FROM messages ORDER BY id)"""
LOGS = "SELECT json_group_array(json_array(message, user, seq)) FROM (SELECT * FROM log ORDER BY message, user)"
USERS = "SELECT json_group_array(json_array(id, name, head)) FROM users WHERE head > 0"
EVERYTHING = f"SELECT ({MESSAGES}), ({LOGS}), ({USERS}), (SELECT count(*) FROM messages)"

decode = msgspec.json.decode
encode = msgspec.json.encode


class Row(NamedTuple):
    """A message, as the file has it."""

    id: str
    sender: int
    seq: int
    peer_seq: int
    text: str


def write_files(path: Path, contents: dict[int, bytes]) -> None:
    """Lay out the files that a power cut has left. The lock's and the WAL's index are of no use to who opens them next."""
    for suffix in (*SUFFIXES.values(), "-shm", ".lock"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()
    for name, content in contents.items():
        Path(f"{path}{SUFFIXES[name]}").write_bytes(content)


class History:
    """All messages of a run in the order of their commits, as the file at `path` has them at its end."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            messages, logs, users, _ = database.execute(EVERYTHING).fetchone()
        self.rows = [Row(*row) for row in decode(messages)]
        self.names: dict[int, str] = {id: name for id, name, _ in decode(users)}
        self._entries: list[tuple[int, int, int]] = [tuple(entry) for entry in decode(logs)]
        self._place = {row.id: place for place, row in enumerate(self.rows, 1)}
        wrong = [row for row in self.rows if row.text != words(row.id)]
        if len(self._place) < len(self.rows) or wrong:
            raise AssertionError("the history itself is wrong: something is in it twice, or changed")
        self.expected = cache(self._expected)

    def _expected(self, count: int) -> tuple[str, str, list[list[object]]]:
        """The answers to the three questions, if so many messages are there."""
        entries = [entry for entry in self._entries if entry[0] <= count]
        heads: dict[int, int] = {}
        for _, user, seq in entries:
            heads[user] = max(heads.get(user, 0), seq)
        users: list[list[object]] = [[user, self.names[user], head] for user, head in sorted(heads.items())]
        return encode(self.rows[:count]).decode(), encode(entries).decode(), users

    def least(self, frame: bytes, wrongs: list[str]) -> int:
        """How many messages have to be there once a client has this frame, all told."""
        found = decode(frame)
        least = 0
        if found["type"] not in ("stored", "messages"):
            return 0
        for item in found["messages"]:
            place = self._place.get(item["id"])
            if place is None:
                wrongs.append(f"lost: {item['id']} was told of in {found['type']} and never came into the file")
                continue
            row = self.rows[place - 1]
            places = {row.seq} if found["type"] == "stored" else {row.seq, row.peer_seq}
            if item["seq"] not in places:
                wrongs.append(f"renumbered: {item} was told of, and {row} is in the file")
            least = max(least, place)
        return least

    def check(self, path: Path, least: int) -> str | None:
        """What is wrong with the file, opened as the store opens it, if `least` messages have to be there; or None."""
        try:
            with closing(connection.write(path)) as database:
                (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
                if integrity != "ok":
                    return f"damaged: {integrity}"
                return self._compare(database, least)
        except sqlite3.Error as error:
            if least and "no such table" in str(error):
                return f"lost: {least} messages that somebody was told of, and the tables"
            return f"cannot be opened: {error}"

    def _compare(self, database: sqlite3.Connection, least: int) -> str | None:
        messages, logs, users, count = database.execute(EVERYTHING).fetchone()
        if count < least:
            return f"lost: {least - count} messages that somebody was told of, e.g. {self.rows[least - 1]}"
        expected = self.expected(count) if count <= len(self.rows) else ("", "", [])
        if (messages, logs, sorted(decode(users))) != expected:
            return f"doubled, renumbered or changed: the {count} messages there are not the first {count} of the history"
        return None

    def start(self, path: Path, least: int) -> str | None:
        """The same, by a whole start of the store with its check for damage; it must number the next message rightly."""
        try:
            file = _OpenFile(path, Settings(), Health(), check=True)
        except ConfigurationError as error:
            return f"refused: {error}"
        try:
            if wrong := self._compare(file.writer.connection, least):
                return wrong
            file.writer.connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
            return self._next(file)
        finally:
            file.close()

    def _next(self, file: Any) -> str | None:
        request = PageRequest("a0", 0, 10**6, 10**9)
        ((before,)) = file.read(lambda reader: read_pages(reader, [request]))
        (stored,) = file.writer.append(Batch(drafts=(Draft(1, "a0", "b0", "one more", words("one more")),)), 1).drafts
        if not isinstance(stored, Stored) or stored.seq != len(before.messages) + 1:
            return f"renumbered: the next message is {stored}, after {len(before.messages)}"
        return None


def longest(needs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """From which event on how many messages have to be there: only where it becomes more."""
    rising: list[tuple[int, int]] = []
    for index, least in sorted(needs):
        if least > (rising[-1][1] if rising else 0):
            rising.append((index, least))
    return rising
