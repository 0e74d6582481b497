"""Copies of a database file, and putting one back."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest
import trio

from trio_chat.core.batch import Batch, Draft, Opening
from trio_chat.errors import ConfigurationError, StoreLocked
from trio_chat.store import copies
from trio_chat.store.copies import Copied, back_up, renew, restore
from trio_chat.store.sqlite import SqliteStore
from trio_chat.store.writer import Writer


def unseen(done: int, total: int) -> None:
    """Nobody looks."""


def draft(id: str, text: str = "hi") -> Batch:
    return Batch(drafts=(Draft(1, "alice", "bob", id, text),))


async def log_of(path: Path) -> tuple[str, int]:
    """What alice's client is told: the name of her log, and its head."""
    async with SqliteStore(path) as store:
        (opened,) = (await store.append(Batch(openings=(Opening(1, "alice", "phone"),)), 1)).openings
    assert not isinstance(opened, Exception)
    return opened.log, opened.head  # type: ignore[union-attr]


async def filled(path: Path, messages: int = 3) -> None:
    async with SqliteStore(path) as store:
        for number in range(messages):
            await store.append(draft(str(number)), 1)


async def test_a_copy_beside_a_server_holds_what_was_stored(tmp_path: Path) -> None:
    """Else a backup lacks what was acknowledged, or cannot be taken without stopping the server."""
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    seen: list[tuple[int, int]] = []
    async with SqliteStore(path) as store:
        for number in range(20):
            await store.append(draft(str(number), "x" * 16_000), 1)
        stored = 20

        def meanwhile(done: int, total: int) -> None:
            # The store goes on while the copy is taken: else the copy would begin again with each commit, without an end.
            nonlocal stored
            seen.append((done, total))
            trio.from_thread.run(store.append, draft(f"later {stored}"), 1)
            stored += 1

        copied = await trio.to_thread.run_sync(back_up, path, copy, meanwhile)
    assert copied == Copied(path=str(copy), bytes=copy.stat().st_size, messages=20)  # noqa: ASYNC240
    assert seen[-1][0] == seen[-1][1] > 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600  # noqa: ASYNC240
    assert sorted(os.listdir(tmp_path)) == ["chat.db", "chat.db.lock", "copy.db"]  # noqa: PTH208  (names)


async def test_what_is_copied_goes_to_the_disk_along_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else hundreds of megabytes go there at once at the end, and every commit of the server waits for that."""
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    async with SqliteStore(path) as store:
        for number in range(20):
            await store.append(draft(str(number), "x" * 16_000), 1)
    monkeypatch.setattr(copies, "_PAGES", 5)
    monkeypatch.setattr(copies, "_SLICE", 10)
    synced: list[int] = []
    rests: list[float] = []
    done = 0

    def advance(now: int, _: int) -> None:
        nonlocal done
        done = now

    monkeypatch.setattr("os.fsync", lambda _: synced.append(done))
    monkeypatch.setattr("time.monotonic", iter(range(10_000)).__next__)
    monkeypatch.setattr("time.sleep", rests.append)
    back_up(path, copy, advance)
    assert done > 100
    along = synced[: rests.count(1)]  # what comes after is the end, of which nobody rests
    assert along == [*range(10, done + 1, 10)]
    assert rests[:4] == [copies._PAUSE, 1, copies._PAUSE, 1]  # as long as it took


async def test_the_servers_log_is_held_for_no_longer_than_the_copying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it grows while the copy is looked at, too, and the longer it is the longer its copying stalls the server."""
    path = tmp_path / "chat.db"
    emptied: list[bool] = []
    look = copies._require_sound
    async with SqliteStore(path) as store:
        await store.append(draft("1"), 1)

        def meanwhile(*_: int) -> None:
            emptied.append(trio.from_thread.run(store._write, Writer.empty_wal))

        def looking(copy: Path) -> int:
            meanwhile()
            return look(copy)

        monkeypatch.setattr(copies, "_require_sound", looking)
        await trio.to_thread.run_sync(back_up, path, tmp_path / "copy.db", meanwhile)
    assert emptied == [*(False for _ in emptied[1:]), True]
    assert len(emptied) > 1


async def test_what_is_put_back_is_another_history(tmp_path: Path) -> None:
    """Else a client believes that it has messages which other ones have taken the numbers of."""
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    await filled(path)
    back_up(path, copy, unseen)
    before, _ = await log_of(path)
    await filled(path, 5)  # two more, which are acknowledged and not in the copy
    with pytest.raises(ConfigurationError, match="add --replace"):
        restore(copy, path, unseen)
    assert (await log_of(path)) == (before, 5)
    assert restore(copy, path, unseen, replace=True).messages == 3
    after, head = await log_of(path)
    assert after != before
    assert head == 3
    (aside,) = tmp_path.glob("chat.db.before-restore-*")  # noqa: ASYNC240
    assert await log_of(aside) == (before, 5)
    assert (await log_of(copy))[0] == before


