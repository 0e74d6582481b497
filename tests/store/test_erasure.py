"""Erasing a user: what goes, what stays and why; and that the file holds nothing of it any more."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from trio_chat.core.batch import Batch, Draft, Opened, Opening, PageRequest, Refused
from trio_chat.core.outbox import Mute, Quiet, Register
from trio_chat.errors import ErrorCode, StoreBusy, StoreUnavailable
from trio_chat.keeping import Erased
from trio_chat.retrieval import ConversationsQuery, SearchQuery
from trio_chat.store import erasure, sqlite_keeping
from trio_chat.store.base import Store
from trio_chat.store.copies import back_up
from trio_chat.store.memory import MemoryStore
from trio_chat.store.sqlite import SqliteStore

from .asked import Writer, history
from .conftest import Backend
from .faulty import fault, install
from .test_queries_agree import BATCHES, USERS


def quiet(_: int, __: int) -> None:
    """Nobody watches."""


async def erase(store: Store, user: str) -> Erased:
    return await store.keeping.erase(user, quiet)


def removed(erased: Erased) -> dict[str, int]:
    return {one.table: one.removed for one in erased.tables if one.removed}


def kept(erased: Erased) -> dict[str, int]:
    return {one.table: one.kept for one in erased.tables if one.kept}


async def opened(store: Store, user: str, log: str | None = None, after: int | None = None) -> Opened:
    (one,) = (await store.append(Batch(openings=(Opening(1, user, "new", log, after),)), 9_000)).openings
    assert isinstance(one, Opened)
    return one


async def test_what_a_user_said_is_gone_and_what_others_said_is_theirs(backend: Backend) -> None:
    """The user's words would be with others for ever; or these would lose what is their own."""
    async with backend.open() as store:
        write = Writer(store)
        await write.send("alice", "bob", "a1", "mine")
        await write.send("bob", "alice", "b1", "yours")
        await write.send("alice", "bob", "e1", "mine again", kind="edit", target="a1")
        await write.send("alice", "alice", "n1", "a note")
        await write.acknowledge("alice", 2)
        before = await opened(store, "alice")
        erased = await erase(store, "alice")
        assert removed(erased) == {"texts": 3, "log": 4, "messages": 1, "devices": 2}
        assert kept(erased) == {"messages": 3, "conversations": 2, "users": 1}
        assert all(one.why or one.kept == 0 for one in erased.tables)
        assert [(one.id, one.text, one.deleted) for one in await history(store, "bob")] == [
            ("b1", "yours", False),
            ("a1", None, True),
        ]
        (page,) = await store.pages([PageRequest("bob", 0, 10, 10**9)])
        assert [(one.seq, one.id, one.text) for one in page.messages] == [
            (1, "a1", None),
            (2, "b1", "yours"),
            (3, "e1", None),
        ]
        assert not (await store.search("bob", SearchQuery(query="mine"), size=10**9)).hits
        assert len((await store.search("bob", SearchQuery(query="yours"), size=10**9)).hits) == 1
        assert await history(store, "alice") == []
        assert not (await store.conversations("alice", ConversationsQuery(), size=10**9)).conversations
        # A client that comes back sees another log, and its numbers go on.
        after = await opened(store, "alice", before.log, 4)
        assert after.log == erased.log != before.log
        assert (after.head, after.floor, after.new) == (4, 4, True)
        assert (await write.send("bob", "alice", "b2")).peer_seq == 5


async def test_what_is_the_users_alone_goes_with_the_user(backend: Backend) -> None:
    """Devices, secrets of theirs and whom one did not want to hear would stay in the file."""
    async with backend.open() as store:
        store.outbox.open(1000)
        write = Writer(store)
        for one, other in (("alice", "bob"), ("bob", "alice")):
            push = (Register(one, "phone", "p", "k", f"{one}'s"), Mute(one, "eve", True), Quiet(one, True))
            await write.append(Batch(openings=(Opening(1, one, "phone"),), push=push))
            await write.send(other, one, "m")
            await write.block(one, other)
        erased = await erase(store, "alice")
        assert removed(erased) == {
            "texts": 1, "log": 2, "devices": 1, "blocks": 1, "push_targets": 1, "push_jobs": 1, "push_mutes": 1,
            "push_quiet": 1,
        }  # fmt: skip
        assert (await store.outbox.targets("alice"), await store.blocked("alice")) == ((), ())
        assert (len(await store.outbox.targets("bob")), await store.blocked("bob")) == (1, ("alice",))
        assert (await store.outbox.preferences("bob")).quiet
        assert not (await store.outbox.preferences("alice")).quiet


