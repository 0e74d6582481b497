"""Retention: what leaves the logs, what stays and why, and that a sweep may end anywhere. Both stores."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from trio_chat.core.batch import Batch, Draft, Mark, Opened, Opening, PageRequest, Refused
from trio_chat.errors import ConfigurationError, ErrorCode, StoreBusy, StoreFull, StoreUnavailable
from trio_chat.keeping import DAY, WEIGHT, Retained, Retention
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchQuery
from trio_chat.settings import Settings
from trio_chat.store import retention as retaining
from trio_chat.store import sqlite_keeping
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.store.sqlite import SqliteStore

from .asked import Writer, seqs
from .conftest import Backend, Sqlite
from .faulty import fault, install
from .test_queries_agree import BATCHES, HISTORIES, SEARCHES, SIZES, USERS, answerable, asked

NOTHING = Retained()


def quiet(_: int, __: int) -> None:
    """Nobody watches."""


async def retain(store: Store, now: int = 10_000, **values: Any) -> Retained:
    return await store.keeping.retain(Retention.of(**{"undelivered_days": 0, **values}), now, quiet)


async def page(store: Store, user: str, after: int = 0) -> tuple[int, list[int]]:
    (found,) = await store.pages([PageRequest(user, after, 1000, 10**9)])
    return found.floor, [message.seq for message in found.messages]


async def opened(store: Store, user: str, device: str = "other") -> Opened:
    (one,) = (await store.append(Batch(openings=(Opening(1, user, device),)), 9_000)).openings
    assert isinstance(one, Opened)
    return one


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_the_newest_stay_of_each_log(backend: Backend) -> None:
    """A log of somebody busy would grow for ever; or one of somebody quiet would lose what little it has."""
    async with backend.open() as store:
        write = Writer(store)
        for n in range(5):
            await write.send("alice", "bob", f"m{n}")
        await write.send("carol", "bob", "c0")
        assert await retain(store, per_user=2) == Retained(users=2, entries=3 + 4, messages=3)
        assert [await page(store, user) for user in ("alice", "bob", "carol")] == [(3, [4, 5]), (4, [5, 6]), (0, [1])]
        assert await seqs(store, "bob") == [6, 5]


async def test_what_is_old_goes(backend: Backend) -> None:
    """What was promised to be gone after so many days would be there still, or what is newer would not."""
    async with backend.open() as store:
        write = Writer(store)
        for n in range(4):
            await write.send("alice", "bob", f"m{n}", f"text {n}")  # at 1000, 1010, 1020 and 1030
        assert await retain(store, now=DAY + 1020, days=1) == Retained(users=2, entries=4, messages=2)
        assert await page(store, "bob") == (2, [3, 4])
        assert not (await store.search("bob", SearchQuery(query="text 0"), size=10**9)).hits
        assert len((await store.search("bob", SearchQuery(query="text 2"), size=10**9)).hits) == 1
        assert await retain(store, now=DAY + 1020, days=1) == NOTHING


async def test_the_oldest_of_all_go_until_the_rest_is_small_enough(backend: Backend) -> None:
    """A limit for a disk would not hold, or would cost more than it has to."""
    async with backend.open() as store:
        write = Writer(store)
        for n in range(6):
            await write.send("alice", ("bob", "carol")[n % 2], f"m{n}", "x" * 100)
        room = 3 * (100 + WEIGHT)
        assert await retain(store, max_bytes=6 * (100 + WEIGHT)) == NOTHING
        assert await retain(store, max_bytes=room) == Retained(users=3, entries=6, messages=3)
        assert [await page(store, user) for user in ("alice", "bob", "carol")] == [(3, [4, 5, 6]), (2, [3]), (1, [2, 3])]
        assert await retain(store, max_bytes=room) == NOTHING


async def test_what_lies_in_several_bands_is_added_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit would hold for the newest band of messages only."""
    monkeypatch.setattr(retaining, "_BAND", 2)
    async with SqliteStore(path) as store:
        write = Writer(store)
        for n in range(7):
            await write.send("alice", "alice", f"m{n}", "x")
        assert await retain(store, max_bytes=5 * (1 + WEIGHT)) == Retained(users=1, entries=2, messages=2)
        assert await page(store, "alice") == (2, [3, 4, 5, 6, 7])


