"""What waits for push: the contract of both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from trio_chat.core.batch import Batch, BlockChange, Mark, Opening, ReadMark, Refused, Removal
from trio_chat.core.outbox import (
    USER_TARGETS,
    Job,
    Mute,
    Note,
    Preferences,
    Prune,
    PushChange,
    Quiet,
    Register,
    TargetGone,
    Unregister,
)
from trio_chat.errors import ErrorCode, RowRefused
from trio_chat.settings import Settings
from trio_chat.store.base import Store

from .asked import Writer
from .conftest import Backend, draft

PHONE = Register("bob", "phone", "fake", "token", "secret")
TABLET = Register("bob", "tablet", "fake", "token", "other")
FAR = 10_000_000


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    async with backend.open() as store:
        store.outbox.open(5000)
        await change(store, PHONE)
        yield store


async def change(store: Store, *changes: PushChange, now: int = 1000) -> None:
    await store.append(Batch(push=changes), now)


async def send(store: Store, id: str, now: int, sender: str = "alice", recipient: str = "bob") -> None:
    await store.append(Batch(drafts=(draft(sender, recipient, id, f"text {id}"),)), now)


async def only(store: Store, now: int = FAR) -> Job:
    (job,) = await store.outbox.due("fake", now, 10)
    return job


async def note(store: Store, job: Job, outcome: str, seq: int, due: int = 0, now: int = 9000) -> None:
    await change(store, Note(job.key, job.peer, job.id, seq, outcome, due, "ok"), now=now)  # type: ignore[arg-type]


async def test_a_burst_makes_one_job(store: Store) -> None:
    """A phone would ring for every message; or late, because each one puts it off."""
    for n in range(50):
        await send(store, f"m{n}", 2000 + n)
    assert await store.outbox.due("fake", 6999, 10) == ()
    assert await store.outbox.next("fake") == 7000
    job = await only(store, 7000)
    assert (job.user, job.device, job.kind, job.target, job.peer) == ("bob", "phone", "token", "secret", "alice")
    assert (job.seq, job.unread, job.badge, job.since, job.notified, job.attempts) == (50, 50, 50, 2000, 0, 0)
    assert job.newest is not None
    assert (job.newest.seq, job.newest.text, job.newest.sender, job.newest.recipient) == (50, "text m49", "alice", "bob")
    assert await store.outbox.length() == (1, 2000)


async def test_who_has_no_target_has_no_job(store: Store) -> None:
    """The outbox would fill with what nobody can be told: also the senders, notes to oneself, changes, and with no push."""
    await send(store, "m1", 2000, "bob", "alice")
    await send(store, "m2", 2000, "bob", "bob")
    await store.append(Batch(blocks=(BlockChange("bob", "eve", blocked=True),)), 2000)
    await send(store, "m3", 2000, "eve", "bob")
    store.outbox.open(None)
    await send(store, "m4", 2000)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 9),)), 2000)
    assert await store.outbox.length() == (0, None)
    assert await store.outbox.next("fake") is None
    assert await store.outbox.due("fake", FAR, 10) == ()


async def test_changes_of_a_message_announce_nothing(store: Store) -> None:
    """A correction of a comma would ring; and what was deleted would be announced."""
    await send(store, "m1", 2000)
    writer = Writer(store)
    await writer.edit("alice", "bob", "e1", "m1", "better")
    job = await only(store)
    assert (job.seq, job.unread) == (1, 1)
    assert job.newest is not None
    assert job.newest.text == "better"
    await writer.delete("alice", "bob", "d1", "m1")
    job = await only(store)
    assert (job.unread, job.badge, job.newest) == (0, 0, None)


async def test_badge_counts_all_conversations_and_the_marks_decide(store: Store) -> None:
    """A badge that is a counter is wrong for months."""
    for n, sender in enumerate(("alice", "carol", "carol", "zoe")):
        await send(store, f"m{n}", 2000, sender)
    await send(store, "own", 2000, "bob", "carol")
    jobs = await store.outbox.due("fake", FAR, 10)
    assert {job.peer: (job.unread, job.badge) for job in jobs} == {"alice": (1, 4), "carol": (2, 4), "zoe": (1, 4)}
    await store.append(Batch(reads=(ReadMark("bob", "carol", 2),)), 3000)
    jobs = await store.outbox.due("fake", FAR, 10)
    assert {job.peer: (job.unread, job.badge) for job in jobs} == {"alice": (1, 3), "carol": (1, 3), "zoe": (1, 3)}


async def test_a_device_says_how_far_it_is(store: Store) -> None:
    """A phone that has the message would ring all the same."""
    opening = Opening(connection=1, user="bob", device="phone")
    await store.append(Batch(openings=(opening,)), 1000)
    await send(store, "m1", 2000)
    assert (await only(store)).cursor == 0
    await store.append(Batch(marks=(Mark("bob", "phone", 1),)), 2000)
    assert (await only(store)).cursor == 1


async def test_mute_quiet_and_block(store: Store) -> None:
    """Who asked for silence would not get it, or never hear again."""
    await send(store, "m1", 2000)
    assert await store.outbox.preferences("bob") == Preferences()
    for on, off in (
        (Mute("bob", "alice", muted=True), Mute("bob", "alice", muted=False)),
        (Quiet("bob", quiet=True), Quiet("bob", quiet=False)),
    ):
        await change(store, on)
        assert (await only(store)).silent
        await change(store, off)
        assert not (await only(store)).silent
    await change(store, Mute("bob", "zoe", muted=True), Mute("bob", "carol", muted=True), Quiet("bob", quiet=True))
    assert await store.outbox.preferences("bob") == Preferences(muted=("carol", "zoe"), quiet=True)
    await change(store, Quiet("bob", quiet=False))
    await store.append(Batch(blocks=(BlockChange("bob", "alice", blocked=True),)), 2000)
    assert (await only(store)).silent


async def test_an_attempt_that_is_to_be_repeated_keeps_its_id(store: Store) -> None:
    """A provider that knows the id would send twice what it was given twice."""
    await send(store, "m1", 2000)
    job = await only(store)
    await note(store, job, "later", 1, due=50_000)
    assert await store.outbox.next("fake") == 50_000
    again = await only(store)
    assert (again.id, again.attempts, again.since) == (job.id, 1, 2000)
    (waiting,) = await store.outbox.waiting(None, 10)
    assert (waiting.id, waiting.user, waiting.device, waiting.peer) == (job.id, "bob", "phone", "alice")
    assert (waiting.due, waiting.attempts, waiting.answered, waiting.answer) == (50_000, 1, 9000, "ok")


async def test_what_is_put_off_was_not_tried(store: Store) -> None:
    """The pause before the next attempt would grow without one; or a clear would become a message."""
    await send(store, "m1", 2000)
    job = await only(store)
    await note(store, job, "put off", 1, due=50_000)
    again = await only(store)
    assert (again.id, again.attempts, again.since) == (job.id, 0, 2000)
    assert await store.outbox.next("fake") == 50_000


async def test_sent_is_over_until_more_comes(store: Store) -> None:
    """It would be sent again and again; or never again."""
    await send(store, "m1", 2000)
    job = await only(store)
    await note(store, job, "sent", 1)
    assert await store.outbox.length() == (0, None)
    assert await store.outbox.waiting(None, 10) == ()
    (last,) = await store.outbox.waiting("bob", 10)
    assert (last.due, last.answer) == (None, "ok")
    await send(store, "m2", 20_000)
    new = await only(store)
    assert (new.id != job.id, new.seq, new.notified, new.since) == (True, 2, 1, 20_000)
    await note(store, job, "dropped", 2)  # an old one says nothing about it
    assert (await only(store)).id == new.id
    await note(store, new, "dropped", 2)
    assert await store.outbox.length() == (0, None)


async def test_what_comes_during_an_attempt_waits_for_its_own(store: Store) -> None:
    """A message that comes while the provider is asked would never be announced."""
    await send(store, "m1", 2000)
    job = await only(store)
    await send(store, "m2", 7100)
    await note(store, job, "sent", 1, due=12_100, now=7200)
    assert await store.outbox.next("fake") == 12_100
    new = await only(store)
    assert (new.id != job.id, new.seq, new.notified) == (True, 2, 1)


async def test_reading_clears_once(store: Store) -> None:
    """What was read elsewhere would stay on the phone, or be cleared twice."""
    await send(store, "m1", 2000)
    await note(store, await only(store), "sent", 1)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 1),)), 10_000)
    job = await only(store, 10_000)
    assert (job.unread, job.notified) == (0, 1)
    await note(store, job, "cleared", 1)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 1),)), 11_000)
    assert await store.outbox.length() == (0, None)


async def test_where_it_was_read_nothing_is_cleared(store: Store) -> None:
    """Every message that is read on a phone would send that phone a push; or the tablet would go on showing it."""
    await change(store, TABLET)
    await send(store, "m1", 2000)
    for job in await store.outbox.due("fake", FAR, 10):
        await note(store, job, "sent", 1)
    await send(store, "m2", 9500)  # something waits for both
    await store.append(Batch(reads=(ReadMark("bob", "alice", 2, "phone"), ReadMark("bob", "nobody", 2, "phone"))), 10_000)
    jobs = {job.device: job for job in await store.outbox.due("fake", FAR, 10)}
    assert {device: (job.unread, job.notified) for device, job in jobs.items()} == {"phone": (0, 0), "tablet": (0, 1)}
    for job in jobs.values():
        await note(store, job, "dropped" if job.device == "phone" else "cleared", 2)
    await send(store, "m3", 20_000)
    for job in await store.outbox.due("fake", FAR, 10):
        await note(store, job, "sent", 3)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 2, "phone"),)), 30_000)  # not as far as what is shown
    assert await store.outbox.length() == (0, None)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 3, "tablet"),)), 31_000)
    clear = await only(store)
    assert (clear.device, clear.unread, clear.notified) == ("phone", 0, 3)


async def test_a_user_has_so_many_targets(store: Store) -> None:
    """One client would fill the store with targets, and each message to its user make a job for all of them."""
    more = [Register("bob", f"device{n}", "fake", "token", f"secret{n}") for n in range(USER_TARGETS)]
    await change(store, Register("carol", "phone", "fake", "token", "hers"))
    for now, one in enumerate(more, 2000):
        await change(store, one, now=now)
    targets = await store.outbox.targets("bob")
    assert len(targets) == USER_TARGETS
    assert "phone" not in {target.device for target in targets}, "the one that was registered longest ago goes"
    assert len(await store.outbox.targets("carol")) == 1
    await send(store, "m1", 3000)
    assert await store.outbox.length() == (USER_TARGETS, 3000)


async def test_so_many_can_be_muted(backend: Backend) -> None:
    """One client would fill the store with names."""
    async with backend.open(Settings(blocks=2)) as store:
        names = ("eve", "carol", "eve", "zoe")
        mutes = tuple(Mute("bob", name, muted=True) for name in names)
        pairs = ("bob", "carol"), ("bob", "stranger"), ("stranger", "bob")
        unmutes = tuple(Mute(*pair, muted=False) for pair in pairs)
        results = await store.append(Batch(push=(*mutes, *unmutes, Mute("bob", "zoe", muted=True))), 1000)
        assert results.push == (None, None, None, Refused(ErrorCode.NOT_ALLOWED), None, None, None, None)
        assert (await store.outbox.preferences("bob")).muted == ("eve", "zoe")


async def test_read_while_it_was_on_its_way(store: Store) -> None:
    """The mark finds nothing to clear, and the phone would show for ever what was read."""
    await send(store, "m1", 2000)
    job = await only(store)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 1),)), 8000)
    await note(store, job, "sent", 1, now=8100)
    clear = await only(store, 8100)
    assert (clear.notified, clear.unread, clear.id != job.id) == (1, 0, True)


async def test_a_new_message_takes_the_place_of_a_clear(store: Store) -> None:
    """It would be announced without the delay, in the clear's stead."""
    await send(store, "m1", 2000)
    await note(store, await only(store), "sent", 1)
    await store.append(Batch(reads=(ReadMark("bob", "alice", 1),)), 10_000)
    await send(store, "m2", 10_100)
    assert await store.outbox.next("fake") == 15_100


