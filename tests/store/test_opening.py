"""Devices and cursors: `append` with marks and openings, of every store."""

from __future__ import annotations

from trio_chat.core.batch import Batch, Mark, Opened, Opening, Refused
from trio_chat.errors import ErrorCode
from trio_chat.settings import Settings
from trio_chat.store.base import Store

from .conftest import Backend, draft

ALL = frozenset(("a", "b", "c", "d"))


async def fill(store: Store, user: str, count: int, start: int = 0) -> None:
    await store.append(Batch(drafts=tuple(draft("sender", user, f"{user}{n + start}") for n in range(count))), 1000)


async def connect(
    store: Store,
    user: str,
    device: str,
    *,
    now: int = 1000,
    log: str | None = None,
    after: int | None = None,
    connected: frozenset[str] = frozenset(),
    may_be_new: bool = True,
    send_only: bool = False,
) -> Opened:
    opening = Opening(1, user, device, log, after, connected, may_be_new, send_only)
    (opened,) = (await store.append(Batch(openings=(opening,)), now)).openings
    assert isinstance(opened, Opened), opened
    return opened


async def refusal(store: Store, opening: Opening) -> ErrorCode:
    (refused,) = (await store.append(Batch(openings=(opening,)), 1000)).openings
    assert isinstance(refused, Refused)
    return refused.code


async def mark(store: Store, user: str, device: str, seq: int, now: int = 1000) -> None:
    await store.append(Batch(marks=(Mark(user, device, seq),)), now)


async def test_a_user_exists_by_being_named(backend: Backend) -> None:
    """The first connection of a new user would be refused."""
    async with backend.open() as store:
        first = await connect(store, "bob", "phone")
        again = await connect(store, "bob", "phone")
    assert (first.head, first.floor, first.cursor, first.new) == (0, 0, 0, True)
    assert (again.head, again.floor, again.cursor, again.new) == (0, 0, 0, False)


async def test_a_new_device_starts_where_the_user_is(backend: Backend) -> None:
    """A second device would get the whole history again, or miss what nobody has seen yet (C2)."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        phone = await connect(store, "bob", "phone")
        assert (phone.head, phone.cursor, phone.new) == (5, 0, True)
        await mark(store, "bob", "phone", 3)
        web = await connect(store, "bob", "web")
        assert (web.head, web.cursor, web.new) == (5, 3, True)
        # From now on it has a cursor of its own.
        await mark(store, "bob", "phone", 5)
        web = await connect(store, "bob", "web")
        assert (web.cursor, web.new) == (3, False)


async def test_a_cursor_survives_a_restart_and_never_goes_back(backend: Backend) -> None:
    """Everything would be delivered again after a restart, or after an ack that was overtaken."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        await connect(store, "bob", "phone")
        await mark(store, "bob", "phone", 4)
        await mark(store, "bob", "phone", 2)
        await store.append(Batch(marks=(Mark("bob", "phone", 3), Mark("bob", "phone", -1))), 1000)
    async with backend.open() as store:
        assert (await connect(store, "bob", "phone")).cursor == 4


