"""Replying, editing and deleting: `append` with drafts that are about other messages, of every store (L5)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch, BlockChange, Draft, PageRequest, Refused, Stored
from trio_chat.errors import ErrorCode
from trio_chat.model import Message
from trio_chat.retrieval import HistoryQuery, SearchQuery
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.digest import digest
from trio_chat.store.sqlite import SqliteStore

from .conftest import Backend, draft

NO_SUCH = Refused(ErrorCode.BAD_QUERY)
CONFLICT = Refused(ErrorCode.ID_CONFLICT)
FULL = Refused(ErrorCode.MAILBOX_FULL)


def edit(sender: str, recipient: str, id: str, target: str | None, text: str = "edited", *, source: int = 1) -> Draft:
    return Draft(source, sender, recipient, id, text, "edit", target)


def delete(sender: str, recipient: str, id: str, target: str | None) -> Draft:
    return Draft(1, sender, recipient, id, None, "delete", target)


def reply(sender: str, recipient: str, id: str, target: str, text: str = "hi") -> Draft:
    return Draft(1, sender, recipient, id, text, "message", target)


async def send(store: Store, *drafts: Draft, now: int = 1000) -> tuple[Stored | Refused, ...]:
    return (await store.append(Batch(drafts=drafts), now)).drafts


async def block(store: Store, user: str, peer: str, *, blocked: bool = True) -> None:
    await store.append(Batch(blocks=(BlockChange(user, peer, blocked),)), 1000)


async def log(store: Store, user: str) -> list[Message]:
    (page,) = await store.pages([PageRequest(user, 0, 1000, 10**9)])
    return list(page.messages)


async def shown(store: Store, user: str) -> list[tuple[str | None, int | None]]:
    """The texts a user sees, and the seqs of their edits."""
    page = await store.history(user, HistoryQuery(order="asc"), size=10**9)
    return [(message.text, message.edit_seq) for message in page.messages]


async def found(store: Store, user: str, word: str) -> list[str]:
    page = await store.search(user, SearchQuery(query=word), size=10**9)
    return [hit.message.id for hit in page.hits]


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_edit_is_an_entry_of_its_own(backend: Backend, at_once: bool) -> None:
    """A device that was away would never learn of it; or the entry that others have already would change (L4, L5)."""
    drafts = draft("alice", "bob", "1", "first"), draft("alice", "bob", "2"), edit("alice", "bob", "3", "1", "second")
    async with backend.open() as store:
        results = await send(store, *drafts) if at_once else tuple([(await send(store, one))[0] for one in drafts])
        assert results == (Stored(1, 1, 1000), Stored(2, 2, 1000), Stored(3, 3, 1000))
        for user in ("alice", "bob"):
            entries = await log(store, user)
            assert [(one.kind, one.text, one.target, one.reply_to) for one in entries] == [
                ("message", "first", None, None), ("message", "hi", None, None), ("edit", "second", "1", None)
            ]  # fmt: skip
            assert await shown(store, user) == [("second", 3), ("hi", None)]
            assert await found(store, user, "second") == ["1"]
            assert await found(store, user, "first") == []
        await send(store, edit("alice", "bob", "4", "1", "third"))
        assert await shown(store, "bob") == [("third", 4), ("hi", None)]
        assert await found(store, "bob", "second") == []
        assert await found(store, "bob", "third") == ["1"]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_deleted_text_is_gone_with_its_edits(backend: Backend, at_once: bool) -> None:
    """Somebody who asks for the log, its history or its words would still read what was taken back."""
    drafts = (
        draft("alice", "bob", "1", "first"),
        edit("alice", "bob", "2", "1", "second"),
        edit("alice", "bob", "3", "1", "third"),
        draft("alice", "bob", "4", "stays"),
        delete("alice", "bob", "5", "1"),
    )
    async with backend.open() as store:
        results = await send(store, *drafts) if at_once else tuple([(await send(store, one))[0] for one in drafts])
        assert results == tuple(Stored(n, n, 1000) for n in range(1, 6))
        for user in ("alice", "bob"):
            assert [(one.kind, one.text, one.target) for one in await log(store, user)] == [
                ("message", None, None), ("edit", None, "1"), ("edit", None, "1"), ("message", "stays", None),
                ("delete", None, "1"),
            ]  # fmt: skip
            assert await shown(store, user) == [(None, None), ("stays", None)]
            assert [await found(store, user, word) for word in ("first", "second", "third")] == [[], [], []]
            assert await found(store, user, "stays") == ["4"]
        # What was stored stays known (S2), and nothing more can be done to it.
        assert await send(store, drafts[0], drafts[1], drafts[4]) == tuple(
            Stored(n, n, 1000, new=False) for n in (1, 2, 5)
        )  # fmt: skip
        assert await send(store, edit("alice", "bob", "6", "1"), delete("alice", "bob", "7", "1")) == (NO_SUCH, NO_SUCH)
        assert await send(store, reply("bob", "alice", "8", "1")) == (Stored(6, 6, 1000),)


async def test_a_deleted_text_is_nowhere_in_the_file(path: Path) -> None:
    """A copy of the database would give away what was deleted: as a text, or as the words it was found by."""
    async with SqliteStore(path) as store:
        await send(store, draft("alice", "bob", "1", "xylophone"), edit("alice", "bob", "2", "1", "saxophone"))
        await send(store, delete("alice", "bob", "3", "1"))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM messages WHERE text NOTNULL").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM search WHERE search MATCH 'xylophone OR saxophone'").fetchone() == (0,)
        database.execute("INSERT INTO search (search) VALUES ('integrity-check')")


async def test_a_reply_names_the_message_it_answers(backend: Backend) -> None:
    """A client could not show what an answer is about; or it would be about another message of the same id."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1", "from alice"), draft("bob", "alice", "2"), draft("alice", "carol", "3"))
        results = await send(
            store,
            reply("bob", "alice", "4", "1"),  # the other's
            reply("alice", "bob", "5", "1"),  # one's own
            reply("bob", "alice", "6", "5"),  # of this very batch
            reply("alice", "bob", "7", "3"),  # of another conversation
            reply("alice", "bob", "8", "9"),  # of none
            reply("mallory", "bob", "9", "1"),
            reply("alice", "nobody", "9", "1"),
        )
        assert results[:3] == (Stored(3, 4, 1000), Stored(5, 4, 1000), Stored(5, 6, 1000))
        assert results[3:] == (NO_SUCH,) * 4
        assert [(one.id, one.reply_to, one.target) for one in (await log(store, "bob"))[2:]] == [
            ("4", "1", None), ("5", "1", None), ("6", "5", None)
        ]  # fmt: skip
        # An edit is no message to be answered.
        await send(store, edit("alice", "bob", "10", "1"))
        assert await send(store, reply("bob", "alice", "11", "10")) == (NO_SUCH,)


