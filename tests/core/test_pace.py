"""Who is read: a connection is slowed by what it does itself, and by nothing else."""

from __future__ import annotations

from trio_chat import wire
from trio_chat.core import events
from trio_chat.errors import CloseCode
from trio_chat.settings import Settings

from .world import BAD, World

SLOW = Settings(frame_rate=10, uncommitted=4)


def tick(world: World, seconds: float) -> None:
    world.now += seconds
    world.handle(events.Tick())


def test_frames_beyond_the_rate_are_read_later() -> None:
    """If this fails, one client that sends acks as fast as it can takes the processor from everybody (failures 13)."""
    world = World(SLOW)
    alice = world.join("alice")
    alice.say(*[wire.Ack(seq=0)] * 10)
    states = [alice.paused]
    alice.say(*[wire.Ack(seq=0)] * 5)
    assert world.core.deadline() == world.now + 0.5
    for seconds in (0.0, 0.4, 0.2):
        tick(world, seconds)
        states.append(alice.paused)
    assert states == [False, True, True, False]


def test_the_rate_is_the_users() -> None:
    """If this fails, a second connection is a second allowance, and reconnecting a fresh one (C9)."""
    world = World(SLOW)
    phone = world.join("alice", "phone")
    phone.say(*[wire.Ack(seq=0)] * 12)
    laptop = world.join("alice", "laptop")
    laptop.say(wire.Ping())
    assert laptop.paused
    bob = world.join("bob")
    bob.say(wire.Ping())
    assert not bob.paused
    phone.leave()
    tick(world, 5)
    assert not laptop.paused


def test_answers_do_not_end_a_pause_early() -> None:
    """If this fails, a flood that has sends in it is not slowed."""
    world = World(SLOW)
    alice = world.join("alice")
    alice.send("hi", "bob")
    alice.say(*[wire.Ack(seq=0)] * 14)
    world.commit()
    assert alice.paused
    tick(world, 0.6)
    assert not alice.paused


def test_time_does_not_end_a_pause_for_what_is_uncommitted() -> None:
    """If this fails, a client fills the waiting list of everybody (I6)."""
    world = World(SLOW)
    alice = world.join("alice")
    alice.say(*[alice.message("hi", "bob") for _ in range(8)], *[wire.Ack(seq=0)] * 5)
    tick(world, 1)
    assert alice.paused
    world.settle()
    assert not alice.paused


def test_without_limits_nobody_is_slowed() -> None:
    """If this fails, ``--rate-limit off`` leaves a limit on (C9)."""
    world = World(Settings(frame_rate=10, send_rate=None))
    alice = world.join("alice")
    alice.say(*[wire.Ack(seq=0)] * 1000)
    assert not alice.paused


def test_a_connection_that_is_closed_is_not_waited_for() -> None:
    """If this fails, the core keeps what it knew of connections that are gone (I6)."""
    world = World(SLOW)
    alice = world.join("alice")
    alice.say(*[wire.Ack(seq=0)] * 20)
    alice.leave()
    tick(world, 0.5)  # what it leaves behind is its mark, and that is committed now
    world.settle()
    assert world.core.deadline() is None
    assert world.core.idle


def test_bad_frames_are_counted_over_reconnects() -> None:
    """If this fails, whoever is closed with 4429 connects again and goes on (C9)."""
    world = World()
    alice = world.join("alice")
    alice.say(*[BAD] * 21)
    assert alice.code is CloseCode.FLOODING
    again = world.join("alice")
    again.say(BAD)
    assert again.code is CloseCode.FLOODING


def test_a_user_has_so_many_connections() -> None:
    """If this fails, one user takes all places there are, with connections that only send (I6)."""
    world = World(Settings(user_connections=2))
    phone = world.join("alice", "phone")
    world.join("alice", "cli", send_only=True)
    refused = world.connect("alice", "laptop")
    assert refused.code is CloseCode.POLICY
    newer = world.join("alice", "phone")
    assert phone.code is CloseCode.REPLACED
    assert newer.code is None
