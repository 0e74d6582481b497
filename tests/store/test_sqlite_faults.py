"""What the disk, other programs and cancellation may do to a transaction, and what must come of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_chat.core.batch import (
    Batch,
    BlockChange,
    Draft,
    Mark,
    Opened,
    Opening,
    PageRequest,
    Progress,
    ReadMark,
    Removal,
    Stored,
)
from trio_chat.errors import RowRefused, StoreBusy, StoreError, StoreFull, StoreUnavailable
from trio_chat.retrieval import ConversationsQuery, SearchQuery
from trio_chat.store import connection, faults, pages, writer
from trio_chat.store.sqlite import SqliteStore

from .conftest import draft
from .faulty import fault, install


def one(id: str, text: str = "hi") -> Batch:
    return Batch(drafts=(draft("alice", "bob", id, text),))


async def ids(store: SqliteStore, user: str) -> list[str]:
    (page,) = await store.pages([PageRequest(user, 0, 1000, 10**9)])
    assert [message.seq for message in page.messages] == [*range(1, len(page.messages) + 1)]
    return [message.id for message in page.messages]


def replace(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


async def everything(store: SqliteStore) -> list[object]:
    """Whatever can be seen of a store."""
    names = ("alice", "bob", "carol", "dave", "eve", "frank", "mallory")
    seen: list[object] = [await store.pages([PageRequest(name, 0, 1000, 10**9) for name in names])]
    for name in names:
        seen.append(await store.devices(name))
        seen.append(await store.blocked(name))
        seen.append(await store.conversations(name, ConversationsQuery(), size=10**9))
        seen.append(await store.search(name, SearchQuery(query="hi"), size=10**9))
        seen.append(await store.search(name, SearchQuery(query="gone"), size=10**9))
    return seen


def writing(store: SqliteStore) -> sqlite3.Connection:
    assert store._file is not None
    return store._file.writer.connection


BEFORE = Batch(
    openings=(Opening(1, "bob", "phone"), Opening(1, "bob", "old"), Opening(1, "carol", "phone")),
    blocks=(BlockChange("bob", "eve", blocked=True), BlockChange("carol", "eve", blocked=True)),
    drafts=(
        draft("alice", "bob", "1"),
        draft("bob", "bob", "1"),
        draft("alice", "bob", "0", "gone"),
        draft("carol", "bob", "0"),
        draft("zoe", "bob", "0"),
    ),
)
BATCH = Batch(
    marks=(Mark("bob", "phone", 5),),
    reads=(ReadMark("bob", "carol", 4),),
    removals=(Removal("bob", "old"),),
    openings=(Opening(2, "bob", "web"), Opening(3, "dave", "web")),
    blocks=(BlockChange("bob", "eve", blocked=False), BlockChange("bob", "mallory", blocked=True)),
    drafts=(
        draft("alice", "bob", "2"),
        draft("carol", "bob", "1"),
        Draft(1, "alice", "bob", "3", "edited", "edit", "1"),
        Draft(1, "alice", "bob", "4", None, "delete", "0"),
        draft("alice", "frank", "5"),
    ),
)
STATEMENTS = [
    "BEGIN IMMEDIATE", "data_version", "u.name = v.column1", "u.id = v.column1", "AS d ON", "max(id), 0) FROM users",
    "AS m ON m.sender = v.column2", "AS m ON m.sender = v.column1", "AS k ON k.blocker = v.column1 AND",
    "AS k ON k.blocker = v.column1 CROSS", "max(id), 0) FROM messages", "max(id), 0) FROM conversations", "AS c ON c.a",
    "UPDATE devices", "UPDATE conversations", "INTO users", "INTO conversations", "INSERT INTO messages", "INSERT INTO log",
    "INSERT INTO devices", "DELETE FROM devices", "INSERT INTO blocks", "DELETE FROM blocks", "FROM log AS l",
    "SELECT max(e.id)", "'delete', s.id", "SELECT s.id", "INSERT INTO search (rowid, owners, text)\n    SELECT *",
    "CROSS JOIN log", "WHERE messages.id", "WHERE messages.target", "COMMIT",
]  # fmt: skip


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("kind", [StoreFull, StoreBusy, RowRefused, ZeroDivisionError])
async def test_a_transaction_that_fails_anywhere_leaves_no_trace(
    path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, kind: type[Exception]
) -> None:
    """Some head, cursor or row would be left from a transaction that nobody was told of (I8), or a hole."""
    codes = {StoreFull: "SQLITE_FULL", StoreBusy: "SQLITE_BUSY", RowRefused: "SQLITE_CONSTRAINT"}
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        before = await store.append(BEFORE, 1000)
        assert store._file is not None
        store._file.writer._forget()  # much is asked only for what is not remembered
        found = await everything(store)
        broken.broken[statement] = fault(codes[kind]) if issubclass(kind, StoreError) else ZeroDivisionError()
        with pytest.raises(kind):
            await store.append(BATCH, 2000)
        broken.broken.clear()
        assert store.failure is None
        assert await everything(store) == found
        # The same again, now from scratch: nothing remembered, nothing stored.
        after = await store.append(BATCH, 2000)
        assert await everything(store) != found
        writing(store).execute("INSERT INTO search (search) VALUES ('integrity-check')")
    assert before.drafts == (
        Stored(1, 1, 1000),
        Stored(2, 0, 1000),
        Stored(2, 3, 1000),
        Stored(1, 4, 1000),
        Stored(1, 5, 1000),
    )
    web, daves = after.openings
    assert isinstance(web, Opened)
    assert isinstance(daves, Opened)
    assert (web.head, web.cursor, web.new, web.blocked, daves.new) == (5, 5, True, ("eve",), True)
    assert after.blocks == ((), ("mallory",))
    assert {*after.progress} == {Progress("alice", "bob", 2), Progress("carol", "bob", 1, 1), Progress("zoe", "bob", 1)}
    assert after.drafts == (
        Stored(3, 6, 2000), Stored(2, 7, 2000), Stored(4, 8, 2000), Stored(5, 9, 2000), Stored(6, 1, 2000)
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_CORRUPT", "SQLITE_READONLY", "SQLITE_NOTADB", "SQLITE_CANTOPEN"],
)
@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT INTO messages", "COMMIT"])
async def test_after_an_io_error_nothing_is_written_until_a_restart(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, statement: str
) -> None:
    """A sync that failed would be tried again and seem to succeed, with the data gone (failures R2, 4)."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await store.append(one("1"), 1000)
        broken.broken[statement] = fault(name)
        with pytest.raises(StoreUnavailable, match=name):
            await store.append(one("2"), 1000)
        broken.broken.clear()
        assert store.failure is not None
        assert name in store.failure
        broken.executed.clear()
        with pytest.raises(StoreUnavailable, match=name):
            await store.append(one("3"), 1000)
        assert broken.executed == []  # without touching the file
        assert await ids(store, "bob") == ["1"]  # what is there can be read
    async with SqliteStore(path) as store:
        assert store.failure is None
        assert await ids(store, "bob") == ["1"]
        assert (await store.append(one("2"), 1000)).drafts == (Stored(2, 2, 1000),)


