"""The tasks that use the store: what is refused to whom when it fails, and what stops the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat.committer import Committer, Loader, unix_ms
from trio_chat.core.batch import (
    Batch,
    BlockChange,
    Draft,
    Mark,
    Opened,
    Opening,
    Page,
    PageRequest,
    Progress,
    ReadMark,
    Refused,
    Removal,
    Results,
    Stored,
)
from trio_chat.core.events import Committed, Event, Loaded, LoadFailed
from trio_chat.errors import (
    ErrorCode,
    Fate,
    RowRefused,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore

from .support import HeldStore

BAD = "\ud800"  # cannot be stored by any store
NOW = 1_700_000_000_000


def draft(source: int, id: str, text: str = "hi") -> Draft:
    return Draft(source, f"user{source}", "bob", id, text)


class Failing(HeldStore):
    """Raises what `faults` gives for the number of an `append`, counting from 1."""

    def __init__(self, **faults: Exception) -> None:
        super().__init__()
        self.faults = {int(number.removeprefix("n")): fault for number, fault in faults.items()}

    async def append(self, batch: Batch, now: int) -> Results:
        if fault := self.faults.get(len(self.batches) + 1):
            self.batches.append(batch)
            await trio.lowlevel.checkpoint()
            raise fault
        return await super().append(batch, now)


@asynccontextmanager
async def committer_over(store: Store) -> AsyncIterator[tuple[Committer, list[Event]]]:
    reported: list[Event] = []
    async with store, trio.open_nursery() as nursery:
        committer = Committer(store, reported.append, lambda: NOW)
        nursery.start_soon(committer.run)
        yield committer, reported
        nursery.cancel_scope.cancel()


async def committed(store: Store, batch: Batch) -> Results:
    """What the committer reports of a batch."""
    async with committer_over(store) as (committer, reported):
        committer.submit(batch)
        await wait_all_tasks_blocked()
        (event,) = reported
        assert isinstance(event, Committed)
        return event.results


async def test_nothing_is_reported_before_the_commit_has_returned() -> None:
    """Else a message is acknowledged that is not stored (promise 1)."""
    store = HeldStore()
    store.hold()
    async with committer_over(store) as (committer, reported):
        committer.submit(Batch(drafts=(draft(1, "a"),)))
        await wait_all_tasks_blocked()
        assert store.begun.is_set()
        assert not reported
        store.release()
        await wait_all_tasks_blocked()
        assert reported == [Committed(Results(drafts=(Stored(1, 1, NOW),), at=NOW))]


async def test_one_batch_is_under_way_at_a_time() -> None:
    """Else two transactions number the same log."""
    store = HeldStore()
    store.hold()
    async with committer_over(store) as (committer, _):
        committer.submit(Batch(drafts=(draft(1, "a"),)))
        with pytest.raises(RuntimeError, match="already"):
            committer.submit(Batch(drafts=(draft(1, "b"),)))
        store.release()


async def test_one_bad_row_is_refused_to_its_sender_alone() -> None:
    """Else one client can have everybody's messages refused, or leaves a hole in a log (failures 24, L2)."""
    store = HeldStore()
    drafts = tuple(draft(n, f"m{n}", BAD if n == 3 else f"text {n}") for n in range(1, 6))
    results = await committed(store, Batch(drafts=drafts))
    assert results.drafts == (
        Stored(1, 1, NOW),
        Stored(1, 2, NOW),
        Refused(ErrorCode.BAD_FRAME),
        Stored(1, 3, NOW),
        Stored(1, 4, NOW),
    )
    assert store.texts("bob") == ["text 1", "text 2", "text 4", "text 5"]


async def test_a_bad_opening_is_refused_alone() -> None:
    """Else one strange device name keeps everybody from connecting who comes at the same moment."""
    openings = tuple(Opening(n, f"user{n}", BAD if n == 2 else "phone") for n in (1, 2, 3))
    results = await committed(HeldStore(), Batch(openings=openings, drafts=(draft(9, "a"),)))
    first, second, third = results.openings
    assert isinstance(first, Opened)
    assert second == Refused(ErrorCode.BAD_FRAME)
    assert isinstance(third, Opened)
    assert results.drafts == (Stored(1, 1, NOW),)


