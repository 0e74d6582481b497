"""Numbering, de-duplicating, refusing: `append` with drafts, of every store."""

from __future__ import annotations

import pytest

from trio_chat.core.batch import Batch, Draft, Mark, Opening, PageRequest, Refused, Results, Stored
from trio_chat.errors import ErrorCode, RowRefused
from trio_chat.settings import Settings
from trio_chat.store.base import Store

from .conftest import Backend, draft

FULL = Refused(ErrorCode.MAILBOX_FULL)
CONFLICT = Refused(ErrorCode.ID_CONFLICT)


async def send(store: Store, *drafts: Draft, now: int = 1000) -> tuple[Stored | Refused, ...]:
    return (await store.append(Batch(drafts=drafts), now)).drafts


async def test_each_log_is_numbered_from_one_without_holes(backend: Backend) -> None:
    """A message would get a number somebody else's log has, or a hole, and a client would wait for the missing entry."""
    async with backend.open() as store:
        first = await send(store, draft("alice", "bob", "1"), draft("carol", "bob", "1"), draft("bob", "alice", "1"))
        second = await send(store, draft("alice", "bob", "2"), draft("bob", "dave", "2"))
    assert first == (Stored(1, 1, 1000), Stored(1, 2, 1000), Stored(3, 2, 1000))
    assert second == (Stored(3, 4, 1000), Stored(5, 1, 1000))


async def test_an_empty_batch_does_nothing(backend: Backend) -> None:
    """A committer that drains with nothing in hand would fail."""
    async with backend.open() as store:
        assert await store.append(Batch(), 1000) == Results(at=1000)


async def test_a_large_batch_is_stored_in_order(backend: Backend) -> None:
    """Splitting a batch into several statements would lose its order, or meet SQLite's limit of values."""
    drafts = [draft(f"user {n % 7}", f"user {n % 11}", str(n), "x" * n) for n in range(1500)]
    heads: dict[str, int] = {}
    async with backend.open(Settings(mailbox_bytes=2**30)) as store:
        results = await send(store, *drafts)
    for one, result in zip(drafts, results, strict=True):
        seq = heads[one.sender] = heads.get(one.sender, 0) + 1
        peer_seq = 0
        if one.sender != one.recipient:
            peer_seq = heads[one.recipient] = heads.get(one.recipient, 0) + 1
        assert result == Stored(seq, peer_seq, 1000)


async def test_numbers_go_on_after_a_restart(backend: Backend) -> None:
    """A restarted server would number from one again, over what is there."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1"))
    async with backend.open() as store:
        assert await send(store, draft("bob", "alice", "1")) == (Stored(2, 2, 1000),)


async def test_the_same_id_again_has_the_same_answer(backend: Backend) -> None:
    """A client that lost its answer and sends again would have its message delivered twice (S2)."""
    one = draft("alice", "bob", "1")
    async with backend.open() as store:
        (first,) = await send(store, one)
        await send(store, draft("alice", "carol", "2"), now=2000)
        again = await send(store, one, one, now=3000)
    async with backend.open() as store:
        later = await send(store, one, now=4000)
        assert await send(store, draft("alice", "bob", "3")) == (Stored(3, 2, 2000),)
    assert first == Stored(1, 1, 1000)
    assert {*again, *later} == {Stored(1, 1, 1000, new=False)}


async def test_the_same_id_twice_in_one_batch_is_stored_once(backend: Backend) -> None:
    """A resend in the very batch of the first would break the unique index, and with it the whole batch."""
    async with backend.open() as store:
        results = await send(store, draft("alice", "bob", "1"), draft("alice", "bob", "1"), draft("alice", "bob", "1", "ho"))
    assert results == (Stored(1, 1, 1000), Stored(1, 1, 1000, new=False), CONFLICT)


async def test_the_same_id_with_another_payload_is_a_conflict(backend: Backend) -> None:
    """A client whose ids collide would be told that its message is stored, when another one is."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1", "12:x"))
        results = await send(
            store, draft("alice", "bob", "1", "1"), draft("alice", "carol", "1", "12:x"), draft("alice", "bob", "1", "12:x")
        )
        assert results == (CONFLICT, CONFLICT, Stored(1, 1, 1000, new=False))
        # A conflict is not to be tried again, so it stops nothing that follows (S4), and uses no number.
        assert await send(store, draft("bob", "alice", "1")) == (Stored(2, 2, 1000),)


