"""How far others are with one's messages: `append` with marks, reads and openings, of every store (R1–R3)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trio_chat.core.batch import Batch, BlockChange, Draft, Mark, Opened, Opening, Progress, ReadMark, Results
from trio_chat.errors import RowRefused
from trio_chat.retrieval import Conversation, ConversationsQuery
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.progress import LOGS_AT_ONCE, LOOK_BACK

from .conftest import Backend, draft


async def fill(store: Store, *pairs: Sequence[str]) -> None:
    """One message for each pair, from the first to the second."""
    await store.append(Batch(drafts=tuple(draft(pair[0], pair[1], str(n)) for n, pair in enumerate(pairs))), 1000)


async def told(store: Store, batch: Batch) -> set[Progress]:
    progress = (await store.append(batch, 1000)).progress
    assert len(progress) == len({(one.user, one.peer) for one in progress})
    return {*progress}


async def acknowledge(store: Store, user: str, seq: int) -> set[Progress]:
    return await told(store, Batch(marks=(Mark(user, "phone", seq),)))


async def read(store: Store, user: str, peer: str, seq: int) -> set[Progress]:
    return await told(store, Batch(reads=(ReadMark(user, peer, seq),)))


async def conversation(store: Store, user: str, peer: str) -> Conversation:
    page = await store.conversations(user, ConversationsQuery(), size=10**9)
    return next(one for one in page.conversations if one.peer == peer)


async def test_each_sender_learns_what_was_delivered(backend: Backend) -> None:
    """A sender would be told of another's message, or in another's numbers (R2)."""
    async with backend.open() as store:
        await fill(store, "ab", "ac", "cb", "ab", "ba", "bb", "ab")  # b: ab cb ab ba bb ab
        assert await acknowledge(store, "b", 1) == {Progress("a", "b", 1)}
        assert await acknowledge(store, "b", 1) == set()
        assert await acknowledge(store, "b", 4) == {Progress("a", "b", 3), Progress("c", "b", 2)}
        assert await acknowledge(store, "b", 5) == set()  # a note to oneself
        assert await acknowledge(store, "a", 99) == {Progress("b", "a", 4)}
        assert await told(store, Batch(marks=(Mark("b", "web", 2), Mark("b", "phone", 6), Mark("nobody", "x", 1)))) == {
            Progress("a", "b", 5)
        }
        one = await conversation(store, "a", "b")
        assert (one.delivered, one.read) == (5, 0)


async def test_a_position_of_the_clients_own_counts_as_delivered(backend: Backend) -> None:
    """Who connects with a position of its own would have read everything without anybody being told."""
    async with backend.open() as store:
        await fill(store, "ab", "ab", "cb")
        (opened,) = (await store.append(Batch(openings=(Opening(1, "b", "phone"),)), 1000)).openings
        assert isinstance(opened, Opened)
        batch = Batch(marks=(Mark("b", "phone", 1),), openings=(Opening(2, "b", "phone", opened.log, 3),))
        assert await told(store, batch) == {Progress("a", "b", 2), Progress("c", "b", 1)}
        assert await told(store, Batch(openings=(Opening(3, "b", "web"), Opening(4, "b", "x", send_only=True)))) == set()


async def test_what_is_read_is_delivered_too(backend: Backend) -> None:
    """A message could be read and not delivered (R2); or be unread again."""
    async with backend.open() as store:
        await fill(store, "ab", "cb", "ab", "ba", "ab")
        assert await read(store, "b", "a", 3) == {Progress("a", "b", 2, 2)}
        assert await read(store, "b", "a", 2) == set()  # never goes back
        assert await read(store, "b", "a", 4) == set()  # nothing of a's in between
        assert await read(store, "b", "c", 99) == {Progress("c", "b", 1, 1)}  # beyond the log is its end
        assert (await conversation(store, "b", "c")).own_read == 2
        assert (await conversation(store, "b", "a")).unread == 1
        both = Batch(marks=(Mark("b", "phone", 5),), reads=(ReadMark("b", "a", 5), ReadMark("b", "a", 4)))
        assert await told(store, both) == {Progress("a", "b", 4, 4), Progress("c", "b", 1)}
    async with backend.open() as store:
        assert (await conversation(store, "b", "a")).unread == 0
        one = await conversation(store, "a", "b")
        assert (one.delivered, one.read) == (4, 4)


async def test_both_read_at_once(backend: Backend) -> None:
    """Of two marks in one conversation one would be lost."""
    async with backend.open() as store:
        await fill(store, "ab", "ba")
        batch = Batch(reads=(ReadMark("a", "b", 2), ReadMark("b", "a", 2)))
        assert await told(store, batch) == {Progress("a", "b", 1, 1), Progress("b", "a", 2, 2)}
        assert (await conversation(store, "a", "b")).own_read == 2
        assert (await conversation(store, "b", "a")).own_read == 1


async def test_further_delivered_than_read(backend: Backend) -> None:
    """One receipt would take the other back."""
    async with backend.open() as store:
        await fill(store, "ab", "ab", "ab")
        assert await told(store, Batch(marks=(Mark("b", "phone", 3),), reads=(ReadMark("b", "a", 1),))) == {
            Progress("a", "b", 3, 1)
        }


async def test_a_mark_where_nothing_was_said_is_none(backend: Backend) -> None:
    """Marks would make users and conversations, or count for messages that come later."""
    async with backend.open() as store:
        await fill(store, "ab", "aa")
        for user, peer in ("ac", "ca", "cd", "aa"):
            assert await read(store, user, peer, 2) == set()
        await fill_again(store, "ca")
        assert (await conversation(store, "a", "c")).own_read == 0


async def fill_again(store: Store, pair: str) -> None:
    await store.append(Batch(drafts=(draft(pair[0], pair[1], "again"),)), 1000)


async def test_edits_and_deletions_are_delivered_and_read_as_well(backend: Backend) -> None:
    """A sender would never learn that a correction has arrived."""
    async with backend.open() as store:
        await fill(store, "ab")
        edit = Draft(1, "a", "b", "e", "new", "edit", "0")
        await store.append(Batch(drafts=(edit,)), 1000)
        assert await acknowledge(store, "b", 2) == {Progress("a", "b", 2)}
        await store.append(Batch(drafts=(Draft(1, "a", "b", "d", None, "delete", "0"),)), 1000)
        assert await read(store, "b", "a", 3) == {Progress("a", "b", 3, 3)}


@pytest.mark.parametrize("blocker", ["a", "b"])
async def test_nothing_is_told_where_one_blocks_the_other(backend: Backend, blocker: str) -> None:
    """Receipts would give away that somebody is there, or reads on (B1)."""
    change = BlockChange(blocker, "b" if blocker == "a" else "a", blocked=True)
    async with backend.open() as store:
        await fill(store, "ab", "cb", "ab")
        # The order of a batch: the block comes after what was delivered before it.
        assert await told(store, Batch(marks=(Mark("b", "phone", 1),), blocks=(change,))) == {Progress("a", "b", 1)}
        assert await acknowledge(store, "b", 2) == {Progress("c", "b", 1)}
        assert await acknowledge(store, "b", 3) == set()
        assert await read(store, "b", "a", 2) == set()
        await store.append(Batch(blocks=(BlockChange(change.user, change.peer, blocked=False),)), 1000)
        assert await read(store, "b", "a", 3) == {Progress("a", "b", 2, 2)}


async def test_what_a_block_kept_away_is_never_delivered(backend: Backend) -> None:
    """The blocked sender could tell by the receipts which messages have arrived (B1)."""
    async with backend.open() as store:
        await fill(store, "ab", "ba")
        await store.append(Batch(blocks=(BlockChange("b", "a", blocked=True),)), 1000)
        await store.append(Batch(drafts=(draft("a", "b", "x"), draft("c", "b", "x"))), 1000)
        await store.append(Batch(blocks=(BlockChange("b", "a", blocked=False),)), 1000)
        assert await told(store, Batch(marks=(Mark("b", "phone", 3),), reads=(ReadMark("b", "a", 3),))) == {
            Progress("a", "b", 1, 1), Progress("c", "b", 1)
        }  # fmt: skip


async def test_what_retention_removed_is_nobodys_progress(backend: Backend) -> None:
    """A mark in a place where the log no longer is would fail, or tell of messages that are gone."""
    async with backend.open() as store:
        await fill(store, "ab", "ab", "ab", "cb", "ab")
        backend.retain("b", 3)
        assert await read(store, "b", "a", 2) == set()
        assert await read(store, "b", "a", 4) == set()
        assert await acknowledge(store, "b", 4) == {Progress("c", "b", 1)}
        assert await read(store, "b", "a", 5) == {Progress("a", "b", 4, 4)}


async def test_looking_back_is_bounded(backend: Backend) -> None:
    """A device that comes back after a year would hold up everybody's messages."""
    async with backend.open(Settings(mailbox=2 * LOOK_BACK)) as store:
        await store.append(Batch(drafts=(draft("early", "b", "1"),)), 1000)
        await store.append(Batch(drafts=(draft("first", "b", "1"),)), 1000)
        await store.append(Batch(drafts=tuple(draft("late", "b", str(n), "") for n in range(LOOK_BACK - 1))), 1000)
        assert await acknowledge(store, "b", LOOK_BACK + 1) == {
            Progress("first", "b", 1),
            Progress("late", "b", LOOK_BACK - 1),
        }