async def test_what_nobody_has_taken_yet_stays(backend: Backend) -> None:
    """Who comes back from a journey would find that their messages were thrown away unread."""
    async with backend.open() as store:
        write = Writer(store)
        for n in range(4):
            await write.send("alice", "bob", f"m{n}")
        await write.acknowledge("bob", 1)
        await write.acknowledge("alice", 4)
        assert await retain(store, now=30 * DAY, per_user=1, undelivered_days=30) == Retained(
            users=2, entries=3 + 1, messages=1
        )
        assert await page(store, "bob") == (1, [2, 3, 4])
        # For ever, it does not.
        assert await retain(store, now=30 * DAY + 1020, per_user=1, undelivered_days=30) == Retained(
            users=1, entries=1, messages=1
        )
        assert await page(store, "bob") == (2, [3, 4])


async def test_nothing_goes_unless_it_is_said_what(backend: Backend) -> None:
    """A server without such a setting would lose messages."""
    async with backend.open() as store:
        await Writer(store).send("alice", "bob", "m")
        assert await retain(store, now=10**15) == NOTHING
        assert await page(store, "bob") == (0, [1])


async def test_a_log_that_is_empty_goes_on_where_it_was(backend: Backend) -> None:
    """A number would be given to two messages, and the second one would pass every client by (L3)."""
    async with backend.open() as store:
        write = Writer(store)
        for n in range(3):
            await write.send("alice", "bob", f"m{n}")
        assert await retain(store, now=10**12, days=1) == Retained(users=2, entries=6, messages=3)
        assert [await page(store, user) for user in ("alice", "bob")] == [(3, []), (3, [])]
        assert not (await store.conversations("bob", ConversationsQuery(), size=10**9)).conversations
    async with backend.open() as store:
        welcome = await opened(store, "bob")
        assert (welcome.head, welcome.floor, welcome.cursor) == (3, 3, 0)
        again = await Writer(store).send("alice", "bob", "m0", "another one of an id that is free again")
        assert (again.seq, again.peer_seq, again.new) == (4, 4, True)


async def test_an_id_is_known_while_a_log_holds_its_message(backend: Backend) -> None:
    """A message sent again would be delivered twice to somebody who has it (S2)."""
    async with backend.open() as store:
        write = Writer(store)
        await write.send("alice", "bob", "m")
        await write.acknowledge("alice", 1)
        await retain(store, now=10 * DAY, days=1, undelivered_days=30)
        assert await page(store, "alice") == (1, [])
        assert (await write.send("alice", "bob", "m")).new is False
        assert await page(store, "bob") == (0, [1])


async def test_what_is_about_a_message_that_has_gone_says_so_still(backend: Backend) -> None:
    """A device that is behind would be given an edit of nothing. What was said in the message has to go all the same."""
    async with backend.open() as store:
        write = Writer(store)
        await write.send("alice", "bob", "m", "a secret")
        await write.send("alice", "bob", "e", "better", kind="edit", target="m")
        await write.send("bob", "alice", "a", "an answer", target="m")
        assert await retain(store, per_user=2) == Retained(users=2, entries=2, messages=0)
        (found,) = await store.pages([PageRequest("bob", 0, 10, 10**9)])
        assert [(one.id, one.target, one.reply_to) for one in found.messages] == [("e", "m", None), ("a", None, "m")]
        # Nothing can be made of it any more.
        late = Draft(1, "alice", "bob", "late", "later", "edit", "m")
        assert (await write.append(Batch(drafts=(late,)))).drafts == (Refused(ErrorCode.BAD_QUERY),)
        assert await retain(store, per_user=1) == Retained(users=2, entries=2, messages=1)
        assert await retain(store, now=10**12, days=1) == Retained(users=2, entries=2, messages=2)


