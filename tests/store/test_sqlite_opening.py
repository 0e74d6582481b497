"""Opening and closing a file: who may, what is checked first, what is left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_chat.core.batch import Batch, Opening, PageRequest
from trio_chat.errors import ConfigurationError, SchemaMismatch, StoreLocked, StoreUnavailable
from trio_chat.settings import Settings
from trio_chat.store import checkup, connection, schema, sqlite
from trio_chat.store.lock import FileLock
from trio_chat.store.sqlite import SqliteStore

from .conftest import draft
from .faulty import fault, install

HOLD = """
import sys, trio
from trio_chat.store.sqlite import SqliteStore

async def main():
    async with SqliteStore(sys.argv[1]):
        print("open", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def other_server(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def files(path: Path) -> dict[str, bytes]:
    """Everything in the database's directory but the lock, which every attempt to open takes."""
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith(".lock")}


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o640)


def contents(path: Path) -> bytes:
    return path.read_bytes()


def remove(path: Path) -> None:
    path.unlink()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def fill(path: Path, count: int = 3) -> None:
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n), "x" * 2000) for n in range(count))), 1000)


async def left_open(path: Path, copy: Path, count: int = 3) -> None:
    """Make `copy` what a crash would leave of a store with some messages."""
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n), "x" * 2000) for n in range(count))), 1000)
        for suffix in ("", "-wal", ".lock"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")


def damage(path: Path) -> None:
    """Overwrite the root page of the log, which opening does not read."""
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def wait_until_free(path: Path) -> None:
    """The lock is the last thing that a store lets go of."""
    with Path(f"{path}.lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


async def wait_for_checkup(store: SqliteStore) -> None:
    assert store._file is not None
    assert store._file.checkup is not None
    await trio.to_thread.run_sync(store._file.checkup.thread.join)


async def test_files_are_the_owners_only(path: Path) -> None:
    """Everybody on the machine could read everybody's messages (failures, secure by default)."""
    before = os.umask(0)
    try:
        async with SqliteStore(path) as store:
            await store.append(Batch(drafts=(draft("alice", "bob", "1"),)), 1000)
            modes = {file.name: mode(file) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"), 0o600)


async def test_what_is_committed_is_on_the_disk(path: Path) -> None:
    """With any other setting a commit returns before the disk has it, and a power cut takes what was acknowledged."""
    async with SqliteStore(path) as store:
        assert store._file is not None
        asked = [
            store._file.writer.connection.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "journal_mode")
        ]
        assert asked == [(2,), ("wal",)]  # 2 is FULL


async def test_a_clean_close_leaves_one_file_and_the_lock(path: Path) -> None:
    """A copy of the database file alone would lack what is in the WAL; and each start would check the file for damage."""
    await fill(path)
    assert {file.name for file in path.parent.iterdir()} == {"chat.db", "chat.db.lock"}
    async with SqliteStore(path) as store:
        assert store._file is not None
        assert store._file.checkup is None


async def test_a_second_server_is_refused(path: Path) -> None:
    """Two servers on one file would number the same log twice (failures 6)."""
    with other_server(path) as process:
        with pytest.raises(StoreLocked, match=str(process.pid)) as refused:
            async with SqliteStore(path):
                pytest.fail("opened")
        assert refused.value.holder == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        await fill(path)


async def test_a_second_store_in_the_same_process_is_refused_under_any_name(path: Path) -> None:
    """An application that opens its chat twice, or by a symbolic link, would get past the lock."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with SqliteStore(path) as store:
        for name in (path, link):
            with pytest.raises(StoreLocked):
                await SqliteStore(name).__aenter__()
        with pytest.raises(RuntimeError, match="open already"):
            await store.__aenter__()
        await store.append(Batch(), 1000)


async def test_a_store_is_used_in_its_block(path: Path) -> None:
    """A mistake in the application would show as something else."""
    store = SqliteStore(path)
    with pytest.raises(RuntimeError, match="not open"):
        await store.append(Batch(), 1000)
    async with store:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await store.pages([])
    await store.__aexit__(None, None, None)  # closing twice is fine


async def test_an_exception_leaves_the_block_as_itself(path: Path) -> None:
    """An application could not catch its own exceptions around a chat."""
    with pytest.raises(ZeroDivisionError):
        async with SqliteStore(path):
            raise ZeroDivisionError


async def test_a_lock_whose_holder_cannot_be_read_is_a_lock_all_the_same(path: Path) -> None:
    """A lock file that somebody emptied would crash the start instead of refusing it."""
    lock = FileLock(path)
    os.truncate(lock.descriptor, 0)
    with pytest.raises(StoreLocked, match="unknown") as refused:
        FileLock(path)
    assert refused.value.holder is None
    lock.release(clean=False)


async def test_a_file_system_without_locks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock nothing would keep a second server off."""

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(ConfigurationError, match="not supported"):
        await SqliteStore(path).__aenter__()


@pytest.mark.parametrize("wal", [False, True])
async def test_a_newer_schema_is_refused_untouched(path: Path, wal: bool) -> None:
    """A server that was downgraded would write what the newer one cannot read (failures 8)."""
    newer = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('trio_chat', 'm9999_future', '')"
    if wal:
        async with SqliteStore(path.with_name("source")) as store:
            assert store._file is not None
            store._file.writer.connection.execute(newer)
            for suffix in ("", "-wal", "-shm"):
                shutil.copy(f"{store.path}{suffix}", f"{path}{suffix}")
        assert path.with_name("chat.db-wal").stat().st_size > 0
    else:
        await fill(path)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(newer)
    before = files(path)
    with pytest.raises(SchemaMismatch, match="m9999_future"):
        await SqliteStore(path).__aenter__()
    before.pop("chat.db-shm", None), (after := files(path)).pop("chat.db-shm", None)  # locks come and go in there
    assert after == before


async def test_steps_out_of_order_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose history is not this code's would be served as if it were."""
    await fill(path)
    known = schema.bundled()
    monkeypatch.setattr(known, "steps", (known.steps[0]._replace(name="m0000_before"), *known.steps))
    with pytest.raises(SchemaMismatch, match="out of order"):
        await SqliteStore(path).__aenter__()


async def test_somebody_elses_database_is_refused_untouched(path: Path) -> None:
    """A mistyped path would put our tables into another program's database."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE users (id)")
    before = files(path)
    with pytest.raises(SchemaMismatch, match="something else"):
        await SqliteStore(path).__aenter__()
    assert files(path) == before


@pytest.mark.parametrize("content", [b"This is not a database.\n" * 100, b"x"])
async def test_what_is_no_database_is_refused_untouched(path: Path, content: bytes) -> None:
    """A mistyped path would destroy a file, or the error would not say what to do (failures 7)."""
    write(path, content)
    with pytest.raises(ConfigurationError, match="not a database"):
        await SqliteStore(path).__aenter__()
    assert files(path) == {"chat.db": content}


async def test_a_database_whose_schema_cannot_be_read_is_refused_untouched(path: Path) -> None:
    """A damaged file would be made worse, or the error would not say what to do (failures 7)."""
    await fill(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)
    before = files(path)
    with pytest.raises(ConfigurationError, match="restore a backup"):
        await SqliteStore(path).__aenter__()
    assert files(path) == before


async def test_a_file_that_cannot_have_a_wal_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says nothing where there is no shared memory; a power loss takes acknowledged messages away then."""

    class NoWal(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode"), *values)

    monkeypatch.setattr(connection, "Connection", NoWal)
    with pytest.raises(ConfigurationError, match="cannot hold a WAL, it stays in mode delete"):
        await SqliteStore(path).__aenter__()


async def test_a_damaged_file_is_refused_when_checked(path: Path) -> None:
    """`serve --check` would serve a damaged file (failures 7)."""
    await fill(path, 50)
    async with SqliteStore(path, check=True) as store:
        assert store.failure is None
    damage(path)
    before = files(path)
    with pytest.raises(ConfigurationError, match="restore a backup"):
        await SqliteStore(path, check=True).__aenter__()
    assert files(path) == before


async def test_a_file_whose_own_names_are_damaged_is_refused(path: Path) -> None:
    """It would be refused with an error of Python's, or with a traceback, instead of with what to do (failures 7)."""
    await fill(path)
    write(path, contents(path).replace(b"m0002_search", b"m0002_s\xe9arch"[:12]))
    with pytest.raises(ConfigurationError, match="restore a backup"):
        await SqliteStore(path).__aenter__()


async def test_a_missing_directory_and_a_directory_are_refused(path: Path) -> None:
    """The error would be SQLite's, which names neither the path nor the reason."""
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        await SqliteStore(path / "missing" / "chat.db").__aenter__()
    with pytest.raises(ConfigurationError, match="is not a file"):
        await SqliteStore(path.parent).__aenter__()


@pytest.mark.parametrize("empty", ["no bytes", "no tables"])
async def test_an_empty_database_is_filled(path: Path, empty: str) -> None:
    """A file made beforehand, e.g. by `touch` to set its mode, would be refused."""
    write(path, b"")
    if empty == "no tables":
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 1")
    await fill(path)
    assert mode(path) == 0o640  # as it was: whoever made it may have reasons


@pytest.mark.parametrize("name", ["a b", "a?mode=memory", "a#b", "a%20b", "é"])
async def test_any_file_name_works(path: Path, name: str) -> None:
    """A name with a question mark in it would open another file, or none."""
    await fill(path.with_name(name))
    assert {file.name for file in path.parent.iterdir()} == {name, f"{name}.lock"}


async def test_a_rollback_journal_from_the_files_first_moment_is_no_obstacle(path: Path) -> None:
    """A server killed while it made its file could not be started again."""
    await fill(path)
    path.with_name("chat.db-journal").write_bytes(b"\0" * 512)
    async with SqliteStore(path, check=True) as store:
        (page,) = await store.pages([PageRequest("bob", 0, 10, 10**6)])
    assert len(page.messages) == 3


JOURNAL = bytes.fromhex("d9d505f920a163d7 00000000 00000000 00000000 00001000 00001000").ljust(512, b"\0")
"""What SQLite makes sure of before it writes the first page of a file: that there was none (SQLite file format, 3)."""


@pytest.mark.parametrize("first", [bytes(4096), bytes(512) + b"\x0d" + bytes(3583)], ids=["nothing", "torn"])
async def test_a_first_page_that_was_torn_is_no_obstacle(path: Path, first: bytes) -> None:
    """After a power cut in a new server's first moment it could not be started before somebody removes the file (2)."""
    write(path, first)
    write(path.with_name("chat.db-journal"), JOURNAL)
    await fill(path)
    async with SqliteStore(path, check=True) as store:
        (page,) = await store.pages([PageRequest("bob", 0, 10, 10**6)])
    assert len(page.messages) == 3


async def test_a_file_locked_by_another_program_can_be_opened_but_not_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup under way would keep the server from starting; or a migration would be half done."""
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.01)
    await fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with SqliteStore(path) as store:
            assert len((await store.pages([PageRequest("bob", 0, 10, 10**6)]))[0].messages) == 3
    remove(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigurationError, match="another process holds it"):
            await SqliteStore(path).__aenter__()


async def test_a_write_protected_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server would start and then refuse every message."""
    await fill(path)
    faults = install(monkeypatch)
    faults.broken["BEGIN IMMEDIATE"] = fault("SQLITE_READONLY")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        await SqliteStore(path).__aenter__()


async def test_a_full_disk_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator would be told of an I/O error, and replace the disk."""
    faults = install(monkeypatch)
    faults.broken["journal_mode"] = fault("SQLITE_FULL")
    with pytest.raises(ConfigurationError, match="no space left"):
        await SqliteStore(path).__aenter__()


async def test_an_opening_that_fails_lets_go_of_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would stay locked until the process ends."""
    faults = install(monkeypatch)
    for part in ("journal_mode", "CREATE TABLE log", "COMMIT", "query_only"):
        faults.broken = {part: fault("SQLITE_IOERR_WRITE")}
        with pytest.raises(ConfigurationError):
            await SqliteStore(path).__aenter__()
    faults.broken.clear()
    await fill(path)


@pytest.mark.parametrize("ending", [False, True])
async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, ending: bool) -> None:
    """A file would be left between two schemas (failures 9), or the error be hidden by one of the rollback."""
    faults = install(monkeypatch)
    faults.ending = ending
    faults.broken["CREATE TABLE log"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await SqliteStore(path).__aenter__()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []


async def test_after_a_crash_the_file_is_checked_while_it_serves(path: Path) -> None:
    """Damage would go unnoticed until somebody reads it; or a large file would take a minute to open (failures 7)."""
    copy = path.with_name("copy.db")
    await left_open(path, copy)
    async with SqliteStore(copy) as store:
        await wait_for_checkup(store)
        assert store.failure is None
        (page,) = await store.pages([PageRequest("bob", 0, 10, 10**6)])
        assert len(page.messages) == 3
    async with SqliteStore(copy) as store:
        assert store._file is not None
        assert store._file.checkup is None


async def test_a_wal_without_its_lock_file_means_a_crash_too(path: Path) -> None:
    """A crashed file that was copied elsewhere without the lock would not be checked."""
    copy = path.with_name("copy.db")
    await left_open(path, copy)
    remove(Path(f"{copy}.lock"))
    async with SqliteStore(copy) as store:
        await wait_for_checkup(store)
    async with SqliteStore(copy, check=True) as store:
        assert store._file is not None
        assert store._file.checkup is None


@pytest.mark.parametrize("left", ["some frames", "no frames", "nothing"])
async def test_what_a_crash_left_is_on_the_disk_before_it_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """A commit whose synchronisation was cut short by a kill would be acknowledged, and a power cut take it away (2)."""
    copy = path.with_name("copy.db")
    await left_open(path, copy)
    if left != "some frames":
        write(Path(f"{copy}-wal"), b"")
    if left == "nothing":
        remove(Path(f"{copy}-wal"))
    happened: list[str] = []
    sync, opened = os.fsync, connection.write

    def note(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        happened.append(f"{what} with its WAL" if what.is_dir() and Path(f"{copy}-wal").exists() else str(what))
        sync(descriptor)

    def opening(file: Path) -> sqlite3.Connection:
        happened.append("SQLite")
        return opened(file)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(connection, "write", opening)
    async with SqliteStore(copy):
        assert happened == [*([] if left == "nothing" else [f"{copy}-wal"]), "SQLite", f"{copy.parent} with its WAL"]


@pytest.mark.parametrize("fails", ["its WAL", "its folder", "the folder of a new one"])
async def test_what_cannot_be_synchronised_is_not_served(path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """A disk that fails would be served, and messages of it acknowledged (failures 4): SQLite overlooks the folder."""
    copy = path.with_name("copy.db")
    if fails != "the folder of a new one":
        await left_open(path, copy)
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (fails != "its WAL"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match=r"copy\.db: Input/output error"):
        await SqliteStore(copy).__aenter__()


async def test_damage_found_while_serving_stops_acknowledgements(path: Path) -> None:
    """Messages would go on being acknowledged into a damaged file (failures R2)."""
    await fill(path, 50)
    damage(path)
    lock = FileLock(path)
    lock.release(clean=False)
    async with SqliteStore(path) as store:
        await wait_for_checkup(store)
        assert store.failure is not None
        assert "damaged" in store.failure
        with pytest.raises(StoreUnavailable, match="damaged"):
            await store.append(Batch(drafts=(draft("alice", "carol", "1"),)), 1000)
    # Not closed as it should be: it is checked again.
    async with SqliteStore(path) as store:
        await wait_for_checkup(store)
        assert store.failure is not None


@pytest.mark.parametrize("name", ["SQLITE_IOERR_READ", "SQLITE_CORRUPT"])
async def test_a_check_that_cannot_be_made_is_a_failed_one(path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A disk that cannot even be read would count as healthy."""
    await fill(path)
    FileLock(path).release(clean=False)
    faults = install(monkeypatch)
    error: sqlite3.DatabaseError = fault(name)
    if name == "SQLITE_CORRUPT":
        error = sqlite3.DatabaseError("malformed")
    faults.broken["quick_check"] = error
    async with SqliteStore(path) as store:
        await wait_for_checkup(store)
        assert store.failure is not None


async def test_leaving_does_not_wait_for_the_check(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shutting down soon after a crash would take as long as checking the whole file; or the check would never be made."""
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    await fill(path)
    FileLock(path).release(clean=False)
    with monkeypatch.context() as patched:
        patched.setattr(checkup, "quick_check", lambda connection: connection.execute(endless).fetchone()[0])
        async with SqliteStore(path) as store:
            await store.append(Batch(openings=(Opening(1, "bob", "phone"),)), 1000)
    assert store.failure is None
    async with SqliteStore(path) as store:
        await wait_for_checkup(store)


async def test_a_failing_disk_does_not_keep_the_store_from_closing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original failure would be hidden by one of closing; or a sync that failed would be tried again (failures R2)."""
    faults = install(monkeypatch)
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=(draft("alice", "bob", "1"),)), 1000)
        faults.broken["wal_checkpoint"] = fault("SQLITE_IOERR_FSYNC")
    assert path.with_name("chat.db-wal").stat().st_size > 0
    faults.broken.clear()
    async with SqliteStore(path) as store:
        await wait_for_checkup(store)
        assert len((await store.pages([PageRequest("bob", 0, 10, 10**6)]))[0].messages) == 1


async def test_a_reader_outside_does_not_keep_the_store_from_closing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup under way would hang the shutdown, or be torn (failures 10)."""
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with SqliteStore(path) as store:
            await store.append(Batch(drafts=(draft("alice", "bob", "1"),)), 1000)
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            await store.append(Batch(drafts=(draft("alice", "bob", "2"),)), 1000)
        assert other.execute("SELECT count(*) FROM messages").fetchone() == (1,)
    async with SqliteStore(path) as store:
        assert len((await store.pages([PageRequest("bob", 0, 10, 10**6)]))[0].messages) == 2


async def test_a_disk_that_hangs_does_not_hang_the_shutdown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a dead network disk could only be killed."""
    monkeypatch.setattr(sqlite, "CLOSING_SECONDS", 0.01)
    faults = install(monkeypatch)
    with faults.holding("wal_checkpoint"):
        async with SqliteStore(path) as store:
            file = store._file
        assert file is not None
    await trio.to_thread.run_sync(wait_until_free, path)


async def test_it_knows_what_it_takes_of_the_disk(path: Path) -> None:
    """An operator would not see a WAL that nobody copies back."""
    async with SqliteStore(path) as store:
        before = store.space()
        assert before.file == connection.size_of(path) > 0
        await store.append(Batch(drafts=(draft("alice", "bob", "1"),)), 1000)
        assert store.space().wal > before.wal


async def test_settings_are_the_defaults_unless_given(path: Path) -> None:
    """An application that gives no settings would have no limits."""
    assert SqliteStore(path).settings == Settings()


def elsewhere(path: Path, other: Path, how: str) -> Path:
    if how == "hard link":
        other.hardlink_to(path)
        return other
    if how == "rename":
        return path.rename(other)
    path.with_name(f"{path.name}.lock").unlink()
    return path


@pytest.mark.parametrize("how", ["hard link", "rename", "no lock file"])
async def test_a_served_file_is_not_served_under_another_name(path: Path, tmp_path: Path, how: str) -> None:
    """Two servers would each number and acknowledge, and one of them in vain (failures 6)."""
    async with SqliteStore(path):
        other = elsewhere(path, tmp_path / "other.db", how)
        with pytest.raises(StoreLocked, match="another server serves this file"):
            await SqliteStore(other).__aenter__()


async def test_what_is_no_file_is_refused_untouched(tmp_path: Path) -> None:
    """A mistyped path would leave a lock file beside a device."""
    with pytest.raises(ConfigurationError, match="is not a file"):
        await SqliteStore(tmp_path).__aenter__()
    assert not tmp_path.with_name(f"{tmp_path.name}.lock").exists()