async def test_marks_of_a_batch_come_before_its_openings(backend: Backend) -> None:
    """A device that reconnects at once would start before what it acknowledged with its last breath."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        await connect(store, "bob", "phone")
        batch = Batch(
            marks=(Mark("bob", "phone", 2), Mark("bob", "phone", 1)),
            openings=(Opening(2, "bob", "phone"), Opening(3, "bob", "web")),
            drafts=(draft("alice", "bob", "1"),),
        )
        phone, web = (await store.append(batch, 1000)).openings
    assert isinstance(phone, Opened)
    assert isinstance(web, Opened)
    assert (phone.head, phone.cursor, phone.new) == (5, 2, False)
    assert (web.head, web.cursor, web.new) == (5, 2, True)


async def test_a_mark_beyond_the_log_counts_as_its_head(backend: Backend) -> None:
    """A cursor ahead of the log would hide what arrives next (I2)."""
    async with backend.open() as store:
        await fill(store, "bob", 2)
        await connect(store, "bob", "phone")
        await mark(store, "bob", "phone", 2**70)
        await fill(store, "bob", 1, start=2)
        assert (await connect(store, "bob", "phone")).cursor == 2
        assert (await connect(store, "bob", "web")).cursor == 2


async def test_a_mark_of_nobody_is_ignored(backend: Backend) -> None:
    """An ack that arrives after its user was removed would fail the batch it rides in."""
    async with backend.open() as store:
        await mark(store, "nobody", "phone", 3)
        assert (await connect(store, "nobody", "phone")).new


async def test_a_removed_devices_mark_is_the_users_still(backend: Backend) -> None:
    """What a device delivered would count as undelivered once its row is gone (R1)."""
    async with backend.open() as store:
        await fill(store, "bob", 3)
        await mark(store, "bob", "removed", 2)
        assert (await connect(store, "bob", "phone")).cursor == 2
        assert (await connect(store, "bob", "removed")).new


async def test_a_client_can_start_at_its_own_position(backend: Backend) -> None:
    """A client that keeps its own position could not use it: it would lose entries, or get them twice (C1, A1)."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        log = (await connect(store, "bob", "phone")).log
        # Further than the record: counts as an ack.
        assert (await connect(store, "bob", "phone", log=log, after=3)).cursor == 3
        assert (await connect(store, "bob", "phone")).cursor == 3
        assert (await connect(store, "bob", "web")).cursor == 3
        # Before the record: sends again and does not move the cursor.
        assert (await connect(store, "bob", "phone", log=log, after=0)).cursor == 0
        assert (await connect(store, "bob", "phone")).cursor == 3
        assert (await connect(store, "bob", "phone", log=log, after=5)).cursor == 5
        assert (await connect(store, "bob", "web")).cursor == 3


async def test_a_position_that_means_nothing_here_is_ignored(backend: Backend) -> None:
    """A position in another history would skip entries of this one (C1)."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        await connect(store, "bob", "phone")
        log = (await connect(store, "bob", "phone")).log
        await mark(store, "bob", "phone", 2)
        for other, after in (("other", 4), (log, 6), (log, 2**70), (log, -1), (None, 4), (log, None)):
            assert (await connect(store, "bob", "phone", log=other, after=after)).cursor == 2


async def test_a_device_that_was_removed_can_come_back_at_its_own_position(backend: Backend) -> None:
    """A device whose row had to make room would skip, without being told, what only other devices have (C1 before C2)."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        log = (await connect(store, "bob", "phone")).log
        await mark(store, "bob", "phone", 5)
        opened = await connect(store, "bob", "back", log=log, after=2)
        assert (opened.cursor, opened.new) == (2, True)
        assert (await connect(store, "bob", "back")).cursor == 5
        await fill(store, "bob", 2, start=5)
        # Beyond the record it is an ack, here too.
        assert (await connect(store, "bob", "third", log=log, after=7)).cursor == 7
        assert (await connect(store, "bob", "fourth")).cursor == 7


async def test_the_log_has_a_name_that_survives_restarts_but_not_erasure(backend: Backend) -> None:
    """Clients would drop their position at each restart, or keep it when it means nothing any more (C1)."""
    async with backend.open() as store:
        bob = (await connect(store, "bob", "phone")).log
    async with backend.open() as store:
        assert (await connect(store, "bob", "web")).log == bob
        await fill(store, "bob", 2)
        backend.erase("bob")
        opened = await connect(store, "bob", "phone", log=bob, after=2)
        assert opened.log != bob
        assert opened.cursor == 0


async def test_welcome_says_where_the_log_begins(backend: Backend) -> None:
    """A device far behind would not be told of the gap (C7)."""
    async with backend.open() as store:
        await fill(store, "bob", 5)
        backend.retain("bob", 3)
        opened = await connect(store, "bob", "phone")
    assert (opened.head, opened.floor, opened.cursor) == (5, 3, 0)


async def test_a_send_only_connection_is_no_device(backend: Backend) -> None:
    """A script that only sends would take up one of the user's devices (C3)."""
    async with backend.open(Settings(devices=1)) as store:
        await fill(store, "bob", 2)
        for device in ("script", "other"):
            opened = await connect(store, "bob", device, send_only=True, may_be_new=False)
            assert (opened.head, opened.cursor, opened.new) == (2, 2, False)
        await connect(store, "bob", "phone", connected=frozenset({"script", "other"}))
        assert (await connect(store, "bob", "script", send_only=True, connected=ALL)).cursor == 2
        assert (await connect(store, "new", "script", send_only=True)).head == 0
        assert (await connect(store, "bob", "phone")).cursor == 0