async def test_nothing_is_left_in_the_file(path: Path) -> None:
    """Rows that nobody finds would fill the disk."""
    async with SqliteStore(path) as store:
        write = Writer(store)
        await write.send("alice", "bob", "m", "apples")
        await write.send("alice", "bob", "e", "pears", kind="edit", target="m")
        await write.send("bob", "alice", "a", "plums", target="m")
        await write.send("alice", "alice", "n", "a note")
        await write.send("alice", "bob", "d", None, kind="delete", target="m")
        await retain(store, now=10**12, days=1)
    assert [rows(path, table) for table in ("messages", "log", "search_docsize")] == [0, 0, 0]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_log_begins_at_its_floor_before_it_is_swept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is behind would be told of a gap for each slice; or be given what is no longer there a moment later."""
    async with SqliteStore(path) as store:
        write = Writer(store)
        for n in range(6):
            await write.send("alice", "bob", f"m{n}")
        await write.acknowledge("bob", 1)

        def fail(*_: object) -> int:
            raise StoreFull("there is no space left")

        with monkeypatch.context() as patch:
            patch.setattr(retaining, "sweep", fail)
            with pytest.raises(StoreFull):
                await retain(store, per_user=2)
        assert rows(path, "log") == 12
        assert await page(store, "bob") == (4, [5, 6])
        assert await seqs(store, "bob") == [6, 5]
        assert await seqs(store, "bob", ids=("m0", "m5")) == [6]
        (conversation,) = (await store.conversations("bob", ConversationsQuery(), size=10**9)).conversations
        assert conversation.unread == 2
        (receipt,) = (await store.append(Batch(marks=(Mark("bob", "phone", 5),)), 9_000)).progress
        assert receipt.delivered == 5
    async with SqliteStore(path) as store:
        # Whoever comes next goes on, and counts what it removes.
        assert await retain(store, per_user=2) == Retained(users=0, entries=0, messages=4)
        assert await page(store, "bob") == (4, [5, 6])
    assert (rows(path, "log"), rows(path, "messages")) == (4, 2)


async def test_slices_are_small_and_take_turns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for all would hold up every message for as long as it takes."""
    monkeypatch.setattr(sqlite_keeping, "LOGS", 2)
    monkeypatch.setattr(sqlite_keeping, "ENTRIES", 8)
    monkeypatch.setattr(sqlite_keeping, "FEWEST", 4)
    monkeypatch.setattr(sqlite_keeping, "USERS", 2)
    slices = []
    sweep = retaining.sweep

    def counted(connection: sqlite3.Connection, chosen: Any) -> int:
        slices.append(dict(chosen))
        return sweep(connection, chosen)

    monkeypatch.setattr(retaining, "sweep", counted)
    seen: list[tuple[int, int]] = []
    async with SqliteStore(path) as store:
        drafts = tuple(Draft(1, f"user{n % 5}", f"user{(n + 1) % 5}", f"m{n}", "hi") for n in range(60))
        await store.append(Batch(drafts=drafts), 1000)
        done = await store.keeping.retain(Retention(per_user=1, undelivered_days=0), 2000, lambda *now: seen.append(now))
        assert (done.users, done.entries) == (5, 115)
    assert max(sum(chosen.values()) for chosen in slices) <= 8
    assert {user for chosen in slices for user in chosen} == {1, 2, 3, 4, 5}
    assert seen[-1] == (115, 115)
    assert seen == sorted(seen)
    assert (rows(path, "log"), rows(path, "messages")) == (5, 60 - done.messages)


