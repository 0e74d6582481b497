"""The fourth step: it goes in and out, and no statement of push goes through a whole table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch, PageRequest, ReadMark
from trio_chat.core.outbox import Mute, Note, Prune, Quiet, Register, TargetGone, Unregister
from trio_chat.store import connection, migration, schema
from trio_chat.store.sqlite import SqliteStore

from .asked import Writer
from .conftest import draft
from .test_query_plans import scanned

STEPS = schema.bundled()
STEP = STEPS.names[3]
PHONE = Register("bob", "phone", "fake", "token", "secret")


async def test_the_step_goes_down_and_up(path: Path) -> None:
    """A server could not be downgraded, or an older file not be upgraded, without losing messages."""
    tables = "SELECT name, sql FROM sqlite_master WHERE name LIKE 'push%' ORDER BY name"
    async with SqliteStore(path) as store:
        store.outbox.open(0)
        await store.append(Batch(push=(PHONE,)), 1)
        await Writer(store).send("alice", "bob", "m1")
    assert migration.down(path, lambda line: None, STEPS.names[2]) == [*reversed(STEPS.names[3:])]
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute(tables).fetchall() == []
        STEPS.apply(schema.wrap(database), STEP)
        again = database.execute(tables).fetchall()
        assert [name for name, sql in again if sql] == [
            "push_jobs", "push_jobs_due", "push_mutes", "push_quiet", "push_targets", "push_targets_by_age",
            "push_targets_of_user",
        ]  # fmt: skip
    async with SqliteStore(path) as store:
        assert await store.outbox.targets("bob") == ()
        assert [message.id for message in (await store.pages([PageRequest("bob", 0, 10, 1000)]))[0].messages] == ["m1"]


async def test_no_statement_of_push_scans_a_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fast among ten targets would hold up every commit among a million."""
    executed: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            self.set_trace_callback(executed.append)

    monkeypatch.setattr(connection, "Connection", Traced)
    async with SqliteStore(path) as store:
        executed.clear()
        store.outbox.open(0)
        await store.append(Batch(push=(PHONE, Mute("bob", "eve", muted=True), Quiet("bob", quiet=True))), 1)
        await store.append(Batch(drafts=(draft("alice", "bob", "m1"),)), 2)
        (job,) = await store.outbox.due("fake", 10, 5)
        await store.append(Batch(push=(Note(job.key, "alice", job.id, 1, "sent", 0, "ok"),)), 3)
        await store.append(Batch(reads=(ReadMark("bob", "alice", 1),)), 4)
        await store.outbox.next("fake")
        await store.outbox.length()
        await store.outbox.waiting(None, 5)
        await store.outbox.waiting("bob", 5)
        await store.outbox.targets("bob")
        await store.outbox.preferences("bob")
        changes = Prune(1, 5), TargetGone(job.key, job.registered), Unregister("bob", "phone", "fake", "secret")
        await store.append(Batch(push=changes), 5)
    kinds = "SELECT", "WITH", "INSERT", "UPDATE", "DELETE"
    asked = [one for one in executed if "push_" in one and one.lstrip().startswith(kinds)]
    assert len(asked) > 20
    with closing(sqlite3.connect(path)) as database:
        assert scanned(database, "SELECT * FROM push_jobs WHERE answered = 1") == ["push_jobs"]
        for statement in asked:
            # What is the oldest, and how much waits in all, is the beginning or the whole of an index of just that.
            found = set(scanned(database, statement))
            allowed = {"push_jobs_due"} if "due NOTNULL" in statement else set()
            allowed |= {"push_targets_by_age"} if "ORDER BY registered" in statement else set()
            assert (statement, found - allowed) == (statement, set())