async def test_room_is_made_by_the_device_unseen_longest(backend: Backend) -> None:
    """A user's devices would grow without bound, or the one in use would be forgotten (C2)."""
    async with backend.open(Settings(devices=3)) as store:
        for device, now in (("a", 1), ("b", 2), ("c", 3)):
            await connect(store, "bob", device, now=now)
        await mark(store, "bob", "a", 0, now=9)
        assert (await connect(store, "bob", "d", now=10)).new  # instead of b
        assert not (await connect(store, "bob", "a", now=11)).new
        assert not (await connect(store, "bob", "c", now=11)).new
        assert not (await connect(store, "bob", "d", now=11)).new
        assert (await connect(store, "bob", "b", now=12, connected=frozenset({"c"}))).new  # instead of a
        assert not (await connect(store, "bob", "c", now=13)).new
        assert (await connect(store, "bob", "a", now=14, connected=frozenset({"c", "d"}))).new  # instead of b
        assert not (await connect(store, "bob", "d", now=15)).new


async def test_of_two_seen_together_the_older_makes_room(backend: Backend) -> None:
    """Which device is forgotten would be left to chance."""
    async with backend.open(Settings(devices=2)) as store:
        await connect(store, "bob", "b", now=1)
        await connect(store, "bob", "a", now=2)
        await store.append(Batch(marks=(Mark("bob", "a", 0), Mark("bob", "b", 0))), 3)
        await connect(store, "bob", "c", now=4)
        assert not (await connect(store, "bob", "a", now=5)).new


async def test_no_connected_device_makes_room(backend: Backend) -> None:
    """A newcomer would take the place, and with it the cursor, of a device in use (C2)."""
    async with backend.open(Settings(devices=2)) as store:
        await connect(store, "bob", "a")
        await connect(store, "bob", "b")
        assert await refusal(store, Opening(1, "bob", "c", connected=frozenset({"a", "b"}))) is ErrorCode.NOT_ALLOWED
        # Nor one that connects in the same batch.
        batch = Batch(openings=tuple(Opening(n, "bob", name) for n, name in enumerate("cdec")))
        results = (await store.append(batch, 1000)).openings
        assert [one.new if isinstance(one, Opened) else one.code for one in results] == [
            True, True, ErrorCode.NOT_ALLOWED, False,
        ]  # fmt: skip


async def test_too_many_new_names_are_refused(backend: Backend) -> None:
    """A client that makes up a name at each connect would push out the user's real devices (C2)."""
    async with backend.open() as store:
        await connect(store, "bob", "a")
        assert await refusal(store, Opening(1, "bob", "b", may_be_new=False)) is ErrorCode.RATE_LIMITED
        assert await refusal(store, Opening(1, "new", "b", may_be_new=False)) is ErrorCode.RATE_LIMITED
        assert not (await connect(store, "bob", "a", may_be_new=False)).new


async def test_a_device_can_open_twice_in_one_batch(backend: Backend) -> None:
    """Two connections of a new device at the same moment would insert its row twice."""
    async with backend.open() as store:
        await fill(store, "bob", 3)
        log = (await connect(store, "bob", "web")).log
        batch = Batch(openings=(Opening(1, "bob", "phone"), Opening(2, "bob", "phone", log, 2), Opening(3, "bob", "phone")))
        opened = (await store.append(batch, 1000)).openings
        assert [(one.cursor, one.new) for one in opened if isinstance(one, Opened)] == [(0, True), (2, False), (2, False)]
        assert (await connect(store, "bob", "phone")).cursor == 2


async def test_many_users_open_in_one_batch(backend: Backend) -> None:
    """A storm of reconnects would take one query each, or meet SQLite's limit of values."""
    names = [f"user {n}" for n in range(700)]
    batch = Batch(openings=tuple(Opening(n, name, "phone") for n, name in enumerate(names)))
    async with backend.open() as store:
        first = (await store.append(batch, 1000)).openings
        again = (await store.append(batch, 1000)).openings
    assert all(isinstance(one, Opened) and one.new for one in first)
    assert all(isinstance(one, Opened) and not one.new for one in again)
