"""What is told about a user, and about one message; by both stores alike."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_chat.core.batch import Batch, Mark, Opening, ReadMark
from trio_chat.core.outbox import Mute, Note, Quiet, Register
from trio_chat.errors import StoreUnavailable
from trio_chat.keeping import DeviceDelivery, Explanation, PushState, Retention
from trio_chat.store import portrait
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.store.sqlite import SqliteStore

from .asked import Writer
from .conftest import Backend
from .faulty import fault, install
from .test_queries_agree import BATCHES, IDS, USERS


async def export(store: Store, user: str) -> list[dict[str, Any]]:
    async with store.keeping.export(user, 5000) as lines:
        return [json.loads(line) async for line in lines]


async def retain(store: Store, **values: Any) -> None:
    await store.keeping.retain(Retention(undelivered_days=0, **values), 10**12, lambda *_: None)


async def test_an_export_holds_everything(backend: Backend) -> None:
    """Who asks for what is held would be given a part of it."""
    async with backend.open() as store:
        store.outbox.open(1000)
        write = Writer(store)
        push = (Register("alice", "phone", "p", "k", "a secret"), Mute("alice", "eve", True), Quiet("alice", True))
        await write.append(Batch(openings=(Opening(1, "alice", "phone"),), push=push))
        await write.send("alice", "bob", "a0", "old")
        await write.send("alice", "bob", "a1", "hi")
        await write.send("bob", "alice", "b1", "hello", target="a1")
        await write.send("alice", "bob", "a2", "hi!", kind="edit", target="a1")
        await write.send("bob", "carol", "b2", "not hers")
        await write.append(Batch(marks=(Mark("alice", "phone", 3),), reads=(ReadMark("alice", "bob", 3),)))
        await write.block("alice", "mallory")
        await write.block("eve", "alice")
        await retain(store, per_user=3)
        lines = await export(store, "alice")
        assert lines[0] | {"log": ""} == {
            "type": "export", "version": 1, "user": "alice", "at": 5000, "log": "", "head": 4, "floor": 1, "delivered": 3
        }  # fmt: skip
        assert lines[-1] == {"type": "end"}
        (device, block, conversation, target, waiting, mute, quiet), entries = lines[1:8], lines[8:-1]
        assert (device["type"], device["name"], device["cursor"]) == ("device", "phone", 3)
        assert block == {"type": "block", "user": "mallory"}
        assert conversation == {"type": "conversation", "peer": "bob", "last": 4, "read": 3}
        assert (target["type"], target["device"], target["target"]) == ("push_target", "phone", "a secret")
        assert (waiting["type"], waiting["peer"], waiting["seq"]) == ("push", "bob", 3)
        assert (mute, quiet) == ({"type": "push_mute", "peer": "eve"}, {"type": "push_quiet"})
        assert [(one["seq"], one["id"], one["text"]) for one in entries] == [
            (2, "a1", "hi"), (3, "b1", "hello"), (4, "a2", "hi!")
        ]  # fmt: skip
        assert entries[1] | {"sent_at": 0} == {
            "type": "entry", "seq": 3, "kind": "message", "id": "b1", "from": "bob", "to": "alice", "text": "hello",
            "sent_at": 0, "reply_to": "a1",
        }  # fmt: skip
        assert (entries[2]["kind"], entries[2]["target"]) == ("edit", "a1")
        assert await export(store, "nobody") == []
        assert await export(store, "\ud800") == []


async def test_what_only_the_other_holds_of_ones_words_is_exported_too(backend: Backend) -> None:
    """What a user said would lie with somebody else, and the user would not be told."""
    async with backend.open() as store:
        write = Writer(store)
        await write.send("alice", "bob", "a1", "hi")
        for n in range(3):
            await write.send("alice", "carol", f"c{n}", "there")
        await retain(store, per_user=3)
        entries = [line for line in await export(store, "alice") if line["type"] == "entry"]
        assert [(one["seq"], one["id"]) for one in entries] == [(2, "c0"), (3, "c1"), (4, "c2"), (None, "a1")]


async def test_an_export_is_of_one_moment_and_read_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log would fill the memory; or a part of what is told would be of another time than the rest."""
    monkeypatch.setattr(portrait, "ENTRIES", portrait.ENTRIES.replace(f"LIMIT {portrait.PIECE}", "LIMIT 2"))
    async with SqliteStore(path) as store:
        write = Writer(store)
        for n in range(5):
            await write.send("alice", "bob", f"{n}")
        async with store.keeping.export("alice", 5000) as lines:
            said = [json.loads(await anext(lines))]
            await write.send("alice", "bob", "later")
            await retain(store, per_user=1)
            said += [json.loads(line) async for line in lines]
        assert [one["seq"] for one in said if one["type"] == "entry"] == [1, 2, 3, 4, 5]
        assert said[0]["head"] == 5
        async with store.keeping.export("alice", 5000) as lines:
            await anext(lines)  # and no more
        await write.send("alice", "bob", "more")


