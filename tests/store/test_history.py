"""Choosing messages of a log: every filter, alone and with others, page by page (L4, L5, R4)."""

from __future__ import annotations

from typing import Any

import pytest

from trio_chat.errors import BadQuery
from trio_chat.model import Message
from trio_chat.retrieval import HistoryQuery, check
from trio_chat.store import history as sqlite_history
from trio_chat.store import scope
from trio_chat.store.base import Store
from trio_chat.store.pages import OVERHEAD

from .asked import SIZE, Writer, all_history, history, seqs
from .conftest import Backend


async def fill(store: Store) -> Writer:
    """Alice's log: 1 from bob, 2 and 3 to bob, 4 from carol, 5 to herself, 6 from bob, 7 to carol, 8 from bob."""
    writer = Writer(store)
    for sender, recipient, id in (
        ("bob", "alice", "b1"), ("alice", "bob", "a1"), ("alice", "bob", "a2"), ("carol", "alice", "c1"),
        ("alice", "alice", "a3"), ("bob", "alice", "b2"), ("alice", "carol", "a4"), ("bob", "alice", "b3"),
        ("bob", "carol", "b4"), ("carol", "bob", "c2"),
    ):  # fmt: skip
        await writer.send(sender, recipient, id)
    await writer.read("alice", "bob", 1)
    return writer


CHOSEN: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [8, 7, 6, 5, 4, 3, 2, 1]),
    ({"order": "asc"}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"before": 4}, [3, 2, 1]),
    ({"before": 4, "order": "asc"}, [1, 2, 3]),
    ({"before": 0}, []),
    ({"after": 5}, [6, 7, 8]),
    ({"after": 5, "order": "desc"}, [8, 7, 6]),
    ({"after": 8}, []),
    ({"after": 2, "before": 6}, [5, 4, 3]),
    ({"after": 2, "before": 3}, []),
    ({"after": 2**53 - 1}, []),
    ({"before": 2**53 - 1, "limit": 1}, [8]),
    ({"limit": 2}, [8, 7]),
    ({"peer": "bob"}, [8, 6, 3, 2, 1]),
    ({"peer": "bob", "order": "asc", "limit": 3}, [1, 2, 3]),
    ({"peer": "bob", "after": 1, "before": 8}, [6, 3, 2]),
    ({"peer": "alice"}, [5]),
    ({"peer": "alice", "direction": "out"}, [5]),
    ({"peer": "alice", "direction": "in"}, []),
    ({"peer": "alice", "unread": True}, []),
    ({"peer": "dave"}, []),
    ({"direction": "in"}, [8, 6, 4, 1]),
    ({"direction": "in", "order": "asc", "limit": 2}, [1, 4]),
    ({"direction": "out"}, [7, 5, 3, 2]),
    ({"direction": "out", "peer": "bob"}, [3, 2]),
    ({"direction": "in", "peer": "carol"}, [4]),
    ({"direction": "out", "after": 3}, [5, 7]),
    ({"unread": True}, [8, 6, 4]),
    ({"unread": True, "order": "asc"}, [4, 6, 8]),
    ({"unread": True, "direction": "in", "before": 8}, [6, 4]),
    ({"unread": True, "peer": "bob"}, [8, 6]),
    ({"unread": True, "peer": "carol", "after": 4}, []),
    ({"since": 1030}, [8, 7, 6, 5, 4]),
    ({"since": 1031}, [8, 7, 6, 5]),
    ({"since": 5000}, []),
    ({"until": 1030}, [3, 2, 1]),
    ({"until": 1031}, [4, 3, 2, 1]),
    ({"until": 1000}, []),
    ({"until": 5000, "limit": 1}, [8]),
    ({"since": 1010, "until": 1060, "peer": "bob"}, [6, 3, 2]),
    ({"since": 1010, "until": 1060, "unread": True, "order": "asc"}, [4, 6]),
    ({"since": 1020, "after": 4}, [5, 6, 7, 8]),
    ({"ids": ("a1", "b3", "c2", "missing")}, [8, 2]),
    ({"ids": ("a1", "a1", "a2"), "order": "asc"}, [2, 3]),
    ({"ids": ("a1", "a4", "b1", "c1"), "peer": "carol"}, [7, 4]),
    ({"ids": ("a1", "a3", "b1"), "direction": "in"}, [1]),
    ({"ids": ("a1", "a3", "b1"), "direction": "out"}, [5, 2]),
    ({"ids": ("a1", "a3", "b1"), "before": 5, "limit": 1}, [2]),
    ({"ids": ("a3",), "peer": "alice"}, [5]),
    ({"around": 4}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"around": 4, "limit": 1}, [3, 4, 5]),
    ({"around": 1, "limit": 2}, [1, 2, 3]),
    ({"around": 8, "limit": 2}, [6, 7, 8]),
    ({"around": 0, "limit": 2}, [1, 2]),
    ({"around": 100, "limit": 2}, [7, 8]),
    ({"around": 4, "limit": 2, "peer": "bob"}, [2, 3, 6, 8]),
    ({"around": 6, "limit": 1, "direction": "in"}, [4, 6, 8]),
    ({"around": 6, "limit": 1, "unread": True, "since": 1040}, [6, 8]),
]