async def test_of_two_messages_with_one_id_the_recipients_is_answered(backend: Backend) -> None:
    """Both sides would show the answer under different messages."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1", "from alice"), draft("bob", "alice", "1", "from bob"))
        await send(store, reply("alice", "bob", "2", "1"))
        await send(store, delete("bob", "alice", "3", "1"))
        assert await shown(store, "alice") == [("from alice", None), (None, None), ("hi", None)]
    if isinstance(store, SqliteStore):
        with closing(sqlite3.connect(store.path)) as database:
            targets = database.execute("SELECT target FROM messages WHERE target NOTNULL").fetchall()
            assert targets == database.execute("SELECT id FROM messages WHERE text ISNULL AND kind = 0").fetchall() * 2


async def test_only_ones_own_messages_can_be_changed(backend: Backend) -> None:
    """Anybody could put words into another's mouth, or find out whether an id exists."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1"), draft("alice", "carol", "2"))
        await send(store, edit("alice", "bob", "3", "1"), delete("alice", "bob", "4", "1"))
        await send(store, draft("alice", "bob", "5"))
        refused = await send(
            store,
            edit("bob", "alice", "6", "5"),  # another's
            delete("bob", "alice", "6", "5"),
            edit("alice", "carol", "6", "5"),  # to somebody else
            edit("alice", "bob", "6", "2"),
            edit("alice", "bob", "6", "3"),  # no message
            delete("alice", "bob", "6", "4"),
            delete("alice", "bob", "6", "1"),  # deleted already
            edit("alice", "bob", "6", None),
            delete("alice", "bob", "6", "missing"),
            edit("nobody", "bob", "6", "1"),
        )
        assert refused == (NO_SUCH,) * 10
        # None of them used a number, or came to exist, or stopped what follows.
        assert await send(store, draft("alice", "bob", "6"), draft("nobody", "bob", "1")) == (
            Stored(6, 5, 1000), Stored(1, 6, 1000)
        )  # fmt: skip