async def test_a_bad_mark_costs_the_others_nothing() -> None:
    """Else one mark that cannot be stored sends everybody's entries again after the next connect."""
    store = HeldStore()
    async with store:
        await store.append(Batch(openings=(Opening(1, "bob", "phone"),), drafts=(draft(1, "a"),)), NOW)
    marks = (Mark("bob", BAD, 1), Mark("bob", "phone", 1))
    await committed(store, Batch(marks=marks, drafts=(draft(2, "b"),)))
    async with store:
        results = await store.append(Batch(openings=(Opening(2, "bob", "phone"),)), NOW)
    (opened,) = results.openings
    assert isinstance(opened, Opened)
    assert opened.cursor == 1


async def test_marks_do_not_hold_up_a_full_store() -> None:
    """Else a full disk is asked once for each of a thousand marks before anybody hears that it is full."""
    store = Failing(n1=StoreFull("full"), n2=StoreFull("full"), n3=StoreFull("full"))
    marks = tuple(Mark("bob", f"d{n}", 1) for n in range(100))
    results = await committed(store, Batch(marks=marks, drafts=(draft(1, "a"),)))
    assert results.drafts == (Refused(ErrorCode.STORE_FULL),)
    assert len(store.batches) == 3


async def test_a_full_store_refuses_and_recovers() -> None:
    """Else a full disk ends the server, or messages are refused for ever although there is space again (failures 3)."""
    store = Failing(n1=StoreFull("full"), n2=StoreFull("full"))
    drafts = (draft(1, "a"), draft(1, "b"), draft(2, "c"))
    results = await committed(store, Batch(drafts=drafts))
    full = Refused(ErrorCode.STORE_FULL)
    # The one behind a refused one of the same connection is refused likewise, so that the order is kept (S4).
    assert results.drafts == (full, full, Stored(1, 1, NOW))
    assert store.ids("bob") == ["c"]


async def test_a_resend_of_what_is_stored_is_not_refused_with_what_is_before_it() -> None:
    """Else who resends a message behind one that is refused is told that it is not stored, and it is (S2, S5)."""
    store = Failing(n2=StoreFull("full"), n3=StoreFull("full"))
    await store.append(Batch(drafts=(draft(1, "old"),)), NOW)
    drafts = (draft(1, "new"), draft(1, "old"), draft(1, "old", "another text"), draft(1, "newer"))
    results = await committed(store, Batch(drafts=drafts))
    full = Refused(ErrorCode.STORE_FULL)
    assert results.drafts == (full, Stored(1, 1, NOW, new=False), Refused(ErrorCode.ID_CONFLICT), full)
    assert store.ids("bob") == ["old"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [(StoreBusy("locked"), ErrorCode.OVERLOADED), (StoreUnavailable("I/O error"), ErrorCode.STORE_UNAVAILABLE)],
)
async def test_behind_a_refusal_nothing_is_said_that_nobody_knows(fault: StoreError, code: ErrorCode) -> None:
    """Else who resends a message is told that it is not stored, although nobody could look (S5)."""

    class Unreadable(Failing):
        async def known(self, ids: Sequence[tuple[str, str]]) -> list[bool]:
            raise fault

    store = Unreadable(n1=StoreFull("full"), n2=StoreFull("full"))
    results = await committed(store, Batch(drafts=(draft(1, "a"), draft(1, "b"))))
    assert results.drafts == (Refused(ErrorCode.STORE_FULL), Refused(code))
    assert code.fate is Fate.UNKNOWN
    assert len(store.batches) == 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [(StoreBusy("locked"), ErrorCode.OVERLOADED), (StoreUnavailable("I/O error"), ErrorCode.STORE_UNAVAILABLE)],
)
async def test_what_another_try_would_not_mend_is_not_tried_again(fault: StoreError, code: ErrorCode) -> None:
    """Else a failed fsync is retried, which loses data, or everybody waits for a lock once more for each message."""
    store = Failing(n1=fault)
    batch = Batch(openings=(Opening(1, "bob", "phone"),), drafts=(draft(1, "a"), draft(2, "b")))
    results = await committed(store, batch)
    assert results == Results(openings=(Refused(code),), drafts=(Refused(code),) * 2)
    assert len(store.batches) == 1