async def test_space_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would stay as large as it ever was."""
    monkeypatch.setattr(sqlite_keeping, "SPARE", 4)
    monkeypatch.setattr(sqlite_keeping, "PAGES", 32)
    async with SqliteStore(path) as store:
        for n in range(8):
            drafts = tuple(Draft(1, "alice", "bob", f"{n} {m}", f"{n}" * 2000) for m in range(50))
            await store.append(Batch(drafts=drafts), 1000 + n)
        await store.keeping.retain(Retention(), 0, quiet)
        await store.keeping.compact()
        before = store.space().wal  # it was rewritten there
        done = await retain(store, per_user=20)
        assert done.bytes > 500_000
        assert store.space().file < before - 500_000
        assert (await page(store, "bob"))[1] == [*range(381, 401)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] <= 4 + 2
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_file_that_cannot_become_shorter_is_no_failure(path: Path) -> None:
    """A file of an earlier version could not be retained at all."""
    async with SqliteStore(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=tuple(Draft(1, "a", "b", f"{m}", "x" * 9000) for m in range(400))), 1000)
        assert await retain(store, per_user=1) == Retained(users=2, entries=798, messages=399)


@pytest.mark.parametrize(("name", "lasting"), [("SQLITE_BUSY", False), ("SQLITE_IOERR_WRITE", True)])
async def test_space_that_cannot_be_given_back_is_told_of(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lasting: bool
) -> None:
    """A file would silently stay as long as it was; or, on a disk that has failed, be written on (failures R2)."""
    monkeypatch.setattr(sqlite_keeping, "SPARE", 0)
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await store.append(Batch(drafts=tuple(Draft(1, "alice", "bob", f"{m}", "x" * 3000) for m in range(50))), 1000)
        broken.broken["incremental_vacuum"] = fault(name)
        with pytest.raises(StoreUnavailable if lasting else StoreBusy):
            await retain(store, per_user=1)
        broken.broken.clear()
        assert await page(store, "bob") == (49, [50])  # the rest is done, and can be read
        if lasting:
            with pytest.raises(StoreUnavailable):
                await Writer(store).send("alice", "bob", "m")
        else:
            assert (await retain(store, per_user=1)).bytes > 50_000


async def test_a_log_that_the_writer_does_not_remember_is_cut_too(path: Path) -> None:
    """Retention right after a start would fail, or a writer would go by floors it has made up."""
    async with SqliteStore(path, Settings(mailbox=3)) as store:
        for n in range(3):
            await Writer(store).send("alice", "bob", f"m{n}")
    async with SqliteStore(path, Settings(mailbox=3)) as store:
        assert await retain(store, per_user=1) == Retained(users=2, entries=4, messages=2)
        assert (await opened(store, "bob")).floor == 2
        assert (await Writer(store).send("alice", "bob", "m3")).peer_seq == 4


async def test_the_writer_knows_the_new_floor(backend: Backend) -> None:
    """It would go by what it remembers, and tell a client that its log begins earlier than it does."""
    async with backend.open(Settings(mailbox=3)) as store:
        write = Writer(store)
        for n in range(3):
            await write.send("alice", "bob", f"m{n}")
        full = Draft(1, "alice", "bob", "m3", "hi")
        assert (await write.append(Batch(drafts=(full,)))).drafts == (Refused(ErrorCode.MAILBOX_FULL),)
        await retain(store, per_user=1)
        assert (await opened(store, "bob")).floor == 2
        # What left the log undelivered waits no more.
        assert (await write.send("alice", "bob", "m3")).peer_seq == 4


@pytest.mark.parametrize("values", [{"days": 0}, {"days": "7"}, {"per_user": 0}, {"max_bytes": -1}, {"weeks": 1}])
def test_what_cannot_be_is_refused(values: dict[str, Any]) -> None:
    """A slip would empty every log."""
    with pytest.raises(ConfigurationError, match="retention: "):
        Retention.of(**values)


RETENTIONS = st.builds(
    Retention,
    days=st.none() | st.floats(0.1, 3),
    per_user=st.none() | st.integers(1, 6),
    max_bytes=st.none() | st.integers(1, 8).map(lambda count: count * WEIGHT),
    undelivered_days=st.sampled_from([0.0, 0.0, 1.0, 5.0]),
)


@given(
    st.lists(st.tuples(st.lists(BATCHES, min_size=1, max_size=3), RETENTIONS), min_size=1, max_size=5),
    st.lists(st.tuples(USERS, HISTORIES, SIZES), max_size=6),
    st.lists(st.tuples(USERS, SEARCHES, SIZES), max_size=4),
)
@settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))
def test_both_stores_retain_alike(
    rounds: list[tuple[list[Batch], Retention]],
    histories: list[tuple[str, dict[str, Any], int]],
    searches: list[tuple[str, SearchQuery, int]],
) -> None:
    """What is kept would depend on the store, and one of the two would lose or keep what it must not."""

    async def run(path: Path) -> None:
        async with MemoryStore() as plain, Sqlite(path).open() as store:
            now = 0
            for batches, retention in rounds:
                for batch in batches:
                    now += DAY // 4
                    first, second = await plain.append(batch, now), await store.append(batch, now)
                    assert (first.drafts, {*first.progress}) == (second.drafts, {*second.progress})
                    for one, other in zip(first.openings, second.openings, strict=True):
                        assert isinstance(one, Opened)
                        assert isinstance(other, Opened)
                        assert replace(one, log="") == replace(other, log="")
                done = [await one.keeping.retain(retention, now, quiet) for one in (plain, store)]
                assert done[0] == done[1]
                for user in ("alice", "bob", "carol", "dave"):
                    request = [PageRequest(user, 0, 1000, 10**9)]
                    assert await plain.pages(request) == await store.pages(request)
            for user, values, size in histories:
                query: HistoryQuery = answerable(values)
                assert await asked(store.history(user, query, size=size)) == await asked(
                    plain.history(user, query, size=size)
                )
            for user, search, size in searches:
                assert await store.search(user, search, size=size) == await plain.search(user, search, size=size)
            for user in ("alice", "bob"):
                everything = ConversationsQuery()
                assert await store.conversations(user, everything, size=10**9) == await plain.conversations(
                    user, everything, size=10**9
                )
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
            held = connection.execute(
                "SELECT count(*) FROM log AS l JOIN users AS u ON u.id = l.user WHERE l.seq <= u.floor"
                " OR NOT EXISTS (SELECT 1 FROM messages AS m WHERE m.id = l.message)"
            ).fetchone()
            assert held == (0,)

    with TemporaryDirectory() as folder:
        trio.run(run, Path(folder) / "chat.db")


async def test_a_file_that_cannot_be_rewritten_is_left_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has too little space for a second copy would see a traceback, or lose the first one."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await Writer(store).send("alice", "bob", "m")
        broken.broken["VACUUM"] = fault("SQLITE_FULL")
        with pytest.raises(StoreFull):
            await store.keeping.compact()
        broken.broken.clear()
        assert (await Writer(store).send("alice", "bob", "n")).seq == 2
