"""What waits for the store: order, company, bounds."""

from __future__ import annotations

import time

import pytest

from trio_chat import wire
from trio_chat.core.batch import BlockChange, Draft, Mark, ReadMark, Refused, Removal, Results
from trio_chat.core.events import Committed, Received
from trio_chat.core.intake import Command
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .model import LOG
from .world import World

FREE = Settings(send_rate=None)


def test_a_lone_message_waits_for_nobody() -> None:
    """If this fails, every message pays for company that does not come."""
    world = World()
    alice = world.join("alice")
    alice.send("hi", "bob")
    assert world.batch is not None
    assert [draft.text for draft in world.batch.drafts] == ["hi"]


def test_what_arrives_meanwhile_shares_the_next_batch() -> None:
    """If this fails, messages queue for one fsync each, or two transactions are in flight (L2)."""
    world = World(FREE)
    alice = world.join("alice")
    for number in range(5):
        alice.send(f"{number}", "bob")
    assert world.batch is not None
    assert len(world.batch.drafts) == 1
    world.commit()
    assert [draft.text for draft in world.batch.drafts] == ["1", "2", "3", "4"]


def test_a_batch_has_a_bound() -> None:
    """If this fails, a backlog becomes one transaction that blocks everybody until it is through."""
    world = World(Settings(send_rate=None, batch=3))
    alice = world.join("alice")
    sizes = []
    alice.say(*[alice.message(f"{number}", "bob") for number in range(8)])
    while world.batch is not None:
        sizes.append(len(world.batch.drafts))
        world.commit()
    assert sizes == [3, 3, 2]
    assert [item.seq for item in alice.stored] == list(range(1, 9))


def test_acks_wait_for_company_but_not_long() -> None:
    """If this fails, each ack costs an fsync, or an ack of the last message is never recorded (A3)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("hi", "bob")
    world.settle()
    bob.ack()
    assert world.batch is None
    assert world.core.deadline() == world.now + 0.25
    world.wait(0.2)
    assert world.store.cursors["bob", "phone"] == 0
    world.wait(0.1)
    assert world.store.cursors["bob", "phone"] == 1


def test_acks_ride_with_messages() -> None:
    """If this fails, a busy server makes a second fsync for acks alone (A3)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    for _ in range(3):
        alice.send("hi", "bob")
        world.settle()
        bob.ack()
    bob.send("ho", "alice")
    assert world.batch is not None
    assert world.batch.marks == (Mark("bob", "phone", 3),)


def test_a_device_that_comes_back_begins_where_it_left() -> None:
    """If this fails, a hand-over doubles entries when many others acknowledge at the same moment (failures 16).

    One transaction takes a bounded number of marks; those of the devices that it opens are among them.
    """
    world = World(Settings(send_rate=None, new_devices=3000))
    crowd = [world.connect(f"user {number}") for number in range(1100)]
    bob = world.connect("bob")
    world.settle()
    eve = world.join("eve")
    eve.send("hi", "bob")
    world.settle()
    eve.send("something to wait for", "eve")
    for client in crowd:
        client.leave()
    bob.ack()
    again = world.connect("bob")
    world.commit()
    assert world.batch is not None
    assert world.batch.marks[0] == Mark("bob", "phone", 1)
    assert len(world.batch.marks) == 1025
    world.settle()
    assert again.welcome.cursor == 1
    assert again.entries == []
    world.wait(1.0)
    assert world.core._intake.idle


def test_too_much_waiting_is_refused() -> None:
    """If this fails, a store that cannot keep up lets memory grow until the server dies (failures R4)."""
    world = World(Settings(send_rate=None, waiting=3))
    alice = world.join("alice")
    alice.send("in flight", "bob")
    alice.say(*[alice.message(f"{number}", "bob") for number in range(5)])
    assert alice.errors == [ErrorCode.OVERLOADED] * 2
    world.settle()
    assert len(alice.stored) == 4


def test_what_waits_is_weighed_in_bytes() -> None:
    """If this fails, large texts make the waiting list as large as they like; characters are not bytes."""
    world = World(Settings(send_rate=None, waiting_bytes=1000))
    alice = world.join("alice")
    alice.send("in flight", "bob")
    alice.send("\N{GRINNING FACE}" * 250, "bob")
    alice.send("too much", "bob")
    assert alice.errors == [ErrorCode.OVERLOADED]
    world.settle()
    world.now += 1.0
    alice.send("again", "bob")
    world.settle()
    assert len(alice.stored) == 3


def test_an_opening_that_is_not_wanted_any_more_is_not_made() -> None:
    """If this fails, clients that give up while the server is busy cost it a transaction each."""
    world = World()
    world.connect("alice")
    bob = world.connect("bob")
    world.connect("eve")
    bob.leave()
    world.commit()
    assert world.batch is not None
    assert [opening.user for opening in world.batch.openings] == ["eve"]


def test_a_storm_of_openings_costs_no_more_than_their_number() -> None:
    """If this fails, ten thousand clients that come and go block the registry: each looks through all the others."""

    def storm(count: int) -> float:
        world = World(FREE)
        world.connect("keeps the store busy")
        clients = [world.connect(f"user {number}") for number in range(count)]
        started = time.perf_counter()
        for client in reversed(clients):
            client.leave()
        return time.perf_counter() - started

    small = min(storm(500) for _ in range(3))
    assert min(storm(5_000) for _ in range(2)) < 40 * small