async def test_a_file_that_cannot_be_read_is_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of SQLite's would leave the store as one that nobody expects."""
    broken = install(monkeypatch)
    async with SqliteStore(path) as store:
        await Writer(store).send("alice", "bob", "m")
        broken.broken["FROM log AS l"] = fault("SQLITE_IOERR_READ")
        with pytest.raises(StoreUnavailable):
            await export(store, "alice")
        broken.broken.clear()


async def test_a_message_is_explained(backend: Backend) -> None:
    """Nobody could say where a message is that somebody misses."""
    async with backend.open() as store:
        store.outbox.open(1000)
        write = Writer(store)
        await write.append(
            Batch(
                openings=(Opening(1, "alice", "web"), Opening(2, "bob", "phone"), Opening(3, "bob", "desk")),
                push=(Register("bob", "phone", "p", "k", "t"), Register("bob", "desk", "p", "k", "u")),
            )
        )
        await write.send("carol", "bob", "c")
        await write.send("alice", "bob", "a", "hällo")
        told = await store.keeping.explain("alice", "a")
        assert told is not None
        assert (told.delivered, told.read, [one.due for one in told.push]) == (False, False, [2020, 2020])
        (job, _) = [one for one in await store.outbox.due("p", 9_000, 9) if one.peer == "alice"]
        note = Note(job.key, "alice", job.id, job.seq, "later", 9_000, "429")
        await write.append(Batch(push=(note,), marks=(Mark("bob", "desk", 2),)))
        await write.send("alice", "bob", "e", "hallo", kind="edit", target="a")
        told = await store.keeping.explain("alice", "a")
        assert told is not None
        assert told == Explanation(
            sender="alice", id="a", recipient="bob", kind="message", target=None, sent_at=1020, size=6, deleted=False,
            edits=("e",), seq=1, held=True, peer_seq=2, peer_held=True, delivered=True, read=False,
            devices=(
                DeviceDelivery(user="alice", device="web", delivered=False, cursor=0, seen=1000),
                DeviceDelivery(user="bob", device="desk", delivered=True, cursor=2, seen=1030),
                DeviceDelivery(user="bob", device="phone", delivered=False, cursor=0, seen=1000),
            ),
            push=told.push,
        )  # fmt: skip
        assert PushState(
            device=job.device, provider="p", since=1020, due=9_000, attempts=1, answered=1030, answer="429"
        ) in told.push  # fmt: skip
        await write.read("bob", "alice", 2)
        edit = await store.keeping.explain("alice", "e")
        assert edit is not None
        assert (edit.kind, edit.target, edit.read, edit.delivered) == ("edit", "a", False, False)
        read = await store.keeping.explain("alice", "a")
        assert read is not None
        assert (read.read, read.delivered) == (True, True)
        assert await store.keeping.explain("alice", "b") is None
        assert await store.keeping.explain("nobody", "a") is None
        assert await store.keeping.explain("alice", "\ud800") is None
        assert await store.keeping.explain("\ud800", "a") is None


async def test_a_message_that_did_not_reach_the_other_says_so(backend: Backend) -> None:
    """A note to oneself, or one to somebody who blocks, would look like one that is lost."""
    async with backend.open() as store:
        write = Writer(store)
        await write.append(Batch(openings=(Opening(1, "alice", "web"), Opening(2, "bob", "phone"))))
        await write.block("bob", "alice")
        await write.send("alice", "bob", "a")
        await write.send("alice", "alice", "n")
        for id in ("a", "n"):
            told = await store.keeping.explain("alice", id)
            assert told is not None
            assert (told.peer_seq, told.peer_held, told.delivered) == (0, False, False)
            assert [one.user for one in told.devices] == ["alice"]


@given(
    st.lists(BATCHES, min_size=1, max_size=5),
    USERS,
    st.none() | st.integers(1, 4),
    st.lists(st.tuples(USERS, IDS), max_size=8),
)
@settings(max_examples=settings().max_examples // 4, suppress_health_check=list(HealthCheck))
def test_both_stores_tell_the_same(
    batches: list[Batch], user: str, per_user: int | None, asked: list[tuple[str, str]]
) -> None:
    """What a user is told of would depend on the store."""

    async def run(path: Path) -> None:
        async with MemoryStore() as plain, SqliteStore(path) as store:
            for n, batch in enumerate(batches):
                await plain.append(batch, 1000 + n)
                await store.append(batch, 1000 + n)
            for one in (plain, store):
                await retain(one, per_user=per_user)
            first, second = await export(plain, user), await export(store, user)
            assert [line | {"log": ""} for line in first] == [line | {"log": ""} for line in second]
            for sender, id in asked:
                assert await plain.keeping.explain(sender, id) == await store.keeping.explain(sender, id)

    with TemporaryDirectory() as folder:
        trio.run(run, Path(folder) / "chat.db")