async def test_a_rollback_that_fails_is_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next batch would go on in the transaction of the one that failed."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        broken.broken = {"INSERT INTO log": fault("SQLITE_FULL"), "ROLLBACK": fault("SQLITE_IOERR_READ")}
        with pytest.raises(StoreFull):
            await store.append(one("1"), 1000)
        broken.broken.clear()
        with pytest.raises(StoreUnavailable, match="rolled back"):
            await store.append(one("1"), 1000)
    async with SqliteStore(path) as store:
        assert await ids(store, "bob") == []


async def test_an_error_that_has_ended_the_transaction_is_survived(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rollback would find nothing to roll back, and that would count as the end."""
    broken = install(monkeypatch)
    broken.ending = True
    async with SqliteStore(path) as store:
        broken.broken["INSERT INTO log"] = fault("SQLITE_FULL")
        with pytest.raises(StoreFull):
            await store.append(one("1"), 1000)
        broken.broken.clear()
        assert (await store.append(one("1"), 1000)).drafts == (Stored(1, 1, 1000),)


async def test_a_full_disk_is_refused_until_there_is_space(path: Path) -> None:
    """A full disk would need a restart, lose an acknowledged message, or keep known devices from connecting (failures 3)."""
    stored: list[str] = []
    async with SqliteStore(path) as store:
        await store.append(Batch(openings=(Opening(1, "bob", "phone"),)), 1000)
        (pages,) = writing(store).execute("PRAGMA page_count").fetchone()
        writing(store).execute(f"PRAGMA max_page_count = {pages + 10}")
        while len(stored) < 100:
            try:
                await store.append(one(str(len(stored)), "x" * 3000), 1000)
            except StoreFull:
                break
            stored.append(str(len(stored)))
        assert 0 < len(stored) < 100
        assert store.failure is None
        assert await ids(store, "bob") == stored
        (opened,) = (await store.append(Batch(openings=(Opening(2, "bob", "phone"),)), 1000)).openings
        assert isinstance(opened, Opened)
        assert (opened.head, opened.cursor, opened.new) == (len(stored), 0, False)
        with pytest.raises(StoreFull):
            await store.append(one("late", "x" * 3000), 1000)
        writing(store).execute(f"PRAGMA max_page_count = {pages + 100}")
        (late,) = (await store.append(one("late", "x" * 3000), 1000)).drafts
        assert late == Stored(len(stored) + 1, len(stored) + 1, 1000)
        assert await ids(store, "bob") == [*stored, "late"]


async def test_a_known_device_that_does_not_move_writes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would keep everybody from connecting, and a storm of reconnects would be a storm of writes."""
    broken = install(monkeypatch)
    batch = Batch(openings=(Opening(1, "bob", "phone"), Opening(2, "bob", "script", send_only=True)))
    async with SqliteStore(path) as store:
        await store.append(batch, 1000)
        broken.broken = dict.fromkeys(("INSERT", "UPDATE", "DELETE"), fault("SQLITE_FULL"))
        await store.append(batch, 2000)


@pytest.mark.parametrize(("free", "kind"), [(0, StoreFull), (2**40, StoreUnavailable)])
async def test_an_io_error_of_growing_on_a_full_disk_is_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, free: int, kind: type[StoreError]
) -> None:
    """A disk that is full at the wrong moment would stop the server until a restart; a broken one would not."""
    broken = install(monkeypatch)
    monkeypatch.setattr(faults, "NO_SPACE", 2**60 if free == 0 else 0)
    async with SqliteStore(path) as store:
        broken.broken["INSERT INTO messages"] = fault("SQLITE_IOERR_SHMSIZE")
        with pytest.raises(kind):
            await store.append(one("1"), 1000)