@pytest.mark.parametrize("walk", [1, 2000])
async def test_what_is_chosen(backend: Backend, monkeypatch: pytest.MonkeyPatch, walk: int) -> None:
    """A filter would not filter, or one of two that are given together would be forgotten."""
    monkeypatch.setattr(sqlite_history, "WALK", walk)  # 1: what is found is found by way of the conversations
    async with backend.open() as store:
        await fill(store)
        for query, expected in CHOSEN:
            assert (query, await seqs(store, "alice", **query)) == (query, expected)
        # No query that was checked holds half a pair; a store called without a check is not stopped by one.
        page = await store.history("alice", HistoryQuery(ids=("\ud800", "a1")), size=SIZE)
        assert [message.seq for message in page.messages] == [2]


async def test_nobody_sees_what_is_in_another_log(backend: Backend) -> None:
    """Whatever is asked, somebody else's messages would come out (I9)."""
    async with backend.open() as store:
        await fill(store)
        for query, _ in CHOSEN:
            assert await history(store, "nobody", **query) == []
            for message in await history(store, "carol", **query):
                assert "carol" in (message.sender, message.recipient)
        assert await history(store, "\ud800") == []
        assert (await store.history("alice", HistoryQuery(peer="\udfff"), size=SIZE)).messages == ()
        assert await seqs(store, "carol", ids=("a1", "b1", "b4")) == [3]
        assert await seqs(store, "bob", peer="carol") == [7, 6]


async def test_a_page_says_where_to_go_on(backend: Backend) -> None:
    """Going from page to page would miss messages, show some twice, or not end."""
    async with backend.open() as store:
        await fill(store)
        page = await store.history("alice", HistoryQuery(limit=3), size=SIZE)
        assert (page.more, page.next) == (True, 6)
        page = await store.history("alice", HistoryQuery(limit=3, after=0), size=SIZE)
        assert (page.more, page.next) == (True, 3)
        page = await store.history("alice", HistoryQuery(limit=8), size=SIZE)
        assert (page.more, page.next) == (False, None)
        page = await store.history("alice", HistoryQuery(limit=2, around=4), size=SIZE)
        assert ([message.seq for message in page.messages], page.more, page.next) == ([2, 3, 4, 5, 6], True, 6)
        for query, _ in CHOSEN:
            if "around" not in query:
                whole = await all_history(store, "alice", check(HistoryQuery(**{**query, "limit": 200})))
                for limit in (1, 2, 3):
                    assert await all_history(store, "alice", check(HistoryQuery(**{**query, "limit": limit}))) == whole


@pytest.mark.parametrize("conversations", [0, 4096])
async def test_a_walk_through_much_that_does_not_match_ends(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, conversations: int
) -> None:
    """A query would look through a whole log for the one message; or stop looking before it is found."""
    monkeypatch.setattr(sqlite_history, "WALK", 2)
    monkeypatch.setattr(sqlite_history, "CONVERSATIONS", conversations)  # 0: there are too many to look at each
    async with backend.open() as store:
        await fill(store)
        for query, expected in CHOSEN:
            if "around" not in query and "limit" not in query:
                found = await all_history(store, "alice", check(HistoryQuery(**query)))
                assert (query, [message.seq for message in found]) == (query, expected)


async def test_a_page_ends_at_its_size_with_at_least_one_message(backend: Backend) -> None:
    """A page of long messages would not fit into a frame, or a message that does not fit would hide all behind it."""
    async with backend.open() as store:
        writer = Writer(store)
        for n, text in enumerate(["x" * 100, "é" * 50, "x" * 5000, "x" * 100, "x" * 100]):
            await writer.send("alice", "bob", str(n), text)
        weight = 100 + OVERHEAD
        page = await store.history("bob", HistoryQuery(after=0), size=2 * weight)
        assert ([message.seq for message in page.messages], page.more, page.next) == ([1, 2], True, 2)
        page = await store.history("bob", HistoryQuery(after=0), size=2 * weight - 1)
        assert ([message.seq for message in page.messages], page.more, page.next) == ([1], True, 1)
        page = await store.history("bob", HistoryQuery(before=4), size=0)
        assert ([message.seq for message in page.messages], page.more, page.next) == ([3], True, 3)
        page = await store.history("bob", HistoryQuery(before=2), size=0)
        assert ([message.seq for message in page.messages], page.more, page.next) == ([1], False, None)
        for query in (HistoryQuery(), HistoryQuery(peer="alice", order="asc"), HistoryQuery(unread=True)):
            assert len(await all_history(store, "bob", query, size=weight)) == 5