async def test_another_sender_may_use_the_id(backend: Backend) -> None:
    """One user could find out or spoil another's ids."""
    async with backend.open() as store:
        results = await send(store, draft("alice", "bob", "1"), draft("bob", "alice", "1", "other"))
    assert results == (Stored(1, 1, 1000), Stored(2, 2, 1000))


async def test_a_message_to_oneself_is_one_entry(backend: Backend) -> None:
    """Notes to oneself would show twice (L1)."""
    async with backend.open() as store:
        first = await send(store, draft("alice", "alice", "1"))
        again = await send(store, draft("alice", "alice", "1"), draft("alice", "alice", "2"))
    assert first == (Stored(1, 0, 1000),)
    assert again == (Stored(1, 0, 1000, new=False), Stored(2, 0, 1000))


async def test_who_is_blocked_cannot_tell(backend: Backend) -> None:
    """The message would reach who blocked its sender, or its answer would give the block away (L1, B1)."""
    async with backend.open() as store:
        await send(store, draft("eve", "bob", "1"))
        backend.block("bob", "eve")
        assert await send(store, draft("eve", "bob", "2"), draft("bob", "eve", "1")) == (
            Stored(2, 0, 1000),
            Stored(2, 3, 1000),
        )
        assert await send(store, draft("eve", "bob", "2")) == (Stored(2, 0, 1000, new=False),)


