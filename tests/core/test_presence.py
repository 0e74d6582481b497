"""Who is there: told to those who may know, without flicker, without ghosts."""

from __future__ import annotations

import pytest

from trio_chat import wire
from trio_chat.core import events
from trio_chat.core.batch import BlockChange, Draft
from trio_chat.errors import ErrorCode
from trio_chat.retrieval import Standing
from trio_chat.settings import Settings

from .world import Client, World


def acquaint(world: World, *pairs: tuple[str, str]) -> None:
    """Let these have written to one another."""
    for one, other in pairs:
        world.request(Draft(0, one, other, world.new_id(), "hi"))
        world.request(Draft(0, other, one, world.new_id(), "ho"))
    world.settle()


def friends(*names: str) -> World:
    """A world in which alice is acquainted with these."""
    world = World(Settings(send_rate=None))
    acquaint(world, *(("alice", name) for name in names))
    return world


def watch(client: Client, *users: str) -> None:
    client.ask(wire.Watch, users=users)
    client.world.settle()


def told(client: Client) -> list[tuple[str, bool, int | None]]:
    """What the client was told of presence since it was asked last."""
    frames = [(frame.user, frame.online, frame.last_seen) for frame in client.told if isinstance(frame, wire.Presence)]
    client.told.clear()
    return frames


def test_each_who_is_watched_is_told_of_once() -> None:
    """If this fails, a client does not learn how things stand now, and waits for the next change."""
    world = friends("bob", "carol")
    alice, bob = world.join("alice"), world.join("bob")
    world.join("carol").leave()
    world.join("eve")
    world.wait(1.0, alive=(alice, bob))
    watch(alice, "bob", "carol", "eve", "nobody", "bob")
    assert told(alice) == [("bob", True, None), ("carol", False, 1000_000), ("eve", False, None), ("nobody", False, None)]
    alice.listen()


def test_coming_is_told_at_once_and_going_a_little_later() -> None:
    """If this fails, a watcher sees somebody there who is not, or sees them too late."""
    world = friends("bob")
    alice = world.join("alice")
    watch(alice, "bob")
    assert told(alice) == [("bob", False, None)]
    phone = world.connect("bob")
    assert told(alice) == []
    world.settle()
    assert told(alice) == [("bob", True, None)]
    laptop = world.join("bob", "laptop")
    phone.leave()
    world.wait(5.0, alive=(alice, laptop))
    assert told(alice) == [], "one of two went"
    eve = world.join("eve")
    laptop.leave()
    eve.leave()  # its mark says nothing of bob
    assert world.core._presence.deadline == world.now + 3.0
    world.wait(2.9, alive=(alice,))
    assert told(alice) == []
    seen = max(at for (user, _), at in world.store.seen.items() if user == "bob")
    world.wait(0.1, alive=(alice,))
    assert told(alice) == [("bob", False, seen)]
    assert world.core._presence.deadline is None


def test_a_reconnect_is_no_flicker() -> None:
    """If this fails, everybody who watches sees each tunnel a train goes through."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    told(alice)
    bob.leave()
    world.wait(2.0, alive=(alice,))
    bob = world.join("bob")
    world.connect("bob")
    world.settle()
    world.wait(5.0, alive=(alice, *world.present("bob")))
    assert told(alice) == []


def test_who_comes_back_too_late_has_been_away() -> None:
    """If this fails, somebody whose reconnect hangs is there for ever."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    told(alice)
    bob.leave()
    world.wait(2.9, alive=(alice,))
    world.connect("bob")
    world.now += 0.1
    world.handle(events.Tick())
    assert [online for _, online, _ in told(alice)] == [False]
    world.settle()
    assert told(alice) == [("bob", True, None)]