async def test_a_target_is_of_one_user(store: Store) -> None:
    """Who takes over a phone would read what its earlier owner is told."""
    await send(store, "m1", 2000)
    await change(store, PHONE)  # again: what waits stays
    assert (await only(store)).registered == 1001
    await change(store, Register("carol", "phone", "fake", "token", "secret"), now=3000)
    assert await store.outbox.length() == (0, None)
    assert await store.outbox.targets("bob") == ()
    (target,) = await store.outbox.targets("carol")
    assert (target.device, target.provider, target.kind, target.registered) == ("phone", "fake", "token", 3000)


async def test_gone_unless_registered_since(store: Store) -> None:
    """A device that just registered again would never hear of anything any more."""
    await send(store, "m1", 2000)
    job = await only(store)
    await change(store, PHONE, TargetGone(job.key, job.registered))
    job = await only(store)
    await change(store, TargetGone(job.key, job.registered))
    assert await store.outbox.targets("bob") == ()
    await note(store, job, "sent", 1)  # of what is gone already
    assert await store.outbox.waiting("bob", 10) == ()


async def test_unregister_names_what_goes(store: Store) -> None:
    """Logging out on the phone would silence the tablet; or the phone would go on ringing."""
    await change(store, TABLET)
    assert [target.device for target in await store.outbox.targets("bob")] == ["phone", "tablet"]
    await change(store, Unregister("nobody"), Unregister("bob", device="desk"), Unregister("bob", provider="none"))
    await change(store, Unregister("bob", device="phone", target="other"), Unregister("bob", device="phone"))
    assert [target.device for target in await store.outbox.targets("bob")] == ["tablet"]
    await change(store, Unregister("bob"))
    assert await store.outbox.targets("bob") == ()


