"""Who has read what: told after the commit, to who is there, forward only."""

from __future__ import annotations

import pytest

from trio_chat import wire
from trio_chat.core.batch import Progress, ReadMark, Refused
from trio_chat.core.events import Received
from trio_chat.errors import ErrorCode
from trio_chat.settings import Settings

from .world import Client, World

FREE = Settings(send_rate=None)


def talk(world: World, *texts: str) -> tuple[Client, Client]:
    """Alice and Bob are there, and Alice has said something."""
    alice, bob = world.join("alice"), world.join("bob")
    for text in texts or ("hi",):
        alice.send(text, "bob")
    world.settle()
    return alice, bob


def test_an_ack_is_a_receipt_after_its_commit() -> None:
    """If this fails, the first tick never comes, or says what a crash may take back (R2)."""
    world = World()
    alice, bob = talk(world, "one", "two")
    laptop, sender = world.join("alice", "laptop"), world.join("alice", send_only=True)
    bob.ack()
    assert alice.told == []
    world.wait(0.3)
    assert alice.told == laptop.told == [wire.Receipt(peer="bob", delivered=2)]
    assert sender.told == bob.told == []


def test_reading_is_a_receipt_that_says_delivered_too() -> None:
    """If this fails, the second tick never comes, or overtakes the first (R2)."""
    world = World()
    alice, bob = talk(world, "one", "two")
    bob.say(wire.Read(peer="alice", seq=1))
    world.wait(0.3)
    assert alice.told == [wire.Receipt(peer="bob", delivered=1, read=1)]
    bob.ack(2)
    world.wait(0.3)
    assert alice.told[1:] == [wire.Receipt(peer="bob", delivered=2)]
    alice.listen()
    assert alice.slow_marks.read["bob"] == 1


def test_one_frame_for_each_commit() -> None:
    """If this fails, a device that catches up makes its peers' connections busy with receipts."""
    world = World()
    talk(world, "one", "two", "three")
    steps = (Progress("alice", "bob", 1), Progress("alice", "bob", 3, 2), Progress("alice", "bob", 2, 1))
    world.core._receipts.progress(steps)
    told = [effect.frame for effect in world.core._effects]  # type: ignore[union-attr]
    assert told == [wire.Receipt(peer="bob", delivered=2, read=2), wire.Receipt(peer="bob", delivered=3)]
    world.core._effects.clear()


def test_a_receipt_for_nobody_who_is_there_is_forgotten() -> None:
    """If this fails, the core remembers users without a connection (I6), or fails over them."""
    world = World()
    alice, bob = talk(world)
    alice.leave()
    bob.ack()
    world.wait(0.3)
    assert set(world.core._users) == {"bob"}


@pytest.mark.parametrize("blocker", ["alice", "bob"])
def test_a_block_in_the_same_commit_ends_receipts(blocker: str) -> None:
    """If this fails, somebody who is blocked sees a receipt after the block (B1)."""
    world = World()
    alice, bob = talk(world)
    world.connect("keeps the store busy")
    bob.ack()
    bob.say(wire.Read(peer="alice", seq=1))
    (alice if blocker == "alice" else bob).ask(wire.Block, user="bob" if blocker == "alice" else "alice")
    world.commit()
    assert world.batch is not None
    assert world.batch.marks
    assert world.batch.reads
    assert world.batch.blocks
    world.settle()
    assert alice.told == []


def test_read_marks_ride_along_and_wait_for_company() -> None:
    """If this fails, each read mark costs an fsync, or is never recorded (A3)."""
    world = World()
    alice, bob = talk(world, "one", "two", "three")
    for seq in (1, 3, 2):
        bob.say(wire.Read(peer="alice", seq=seq))
    assert world.core.deadline() == world.now + 0.25
    bob.send("ho", "alice")
    assert world.batch is not None
    assert world.batch.reads == (ReadMark("bob", "alice", 3, "phone"),)
    world.settle()
    assert world.store.reads == {("bob", "alice"): 3}
    assert alice.marks.read["bob"] == 3


def test_a_read_mark_says_nothing_of_the_cursor() -> None:
    """If this fails, a device that was read on another never gets what it has not got (R3)."""
    world = World()
    _, bob = talk(world)
    bob.say(wire.Read(peer="alice", seq=1))
    world.wait(0.3)
    assert world.store.cursors["bob", "phone"] == 0


def test_the_other_devices_learn_of_a_read_after_its_commit() -> None:
    """If this fails, a laptop shows as unread what was read on the phone (R3)."""
    world = World()
    alice, phone = talk(world)
    laptop, sender = world.join("bob", "laptop"), world.join("bob", send_only=True)
    phone.say(wire.Read(peer="alice", seq=1))
    assert laptop.told == []
    world.wait(0.3)
    assert laptop.told == [wire.ReadElsewhere(peer="alice", seq=1)]
    assert phone.told == sender.told == []
    assert alice.marks.own == {}