def test_without_the_commit_of_the_leaving_mark_nothing_is_said_of_the_time() -> None:
    """If this fails, a failed store makes up when somebody was seen last."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    told(alice)
    bob.leave()
    world.now += 0.3
    world.handle(events.Tick())
    assert world.batch is not None
    assert [mark.user for mark in world.batch.marks] == ["bob"]
    world.refuse_batch(ErrorCode.STORE_UNAVAILABLE)
    assert world.results is not None
    world.results = type(world.results)(at=0)
    world.tell()
    world.wait(3.0, alive=(alice,))
    assert told(alice) == [("bob", False, None)]


def test_send_only_connections_are_nobody() -> None:
    """If this fails, a script that sends makes its user look present."""
    world = friends("bob")
    alice = world.join("alice")
    script = world.join("bob", send_only=True)
    watch(alice, "bob")
    script.leave()
    assert [online for _, online, _ in told(alice)] == [False]
    assert world.core._presence.deadline is None


def test_a_send_only_connection_may_watch() -> None:
    """If this fails, what a connection asked for itself is withheld from it."""
    world = friends("bob")
    script = world.join("alice", send_only=True)
    watch(script, "bob")
    world.join("bob")
    assert [online for _, online, _ in told(script)] == [False, True]


def test_a_later_list_replaces_the_earlier() -> None:
    """If this fails, a client is told of people it no longer shows, and lists pile up (I6)."""
    world = friends("bob", "carol")
    alice = world.join("alice")
    bob, carol = world.join("bob"), world.join("carol")
    watch(alice, "bob")
    bob.leave()
    watch(alice, "carol")
    told(alice)
    world.wait(5.0, alive=(alice, carol))
    carol.leave()
    world.wait(5.0, alive=(alice,))
    assert [name for name, _, _ in told(alice)] == ["carol"]
    watch(alice)
    world.join("carol")
    assert told(alice) == []
    assert world.core._presence._watchers == {}


def test_a_list_that_could_not_be_answered_changes_nothing() -> None:
    """If this fails, a client whose request was refused is told nothing any more."""
    world = friends("bob")
    alice = world.join("alice")
    watch(alice, "bob")
    alice.ask(wire.Watch, users=())
    world.answer(alice.id, ErrorCode.OVERLOADED)
    alice.told.clear()
    world.join("bob")
    assert told(alice) == [("bob", True, None)]


def test_a_new_list_says_how_it_is_and_not_how_it_was_told() -> None:
    """If this fails, somebody who has just left is shown as there to who asks now, or told of twice."""
    world = friends("bob", "carol")
    acquaint(world, ("bob", "carol"))
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    watch(alice, "bob")
    bob.leave()
    told(alice)
    watch(carol, "bob")
    assert [online for _, online, _ in told(carol)] == [False]
    world.wait(5.0, alive=(alice, carol))
    assert [online for _, online, _ in told(alice)] == [False]
    assert told(carol) == []


def test_watchers_are_forgotten_with_their_connections() -> None:
    """If this fails, the core remembers who is no longer there, and tells them things (I6, I7)."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    bob.leave()
    alice.leave()
    assert (world.core._presence._watchers, world.core._presence._leaving) == ({}, {})
    assert world.core._presence.deadline is None


def test_watching_oneself_is_harmless() -> None:
    """If this fails, a client that watches its own user ends the server."""
    world = World()
    phone, script = world.join("alice"), world.join("alice", send_only=True)
    for client in (phone, script):
        client.ask(wire.Watch, users=("alice",))
        world.answer_with(client.id, events.Stood(client.id, (Standing(user="alice", acquainted=True, last_seen=5),)))
    assert told(phone) == told(script) == [("alice", True, None)]
    phone.leave()
    world.wait(5.0, alive=(script,))
    assert [online for _, online, _ in told(script)] == [False]
    script.leave()
    world.wait(1.0)
    assert world.core.idle


