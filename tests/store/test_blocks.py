"""Blocking, and forgetting devices: `append` with blocks and removals, of every store (B1)."""

from __future__ import annotations

import pytest

from trio_chat.core.batch import Batch, BlockChange, Mark, Opened, Opening, Refused, Removal, Stored
from trio_chat.errors import ErrorCode, RowRefused
from trio_chat.settings import Settings
from trio_chat.store.base import Store

from .conftest import Backend, draft


async def change(store: Store, *changes: tuple[str, str, bool]) -> tuple[tuple[str, ...] | Refused, ...]:
    batch = Batch(blocks=tuple(BlockChange(user, peer, blocked=blocked) for user, peer, blocked in changes))
    return (await store.append(batch, 1000)).blocks


async def names(store: Store, user: str) -> list[str]:
    return [device.name for device in await store.devices(user)]


async def test_each_change_is_answered_with_whom_the_user_blocks(backend: Backend) -> None:
    """A client would show another list than the one that holds; or it would be gone after a restart."""
    async with backend.open() as store:
        results = await change(
            store,
            ("bob", "eve", True),
            ("bob", "alice", True),
            ("bob", "eve", True),
            ("carol", "eve", True),
            ("bob", "eve", False),
            ("bob", "nobody", False),
            ("nobody", "bob", False),
        )
        assert results == (("eve",), ("alice", "eve"), ("alice", "eve"), ("eve",), ("alice",), ("alice",), ())
    async with backend.open() as store:
        assert await store.blocked("bob") == ("alice",)
        assert await change(store, ("bob", "zoe", True), ("bob", "alice", False)) == (("alice", "zoe"), ("zoe",))
        assert await store.blocked("bob") == ("zoe",)
        assert await change(store, ("bob", "zoe", True), ("bob", "alice", False)) == (("zoe",), ("zoe",))
        assert await store.blocked("nobody") == ()


async def test_a_block_holds_from_its_commit_on(backend: Backend) -> None:
    """Messages of the same transaction would still come through, or none after the block is lifted (B1)."""
    async with backend.open() as store:
        await store.append(Batch(drafts=(draft("eve", "bob", "1"),)), 1000)
        batch = Batch(blocks=(BlockChange("bob", "eve", blocked=True),), drafts=(draft("eve", "bob", "2"),))
        assert (await store.append(batch, 1000)).drafts == (Stored(2, 0, 1000),)
        batch = Batch(blocks=(BlockChange("bob", "eve", blocked=False),), drafts=(draft("eve", "bob", "3"),))
        assert (await store.append(batch, 1000)).drafts == (Stored(3, 2, 1000),)


async def test_whoever_blocks_or_is_blocked_exists(backend: Backend) -> None:
    """One could not block somebody who has never written; or the block would not hold once they do."""
    async with backend.open() as store:
        await change(store, ("new", "unknown", True))
        assert (await store.append(Batch(drafts=(draft("unknown", "new", "1"),)), 1000)).drafts == (Stored(1, 0, 1000),)
        opened = (await store.append(Batch(openings=(Opening(1, "new", "phone"),)), 1000)).openings[0]
        assert isinstance(opened, Opened)
        assert (opened.head, opened.blocked) == (0, ("unknown",))


async def test_nobody_blocks_oneself_or_more_than_so_many(backend: Backend) -> None:
    """A user's list could grow without a bound; or a note to oneself would vanish."""
    async with backend.open(Settings(blocks=2)) as store:
        results = await change(
            store,
            ("bob", "bob", True),
            ("bob", "a", True),
            ("bob", "b", True),
            ("bob", "c", True),
            ("bob", "a", True),  # is in the list already
            ("bob", "a", False),
            ("bob", "c", True),
            ("bob", "bob", False),
        )
        assert results == (
            Refused(ErrorCode.BAD_QUERY),
            ("a",), ("a", "b"), Refused(ErrorCode.NOT_ALLOWED), ("a", "b"), ("b",), ("b", "c"), ("b", "c"),
        )  # fmt: skip
        assert await store.blocked("bob") == ("b", "c")


async def test_many_changes_at_once(backend: Backend) -> None:
    """Splitting them into several statements would lose some."""
    peers = [f"peer {n:03}" for n in range(300)]
    async with backend.open() as store:
        results = await change(store, *(("bob", peer, True) for peer in peers))
        assert results[-1] == tuple(peers)
        await change(store, *(("bob", peer, False) for peer in peers[10:]), ("alice", "bob", True))
        assert await store.blocked("bob") == tuple(peers[:10])
        assert await store.blocked("alice") == ("bob",)


async def test_a_connection_learns_whom_its_user_blocks(backend: Backend) -> None:
    """Typing and presence of a blocked user would come through after a restart of the server (B1)."""
    async with backend.open() as store:
        await change(store, ("bob", "eve", True), ("bob", "alice", True), ("carol", "bob", True))
        batch = Batch(
            openings=(
                Opening(1, "bob", "phone"), Opening(2, "bob", "script", send_only=True), Opening(3, "carol", "web"),
                Opening(4, "eve", "web"),
            ),
            blocks=(BlockChange("bob", "eve", blocked=False),),  # comes after the openings
        )  # fmt: skip
        openings = (await store.append(batch, 1000)).openings
        blocked = [opened.blocked if isinstance(opened, Opened) else None for opened in openings]
        assert blocked == [("alice", "eve"), ("alice", "eve"), ("bob",), ()]


async def test_a_device_can_be_forgotten(backend: Backend) -> None:
    """A lost phone would stay in the list for ever; or what it had would be delivered to the others again (R1)."""
    async with backend.open() as store:
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n)) for n in range(5))), 1000)
        await store.append(Batch(openings=tuple(Opening(n, "bob", f"device {n}") for n in range(3))), 1000)
        results = await store.append(
            Batch(
                marks=(Mark("bob", "device 1", 4),),
                removals=(
                    Removal("bob", "device 1"), Removal("bob", "device 2"), Removal("bob", "none"), Removal("no", "x"),
                ),
                openings=(Opening(9, "bob", "device 2"),),
            ),
            1000,
        )  # fmt: skip
        assert results.removals == (None, None, None, None)
        assert await names(store, "bob") == ["device 0", "device 2"]
        (opened,) = results.openings
        assert isinstance(opened, Opened)
        assert (opened.new, opened.cursor) == (True, 4)  # it was forgotten before it came again
    async with backend.open() as store:
        assert await names(store, "bob") == ["device 0", "device 2"]


@pytest.mark.parametrize(
    "bad",
    [
        Batch(blocks=(BlockChange("bob", "\ud800", blocked=True),)),
        Batch(blocks=(BlockChange("\ud800", "bob", blocked=True),)),
        Batch(removals=(Removal("bob", "\ud800"),)),
    ],
)
async def test_a_name_that_is_no_text_is_one_rows_fault(backend: Backend, bad: Batch) -> None:
    """A client could end the server, or take others' changes with it (failures 24)."""
    async with backend.open() as store:
        await store.append(Batch(openings=(Opening(1, "bob", "phone"),)), 1000)
        with pytest.raises(RowRefused):
            await store.append(
                Batch(blocks=(BlockChange("bob", "eve", blocked=True), *bad.blocks), removals=bad.removals), 1
            )
        assert await store.blocked("bob") == ()
        assert await change(store, ("bob", "eve", True)) == (("eve",),)