def test_openings_say_which_devices_are_connected() -> None:
    """If this fails, room for a new device is made by removing one that is connected (C2)."""
    world = World()
    world.join("alice", "phone")
    world.join("alice", "cli-send", send_only=True)
    world.join("bob", "tablet")
    world.connect("eve")
    world.connect("alice", "laptop", log=LOG, after=7)
    world.connect("alice", "watch")
    world.connect("alice", "sender", send_only=True)
    world.commit()
    assert world.batch is not None
    assert {opening.connected for opening in world.batch.openings} == {frozenset({"phone", "laptop", "watch"})}
    assert [(opening.log, opening.after) for opening in world.batch.openings] == [(LOG, 7), (None, None), (None, None)]
    assert [opening.send_only for opening in world.batch.openings] == [False, False, True]
    assert all(opening.may_be_new for opening in world.batch.openings)


def test_a_failed_batch_changes_nothing() -> None:
    """If this fails, somebody sees a message or a head that is not stored (I8)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("hi", "bob")
    world.refuse_batch(ErrorCode.STORE_UNAVAILABLE)
    world.tell()
    assert alice.errors == [ErrorCode.STORE_UNAVAILABLE]
    assert bob.entries == []
    assert {user.head for user in world.core._users.values()} == {0}
    world.wait(1.0)
    assert bob.entries == []
    alice.send("again", "bob")
    world.settle()
    assert bob.seqs == [1]


@pytest.mark.parametrize("results", [Results(), Results(openings=(), drafts=())])
def test_a_driver_that_miscounts_is_told(results: Results) -> None:
    """If this fails, answers go to the wrong senders when a store forgets a row."""
    world = World()
    alice = world.join("alice")
    with pytest.raises(RuntimeError, match="no batch is in flight"):
        world.core.handle(Committed(results), world.now)
    world.handle(Received(alice.id, (wire.Send(id="x", to="bob", text="hi"),)))
    with pytest.raises(RuntimeError, match="another number of results"):
        world.core.handle(Committed(results), world.now)


def test_an_opening_that_fails_is_closed() -> None:
    """If this fails, a client waits for a welcome that never comes."""
    world = World()
    alice = world.connect("alice")
    world.refuse_batch(ErrorCode.STORE_UNAVAILABLE)
    world.tell()
    assert alice.code == CloseCode.INTERNAL


REFUSED = Refused(ErrorCode.INTERNAL)


@pytest.mark.parametrize(
    "results",
    [
        Results((), (REFUSED,), (REFUSED,), (REFUSED,)),
        Results((REFUSED,), (REFUSED,), (), (REFUSED,)),
        Results((REFUSED,), (REFUSED,), (REFUSED,), ()),
        Results((REFUSED,), (REFUSED,), (REFUSED,), (REFUSED,), reads=(REFUSED, REFUSED)),
    ],
)
def test_each_kind_of_result_is_counted(results: Results) -> None:
    """If this fails, a block is answered with what became of another when a store forgets a row."""
    world = World()
    world.connect("keeps the store busy")
    world.connect("alice")
    for command in one_of_each():
        world.request(command)
    world.commit()
    with pytest.raises(RuntimeError, match="another number of results"):
        world.core.handle(Committed(results), world.now)


def one_of_each() -> list[Command]:
    return [
        Draft(0, "alice", "bob", "x", "hi"),
        ReadMark("alice", "bob", 0),
        BlockChange("alice", "eve", blocked=True),
        Removal("alice", "phone"),
    ]


def test_all_that_waits_counts_and_weighs() -> None:
    """If this fails, what is no message waits in any number (I6)."""
    world = World(Settings(send_rate=None, waiting=4))
    world.connect("keeps the store busy")
    commands = one_of_each()
    for place, command in enumerate(commands):
        assert not world.core._intake.full
        world.request(command)
        assert world.core._intake._bytes >= 200 * (place + 1)
    assert world.core._intake.full
    assert world.request(commands[0]) in world.fulfilled
    world.commit()
    batch = world.batch
    assert batch is not None
    assert [*batch.drafts, *batch.reads, *batch.blocks, *batch.removals] == [
        Draft(-2, "alice", "bob", "x", "hi"), *commands[1:]
    ]  # fmt: skip
    assert world.core._intake._bytes == 0
    assert not world.core.idle
    world.settle()
    assert len(world.fulfilled) == 5


@pytest.mark.parametrize("place", range(4))
def test_whatever_waits_is_work_left(place: int) -> None:
    """If this fails, a drain ends before all that was taken in is committed (D1)."""
    world = World()
    world.request(one_of_each()[place])
    assert not world.core.idle
    assert (world.batch is None) == (place == 1), "a read mark waits for company, and nothing else does"
    world.drain()
    assert not world.core.idle
    world.settle()
    assert world.core.idle


def test_read_marks_and_changes_have_a_bound_for_each_batch() -> None:
    """If this fails, a backlog becomes one transaction that blocks everybody until it is through."""
    world = World(Settings(batch=3, send_rate=None))
    world.connect("keeps the store busy")
    for number in range(1500):
        world.request(ReadMark("alice", f"peer {number}", 0))
    for number in range(5):
        world.request(BlockChange("alice", f"peer {number}", blocked=True))
        world.request(Removal("alice", f"device {number}"))
    sizes = []
    while world.batch is not None:
        sizes.append((len(world.batch.reads), len(world.batch.blocks), len(world.batch.removals)))
        world.commit()
    assert sizes == [(0, 0, 0), (1024, 3, 3), (476, 2, 2)]
    assert len(world.fulfilled) == 1510


def test_read_marks_that_find_no_room_in_a_batch_go_with_the_next() -> None:
    """If this fails, the last of many read marks wait until somebody sends something (A3)."""
    world = World(Settings(send_rate=None))
    for number in range(1030):
        world.request(ReadMark("alice", f"peer {number}", 0))
    world.wait(0.25)
    assert len(world.fulfilled) == 1024
    assert world.core.deadline() == world.now + 0.25
    world.wait(0.25)
    assert len(world.fulfilled) == 1030
