"""The list of a user's conversations (R1, R2, R4)."""

from __future__ import annotations

import pytest

from trio_chat.core.batch import Batch, BlockChange, Opened, Opening, ReadMark
from trio_chat.retrieval import UNREAD_LIMIT, Conversation, ConversationsQuery
from trio_chat.store import conversation_list
from trio_chat.store.base import Store
from trio_chat.store.pages import OVERHEAD

from .asked import SIZE, Writer, history
from .conftest import Backend, draft


async def listed(store: Store, user: str, **query: int) -> list[Conversation]:
    page = await store.conversations(user, ConversationsQuery(**query), size=SIZE)
    assert (page.next is not None) == page.more
    return list(page.conversations)


async def marks(store: Store, user: str, peer: str) -> tuple[int, int, int, int]:
    (one,) = (one for one in await listed(store, user) if one.peer == peer)
    return one.delivered, one.read, one.own_delivered, one.own_read


async def test_the_latest_comes_first(backend: Backend) -> None:
    """A chat would not move to the top when something is said in it."""
    async with backend.open() as store:
        writer = Writer(store)
        assert await listed(store, "alice") == []
        for sender, recipient in ("ba", "ac", "da", "ab", "aa", "cd"):
            await writer.send(sender, recipient, f"{sender}{recipient}")
        assert [one.peer for one in await listed(store, "a")] == ["a", "b", "d", "c"]
        await writer.send("c", "a", "again")
        found = await listed(store, "a")
        assert [one.peer for one in found] == ["c", "a", "b", "d"]
        assert [one.last.id for one in found if one.last] == ["again", "aa", "ab", "da"]
        assert [one.unread for one in found] == [1, 0, 1, 1]
        assert [one.peer for one in await listed(store, "d")] == ["c", "a"]
        assert await listed(store, "\ud800") == []


@pytest.mark.parametrize("many", [False, True])
async def test_pages_of_conversations(backend: Backend, monkeypatch: pytest.MonkeyPatch, many: bool) -> None:
    """Going from page to page would miss a conversation, show one twice, or not end."""
    if many:  # as if there were too many to be sorted
        monkeypatch.setattr(conversation_list, "CONVERSATIONS", 0)
        monkeypatch.setattr(conversation_list, "WALK", 3)
    async with backend.open() as store:
        writer = Writer(store)
        names = [f"user {n}" for n in range(7)]
        for n, name in enumerate(names):
            await writer.send(name, "alice", f"{n}")
            for more in range(5):
                await writer.send("alice", name, f"{n} {more}")
        for limit in (1, 2, 3, 7, 50):
            found: list[str] = []
            query = ConversationsQuery(limit=limit)
            for _ in range(50):
                page = await store.conversations("alice", query, size=SIZE)
                found += [one.peer for one in page.conversations]
                if page.next is None:
                    break
                query = ConversationsQuery(limit=limit, before=page.next)
            assert found == names[::-1]
        page = await store.conversations("alice", ConversationsQuery(before=0), size=SIZE)
        assert (page.conversations, page.more, page.next) == ((), False, None)


async def test_a_page_ends_at_its_size(backend: Backend) -> None:
    """A list of long last messages would not fit into a frame."""
    async with backend.open() as store:
        writer = Writer(store)
        for name in ("bob", "carol", "dave"):
            await writer.send(name, "alice", "1", "x" * 1000)
        page = await store.conversations("alice", ConversationsQuery(), size=2 * (1000 + OVERHEAD))
        assert ([one.peer for one in page.conversations], page.more, page.next) == (["dave", "carol"], True, 2)
        page = await store.conversations("alice", ConversationsQuery(before=2), size=0)
        assert ([one.peer for one in page.conversations], page.more, page.next) == (["bob"], False, None)
        page = await store.conversations("alice", ConversationsQuery(), size=0)
        assert ([one.peer for one in page.conversations], page.more, page.next) == (["dave"], True, 3)


