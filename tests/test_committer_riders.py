"""What push writes: it rides in the batches of others, and waits for company a while."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat.committer import Committer
from trio_chat.core.batch import Batch, Refused, Results
from trio_chat.core.events import Event
from trio_chat.core.outbox import Quiet
from trio_chat.errors import RowRefused, StoreBusy
from trio_chat.store.memory import MemoryStore

from .store.conftest import draft


class Counting(MemoryStore):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    async def append(self, batch: Batch, now: int) -> Results:
        self.batches.append(batch)
        return await super().append(batch, now)


async def test_riders_share_a_batch_or_wait(autojump_clock: MockClock) -> None:
    """Each attempt would cost an fsync, and a message would wait for it; or a note would wait for ever."""
    store, reports = Counting(), list[Event]()
    committer = Committer(store, reports.append, lambda: 1000)
    async with store, trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        first = committer.ride(Quiet("bob", quiet=True), 10)
        committer.submit(Batch(drafts=(draft("alice", "bob", "m1"),)))
        await first.done.wait()
        assert [(len(batch.drafts), len(batch.push)) for batch in store.batches] == [(1, 1)]
        await wait_all_tasks_blocked()
        assert len(reports) == 1
        began = trio.current_time()
        rides = [committer.ride(Quiet(f"user{n}", quiet=True), 10) for n in range(300)]
        await rides[-1].done.wait()
        assert 9.9 < trio.current_time() - began < 10.1
        assert [len(batch.push) for batch in store.batches[1:]] == [256, 44]
        assert len(reports) == 1
        assert not committer.riding
        nursery.cancel_scope.cancel()


async def test_riders_learn_of_refusals(autojump_clock: MockClock) -> None:
    """A registration would be called done that is not; or one bad one would take the others with it."""
    store = Counting()
    committer = Committer(store, lambda _: None, lambda: 1000)
    async with store, trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        store.fail_next(StoreBusy("busy"))
        refused = committer.ride(Quiet("bob", quiet=True), 0)
        await refused.done.wait()
        assert refused.refused == Refused(StoreBusy.code)
        bad, good = committer.ride(Quiet("\ud800", quiet=True), 0), committer.ride(Quiet("bob", quiet=True), 0)
        await good.done.wait()
        assert bad.refused == Refused(RowRefused.code)
        assert good.refused is None
        assert (await store.outbox.preferences("bob")).quiet
        nursery.cancel_scope.cancel()