async def test_targets_go_with_the_device(backend: Backend) -> None:
    """A phone that was removed, by hand or for want of room, would go on ringing."""
    async with backend.open(Settings(devices=1)) as store:
        store.outbox.open(5000)
        await store.append(Batch(openings=(Opening(connection=1, user="bob", device="phone"),)), 1000)
        await change(store, PHONE, TABLET)
        await send(store, "m1", 2000)
        await store.append(Batch(openings=(Opening(connection=2, user="bob", device="tablet"),)), 1000)
        assert [target.device for target in await store.outbox.targets("bob")] == ["tablet"]
        await store.append(Batch(removals=(Removal("bob", "tablet"), Removal("nobody", "x"))), 1000)
        assert await store.outbox.targets("bob") == ()
        assert await store.outbox.length() == (0, None)


async def test_the_old_ones_are_pruned_in_slices(store: Store) -> None:
    """Devices that are long gone would be tried for ever; or one commit would take out a million of them."""
    await change(store, TABLET, now=2000)
    await change(store, Prune(1000, 10))
    assert len(await store.outbox.targets("bob")) == 2
    await change(store, Prune(FAR, 1))
    assert [target.device for target in await store.outbox.targets("bob")] == ["tablet"]


async def test_everything_survives_a_restart(backend: Backend) -> None:
    """The outbox is durable, and the writer must know again who has targets."""
    async with backend.open() as store:
        store.outbox.open(5000)
        await change(store, PHONE, Mute("bob", "zoe", muted=True))
        await send(store, "m1", 2000)
        job = await only(store)
    async with backend.open() as store:
        store.outbox.open(5000)
        assert await only(store) == job
        await send(store, "m2", 3000)
        assert ((await only(store)).seq, (await only(store)).id) == (2, job.id)
        assert (await store.outbox.preferences("bob")).muted == ("zoe",)


async def test_what_is_no_text_is_refused(store: Store) -> None:
    """One bad name would end the server, or be a user of its own."""
    with pytest.raises(RowRefused):
        await change(store, Register("\ud800", "phone", "fake", "token", "secret"))
    assert await store.outbox.targets("\ud800") == ()
    assert await store.outbox.waiting("\ud800", 10) == ()
    assert await store.outbox.preferences("\ud800") == Preferences()