async def test_an_io_error_of_commit_is_never_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client would be told "not stored" of a message that a restart finds in the WAL."""
    broken = install(monkeypatch)
    monkeypatch.setattr(faults, "NO_SPACE", 2**60)
    async with SqliteStore(path) as store:
        broken.broken["COMMIT"] = fault("SQLITE_IOERR_SHMSIZE")
        with pytest.raises(StoreUnavailable):
            await store.append(one("1"), 1000)


def test_only_what_is_known_is_translated(path: Path) -> None:
    """A bug would be answered as if a client or the disk were at fault, instead of stopping the server."""
    unknown = [sqlite3.ProgrammingError("misuse"), fault("SQLITE_ERROR"), ValueError(), fault("SQLITE_NOMEM")]
    assert [faults.translate(error, path) for error in unknown] == [None] * 4
    kinds = {
        "SQLITE_TOOBIG": RowRefused,
        "SQLITE_MISMATCH": RowRefused,
        "SQLITE_LOCKED": StoreBusy,
        "SQLITE_BUSY_RECOVERY": StoreBusy,
        "SQLITE_PROTOCOL": StoreBusy,
        "SQLITE_READONLY_DBMOVED": StoreUnavailable,
        "SQLITE_IOERR_READ": StoreUnavailable,
        "SQLITE_FULL": StoreFull,
    }
    assert {name: type(faults.translate(fault(name), path)) for name in kinds} == kinds
    assert isinstance(faults.translate(sqlite3.DataError("too big"), path), RowRefused)
    assert isinstance(faults.translate(OverflowError(), path), RowRefused)
    for undecodable in (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, ""),
        sqlite3.OperationalError("Could not decode to UTF-8"),
    ):
        assert isinstance(faults.translate(undecodable, path), StoreUnavailable)
    # A disk that cannot be asked for its space is not full.
    assert isinstance(faults.translate(fault("SQLITE_IOERR_WRITE"), path / "missing"), StoreUnavailable)


async def test_another_program_that_writes_makes_the_store_wait_only_so_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten transaction in a shell would hang the server, or end it (failures 5)."""
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.01)
    async with SqliteStore(path) as store:
        await store.append(one("1"), 1000)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy):
                await store.append(one("2"), 1000)
            assert store.failure is None
            assert await ids(store, "bob") == ["1"]
        assert (await store.append(one("2"), 1000)).drafts == (Stored(2, 2, 1000),)