@pytest.mark.parametrize(("blocker", "blocked"), [("alice", "bob"), ("bob", "alice")])
@pytest.mark.parametrize("by", ["client", "application"])
def test_a_block_ends_watching_in_both_directions(blocker: str, blocked: str, by: str) -> None:
    """If this fails, somebody who is blocked goes on seeing when the other is there (B1)."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    watch(bob, "alice")
    told(alice), told(bob)
    client = alice if blocker == "alice" else bob
    for change in (True, False):
        if by == "client":
            client.ask(wire.Block if change else wire.Unblock, user=blocked)
        else:
            world.request(BlockChange(blocker, blocked, blocked=change))
        blocked_at = world.now
        world.settle()
        world.wait(2.9, alive=(alice, bob))
        assert (told(alice), told(bob)) == ([], []), "no departure is told so soon"
        world.wait(0.1, alive=(alice, bob))
        gone = [(False, int(blocked_at * 1000))] if change else []
        assert told(alice) == [("bob", *values) for values in gone], "unblocking restores nothing"
        assert told(bob) == [("alice", *values) for values in gone]
    world.join("bob", "laptop")
    assert told(alice) == []
    watch(alice, "bob")
    assert told(alice) == [("bob", True, None)]


def test_who_is_blocked_is_told_what_a_departure_tells() -> None:
    """If this fails, the blocked can tell a block from a departure, by what they are told or by when (B1)."""

    def experience(block: bool) -> list[tuple[float, list[tuple[str, bool, int | None]]]]:
        """What alice is told and when, if bob blocks her or leaves; another commit has the mark of leaving ride with it."""
        world = friends("bob")
        alice, bob = world.join("alice"), world.join("bob")
        carol = world.join("carol")
        watch(alice, "bob")
        if block:
            bob.ask(wire.Block, user="alice")
            world.settle()
        else:
            bob.leave()
            carol.send("hi", "carol")
            world.settle()
        heard = []
        for _ in range(80):
            world.wait(0.1, alive=(alice, bob, carol) if block else (alice, carol))
            heard.append((world.now, told(alice)))
        return heard

    assert experience(block=True) == experience(block=False)


def test_what_becomes_of_the_other_after_a_block_is_not_told() -> None:
    """If this fails, somebody who is blocked sees the other come and go while they look as if they were leaving (B1)."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    told(alice)
    bob.leave()
    world.wait(1.0, alive=(alice,))
    world.request(BlockChange("bob", "alice", blocked=True))
    world.settle()
    at = int(world.now * 1000)
    for _ in range(2):
        world.join("bob").leave()
        world.wait(1.0, alive=(alice,))
    world.request(BlockChange("bob", "alice", blocked=False))
    world.request(BlockChange("bob", "alice", blocked=True))
    world.join("bob")
    world.wait(10.0, alive=(alice, *world.present("bob")))
    assert told(alice) == [("bob", False, at)]
    assert world.core._presence.deadline is None


@pytest.mark.parametrize("how", ["another list", "its end"])
def test_who_looks_elsewhere_is_not_told_of_a_block(how: str) -> None:
    """If this fails, a connection is told of somebody it follows no more, or the core keeps what is gone (I6, I7)."""
    world = friends("bob", "carol")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    bob.ask(wire.Block, user="alice")
    world.settle()
    assert world.core._presence.deadline == world.now + 3.0
    told(alice)
    if how == "another list":
        watch(alice, "carol")
        assert [name for name, _, _ in told(alice)] == ["carol"]
    else:
        alice.leave()
    assert world.core._presence._parting == {}
    assert world.core._presence.deadline is None
    world.wait(10.0, alive=(alice, bob))
    assert told(alice) == []


def test_who_asks_again_is_told_what_a_stranger_is() -> None:
    """If this fails, who is blocked and asks again while the other seems to leave goes on seeing them (B1, P2)."""
    world = friends("bob")
    alice, bob = world.join("alice"), world.join("bob")
    watch(alice, "bob")
    bob.ask(wire.Block, user="alice")
    world.settle()
    told(alice)
    watch(alice, "bob")
    world.wait(10.0, alive=(alice, bob))
    assert told(alice) == [("bob", False, None)]


def test_who_saw_the_other_away_is_not_told_of_a_block() -> None:
    """If this fails, a frame out of the blue tells the blocked of the block (B1)."""
    world = friends("bob")
    alice = world.join("alice")
    watch(alice, "bob")
    told(alice)
    world.request(BlockChange("bob", "alice", blocked=True))
    world.settle()
    world.join("bob")
    assert told(alice) == []
    assert world.core._presence._watchers == {}


def test_a_block_while_the_answer_is_on_its_way_holds() -> None:
    """If this fails, an answer that was read before a block makes the blocked see the other for good (B1)."""
    world = friends("bob", "carol")
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    alice.ask(wire.Watch, users=("bob", "carol"))
    standing = world.read_standing(alice.id)
    bob.ask(wire.Block, user="alice")
    bob.ask(wire.Unblock, user="alice")
    world.commit()
    world.commit()
    world.answer_with(alice.id, standing)
    assert told(alice) == [("bob", False, None), ("carol", True, None)]
    bob.leave()
    assert world.core._presence.deadline is None
    assert carol.open


def test_a_policy_of_the_applications_may_hide_people() -> None:
    """If this fails, what a hook refuses to show is shown."""
    world = friends("bob")
    alice = world.join("alice")
    world.join("bob")
    ref = alice.ask(wire.Watch, users=("bob",))
    world.answer_with(alice.id, events.Stood(alice.id, (Standing(user="bob", acquainted=False, last_seen=5),)))
    assert told(alice) == [("bob", False, None)]
    assert ref not in alice.asking
