"""What is remembered beside messages: devices, blocks, and who may know of whom."""

from __future__ import annotations

from trio_chat.core.batch import Batch, Opening
from trio_chat.retrieval import Device, Standing

from .asked import Writer
from .conftest import Backend


async def test_devices_are_listed_by_name(backend: Backend) -> None:
    """Nobody could see which devices there are, or those of another user (I9)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("bob", "alice", "1")
        await writer.append(Batch(openings=(Opening(1, "alice", "web"), Opening(2, "bob", "tablet"))))
        await writer.acknowledge("alice", 1, "phone")
        assert await store.devices("alice") == (
            Device(name="phone", cursor=1, seen=1030, created=1020), Device(name="web", cursor=0, seen=1010, created=1010)
        )  # fmt: skip
        assert await store.devices("nobody") == ()
        assert await store.devices("\ud800") == ()


async def test_whom_a_user_blocks_is_listed_by_name(backend: Backend) -> None:
    """A block could not be taken back, for it is nowhere to be seen; or the blocked could see it (B1)."""
    async with backend.open() as store:
        writer = Writer(store)
        for name in ("eve", "Zoë", "bob"):
            await writer.send(name, "alice", "1")
            await writer.block("alice", name)
        assert await store.blocked("alice") == ("Zoë", "bob", "eve")
        await writer.block("alice", "bob", blocked=False)
        assert await store.blocked("alice") == ("Zoë", "eve")
        for name in ("eve", "nobody", "\ud800"):
            assert await store.blocked(name) == ()


async def test_who_is_acquainted(backend: Backend) -> None:
    """A stranger could see when somebody is there; or friends could not."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1")
        await writer.send("eve", "alice", "1")
        await writer.send("alice", "alice", "note")
        await writer.acknowledge("bob", 1)
        names = ["bob", "eve", "alice", "nobody", "\ud800", "bob"]

        async def acquainted(viewer: str) -> list[bool]:
            found = await store.standings(viewer, names)
            assert [one.user for one in found] == names
            return [one.acquainted for one in found]

        assert await acquainted("alice") == [False] * 6
        await writer.send("bob", "alice", "2")
        assert await acquainted("alice") == [True, False, False, False, False, True]
        assert await store.standings("alice", ["bob"]) == (Standing(user="bob", acquainted=True, last_seen=1040),)
        assert await acquainted("nobody") == [False] * 6
        assert await acquainted("eve") == [False] * 6
        await writer.block("bob", "alice")
        assert await acquainted("alice") == [False] * 6
        assert [one.acquainted for one in await store.standings("bob", ["alice"])] == [False]
        await writer.block("bob", "alice", blocked=False)
        assert [one.acquainted for one in await store.standings("bob", ["alice"])] == [True]
        await writer.block("alice", "eve")
        await writer.send("alice", "eve", "3")
        await writer.send("eve", "alice", "kept away")
        await writer.block("alice", "eve", blocked=False)
        assert await acquainted("alice") == [True, True, False, False, False, True]  # from before the block
        assert await store.standings("alice", []) == ()