async def test_what_another_program_wrote_is_noticed(path: Path) -> None:
    """An operator's repair would be undone by what the server remembers, or break the log."""
    async with SqliteStore(path) as store:
        await store.append(one("1"), 1000)
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE users SET sent_at = 7000 WHERE name = 'bob'")
        assert (await store.append(one("2"), 1000)).drafts == (Stored(2, 2, 7000),)


async def test_a_number_too_large_for_sqlite_is_one_rows_fault(path: Path) -> None:
    """A clock gone mad would end the server."""
    async with SqliteStore(path) as store:
        with pytest.raises(RowRefused):
            await store.append(one("1"), 2**63)
        assert (await store.append(one("1"), 1000)).drafts == (Stored(1, 1, 1000),)


async def test_a_cancelled_append_is_carried_out_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer would keep the process from ending, or half a batch would be there (failures 27)."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        async with trio.open_nursery() as nursery:
            with broken.holding("COMMIT"):
                nursery.start_soon(store.append, one("1"), 1000)
                await broken.wait_held()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
        assert (await store.append(one("2"), 1000)).drafts == (Stored(2, 2, 1000),)  # after the first one has ended
        assert await ids(store, "bob") == ["1", "2"]


async def test_an_append_cancelled_before_it_began_is_undone(path: Path) -> None:
    """A message would be stored that nobody is told of."""
    async with SqliteStore(path) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.append(one("1"), 1000)
        assert scope.cancelled_caught
        assert await ids(store, "bob") == []


async def test_pages_are_read_while_a_commit_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk would stop everybody who is catching up."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await store.append(one("1"), 1000)
        async with trio.open_nursery() as nursery:
            with broken.holding("COMMIT"):
                nursery.start_soon(store.append, one("2"), 1000)
                await broken.wait_held()
                assert await ids(store, "bob") == ["1"]
        assert await ids(store, "bob") == ["1", "2"]


async def test_reading_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged page would end the server; or go on being acknowledged into; or a reader would be unusable afterwards."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await store.append(one("1"), 1000)
        for name in ("SQLITE_BUSY", "SQLITE_ERROR"):
            for part in ("AS c ON",):
                broken.broken = {part: fault(name)}
                for _ in range(3):
                    with pytest.raises(StoreBusy if name == "SQLITE_BUSY" else sqlite3.OperationalError):
                        await ids(store, "bob")
        broken.broken.clear()
        assert await ids(store, "bob") == ["1"]
        assert store.failure is None
        broken.broken["AS c ON"] = fault("SQLITE_CORRUPT_INDEX")
        with pytest.raises(StoreUnavailable):
            await ids(store, "bob")
        assert store.failure is not None


async def test_a_text_that_the_disk_has_damaged_does_not_end_the_server(path: Path) -> None:
    """One bit in one message, which no check of SQLite's sees, would end it whenever that user connects (failures 7)."""
    async with SqliteStore(path) as store:
        await store.append(one("1", "a text that is remembered"), 1000)
    replace(path, b"a text that is", b"a text that \xe9s")
    async with SqliteStore(path, check=True) as store:
        with pytest.raises(StoreUnavailable, match="not UTF-8"):
            await ids(store, "bob")
        assert store.failure is not None