async def test_the_last_message_is_shown_as_it_is_now(backend: Backend) -> None:
    """The list would show an edit as a message of its own, or a text that was deleted."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("bob", "alice", "1", "first")
        await writer.send("carol", "alice", "1", "hello")
        await writer.edit("bob", "alice", "2", "1", "first of all")
        one, other = await listed(store, "alice")
        assert (one.peer, one.last and one.last.text, one.last and one.last.edit_seq) == ("bob", "first of all", 3)
        assert (other.peer, other.unread) == ("carol", 1)
        await writer.delete("bob", "alice", "3", "1")
        one, _ = await listed(store, "alice")
        assert one.last is not None
        assert (one.last.id, one.last.text, one.last.deleted, one.unread) == ("1", None, True, 0)


async def test_how_far_both_sides_are(backend: Backend) -> None:
    """Ticks would be wrong after a reconnect: marks are not replayed, the list gives them (R2)."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in range(3):
            await writer.send("alice", "bob", f"a{n}")  # alice 1 2 3, bob 1 2 3
        await writer.send("carol", "bob", "c")  # bob 4
        await writer.send("bob", "alice", "b")  # alice 4, bob 5
        assert await marks(store, "alice", "bob") == (0, 0, 0, 0)
        await writer.acknowledge("bob", 2)
        assert await marks(store, "alice", "bob") == (2, 0, 0, 0)
        assert await marks(store, "bob", "alice") == (0, 0, 2, 0)
        await writer.read("bob", "alice", 1)
        assert await marks(store, "alice", "bob") == (2, 1, 0, 0)
        await writer.read("bob", "alice", 4)  # nothing of hers is 4: up to 3, and read is delivered
        assert await marks(store, "alice", "bob") == (3, 3, 0, 0)
        assert await marks(store, "bob", "alice") == (0, 0, 3, 3)
        await writer.acknowledge("alice", 4)
        await writer.read("alice", "bob", 4)
        assert await marks(store, "alice", "bob") == (3, 3, 4, 4)
        assert await marks(store, "bob", "alice") == (5, 5, 3, 3)
        await writer.send("alice", "alice", "note")
        await writer.acknowledge("alice", 5)
        assert await marks(store, "alice", "alice") == (0, 0, 0, 0)


async def test_edits_and_deletions_have_ticks_of_their_own(backend: Backend) -> None:
    """What was sent last, an edit, would never be told as delivered."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1")
        await writer.edit("alice", "bob", "2", "1", "again")
        await writer.delete("alice", "bob", "3", "1")
        for seq in (1, 2, 3):
            await writer.acknowledge("bob", seq)
            assert await marks(store, "alice", "bob") == (seq, 0, 0, 0)


async def test_what_is_kept_away_is_never_delivered(backend: Backend) -> None:
    """A blocked sender's message would seem delivered, or the conversation would move for who does not hear of it (B1)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("eve", "alice", "1")
        await writer.send("bob", "alice", "1")
        await writer.block("alice", "eve")
        await writer.send("eve", "alice", "2")
        await writer.acknowledge("alice", 2)
        assert await marks(store, "eve", "alice") == (0, 0, 0, 0)
        assert [(one.peer, one.unread) for one in await listed(store, "alice")] == [("bob", 1), ("eve", 1)]
        (one,) = await listed(store, "eve")
        assert one.last is not None
        assert one.last.id == "2"
        await writer.send("eve", "mallory", "3")
        await writer.block("mallory", "eve")
        await writer.send("eve", "mallory", "4")
        assert [(one.peer, one.last and one.last.id) for one in await listed(store, "mallory")] == [("eve", "3")]


@pytest.mark.parametrize("many", [False, True])
async def test_a_block_hides_who_is_there(backend: Backend, monkeypatch: pytest.MonkeyPatch, many: bool) -> None:
    """The blocked would see by the ticks that the other is no longer away: receipts stop in both directions (R2, B1)."""
    if many:
        monkeypatch.setattr(conversation_list, "CONVERSATIONS", 0)

    async def seen(user: str, peer: str) -> tuple[str, ...]:
        """Which of the user's messages, by id, the peer has and has read."""
        ids = {message.seq: message.id for message in await history(store, user, peer=peer)}
        return tuple(ids.get(mark, "none") for mark in (await marks(store, user, peer))[:2])

    async with backend.open() as store:
        writer = Writer(store)
        for n in range(1, 5):
            for one, other in (("eve", "bob"), ("carol", "bob"), ("eve", "dave")):
                await writer.send(one, other, f"{other}{n}")
                await writer.send(other, one, f"{one}{n}")
        # Bob has eve's 1, 5, 9, 13 and carol's 3, 7, 11, 15; dave has eve's 1, 3, 5, 7; eve has bob's 2, 6, 10, 14.
        await writer.acknowledge("bob", 5)
        await writer.read("bob", "eve", 1)
        await writer.read("bob", "carol", 3)
        await writer.acknowledge("dave", 3)
        await writer.read("dave", "eve", 1)
        await writer.acknowledge("eve", 6)
        await writer.read("eve", "bob", 2)
        await writer.acknowledge("carol", 4)
        assert (await seen("eve", "bob"), await seen("eve", "dave")) == (("bob2", "bob1"), ("dave2", "dave1"))
        assert (await seen("bob", "eve"), await seen("bob", "carol")) == (("eve2", "eve1"), ("carol2", "none"))
        await writer.block("bob", "eve")
    async with backend.open() as store:  # after a restart, too
        writer.store = store
        await writer.send("eve", "bob", "bob5")
        await writer.send("eve", "dave", "dave5")
        await writer.acknowledge("bob", 16)
        await writer.acknowledge("eve", 16)
        await writer.acknowledge("carol", 8)
        for one, other in (("bob", "eve"), ("bob", "carol"), ("eve", "bob"), ("carol", "bob")):
            await writer.read(one, other, 16)
        # Bob is to eve what dave is, who is away. Not so to carol.
        assert (await seen("eve", "bob"), await seen("eve", "dave")) == (("bob2", "bob1"), ("dave2", "dave1"))
        assert (await seen("bob", "eve"), await seen("bob", "carol")) == (("eve2", "eve1"), ("carol4", "carol4"))
        assert await seen("carol", "bob") == ("bob4", "bob4")
        # How far each is with the other's messages, each of them knows.
        assert (await marks(store, "eve", "bob"))[2:] == (14, 14)
        assert (await marks(store, "bob", "eve"))[2:] == (13, 13)
        # A second block, the other way, is no news, nor is the end of the first while that one lasts.
        await writer.block("eve", "bob")
        await writer.append(Batch(blocks=(BlockChange("bob", "eve", blocked=False),)))
        await writer.block("bob", "eve")
        await writer.append(
            Batch(blocks=(BlockChange("eve", "bob", blocked=False), BlockChange("eve", "bob", blocked=True)))
        )
        assert await seen("eve", "bob") == ("bob2", "bob1")
        assert await seen("bob", "eve") == ("eve2", "eve1")
        await writer.block("bob", "eve", blocked=False)
        await writer.block("eve", "bob", blocked=False)
        # The end of the block tells everything again, and a new one stops what is new from then on.
        assert (await seen("eve", "bob"), await seen("bob", "eve")) == (("bob4", "bob4"), ("eve4", "eve4"))
        await writer.block("eve", "bob")
        await writer.send("bob", "eve", "eve5")
        await writer.acknowledge("eve", 99)
        assert (await seen("eve", "bob"), await seen("bob", "eve")) == (("bob4", "bob4"), ("eve4", "eve4"))