async def test_a_note_to_oneself_can_be_changed(backend: Backend) -> None:
    """Notes would be the one thing that cannot be corrected; or show twice."""
    async with backend.open() as store:
        results = await send(
            store,
            draft("alice", "alice", "1"),
            edit("alice", "alice", "2", "1", "better"),
            reply("alice", "alice", "3", "1"),
        )
        assert results == (Stored(1, 0, 1000), Stored(2, 0, 1000), Stored(3, 0, 1000))
        assert await shown(store, "alice") == [("better", 2), ("hi", None)]
        assert await found(store, "alice", "better") == ["1"]
        await send(store, delete("alice", "alice", "4", "1"))
        assert await shown(store, "alice") == [(None, None), ("hi", None)]


async def test_what_the_recipient_does_not_have_is_changed_for_the_sender_alone(backend: Backend) -> None:
    """Who blocks somebody would get edits of messages that were never delivered; or the blocked one could tell (B1)."""
    async with backend.open() as store:
        await send(store, draft("eve", "bob", "1", "seen"))
        await block(store, "bob", "eve")
        results = await send(
            store,
            draft("eve", "bob", "2", "unseen"),
            edit("eve", "bob", "3", "1", "later"),
            edit("eve", "bob", "4", "2", "other"),
            draft("eve", "bob", "5"),
        )
        assert results == tuple(Stored(n, 0, 1000) for n in (2, 3, 4, 5))
        assert await shown(store, "eve") == [("later", 3), ("other", 4), ("hi", None)]
        assert await shown(store, "bob") == [("seen", None)]
        assert [await found(store, "bob", word) for word in ("seen", "later", "other")] == [["1"], [], []]
        assert [await found(store, "eve", word) for word in ("seen", "later", "other")] == [[], ["1"], ["2"]]
        await block(store, "bob", "eve", blocked=False)
        # The second message never got there, so its changes do not, either.
        assert await send(
            store, edit("eve", "bob", "6", "2"), delete("eve", "bob", "7", "2"), edit("eve", "bob", "8", "1", "last")
        ) == (Stored(6, 0, 1000), Stored(7, 0, 1000), Stored(8, 2, 1000))
        assert await shown(store, "bob") == [("last", 2)]
        assert await found(store, "bob", "last") == await found(store, "eve", "last") == ["1"]
        # Of what somebody does not have nothing can be answered.
        assert await send(store, reply("bob", "eve", "1", "2")) == (NO_SUCH,)
        assert await send(store, reply("bob", "eve", "1", "1")) == (Stored(3, 9, 1000),)
        await block(store, "bob", "eve")
        assert await send(store, delete("eve", "bob", "9", "1")) == (Stored(10, 0, 1000),)
        assert await shown(store, "bob") == [(None, None), ("hi", None)]
        assert await found(store, "bob", "last") == []