@pytest.mark.parametrize("kind", ["marks", "openings", "drafts"])
async def test_what_another_try_would_not_mend_ends_the_trying_one_by_one(kind: str) -> None:
    """Else everybody waits for a lock once for each of a thousand rows: for half an hour."""
    store = Failing(n1=RowRefused("bad"), n2=StoreBusy("locked"))
    batch = Batch(
        marks=(Mark("bob", "phone", 1), Mark("bob", "web", 1)) if kind == "marks" else (),
        openings=(Opening(1, "bob", "phone"), Opening(2, "bob", "web")) if kind != "drafts" else (),
        drafts=(draft(1, "a"), draft(2, "b")),
    )
    results = await committed(store, batch)
    busy = Refused(ErrorCode.OVERLOADED)
    assert results == Results(openings=(busy,) * len(batch.openings), drafts=(busy, busy))
    assert len(store.batches) == 2


EVERYTHING = Batch(
    marks=(Mark("bob", "phone", 1),),
    reads=(ReadMark("bob", "user1", 1), ReadMark("bob", "user1", 2)),
    removals=(Removal("bob", "web"),),
    openings=(Opening(1, "bob", "phone"),),
    blocks=(BlockChange("bob", "eve", blocked=True), BlockChange("bob", "mallory", blocked=True)),
    drafts=(draft(1, "a"),),
)


@pytest.mark.parametrize(
    ("fault", "tries"), [(StoreBusy("locked"), 1), (StoreUnavailable("I/O error"), 1), (StoreFull("full"), 7)]
)
async def test_everything_in_a_batch_is_refused_when_nothing_can_be_stored(fault: StoreError, tries: int) -> None:
    """Else a client that blocks somebody or removes a device waits for ever, or believes that it is done (S3)."""
    store = Failing(**{f"n{n}": fault for n in range(1, 20)})
    results = await committed(store, EVERYTHING)
    refused = Refused(fault.code)
    assert results == Results(
        openings=(refused,), drafts=(refused,), blocks=(refused,) * 2, removals=(refused,), reads=(refused,) * 2
    )
    assert results.at == 0  # nothing was committed
    assert len(store.batches) == tries + (1 if tries > 1 else 0)


async def test_each_kind_of_row_is_tried_alone() -> None:
    """Else one bad row has a block, a removal or a read mark refused that has nothing to do with it (failures 24)."""
    store = HeldStore()
    async with store:
        await store.append(Batch(openings=(Opening(1, "bob", "phone"), Opening(2, "bob", "web"))), NOW)
        await store.append(Batch(drafts=(draft(1, "m1"), draft(1, "m2"), draft(2, "m3"))), NOW)
    bad = Refused(ErrorCode.BAD_FRAME)
    results = await committed(
        store,
        Batch(
            marks=(Mark("bob", BAD, 1), Mark("bob", "phone", 1), Mark("bob", "phone", 3)),
            reads=(ReadMark("bob", BAD, 1), ReadMark("bob", "user1", 1), ReadMark("bob", "user1", 2)),
            removals=(Removal("bob", BAD), Removal("bob", "web")),
            openings=(Opening(3, "bob", "phone"),),
            blocks=(BlockChange("bob", BAD, blocked=True), BlockChange("bob", "eve", blocked=True)),
            drafts=(draft(4, "m4", BAD), draft(5, "m5")),
        ),
    )
    assert results.reads == (bad, None, None)
    assert results.removals == (bad, None)
    assert results.blocks == (bad, ("eve",))
    assert [type(opened) for opened in results.openings] == [Opened]
    assert results.drafts == (bad, Stored(1, 4, NOW))
    # Each step was a transaction of its own; what they come to is told once, as of the whole (R2).
    assert sorted(results.progress, key=lambda step: step.user) == [
        Progress("user1", "bob", delivered=2, read=2),
        Progress("user2", "bob", delivered=1),
    ]
    assert results.at == NOW
    assert [device.name for device in await store.devices("bob")] == ["phone"]