async def test_one_transaction_may_turn_a_block_around(backend: Backend) -> None:
    """Somebody who blocks as the other stops blocking would see how far the other has come meanwhile (B1)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("eve", "bob", "1")
        await writer.block("bob", "eve")
        await writer.read("bob", "eve", 1)
        await writer.append(
            Batch(blocks=(BlockChange("bob", "eve", blocked=False), BlockChange("eve", "bob", blocked=True)))
        )
        assert await marks(store, "eve", "bob") == (0, 0, 0, 0)
        await writer.block("eve", "bob", blocked=False)
        assert await marks(store, "eve", "bob") == (1, 1, 0, 0)


async def test_what_a_transaction_read_counts_before_its_block(backend: Backend) -> None:
    """A mark would be lost that was committed together with the block: blocks come after marks."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in (1, 2, 3):
            await writer.send("eve", "bob", str(n))
        await writer.append(
            Batch(
                openings=(Opening(1, "bob", "phone", (await opened(store, "bob")).log, 2),),
                reads=(ReadMark("bob", "eve", 1),),
                blocks=(BlockChange("bob", "eve", blocked=True),),
            )
        )
        await writer.acknowledge("bob", 3)
        assert await marks(store, "eve", "bob") == (2, 1, 0, 0)


async def opened(store: Store, user: str) -> Opened:
    (opened,) = (await store.append(Batch(openings=(Opening(1, user, "script", send_only=True),)), 2000)).openings
    assert isinstance(opened, Opened)
    return opened


async def test_unread_is_counted_up_to_a_limit(backend: Backend) -> None:
    """A conversation with a million unread messages would take a second to list (R4)."""
    async with backend.open() as store:
        drafts = tuple(draft("bob", "alice", str(n)) for n in range(UNREAD_LIMIT + 5))
        await store.append(Batch(drafts=drafts), 1000)
        (one,) = await listed(store, "alice")
        assert one.unread == UNREAD_LIMIT
        await Writer(store).read("alice", "bob", 6)
        (one,) = await listed(store, "alice")
        assert one.unread == UNREAD_LIMIT - 1


async def test_what_is_no_longer_held_is_no_conversation(backend: Backend) -> None:
    """A conversation would be listed of which nothing can be seen, or a message that is no longer held (L4)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("bob", "alice", "1")
        await writer.send("carol", "alice", "1")
        await writer.edit("carol", "alice", "2", "1", "again")
        await writer.acknowledge("alice", 3)
        backend.retain("alice", 2)
        (one,) = await listed(store, "alice")
        assert (one.peer, one.last, one.own_delivered) == ("carol", None, 3)
        assert await marks(store, "carol", "alice") == (2, 0, 0, 0)
        assert await marks(store, "bob", "alice") == (1, 0, 0, 0)