async def test_nobody_is_erased_without_harm(backend: Backend) -> None:
    """A slip would make a user, or fail with a traceback."""
    async with backend.open() as store:
        assert await erase(store, "nobody") == Erased(user="nobody", log=None)
        (standing,) = await store.standings("alice", ["nobody"])
        assert standing.last_seen is None


async def test_it_may_be_repeated_and_what_was_sent_does_not_come_back(backend: Backend) -> None:
    """An outbox that is sent again would bring back what is gone (S2)."""
    async with backend.open() as store:
        write = Writer(store)
        await write.send("alice", "bob", "a1", "mine")
        first = await erase(store, "alice")
        second = await erase(store, "alice")
        assert removed(second) == {}
        assert kept(second) == kept(first)
        assert second.log != first.log
        again = Draft(1, "alice", "bob", "a1", "mine")
        assert (await write.append(Batch(drafts=(again,)))).drafts == (Refused(ErrorCode.ID_CONFLICT),)


# What the file holds.


def words(seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    while True:
        yield "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=12))


def holding(path: Path, secrets: list[str]) -> list[tuple[str, str]]:
    """Which files of the database hold which of these words."""
    found = []
    for file in path.parent.iterdir():
        if file.name.startswith(path.name):
            letters = re.findall(r"[a-z]{12,}", file.read_bytes().decode("latin-1"))
            there = {run[start : start + 12] for run in letters for start in range(len(run) - 11)}
            found += [(file.name, secret) for secret in there & {*secrets}]
    return found


async def fill(store: Store, secrets: list[str], *, rounds: int = 8) -> None:
    """Alice's words among those of others; some are edited, some deleted, and some pages are freed before."""
    others, mine = words(1), words(2)
    for n in range(rounds):
        drafts = []
        for m in range(40):
            said = [next(mine) for _ in range(1 + (n * m) % 400)]
            secrets += said
            drafts += [
                Draft(1, "alice", ("bob", "carol", "alice")[m % 3], f"a{n}.{m}", " ".join(said)),
                Draft(2, "bob", ("alice", "carol")[m % 2], f"b{n}.{m}", " ".join(next(others) for _ in range(30))),
            ]
        await store.append(Batch(drafts=tuple(drafts)), 1000 + n)
        edited = [next(mine) for _ in range(5)]
        secrets += edited
        changes = (
            Draft(3, "alice", "bob", f"e{n}", " ".join(edited), "edit", f"a{n}.0"),
            Draft(3, "alice", "carol", f"d{n}", None, "delete", f"a{n}.1"),
        )
        await store.append(Batch(drafts=changes), 1000 + n)


async def test_neither_the_file_nor_its_log_nor_a_later_backup_holds_the_words(path: Path, tmp_path: Path) -> None:
    """Who has the disk, or tomorrow's backup, would have what was said."""
    secrets: list[str] = []
    async with SqliteStore(path) as store:
        await fill(store, secrets)
        theirs = [text for one in await history(store, "carol", peer="bob") for text in (one.text or "").split()]
        found = await trio.to_thread.run_sync(holding, path, secrets)
        assert {name for name, _ in found} >= {"chat.db-wal"}
        await erase(store, "alice")
        assert await trio.to_thread.run_sync(holding, path, secrets) == []
        assert store.space().wal == 0
        copy = tmp_path / "copies" / "chat.db"
        await trio.Path(copy.parent).mkdir()
        await trio.to_thread.run_sync(lambda: back_up(path, copy, quiet))
        assert await trio.to_thread.run_sync(holding, copy, secrets) == []
        held = {word for _, word in await trio.to_thread.run_sync(holding, path, theirs)}
        assert held == {*theirs}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # The index of words gives no part of one away either: terms that begin like another are stored without that part.
        connection.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, search, row)")
        terms = {term for (term,) in connection.execute("SELECT term FROM terms")}
        assert not terms & {*secrets}
        assert {*theirs} <= terms