async def test_time_never_runs_backwards_in_a_log(backend: Backend) -> None:
    """A clock set back would show an answer before its question (L6)."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1"), now=5000)
        # carol takes over bob's time, and dave carol's.
        assert await send(store, draft("carol", "bob", "1"), now=10) == (Stored(1, 2, 5000),)
        assert await send(store, draft("dave", "carol", "1"), now=10) == (Stored(1, 2, 5000),)
        assert await send(store, draft("erin", "frank", "1"), now=10) == (Stored(1, 1, 10),)
    async with backend.open() as store:
        assert await send(store, draft("dave", "erin", "2"), now=20) == (Stored(2, 2, 5000),)


async def test_a_full_mailbox_refuses_its_senders(backend: Backend) -> None:
    """One user who is away could fill the disk; or who has room would be refused."""
    async with backend.open(Settings(mailbox=3)) as store:
        results = await send(store, *(draft("alice", "bob", str(n), source=n) for n in range(5)))
        assert [type(result) for result in results] == [Stored, Stored, Stored, Refused, Refused]
        assert results[3] == FULL
        # What bob and others do does not count as received by him, nor does he count against them.
        assert await send(store, *(draft("bob", "alice", str(n), source=n) for n in range(3))) == tuple(
            Stored(4 + n, 4 + n, 1000) for n in range(3)
        )
        assert await send(store, draft("bob", "alice", "4"), draft("bob", "bob", "5", source=2)) == (
            FULL,
            Stored(7, 0, 1000),
        )
        # A stored one is answered even so (S2).
        assert await send(store, draft("alice", "bob", "0")) == (Stored(1, 1, 1000, new=False),)
    async with backend.open(Settings(mailbox=3)) as store:
        assert await send(store, draft("carol", "bob", "1")) == (FULL,)
        await store.append(Batch(marks=(Mark("bob", "gone", 2),)), 1000)
        assert await send(store, *(draft("carol", "bob", str(n), source=n) for n in range(3))) == (
            Stored(1, 8, 1000),
            Stored(2, 9, 1000),
            FULL,
        )
        # Everything is delivered.
        await store.append(Batch(marks=(Mark("bob", "gone", 9),)), 1000)
        assert [type(one) for one in await send(store, *(draft("dave", "bob", str(n)) for n in range(4)))] == [
            Stored
        ] * 3 + [Refused]


async def test_a_mailbox_is_bounded_in_bytes(backend: Backend) -> None:
    """Long texts would get past a limit on their number."""
    async with backend.open(Settings(mailbox_bytes=1000)) as store:
        assert await send(store, draft("alice", "bob", "1", "é" * 499)) == (Stored(1, 1, 1000),)
        assert await send(store, draft("alice", "bob", "2", "x")) == (Stored(2, 2, 1000),)
        assert await send(store, draft("alice", "bob", "3", "x")) == (Stored(3, 3, 1000),)
        assert await send(store, draft("alice", "bob", "4", "x")) == (FULL,)
        await store.append(Batch(marks=(Mark("bob", "phone", 1),)), 1000)
        assert await send(store, draft("alice", "bob", "4", "x")) == (Stored(4, 4, 1000),)


async def test_what_retention_removed_is_not_undelivered(backend: Backend) -> None:
    """A mailbox that retention has emptied would stay full for ever."""
    async with backend.open(Settings(mailbox=3)) as store:
        await send(store, draft("bob", "alice", "0"), *(draft("alice", "bob", str(n)) for n in range(3)))
        assert await send(store, draft("carol", "bob", "1")) == (FULL,)
        backend.retain("bob", 2)
        assert await send(store, draft("carol", "bob", "1"), draft("carol", "bob", "2")) == (Stored(1, 5, 1000), FULL)
        backend.retain("bob", 5)
        assert await send(store, draft("carol", "bob", "2")) == (Stored(2, 6, 1000),)


async def test_after_a_refusal_the_source_is_refused(backend: Backend) -> None:
    """A client that pipelines could not keep its order: a later message would be stored before a refused one (S4).

    And one that sends a stored message again would be told that it is not stored (S2).
    """
    async with backend.open(Settings(mailbox=1)) as store:
        results = await send(
            store,
            draft("alice", "bob", "1", source=1),
            draft("alice", "bob", "2", source=1),
            draft("alice", "carol", "3", source=1),
            draft("alice", "bob", "1", source=1),
            draft("alice", "carol", "3", source=2),
        )
    assert results == (Stored(1, 1, 1000), FULL, FULL, Stored(1, 1, 1000, new=False), Stored(2, 1, 1000))


async def test_who_is_only_refused_does_not_come_to_exist(backend: Backend) -> None:
    """Refused messages would fill the table of users."""
    async with backend.open(Settings(mailbox=1)) as store:
        await send(store, draft("alice", "bob", "1"))
        assert await send(store, draft("mallory", "bob", "1")) == (FULL,)
        assert await send(store, draft("mallory", "carol", "1")) == (Stored(1, 1, 1000),)


@pytest.mark.parametrize(
    "bad",
    [
        draft("alice", "bob", "2", "\ud800"),
        draft("alice", "bob", "\ud800"),
        draft("alice", "\ud800", "2"),
        draft("\ud800", "bob", "2"),
    ],
)
async def test_a_row_that_cannot_be_stored_leaves_no_trace(backend: Backend, bad: Draft) -> None:
    """One bad row would use up a number, or take part of its batch into the store (failures 24, I8)."""
    good = draft("alice", "bob", "1"), draft("carol", "alice", "1")
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "0"))
        with pytest.raises(RowRefused):
            await store.append(Batch(marks=(Mark("bob", "phone", 1),), drafts=(good[0], bad, good[1])), 1000)
        with pytest.raises(RowRefused):
            await send(store, bad)
        # One by one, the rest goes in as if the bad one had never been.
        assert await send(store, good[0]) == (Stored(2, 2, 1000),)
        assert await send(store, good[1]) == (Stored(1, 3, 1000),)
        (opened,) = (await store.append(Batch(openings=(Opening(1, "bob", "web"),)), 1000)).openings
    assert not isinstance(opened, Refused)
    assert opened.cursor == 0


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "\U0001f980", "'; --", '\\"\n\x1f\x7f', "x" * 100_000])
async def test_any_text_comes_back_as_it_was(backend: Backend, text: str) -> None:
    """What the store does with a text on its way (as a C string, as JSON) would change it."""
    async with backend.open() as store:
        await send(store, draft("alice", "bob", "1", text))
        assert await send(store, draft("alice", "bob", "1", text)) == (Stored(1, 1, 1000, new=False),)
        (page,) = await store.pages([PageRequest("bob", 0, 10, 1000)])
    assert [message.text for message in page.messages] == [text]
