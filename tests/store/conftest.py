"""What the contract tests need of a store besides its contract: to be reopened, and rows that no operation makes yet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest

from trio_chat.core.batch import Draft
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.store.sqlite import SqliteStore


class Backend(Protocol):
    """One kind of store."""

    def open(self, settings: Settings | None = None) -> Store:
        """The store, to be entered; a second time the same one with its contents."""
        ...

    def block(self, blocker: str, blocked: str) -> None:
        """Both users must exist."""
        ...

    def retain(self, user: str, floor: int) -> None:
        """What retention will do: remove a user's entries up to `floor`."""
        ...

    def erase(self, user: str) -> None:
        """What erasing a user will do to the name of the log."""
        ...


class Memory:
    def __init__(self) -> None:
        self.store = MemoryStore()

    def open(self, settings: Settings | None = None) -> MemoryStore:
        self.store.settings = settings or Settings()
        return self.store

    def block(self, blocker: str, blocked: str) -> None:
        self.store.blocks.add((blocker, blocked))

    def retain(self, user: str, floor: int) -> None:
        row = self.store._contents.users[user]
        del row.entries[: floor - row.floor], row.before[: floor - row.floor]
        row.floor = floor

    def erase(self, user: str) -> None:
        self.store._contents.users[user].epoch += 1


class Sqlite:
    """Changes rows as another process would, so that the store has to notice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, settings: Settings | None = None) -> SqliteStore:
        return SqliteStore(self.path, settings)

    def execute(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement, values in statements:
                assert connection.execute(statement, values).rowcount > 0

    def block(self, blocker: str, blocked: str) -> None:
        insert = (
            "INSERT INTO blocks (blocker, blocked) SELECT a.id, b.id FROM users a, users b WHERE a.name = ? AND b.name = ?"
        )
        self.execute((insert, (blocker, blocked)))

    def retain(self, user: str, floor: int) -> None:
        delete = "DELETE FROM log WHERE user = (SELECT id FROM users WHERE name = ?) AND seq <= ?"
        self.execute((delete, (user, floor)), ("UPDATE users SET floor = ? WHERE name = ?", (floor, user)))

    def erase(self, user: str) -> None:
        self.execute(("UPDATE users SET epoch = epoch + 1 WHERE name = ?", (user,)))


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return Memory() if request.param == "memory" else Sqlite(tmp_path / "chat.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def draft(sender: str, recipient: str, id: str, text: str = "hi", *, source: int = 1) -> Draft:
    return Draft(source=source, sender=sender, recipient=recipient, id=id, text=text)