async def test_what_was_begun_is_finished_by_the_next_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash in the middle the rest would stay, and nobody would know."""
    secrets: list[str] = []
    monkeypatch.setattr(sqlite_keeping, "ENTRIES", 64)
    async with SqliteStore(path) as store:
        await fill(store, secrets, rounds=4)
        calls = 0
        once = erasure.erase_texts

        def crashes(connection: sqlite3.Connection, user: int, after: str, limit: int) -> tuple[int, str | None]:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise StoreBusy("somebody else has it")
            return once(connection, user, after, limit)

        with monkeypatch.context() as patch:
            patch.setattr(erasure, "erase_texts", crashes)
            with pytest.raises(StoreBusy):
                await erase(store, "alice")
        assert await history(store, "alice") == []
        assert await trio.to_thread.run_sync(holding, path, secrets)
    async with SqliteStore(path) as store:
        erased = removed(await erase(store, "alice"))
        assert 0 < erased["texts"] < 4 * 41
        assert "log" not in erased
        assert await trio.to_thread.run_sync(holding, path, secrets) == []


async def test_a_backup_that_reads_the_log_meanwhile_is_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be said that the words are gone while they lie beside the file."""
    monkeypatch.setattr(sqlite_keeping, "RETRY", 0.001)
    async with SqliteStore(path) as store:
        await Writer(store).send("alice", "bob", "m", "confidential")
        with closing(sqlite3.connect(path, isolation_level=None)) as reading:
            reading.execute("BEGIN")
            reading.execute("SELECT * FROM users").fetchall()
            monkeypatch.setattr(sqlite_keeping, "TRIES", 2)
            with pytest.raises(StoreBusy, match="erase again"):
                await erase(store, "alice")
            assert await trio.to_thread.run_sync(holding, path, ["confidential"])
            reading.execute("ROLLBACK")
        assert removed(await erase(store, "alice")) == {}
        assert await trio.to_thread.run_sync(holding, path, ["confidential"]) == []


@given(st.lists(BATCHES, min_size=1, max_size=4), USERS, st.lists(BATCHES, max_size=2))
@settings(max_examples=settings().max_examples // 4, suppress_health_check=list(HealthCheck))
def test_both_stores_erase_alike(batches: list[Batch], user: str, later: list[Batch]) -> None:
    """What is kept of a user would depend on the store."""

    async def run(path: Path) -> None:
        async with MemoryStore() as plain, SqliteStore(path) as store:
            for n, batch in enumerate(batches):
                await plain.append(batch, 1000 + n)
                await store.append(batch, 1000 + n)
            first, second = await erase(plain, user), await erase(store, user)
            assert replace(first, log="") == replace(second, log="")
            for n, batch in enumerate(later):
                assert (await plain.append(batch, 2000 + n)).drafts == (await store.append(batch, 2000 + n)).drafts
            for name in ("alice", "bob", "carol", "dave"):
                request = [PageRequest(name, 0, 1000, 10**9)]
                assert await plain.pages(request) == await store.pages(request)
                assert await plain.blocked(name) == await store.blocked(name)
                everything = ConversationsQuery()
                listed = await plain.conversations(name, everything, size=10**9)
                assert listed == await store.conversations(name, everything, size=10**9)

    with TemporaryDirectory() as folder:
        trio.run(run, Path(folder) / "chat.db")


async def test_pages_that_cannot_be_cut_off_are_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing disk would be taken for a file that is clean; or an error of SQLite's leave the store as it is."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await fill(store, [], rounds=4)
        for name, expected in (("SQLITE_BUSY", StoreBusy), ("SQLITE_IOERR_WRITE", StoreUnavailable)):
            broken.broken["wal_checkpoint(TRUNCATE)"] = fault(name)
            with pytest.raises(expected):
                await erase(store, "alice")
            broken.broken.clear()
    async with SqliteStore(path) as store:
        broken.broken["wal_checkpoint(TRUNCATE)"] = sqlite3.ProgrammingError("this is nobody's fault but ours")
        with pytest.raises(sqlite3.ProgrammingError):
            await erase(store, "alice")
        broken.broken.clear()