async def test_many_at_once(backend: Backend) -> None:
    """Splitting the marks into several statements would lose some of their progress."""
    users = [f"user {n}" for n in range(LOGS_AT_ONCE * 3 + 1)]
    async with backend.open() as store:
        await store.append(Batch(drafts=tuple(draft("a", user, user) for user in users)), 1000)
        batch = Batch(
            marks=tuple(Mark(user, "phone", 1) for user in users), reads=tuple(ReadMark(user, "a", 1) for user in users[::2])
        )
        assert await told(store, batch) == {
            Progress("a", user, n, 0 if n % 2 == 0 else n) for n, user in enumerate(users, 1)
        }


async def test_one_by_one_is_the_same_in_the_end(backend: Backend) -> None:
    """A batch that is tried again row by row would leave something else behind than at once."""
    batch = Batch(
        marks=(Mark("b", "phone", 1), Mark("b", "web", 2)),
        reads=(ReadMark("b", "a", 2), ReadMark("a", "b", 1)),
        blocks=(BlockChange("c", "a", blocked=True),),
    )
    alone = [Batch(marks=(mark,)) for mark in batch.marks] + [Batch(reads=(one,)) for one in batch.reads]
    alone += [Batch(blocks=batch.blocks)]
    seen = []
    for suffix, batches in (("", [batch]), ("'", alone)):
        renamed = [rename(one, suffix) for one in batches]
        async with backend.open() as store:
            await fill(store, *[(f"a{suffix}", f"b{suffix}")] * 2)
            results: list[Results] = [await store.append(one, 1000) for one in renamed]
            assert {one.blocks for one in results if one.blocks} == {((f"a{suffix}",),)}
            one = await conversation(store, f"a{suffix}", f"b{suffix}")
            two = await conversation(store, f"b{suffix}", f"a{suffix}")
            seen.append((one.delivered, one.read, one.own_read, two.unread, two.own_delivered, two.own_read))
    assert seen[0] == seen[1] == (2, 2, 0, 0, 2, 2)


def rename(batch: Batch, suffix: str) -> Batch:
    return Batch(
        marks=tuple(Mark(one.user + suffix, one.device, one.seq) for one in batch.marks),
        reads=tuple(ReadMark(one.user + suffix, one.peer + suffix, one.seq) for one in batch.reads),
        blocks=tuple(BlockChange(one.user + suffix, one.peer + suffix, one.blocked) for one in batch.blocks),
    )


@pytest.mark.parametrize("bad", [ReadMark("b", "\ud800", 1), ReadMark("\ud800", "b", 1)])
async def test_a_mark_of_nobody_is_one_rows_fault(backend: Backend, bad: ReadMark) -> None:
    """A client could end the server with a name that is no text (failures 24)."""
    async with backend.open() as store:
        await fill(store, "ab")
        with pytest.raises(RowRefused):
            await store.append(Batch(marks=(Mark("b", "phone", 1),), reads=(ReadMark("b", "a", 1), bad)), 1000)
        assert await read(store, "b", "a", 1) == {Progress("a", "b", 1, 1)}