def test_a_send_only_connection_may_say_what_was_read() -> None:
    """If this fails, a script cannot mark as read, though it does so for the user and not for a device."""
    world = World()
    _, bob = talk(world)
    world.join("bob", send_only=True).say(wire.Read(peer="alice", seq=1))
    world.wait(0.3)
    assert bob.told == [wire.ReadElsewhere(peer="alice", seq=1)]


def test_an_older_read_mark_is_no_news() -> None:
    """If this fails, repeating a mark costs an fsync each time, or takes the place of a higher one that waits to be told."""
    world = World()
    _, phone = talk(world, "one", "two")
    laptop = world.join("bob", "laptop")
    phone.say(wire.Read(peer="alice", seq=2))
    laptop.say(wire.Read(peer="alice", seq=1))
    world.wait(0.3)
    assert (phone.told, laptop.told) == ([], [wire.ReadElsewhere(peer="alice", seq=2)])
    phone.say(wire.Read(peer="alice", seq=1), wire.Read(peer="alice", seq=2))
    assert world.core._intake.due is None


def test_a_read_mark_beyond_the_log_is_refused() -> None:
    """If this fails, what comes later counts as read before it was written (R3)."""
    world = World()
    _, bob = talk(world)
    world.handle(Received(bob.id, (wire.Read(peer="alice", seq=2), wire.Read(peer="nobody", seq=1))))
    error = bob.all(wire.Error)[0]
    assert (error.code, error.retry_after, error.id, error.ref) == (ErrorCode.CURSOR_AHEAD, None, None, None)
    assert "read mark" in error.message
    world.wait(0.3)
    assert world.store.reads == {("bob", "nobody"): 1}


def test_a_read_mark_that_is_lost_may_be_given_again() -> None:
    """If this fails, a failed commit leaves a mark that nobody can set any more, or the others are told of it (I8)."""
    world = World()
    _, phone = talk(world)
    laptop = world.join("bob", "laptop")
    for refuse in (True, False):
        phone.say(wire.Read(peer="alice", seq=1))
        phone.send("ho", "alice")
        if refuse:
            world.refuse_batch(ErrorCode.OVERLOADED)
            world.tell()
            world.now += 1.0
            assert laptop.told == []
    world.settle()
    assert laptop.told == [wire.ReadElsewhere(peer="alice", seq=1)]


def test_a_driver_need_not_say_how_each_read_mark_went() -> None:
    """If this fails, a store that gives no results for read marks loses them, or a failed one tells of them (I8)."""
    world = World()
    _, phone = talk(world)
    laptop = world.join("bob", "laptop")
    for at in (0, 1):
        phone.say(wire.Read(peer="alice", seq=1))
        ticket = world.request(ReadMark("bob", "alice", 1))
        world.now += 0.3
        world.handle(Received(phone.id, ()))
        world.append()
        assert world.results is not None
        world.results = type(world.results)(at=at)
        world.tell()
        assert laptop.told == [wire.ReadElsewhere(peer="alice", seq=1)] * at
        assert world.fulfilled[ticket] == (None if at else Refused(ErrorCode.INTERNAL))


def test_read_marks_of_countless_peers_have_a_bound() -> None:
    """If this fails, a client that names a new peer with every frame fills the memory (I6)."""
    world = World(Settings(send_rate=None, uncommitted=10, waiting=20))
    _, phone = talk(world)
    laptop = world.join("bob", "laptop")
    phone.say(*[wire.Read(peer=f"peer {number}", seq=1) for number in range(15)])
    assert phone.state == "paused"
    laptop.say(*[wire.Read(peer=f"peer {number}", seq=1) for number in range(10)])
    assert laptop.errors == [ErrorCode.OVERLOADED] * 5
    assert len(world.core._intake._reads) == 20
    world.wait(0.3)
    assert (phone.state, laptop.state) == ("reading", "reading")


def test_of_countless_peers_the_last_are_remembered() -> None:
    """If this fails, a user who reads much costs more and more memory while connected (I6)."""
    world = World(Settings(send_rate=None, uncommitted=1000))
    _, bob = talk(world)
    bob.say(*[wire.Read(peer=f"peer {number}", seq=1) for number in range(300)])
    world.wait(0.3)
    reads = world.core._users["bob"].reads
    assert len(reads) == 256
    assert "peer 299" in reads
    assert "peer 43" not in reads


def test_the_application_marks_as_read() -> None:
    """If this fails, `Chat` cannot mark as read, or the user's devices do not learn of it."""
    world = World()
    alice, bob = talk(world)
    ticket = world.request(ReadMark("bob", "alice", 1))
    away = world.request(ReadMark("eve", "alice", 1))
    assert world.fulfilled == {}
    world.wait(0.3)
    assert world.fulfilled == {ticket: None, away: None}
    assert bob.told == [wire.ReadElsewhere(peer="alice", seq=1)]
    assert alice.marks.read["bob"] == 1