async def test_read_marks_do_not_hold_up_a_full_store() -> None:
    """Else a full disk is asked once for each of a thousand read marks before anybody hears that it is full."""
    store = Failing(n1=StoreFull("full"), n2=StoreFull("full"), n3=StoreFull("full"))
    reads = tuple(ReadMark("bob", f"user{n}", 1) for n in range(100))
    results = await committed(store, Batch(reads=reads, drafts=(draft(1, "a"),)))
    full = Refused(ErrorCode.STORE_FULL)
    assert results.reads == (full,) * 100
    assert results.drafts == (full,)
    assert len(store.batches) == 3


@pytest.mark.parametrize("fault", [ValueError("planted"), RuntimeError("planted"), AssertionError("planted")])
async def test_anything_else_stops_the_committer(fault: Exception) -> None:
    """Else a server goes on that does not know what is stored (S5)."""
    with pytest.RaisesGroup(type(fault)):
        async with committer_over(Failing(n1=fault)) as (committer, reported):
            committer.submit(Batch(drafts=(draft(1, "a"),)))
            await trio.sleep_forever()
    assert not reported


async def test_a_failure_between_two_rows_stops_the_committer() -> None:
    """Else the one-by-one retry hides what the whole batch would have shown."""
    store = Failing(n1=RowRefused("bad"), n3=ValueError("planted"))
    with pytest.RaisesGroup(ValueError):
        async with committer_over(store) as (committer, reported):
            committer.submit(Batch(drafts=(draft(1, "a"), draft(2, "b"))))
            await trio.sleep_forever()
    assert not reported


def test_the_clock_tells_milliseconds() -> None:
    """Else `sent_at` is a thousand times too small or too large."""
    assert 1_700_000_000_000 < unix_ms() < 10_000_000_000_000


# Pages.


class Pages(MemoryStore):
    """Counts the visits, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.visits: list[int] = []
        self.fault: Exception | None = None
        self.open = trio.Event()

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        self.visits.append(len(requests))
        await self.open.wait()
        if self.fault:
            raise self.fault
        return await super().pages(requests)


async def test_pages_are_read_together(autojump_clock: MockClock) -> None:
    """Else a reconnect storm costs a hop to a thread for each client (failures 14)."""
    store, reported = Pages(), list[Event]()
    loader = Loader(store, reported.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.run)
        for connection in range(150):
            loader.submit(connection, PageRequest("bob", 0, 10, 1000))
        store.open.set()
        await wait_all_tasks_blocked()
        assert store.visits == [64, 64, 22]
        assert [event.connection for event in reported if isinstance(event, Loaded)] == list(range(150))
        loader.submit(7, PageRequest("bob", 0, 10, 1000))
        await wait_all_tasks_blocked()
        assert reported[-1] == Loaded(7, Page((), 0))
        nursery.cancel_scope.cancel()


async def test_asking_while_pages_are_read_is_not_forgotten(autojump_clock: MockClock) -> None:
    """Else a connection that asks at the wrong moment waits for its page for ever."""
    store, reported = Pages(), list[Event]()
    loader = Loader(store, reported.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.run)
        loader.submit(1, PageRequest("bob", 0, 10, 1000))
        await wait_all_tasks_blocked()
        loader.submit(2, PageRequest("bob", 0, 10, 1000))
        store.open.set()
        await wait_all_tasks_blocked()
        assert reported == [Loaded(1, Page((), 0)), Loaded(2, Page((), 0))]
        nursery.cancel_scope.cancel()


async def test_a_page_that_cannot_be_read_is_reported(autojump_clock: MockClock) -> None:
    """Else one failed query ends the server, or its connection is never fed again."""
    store, reported = Pages(), list[Event]()
    store.open.set()
    store.fault = StoreUnavailable("I/O error")
    loader = Loader(store, reported.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.run)
        loader.submit(1, PageRequest("bob", 0, 10, 1000))
        loader.submit(2, PageRequest("bob", 0, 10, 1000))
        await wait_all_tasks_blocked()
        assert reported == [LoadFailed(1), LoadFailed(2)]
        nursery.cancel_scope.cancel()


async def test_a_bug_while_reading_pages_stops_the_loader(autojump_clock: MockClock) -> None:
    """Else a bug in the store is hidden behind connections that get nothing."""
    store = Pages()
    store.open.set()
    store.fault = TypeError("planted")
    loader = Loader(store, list[Event]().append)
    loader.submit(1, PageRequest("bob", 0, 10, 1000))
    with pytest.raises(TypeError, match="planted"):
        await loader.run()
