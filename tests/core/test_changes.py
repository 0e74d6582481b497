"""Blocks and removals: from their commit on, and for everybody who is there."""

from __future__ import annotations

import pytest

from trio_chat import wire
from trio_chat.core.batch import BlockChange, Mark, Refused, Removal
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .world import World

FREE = Settings(send_rate=None)


def test_a_block_is_answered_after_its_commit() -> None:
    """If this fails, a client believes in a block that a crash takes back (I4)."""
    world = World()
    alice = world.join("alice")
    refs = [alice.ask(wire.Block, user="eve")]
    assert world.batch is not None
    assert world.batch.blocks == (BlockChange("alice", "eve", blocked=True),)
    assert alice.all(wire.Blocked) == []
    refs += [alice.ask(wire.Block, user="bob"), alice.ask(wire.Unblock, user="eve"), alice.ask(wire.Unblock, user="eve")]
    world.settle()
    assert [(frame.ref, frame.users) for frame in alice.all(wire.Blocked)] == [
        (refs[0], ("eve",)), (refs[1], ("bob", "eve")), (refs[2], ("bob",)), (refs[3], ("bob",)),
    ]  # fmt: skip


def test_typing_stops_in_both_directions_from_the_commit_on() -> None:
    """If this fails, somebody who is blocked shows up as typing, or sees the other type (B1)."""
    world = World()
    alice, eve = world.join("alice"), world.join("eve")
    seen = []
    for kind in (wire.Block, wire.Unblock):
        alice.ask(kind, user="eve")
        for _ in range(2):
            eve.say(wire.Typing(to="alice", typing=True))
            alice.say(wire.Typing(to="eve", typing=True))
            seen.append((len(alice.offered), len(eve.offered)))
            world.settle()
    assert seen == [(1, 1), (1, 1), (1, 1), (2, 2)]


def test_a_block_is_known_from_the_beginning() -> None:
    """If this fails, a reconnect of either lets through what a block holds back (B1)."""
    world = World()
    world.store.blocks = {("alice", "eve")}
    alice, eve = world.join("alice", send_only=True), world.join("eve")
    world.join("alice", "phone")
    eve.say(wire.Typing(to="alice", typing=True))
    alice.say(wire.Typing(to="eve", typing=True))
    assert eve.offered == []


def test_the_blocked_are_answered_as_ever() -> None:
    """If this fails, the blocked can tell from an answer (B1)."""
    world = World()
    alice, eve = world.join("alice"), world.join("eve")
    alice.ask(wire.Block, user="eve")
    world.settle()
    eve.send("hi", "alice")
    world.settle()
    assert [item.seq for item in eve.stored] == [1]
    assert alice.entries == []


def test_nobody_blocks_themselves() -> None:
    """If this fails, a user who blocks themselves by mistake is cut off from their own notes."""
    world = World()
    alice = world.join("alice")
    ref = alice.ask(wire.Block, user="alice")
    error = alice.all(wire.Error)[0]
    assert (error.code, error.ref) == (ErrorCode.BAD_QUERY, ref)
    ticket = world.request(BlockChange("alice", "alice", blocked=True))
    assert world.fulfilled == {ticket: Refused(ErrorCode.BAD_QUERY)}


@pytest.mark.parametrize("frame", [wire.Block(ref="r", user="eve"), wire.RemoveDevice(ref="r", device="laptop")])
def test_a_change_that_cannot_be_made_is_refused(frame: wire.Block | wire.RemoveDevice) -> None:
    """If this fails, a client waits for a change that the store could not make, or that found no room."""
    world = World(Settings(send_rate=None, waiting=1))
    alice, laptop = world.join("alice"), world.join("alice", "laptop")
    alice.say(frame)
    world.refuse_batch(ErrorCode.STORE_FULL)
    world.tell()
    laptop.send("in flight", "bob")
    laptop.send("waits", "bob")
    alice.say(frame)
    assert alice.errors == [ErrorCode.STORE_FULL, ErrorCode.OVERLOADED]
    assert [error.ref for error in alice.all(wire.Error)] == ["r", "r"]
    assert laptop.open
    world.settle()
    assert world.store.blocks == set()