async def test_around_shares_its_size_between_both_sides(backend: Backend) -> None:
    """With long messages before it, the very message that is looked for would not be in the page."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in range(9):
            await writer.send("alice", "bob", str(n), "x" * 800)
        page = await store.history("bob", HistoryQuery(around=5), size=4000)
        assert [message.seq for message in page.messages] == [3, 4, 5, 6, 7]
        assert (page.more, page.next) == (True, 7)
        page = await store.history("bob", HistoryQuery(around=5), size=0)
        assert [message.seq for message in page.messages] == [5]


async def test_a_message_is_shown_as_it_is_now(backend: Backend) -> None:
    """An edit would show beside its message, or not at all; or a deleted text would still be read (L5)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1", "helo")
        await writer.send("bob", "alice", "2", "what?", target="1")
        await writer.edit("alice", "bob", "3", "1", "hello")
        await writer.edit("alice", "bob", "4", "1", "hello!")
        await writer.send("alice", "bob", "5", "nonsense")
        await writer.edit("alice", "bob", "6", "5", "worse")
        await writer.delete("alice", "bob", "7", "5")
        for user in ("alice", "bob"):
            assert await history(store, user, order="asc") == [
                Message(
                    seq=1, id="1", sender="alice", recipient="bob", text="hello!", sent_at=1000, edit_seq=4, edited_at=1030
                ),
                Message(seq=2, id="2", sender="bob", recipient="alice", text="what?", sent_at=1010, reply_to="1"),
                Message(seq=5, id="5", sender="alice", recipient="bob", text=None, sent_at=1040, deleted=True),
            ]  # fmt: skip
        assert await seqs(store, "bob", unread=True) == [1]
        assert await seqs(store, "bob", ids=("1", "3", "7")) == [1]
        assert await seqs(store, "bob", peer="alice", limit=1, before=5) == [2]


async def test_what_a_block_keeps_away_is_seen_by_its_sender_only(backend: Backend) -> None:
    """The blocked would see that they are, or the other would hear from them all the same (L1, B1)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("eve", "alice", "1", "before")
        await writer.block("alice", "eve")
        await writer.edit("eve", "alice", "2", "1", "during")
        await writer.send("eve", "alice", "3", "during")
        await writer.block("alice", "eve", blocked=False)
        await writer.send("eve", "alice", "4", "after")
        hers = await history(store, "alice", peer="eve", order="asc")
        assert [(message.seq, message.text, message.edit_seq) for message in hers] == [
            (1, "before", None),
            (2, "after", None),
        ]
        eves = await history(store, "eve", peer="alice", order="asc")
        assert [(message.seq, message.text, message.edit_seq) for message in eves] == [
            (1, "during", 2), (3, "during", None), (4, "after", None)
        ]  # fmt: skip
        for query in ({"direction": "in"}, {"unread": True}, {"ids": ("1", "3", "4")}, {}):
            assert await seqs(store, "alice", **query) == [2, 1]
        assert await seqs(store, "eve", direction="out", peer="alice") == [4, 3, 1]


async def test_around_shrinks_to_one_message(backend: Backend) -> None:
    """Three large messages would be the least that can be asked for, and no frame could be made to hold them (C6)."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in range(1, 6):
            await writer.send("alice", "bob", str(n), "x" * 900)
        for user in ("alice", "bob"):
            page = await store.history(user, HistoryQuery(around=3), size=0)
            assert ([message.seq for message in page.messages], page.more, page.next) == ([3], True, 3)
            page = await store.history(user, HistoryQuery(around=3, limit=1), size=2 * (900 + OVERHEAD))
            assert ([message.seq for message in page.messages], page.more, page.next) == ([2, 3, 4], True, 4)
            # There is nothing in the middle.
            page = await store.history(user, HistoryQuery(around=0), size=0)
            assert ([message.seq for message in page.messages], page.more, page.next) == ([1], True, 1)
            page = await store.history(user, HistoryQuery(around=9), size=0)
            assert ([message.seq for message in page.messages], page.more, page.next) == ([5], False, None)
            # What is left out is found where the page says.
            assert await seqs(store, user, after=3) == [4, 5]
            assert await seqs(store, user, before=3) == [2, 1]


async def test_what_is_no_longer_held_is_not_found(backend: Backend) -> None:
    """Entries would come back that retention has removed from this log, by way of the other's (L4)."""
    async with backend.open() as store:
        await fill(store)
        backend.retain("alice", 3)
        for query, expected in CHOSEN:
            if "limit" not in query:
                assert (query, await seqs(store, "alice", **query)) == (query, [seq for seq in expected if seq > 3])
        assert await seqs(store, "bob", peer="alice") == [5, 4, 3, 2, 1]


async def test_too_many_ids_among_too_many_conversations(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client would occupy the database for a second with one small question."""
    monkeypatch.setattr(scope, "PROBES", 5)
    async with backend.open() as store:
        await fill(store)
        assert await seqs(store, "alice", ids=("a1",)) == [2]
        assert await seqs(store, "alice", ids=("a1", "b1"), peer="bob") == [2, 1]
        assert await seqs(store, "alice", ids=("a1", "a2"), direction="out") == [3, 2]
        assert await seqs(store, "alice", ids=("a1", "a1")) == [2]
        for more in ({}, {"direction": "in"}, {"since": 99_999}, {"after": 99}):
            with pytest.raises(BadQuery, match="say the peer"):
                await history(store, "alice", ids=("a1", "b1"), **more)
        assert await seqs(store, "nobody", ids=("1", "2", "3", "4", "5", "6")) == []