async def test_to_another_place(tmp_path: Path) -> None:
    """Else a machine that is new cannot take over."""
    await filled(tmp_path / "chat.db")
    back_up(tmp_path / "chat.db", tmp_path / "copy.db", unseen)
    restore(tmp_path / "copy.db", tmp_path / "new.db", unseen)
    assert not list(tmp_path.glob("copy.db-*"))  # noqa: ASYNC240  (its folder may be one that cannot be written to)
    assert (await log_of(tmp_path / "new.db"))[1] == 3
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600


async def test_one_that_was_put_back_by_hand_is_renewed(tmp_path: Path) -> None:
    """Else nobody can mend what cp has done."""
    path = tmp_path / "chat.db"
    await filled(path)
    before, _ = await log_of(path)
    renew(path)
    after, head = await log_of(path)
    assert after != before
    assert head == 3


async def test_a_live_one_is_left_alone(tmp_path: Path) -> None:
    """Else a restore takes the file away under a server, which goes on acknowledging into nothing."""
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    async with SqliteStore(path) as store:
        await store.append(draft("1"), 1)
        back_up(path, copy, unseen)
        for refused in (lambda: restore(copy, path, unseen, replace=True), lambda: renew(path)):
            with pytest.raises(StoreLocked):
                refused()
        await store.append(draft("2"), 1)
    assert (await log_of(path))[1] == 2


async def test_a_copy_that_is_there_is_kept(tmp_path: Path) -> None:
    """Else a mistyped name costs the only backup."""
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    await filled(path)
    back_up(path, copy, unseen)
    was = copy.read_bytes()
    with pytest.raises(ConfigurationError, match="is there already"):
        back_up(path, copy, unseen)
    assert copy.read_bytes() == was
    await filled(path, 4)
    assert back_up(path, copy, unseen, replace=True).messages == 4


def damage(path: Path) -> None:
    """Overwrite a page in the middle of the file."""
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)


async def test_a_damaged_one_is_no_backup(tmp_path: Path) -> None:
    """Else the damage is found on the day when the backup is needed, and every good one has been overwritten."""
    path, copy = tmp_path / "chat.db", tmp_path / "copy.db"
    await filled(path)
    back_up(path, copy, unseen)
    was = copy.read_bytes()
    damage(path)
    with pytest.raises(ConfigurationError, match=r"damaged|malformed"):
        back_up(path, copy, unseen, replace=True)
    assert copy.read_bytes() == was
    assert not list(tmp_path.glob("*.partial*"))  # noqa: ASYNC240
    # What cannot be read any more is put aside as it is.
    restore(copy, path, unseen, replace=True)
    assert (await log_of(path))[1] == 3


async def test_one_whose_index_lacks_rows_is_damaged(tmp_path: Path) -> None:
    """Else only what SQLite stumbles over is found, and not what it finds when it looks."""
    path = tmp_path / "chat.db"
    await filled(path)
    with sqlite3.connect(path) as torn:
        torn.execute("PRAGMA writable_schema = ON")
        torn.execute("UPDATE sqlite_master SET sql = replace(sql, 'IS NOT NULL', 'IS NULL') WHERE name = 'messages_about'")
    torn.close()
    with pytest.raises(ConfigurationError, match="damaged"):
        back_up(path, tmp_path / "copy.db", unseen)
    assert not (tmp_path / "copy.db").exists()


async def test_what_is_none_is_refused(tmp_path: Path) -> None:
    """Else an operator who mistypes a name restores nothing over something, or is shown a traceback."""
    path = tmp_path / "chat.db"
    (tmp_path / "text.db").write_text("nothing of a chat's\n" * 100)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE cake (slices INTEGER)")
    other.close()
    sqlite3.connect(tmp_path / "empty.db").close()
    for name in ("missing.db", "text.db", "other.db", "empty.db"):
        for refused in (
            lambda name=name: back_up(tmp_path / name, tmp_path / "copy.db", unseen),
            lambda name=name: restore(tmp_path / name, path, unseen),
            lambda name=name: renew(tmp_path / name),
        ):
            with pytest.raises(ConfigurationError):
                refused()
    await filled(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        back_up(path, tmp_path / "nowhere" / "copy.db", unseen)


async def test_one_that_was_not_completed_is_refused(tmp_path: Path) -> None:
    """Else what was being copied when the machine went down is put back as if it were whole."""
    await filled(tmp_path / "chat.db")
    back_up(tmp_path / "chat.db", tmp_path / "copy.db", unseen)
    (tmp_path / "copy.db-journal").write_bytes(b"half of it")
    with pytest.raises(ConfigurationError, match="journal"):
        restore(tmp_path / "copy.db", tmp_path / "new.db", unseen)


async def test_an_older_schema_is_told(tmp_path: Path) -> None:
    """Else a backup of a version ago is restored for a server that then changes it without a word."""
    path = tmp_path / "chat.db"
    await filled(path)
    with sqlite3.connect(path) as older:
        older.execute("DELETE FROM _sqlite_migrations WHERE name = (SELECT max(name) FROM _sqlite_migrations)")
    older.close()
    with pytest.raises(ConfigurationError, match="migrate up"):
        back_up(path, tmp_path / "copy.db", unseen)