def test_a_change_is_made_though_its_client_has_gone() -> None:
    """If this fails, a block that was read is forgotten because its connection broke."""
    world = World()
    alice, laptop = world.join("alice"), world.join("alice", "laptop")
    alice.ask(wire.Block, user="eve")
    alice.leave()
    world.settle()
    assert world.store.blocks == {("alice", "eve")}
    assert world.core._users["alice"].blocked == {"eve"}
    laptop.ask(wire.RemoveDevice, device="phone")
    laptop.leave()
    world.settle()
    assert ("alice", "phone") not in world.store.cursors


def test_the_application_blocks_and_removes() -> None:
    """If this fails, `Chat` cannot block, or nobody who is there notices."""
    world = World()
    alice = world.join("alice")
    tickets = [
        world.request(BlockChange("alice", "eve", blocked=True)),
        world.request(BlockChange("bob", "eve", blocked=True)),
        world.request(Removal("alice", "phone")),
        world.request(Removal("bob", "phone")),
    ]
    world.settle()
    assert [world.fulfilled[ticket] for ticket in tickets] == [("eve",), ("eve",), None, None]
    assert alice.code == CloseCode.UNAUTHORIZED


def test_a_removed_device_is_closed_and_stays_removed() -> None:
    """If this fails, a device that was lost goes on reading, or its last mark brings it back (C2)."""
    world = World()
    phone, laptop, bob = world.join("alice"), world.join("alice", "laptop"), world.join("bob")
    sender = world.join("alice", "laptop", send_only=True)
    bob.send("hi", "alice")
    world.settle()
    laptop.ack()
    ref = phone.ask(wire.RemoveDevice, device="laptop")
    laptop.ack()
    assert laptop.state == "reading"
    world.commit()
    assert laptop.code == CloseCode.UNAUTHORIZED
    laptop.leave()
    world.settle()
    world.wait(1.0)
    assert [(frame.ref, [device.name for device in frame.devices]) for frame in phone.all(wire.DevicesAnswer)] == [
        (ref, ["phone"])
    ]
    assert set(world.store.cursors) == {("alice", "phone"), ("bob", "phone")}
    assert world.core._intake.due is None
    assert sender.open


def test_a_mark_that_waits_is_not_recorded_of_a_removed_device() -> None:
    """If this fails, what a removed device acknowledged last is said of a new one of its name."""
    world = World()
    phone, laptop, bob = world.join("alice"), world.join("alice", "laptop"), world.join("bob")
    bob.send("hi", "alice")
    world.settle()
    phone.ask(wire.RemoveDevice, device="laptop")
    laptop.ack()
    phone.ack()
    world.commit()
    world.wait(0.3)
    bob.send("ho", "alice")
    assert world.batch is not None
    assert world.batch.marks == ()
    assert world.store.cursors["alice", "phone"] == 1


def test_removing_oneself_is_leaving() -> None:
    """If this fails, a client that signs out is answered after its end, or ends the server (I7)."""
    world = World()
    phone = world.join("alice")
    phone.ask(wire.RemoveDevice, device="phone")
    world.settle()
    assert phone.code == CloseCode.UNAUTHORIZED
    assert world.store.cursors == {}
    assert world.core.idle


@pytest.mark.parametrize("same_batch", [True, False])
def test_who_comes_after_the_removal_is_a_new_device(same_batch: bool) -> None:
    """If this fails, a device that signs in again is thrown out by the removal before it, though it is remembered anew."""
    world = World()
    phone, old = world.join("alice"), world.join("alice", "laptop")
    if same_batch:
        world.connect("keeps the store busy")
    phone.ask(wire.RemoveDevice, device="laptop")
    new = world.connect("alice", "laptop")
    assert old.code == CloseCode.REPLACED
    world.settle()
    assert new.open
    assert new.welcome.new
    assert ("alice", "laptop") in world.store.cursors


def test_a_removal_knows_the_mark_before_it() -> None:
    """If this fails, what a device had delivered is forgotten with it (R1)."""
    world = World()
    phone, laptop, bob = world.join("alice"), world.join("alice", "laptop"), world.join("bob")
    bob.send("hi", "alice")
    world.settle()
    laptop.ack()
    phone.ask(wire.RemoveDevice, device="laptop")
    assert world.batch is not None
    assert world.batch.marks == (Mark("alice", "laptop", 1),)
    world.settle()
    assert world.store.delivered["alice"] == 1
    assert bob.marks.delivered["alice"] == 1