def test_an_error_that_ends_the_transaction_does_not_hide_behind_the_rollback() -> None:
    """The error that a reader's transaction died of would be reported as one of its rollback."""

    class Ended(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql != "BEGIN":
                self.rollback()
                raise ZeroDivisionError
            return super().execute(sql, *values)

    requests = [PageRequest("bob", 0, 1, 1)] * (pages.AT_ONCE + 1)
    with closing(sqlite3.connect(":memory:", factory=Ended)) as reader, pytest.raises(ZeroDivisionError):
        pages.read_pages(reader, requests)


async def test_the_wal_is_copied_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The WAL would grow for ever, and with it the time of a restart and of every query."""
    monkeypatch.setattr(writer, "CHECKPOINT_PAGES", 40)
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        for number in range(20):
            await store.append(one(str(number)), 1000)
        copies = [statement for statement in broken.executed if "wal_checkpoint" in statement]
        assert 4 <= len(copies) <= 6
        # What can pass passes; what cannot is the end (failures R2).
        for name in ("SQLITE_FULL", "SQLITE_BUSY"):
            broken.broken["wal_checkpoint"] = fault(name)
            for number in range(5):
                await store.append(one(f"{name} {number}"), 1000)
        broken.broken["wal_checkpoint"] = fault("SQLITE_IOERR_FSYNC")
        for number in range(5):
            with suppress(StoreUnavailable):
                await store.append(one(f"late {number}"), 1000)
        assert store.failure is not None


async def test_the_wal_begins_anew_although_somebody_always_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits for a moment without readers; in a storm of clients that catch up the WAL would fill the disk."""
    monkeypatch.setattr(writer, "CHECKPOINT_PAGES", 40)
    monkeypatch.setattr(writer, "RESTART_PAGES", 100)
    monkeypatch.setattr(writer, "RESTART_MS", 1)
    restart = writer.Writer._restart
    outcomes: list[bool] = []
    ends = False

    def begin() -> None:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM log").fetchone()

    def while_it_waits(self: writer.Writer) -> bool:
        if ends:
            reader.execute("ROLLBACK")
        outcomes.append(restart(self))
        if ends:
            begin()
        return outcomes[-1]

    monkeypatch.setattr(writer.Writer, "_restart", while_it_waits)
    async with SqliteStore(path) as store:
        await store.append(one("first"), 1000)
        with closing(connection.read(path)) as reader:
            begin()
            for number in range(100):
                await store.append(one(f"a{number}"), 1000)
            assert 2 <= len(outcomes) <= 10  # one that does not end is waited for now and then only
            assert not any(outcomes)
            ends = True
            sizes = []
            for number in range(300):
                await store.append(one(f"b{number}"), 1000)
                sizes.append(connection.size_of(path, "-wal"))
            assert outcomes.count(True) > 5
            assert sizes[-1] == sizes[150]
        assert writing(store).execute("PRAGMA busy_timeout").fetchone() == (2000,)


async def test_what_is_remembered_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a server would grow with everybody it ever heard of (I6)."""
    async with SqliteStore(path) as store:
        assert store._file is not None
        memory = store._file.writer
        memory.users.remembered.room = memory.conversations.remembered.room = 4
        for number in range(20):
            drafts = tuple(draft(f"user {number}", f"user {number + other}", str(number)) for other in range(1, 4))
            await store.append(Batch(drafts=drafts[:1]), 1000)
            assert len(memory.users.remembered.kept) <= 4
            assert len(memory.conversations.remembered.kept) <= 4
        assert {*memory.users.remembered.kept} == {"user 17", "user 18", "user 19", "user 20"}
        # Forgotten ones are found again, in use ones are kept.
        assert (await store.append(Batch(drafts=(draft("user 0", "user 1", "x"),)), 1000)).drafts == (Stored(2, 3, 1000),)
        assert {*[*memory.users.remembered.kept][-2:]} == {"user 0", "user 1"}