async def test_the_same_id_for_another_change_is_a_conflict(backend: Backend) -> None:
    """A client whose ids collide would be told that its deletion is stored, when it was an edit (S2)."""
    first = draft("alice", "bob", "1"), draft("alice", "bob", "2")
    async with backend.open() as store:
        await send(store, *first, edit("alice", "bob", "3", "1", "x"), delete("alice", "bob", "4", "2"))
        await send(store, reply("alice", "bob", "5", "1", "x"))
        assert (
            await send(
                store,
                edit("alice", "bob", "3", "2", "x"),
                edit("alice", "bob", "3", "1", "y"),
                reply("alice", "bob", "3", "1", "x"),
                draft("alice", "bob", "3", "x"),
                delete("alice", "bob", "3", "1"),
                edit("alice", "bob", "4", "2", ""),
                draft("alice", "bob", "5", "x"),
                reply("alice", "bob", "5", "2", "x"),
            )
            == (CONFLICT,) * 8
        )
        assert await send(
            store,
            edit("alice", "bob", "3", "1", "x"),
            delete("alice", "bob", "4", "2"),
            reply("alice", "bob", "5", "1", "x"),
        ) == tuple(Stored(n, n, 1000, new=False) for n in (3, 4, 5))


def test_digests_differ_by_every_part() -> None:
    """Two messages would count as one; or all that was sent before this version would be sent again as conflicts."""
    # As the first version made them.
    assert digest(b"key", "bob", "hi").hex() == "5211dcb919082fa2b717ebe0b9454b9d"
    what = {
        digest(b"key", *parts)
        for parts in (
            ("bob", "hi"), ("bob", "hi", "message", "1"), ("bob", "hi", "edit", "1"), ("bob", "hi", "edit", "11"),
            ("bob", "hi1:1message"), ("bob", None, "delete", "1"), ("bob", "", "edit", "1"), ("bob", ""),
        )
    }  # fmt: skip
    assert len(what) == 8


async def test_edits_and_deletions_fill_a_mailbox(backend: Backend) -> None:
    """One user who is away could be sent any number of edits."""
    async with backend.open(Settings(mailbox=3)) as store:
        drafts = draft("alice", "bob", "1"), edit("alice", "bob", "2", "1"), delete("alice", "bob", "3", "1")
        assert await send(store, *drafts) == tuple(Stored(n, n, 1000) for n in (1, 2, 3))
        results = await send(
            store, draft("alice", "carol", "4"), draft("carol", "bob", "1"), edit("alice", "bob", "5", "1", source=2)
        )
        assert results == (Stored(4, 1, 1000), FULL, NO_SUCH)
    async with backend.open(Settings(mailbox_bytes=10)) as store:
        results = await send(store, draft("dave", "erin", "1", ""), edit("dave", "erin", "2", "1", "é" * 5))
        assert results == (Stored(1, 1, 1000), Stored(2, 2, 1000))
        assert await send(store, delete("dave", "erin", "3", "1")) == (FULL,)


async def test_a_large_batch_of_changes(backend: Backend) -> None:
    """Splitting it into several statements would lose some, or meet them in the wrong order."""
    count = 300
    async with backend.open(Settings(mailbox_bytes=2**30)) as store:
        await send(store, *(draft("alice", "bob", f"m{n}", f"old{n}x") for n in range(count)))
        await send(
            store,
            *(edit("alice", "bob", f"e{n}", f"m{n}", f"new{n}x") for n in range(count)),
            *(delete("alice", "bob", f"d{n}", f"m{n}") for n in range(0, count, 3)),
        )
        assert [text for text, _ in (await shown(store, "bob"))] == [f"new{n}x" if n % 3 else None for n in range(50)]
        for n in (0, 1, count - 1):
            assert await found(store, "bob", f"old{n}x") == []
            assert await found(store, "bob", f"new{n}x") == ([f"m{n}"] if n % 3 else [])


async def test_time_and_restart_do_not_matter_to_a_target(backend: Backend) -> None:
    """After a restart nothing that was said before could be changed."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1"), now=5000)
    async with backend.open() as store:
        assert await send(store, edit("alice", "bob", "2", "1", "new"), now=10) == (Stored(2, 2, 5000),)
        (message,) = (await store.history("bob", HistoryQuery(), size=999)).messages
        assert (message.text, message.edited_at, message.edit_seq) == ("new", 5000, 2)
