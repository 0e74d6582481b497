"""What the store in memory has that no other has."""

from __future__ import annotations

import pytest
import trio

from trio_chat.core.batch import Batch, Mark, Opening, PageRequest, Stored
from trio_chat.errors import StoreBusy, StoreFull, StoreUnavailable
from trio_chat.store.base import Sizes
from trio_chat.store.memory import MemoryStore

from .conftest import draft

ONE = Batch(drafts=(draft("alice", "bob", "1"),))


async def test_faults_come_as_ordered() -> None:
    """Tests of what a chat does with a failing store would test something else."""
    async with MemoryStore() as store:
        store.fail_next(StoreBusy("one"), StoreFull("two"))
        with pytest.raises(StoreBusy, match="one"):
            await store.append(ONE, 1000)
        with pytest.raises(StoreFull, match="two"):
            await store.append(ONE, 1000)
        assert store.failure is None
        assert (await store.append(ONE, 1000)).drafts == (Stored(1, 1, 1000),)


async def test_it_takes_no_disk() -> None:
    """A chat in memory would tell its operator of a file that grows."""
    async with MemoryStore() as store:
        await store.append(ONE, 1000)
        assert store.space() == Sizes()


async def test_unavailable_stays_so_until_a_restart() -> None:
    """A test could not show what happens while the disk is broken."""
    async with MemoryStore() as store:
        store.fail_next(StoreUnavailable("broken"))
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="broken"):
                await store.append(ONE, 1000)
        failure = store.failure
        assert failure == "broken"
        assert (await store.pages([PageRequest("bob", 0, 1, 1)]))[0].messages == ()
    async with store:
        assert store.failure is None
        assert (await store.append(ONE, 1000)).drafts == (Stored(1, 1, 1000),)


async def test_cancelled_means_undone() -> None:
    """A cancelled append would store a message nobody is told of."""
    async with MemoryStore() as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.append(ONE, 1000)
        assert (await store.pages([PageRequest("bob", 0, 1, 1)]))[0].messages == ()


async def test_virtual_time_is_enough(autojump_clock: trio.testing.MockClock) -> None:
    """Tests on a virtual clock would run away: it does not wait for threads."""
    async with MemoryStore() as store:
        with trio.fail_after(1):
            await store.append(ONE, 1000)
    assert trio.current_time() == 0


async def test_two_stores_are_two_histories() -> None:
    """A client that moves from one in-memory server to the next would keep a position that means nothing."""
    assert MemoryStore()._epoch != MemoryStore()._epoch


async def test_what_is_in_it_can_be_looked_at_and_set() -> None:
    """Tests of what a chat does could not say what had been stored, or who blocks whom, without asking the chat."""
    async with MemoryStore() as store:
        store.blocks = {("bob", "eve")}
        await store.append(Batch(drafts=(draft("alice", "bob", "1"), draft("eve", "bob", "1"))), 1000)
        assert [(message.seq, message.sender) for message in store.log("bob")] == [(1, "alice")]
        assert store.log("nobody") == []
        assert await store.blocked("bob") == ("eve",)


async def test_the_same_batches_give_the_same_results_in_every_process() -> None:
    """A simulation that fails could not be played again: the order of a set of names differs from process to process."""
    senders = [f"sender{number}" for number in range(20)]
    async with MemoryStore() as store:
        await store.append(Batch(openings=(Opening(1, "bob", "phone"),)), 1000)
        await store.append(Batch(drafts=tuple(draft(sender, "bob", "1") for sender in senders)), 1000)
        results = await store.append(Batch(marks=(Mark("bob", "phone", 20),)), 1000)
        assert [progress.user for progress in results.progress] == senders
