"""The core as a whole: coming and going, answers, refusals, silence, the end."""

from __future__ import annotations

from typing import get_args

import pytest

from trio_chat import wire
from trio_chat.core import effects
from trio_chat.core.batch import Draft, Opened, Results, Stored
from trio_chat.core.events import Committed, Connected, Disconnected, Event, Received, Revoked, Tick
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode, InvalidFrame
from trio_chat.settings import Settings

from .model import LOG
from .world import BAD, World, replay

FREE = Settings(send_rate=None)
RETRYABLE = [code for code in ErrorCode if code.retryable]
FINAL = [code for code in ErrorCode if not code.retryable]


# Coming.


def test_welcome_comes_first_and_says_where_it_starts() -> None:
    """If this fails, a client does not know what it gets (C1)."""
    world = World()
    alice = world.join("alice")
    alice.send("hi", "bob")
    world.settle()
    bob = world.join("bob", "laptop")
    welcome = bob.frames[0]
    assert welcome == wire.Welcome(
        user="bob", device="laptop", log=LOG, head=1, floor=0, cursor=0, new=True,
        features=[name for name in wire.FEATURES if name not in wire.PUSH_FEATURES], limits=world.core._limits,
    )  # fmt: skip
    assert welcome.limits["window"] == 256
    bob.leave()
    assert not world.join("bob", "laptop").welcome.new


def test_a_client_may_start_at_its_own_position() -> None:
    """If this fails, a client with a durable position of its own gets again what it has, or misses something (C1, A1)."""
    world = World()
    alice = world.join("alice")
    for _ in range(5):
        alice.send("hi", "bob")
    world.settle()
    bob = world.join("bob", log=LOG, after=3)
    assert bob.seqs == [4, 5]
    bob.leave()
    bob = world.join("bob", log=LOG, after=1)
    assert bob.seqs == [2, 3, 4, 5]
    bob.leave()
    world.wait(1.0)
    assert world.store.cursors["bob", "phone"] == 3, "going back did not move the cursor"
    for log, after in (("another log", 5), (LOG, 6)):
        assert world.join("bob", log=log, after=after).seqs == [4, 5]


def test_nothing_is_read_before_welcome() -> None:
    """If this fails, a send is answered before the client knows who it is taken for (C9)."""
    world = World()
    alice = world.connect("alice")
    assert alice.state == "paused"
    world.handle(Received(alice.id, (wire.Ping(),)))
    world.commit()
    assert [type(frame) for frame in alice.frames] == [wire.Welcome]
    assert alice.state == "reading"


def test_a_message_committed_with_an_opening_is_delivered() -> None:
    """If this fails, what is committed in the same transaction as a device's arrival is missed, or comes twice."""
    world = World()
    alice = world.join("alice")
    alice.send("one", "bob")
    bob = world.connect("bob")
    alice.send("two", "bob")
    alice.send("three", "bob")
    world.commit()
    assert world.batch is not None
    assert len(world.batch.openings) == 1
    assert len(world.batch.drafts) == 2
    world.settle()
    assert bob.texts == ["one", "two", "three"]


def test_a_newer_connection_replaces_the_older() -> None:
    """If this fails, a device has two connections, and each misses what the other acknowledges (C3)."""
    world = World()
    eve, old = world.join("eve"), world.join("bob")
    new = world.connect("bob")
    assert old.code == CloseCode.REPLACED
    eve.send("hi", "bob")
    world.settle()
    assert old.entries == []
    assert new.texts == ["hi"]
    old.leave()
    eve.send("still there?", "bob")
    world.settle()
    assert new.texts == ["hi", "still there?"]


def test_other_devices_and_send_only_connections_stay() -> None:
    """If this fails, ``trio-chat send`` or the laptop throws out the phone (C3)."""
    world = World()
    phone, sender = world.join("bob"), world.join("bob", send_only=True)
    laptop, sender2 = world.join("bob", "laptop"), world.join("bob", send_only=True)
    assert [client.code for client in (phone, sender, laptop, sender2)] == [None] * 4
    world.connect("bob")
    assert [client.code for client in (phone, sender, laptop, sender2)] == [CloseCode.REPLACED, None, None, None]


@pytest.mark.parametrize("in_flight", [True, False])
def test_replaced_before_it_was_open(in_flight: bool) -> None:
    """If this fails, two quick connects of one device leave it with none, or with two."""
    world = World()
    if not in_flight:
        world.connect("keeps the store busy")
    old = world.connect("bob")
    new = world.connect("bob")
    assert old.code == CloseCode.REPLACED
    world.settle()
    old.leave()
    assert old.frames == []
    assert new.open
    assert new.state == "reading"


def test_the_answers_of_a_replaced_connection_are_dropped_but_its_messages_stored() -> None:
    """If this fails, what a client sent before it reconnected is lost, or answered to a closed connection (I7)."""
    world = World()
    old, eve = world.join("bob"), world.join("eve")
    old.send("in flight", "eve")
    old.send("waiting", "eve")
    new = world.connect("bob")
    world.settle()
    assert eve.texts == ["in flight", "waiting"]
    assert old.stored == []
    assert new.held == 2


def test_more_than_32_connected_devices() -> None:
    """If this fails, a user can hold as many connections as the server has, or loses a device that is connected (C2)."""
    world = World()
    devices = [world.join("bob", f"device {number}") for number in range(32)]
    assert world.join("bob", "one too many").code == CloseCode.POLICY
    devices[5].leave()
    assert world.join("bob", "now there is room").open


def test_new_device_names_are_limited() -> None:
    """If this fails, somebody fills the store with device names (C2)."""
    world = World(Settings(new_devices=3))
    for number in range(3):
        assert world.join("bob", f"device {number}").open
    assert world.join("bob", "another").code == CloseCode.FLOODING
    assert world.join("bob", "device 1").open, "a known one is no new one"
    assert world.join("eve", "another").open
    world.wait(1200.0, alive=tuple(client for client in world.clients.values() if client.open))
    assert world.join("bob", "another").open


def test_only_new_device_names_count() -> None:
    """If this fails, a phone in a tunnel that reconnects all the time keeps the laptop out."""
    world = World(Settings(new_devices=2))
    world.join("bob")
    for _ in range(5):
        world.join("bob").leave()
        world.connect("bob")  # in flight
        world.connect("bob").leave()  # waiting
        world.settle()
        world.connect("bob")
        world.refuse_batch(ErrorCode.STORE_UNAVAILABLE)
        world.tell()
    assert world.join("bob", "laptop").open


# Answers.


def test_every_send_is_answered_once_in_order() -> None:
    """If this fails, a client waits for ever, or takes an answer for another message's (S3, S4)."""
    world = World(FREE)
    alice = world.join("alice")
    alice.say(*[alice.message(f"{number}", "bob") for number in range(10)])
    world.settle()
    assert [item.id for item in alice.stored] == [f"m{number + 1}" for number in range(10)]
    assert alice.awaiting.total() == 0


def test_the_same_id_again() -> None:
    """If this fails, a client that lost an answer sends twice, or loses its message (S2)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("hi", "bob", "x")
    world.settle()
    alice.send("hi", "bob", "x")
    alice.send("ho", "bob", "x")
    world.settle()
    assert [(item.id, item.seq) for item in alice.stored] == [("x", 1), ("x", 1)]
    assert alice.errors == [ErrorCode.ID_CONFLICT]
    assert bob.texts == ["hi"]


def test_the_same_id_twice_in_one_batch() -> None:
    """If this fails, a hasty resend is delivered twice."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    message = alice.message("hi", "bob")
    alice.say(message, message)
    world.settle()
    assert [item.seq for item in alice.stored] == [1, 1]
    assert bob.texts == ["hi"]


def test_a_ping_is_answered() -> None:
    """If this fails, browsers think that the server is gone."""
    world = World()
    alice = world.join("alice")
    alice.say(wire.Ping(), wire.Ping())
    assert alice.frames[1:] == [wire.Pong(), wire.Pong()]


def test_typing_goes_to_every_device_of_the_peer_if_there_is_room() -> None:
    """If this fails, typing is queued, is seen by somebody else, or reaches a connection that is not open yet."""
    world = World()
    alice, other = world.join("alice"), world.join("alice", "laptop")
    bobs = [world.join("bob"), world.join("bob", "laptop")]
    sender = world.join("bob", send_only=True)
    opening = world.connect("bob", "watch")
    alice.say(
        wire.Typing(to="bob", typing=True), wire.Typing(to="nobody", typing=True), wire.Typing(to="alice", typing=True)
    )
    assert [client.offered for client in bobs] == [[wire.TypingFrom(sender="alice", typing=True)]] * 2
    assert alice.offered == other.offered == sender.offered == opening.offered == []


def test_a_flood_of_typing_is_dropped() -> None:
    """If this fails, typing is a cheap way to keep another's connection busy."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.say(*[wire.Typing(to="bob", typing=True)] * 100)
    assert len(bob.offered) == 20
    assert alice.errors == []


def test_bad_frames_are_answered_and_then_too_many() -> None:
    """If this fails, one bad frame ends a connection, or none ever does (C9)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.say(InvalidFrame(ErrorCode.TOO_LARGE, "text is over 16384 bytes", id=None, ref="r1"))
    assert alice.all(wire.Error) == [wire.Error(code="too_large", message="text is over 16384 bytes", ref="r1")]
    alice.say(*[BAD] * 19)
    assert alice.open
    alice.say(BAD, BAD, wire.Ping(), alice.message("never read", "bob"))
    assert alice.code == CloseCode.FLOODING
    assert len(alice.errors) == 21
    world.settle()
    assert bob.entries == []


def test_twenty_bad_frames_a_minute_are_put_up_with() -> None:
    """If this fails, a clumsy client is thrown out; the rate limit being off changes nothing."""
    world = World(FREE)
    alice = world.join("alice")
    for _ in range(5):
        alice.say(*[BAD] * 20)
        world.wait(61.0, alive=(alice,))
    assert alice.open


def test_a_bad_send_is_answered_with_its_id() -> None:
    """If this fails, a client cannot tell which message was refused (S3)."""
    world = World()
    alice = world.join("alice")
    alice.awaiting["x"] += 1
    alice.say(InvalidFrame(ErrorCode.TOO_LARGE, "too long", id="x"))
    assert alice.awaiting.total() == 0


# Refusals.


def test_the_rate_limit_belongs_to_the_user() -> None:
    """If this fails, a second device or a reconnect is a way round the limit, or another user pays for it (C9)."""
    world = World(Settings(send_rate=1.0, send_burst=3))
    phone, laptop = world.join("alice"), world.join("alice", "laptop")
    for number in range(3):
        (phone, laptop)[number % 2].send("hi", "bob")
    laptop.send("too much", "bob")
    assert laptop.errors == [ErrorCode.RATE_LIMITED]
    assert laptop.all(wire.Error)[0].retry_after == 1.0
    phone.leave()
    laptop.leave()
    phone = world.join("alice")
    phone.send("still too much", "bob")
    assert phone.errors == [ErrorCode.RATE_LIMITED]
    eve = world.join("eve")
    eve.send("hi", "bob")
    world.settle()
    assert len(eve.stored) == 1
    world.wait(1.0)
    phone.send("now", "bob")
    world.settle()
    assert len(phone.stored) == 1


def test_without_a_rate_limit_anybody_sends_as_much_as_is_committed() -> None:
    """If this fails, a benchmark measures the limit."""
    world = World(FREE)
    alice = world.join("alice")
    for _ in range(500):
        alice.send("hi", "bob")
    world.settle()
    assert len(alice.stored) == 500


def test_the_pause_asked_for_is_enough() -> None:
    """If this fails, a client that waits as told is refused again."""
    world = World(Settings(send_rate=0.3, send_burst=1))
    alice = world.join("alice")
    alice.send("one", "bob")
    for _ in range(5):
        alice.send("two", "bob")
        wait = alice.all(wire.Error)[-1].retry_after
        assert 3.3 < wait < 3.4
        world.wait(wait)
        alice.send("two", "bob")
        assert len(alice.errors) == 1
        world.settle()
        alice.forget()


def test_after_a_refusal_all_that_follows_is_refused_likewise() -> None:
    """If this fails, a pipelining client's messages change places: the later are stored, the refused ones resent (S4)."""
    world = World(Settings(send_rate=2.0, send_burst=2))
    alice = world.join("alice")
    alice.say(*[alice.message(f"{number}", "bob") for number in range(4)])
    world.now += 0.6  # there is a token again, but not for this connection
    alice.send("4", "bob")
    other = world.join("alice", "laptop")
    other.send("from elsewhere", "bob")
    world.settle()
    assert alice.errors == [ErrorCode.RATE_LIMITED] * 3
    assert [item.id for item in alice.stored] == ["m1", "m2"]
    assert len(other.stored) == 1
    world.now += 0.5
    alice.send("2", "bob", "m3")
    world.settle()
    assert [item.id for item in alice.stored] == ["m1", "m2", "m3"]


def refuse_one(draft: Draft) -> ErrorCode | None:
    """The store has no room for what is for bob."""
    return ErrorCode.MAILBOX_FULL if draft.recipient == "bob" else None


@pytest.mark.parametrize("code", RETRYABLE)
def test_a_refusal_of_the_store_holds_for_what_waits_behind_it(code: ErrorCode) -> None:
    """If this fails, messages change places when the store refuses one while others wait (S4)."""
    world = World(FREE)
    alice, eve = world.join("alice"), world.join("eve")
    alice.send("one", "bob")
    alice.send("two", "carol")
    eve.send("three", "carol")
    world.commit(lambda draft: code if draft.recipient == "bob" else None)
    assert alice.errors == [code, code]
    alice.send("four", "carol")
    assert alice.errors == [code] * 3
    assert {error.retry_after for error in alice.all(wire.Error)} == {1.0}
    world.settle()
    assert len(eve.stored) == 1
    assert alice.stored == []
    world.now += 1.0
    alice.say(*[alice.message(text, "carol", id) for text, id in (("one", "m1"), ("two", "m2"), ("four", "m4"))])
    world.settle()
    assert [item.id for item in alice.stored] == ["m1", "m2", "m4"]


@pytest.mark.parametrize("code", FINAL)
def test_a_final_refusal_concerns_one_message(code: ErrorCode) -> None:
    """If this fails, one bad message stops a connection (failures 24)."""
    world = World(FREE)
    alice, carol = world.join("alice"), world.join("carol")
    alice.say(alice.message("bad", "bob"), alice.message("good", "carol"), alice.message("better", "carol"))
    world.commit(lambda draft: code if draft.recipient == "bob" else None)
    assert alice.errors == [code]
    assert alice.all(wire.Error)[0].retry_after is None
    assert carol.seqs == [1, 2]
    assert [item.seq for item in alice.stored] == [1, 2]


def test_a_later_refusal_prolongs_the_pause() -> None:
    """If this fails, a send is let through before the pause that its predecessor was told is over (S4)."""
    world = World(Settings(send_rate=1.0, send_burst=2))
    alice = world.join("alice")
    alice.send("one", "bob")
    alice.send("two", "bob")
    alice.send("three", "bob")
    assert alice.errors == [ErrorCode.RATE_LIMITED]
    world.now += 0.9
    world.commit(refuse_one)
    assert alice.errors[1:] == [ErrorCode.MAILBOX_FULL] * 2
    world.now += 0.5
    alice.send("four", "bob")
    assert alice.errors[-1] == ErrorCode.MAILBOX_FULL
    world.now += 0.5
    alice.send("one", "eve", "m1")
    world.settle()
    assert [item.id for item in alice.stored] == ["m1"]


def test_the_refusals_of_one_who_left_are_not_told() -> None:
    """If this fails, a refused message of a connection that is gone crashes the registry (I7)."""
    world = World(FREE)
    alice = world.join("alice")
    alice.send("one", "bob")
    alice.send("two", "bob")
    alice.leave()
    world.commit(refuse_one)
    world.settle()
    assert world.core.idle is False, "its mark waits"
    world.wait(1.0)
    assert world.core.idle


# One connection is slowed only by itself.


def test_too_much_uncommitted_pauses_the_connection() -> None:
    """If this fails, a fast sender fills the server's memory while the disk is slow (C8)."""
    world = World(Settings(send_rate=None, uncommitted=4))
    alice = world.join("alice")
    for _ in range(3):
        alice.send("hi", "bob")
    assert alice.state == "reading"
    alice.send("hi", "bob")
    assert alice.state == "paused"
    alice.send("read before the pause", "bob")
    world.commit()
    assert alice.state == "paused"
    world.commit()
    assert alice.state == "reading"
    assert len(alice.stored) == 5


def test_large_messages_pause_the_connection_earlier() -> None:
    """If this fails, the limit counts frames and not what they weigh."""
    world = World(Settings(send_rate=None, uncommitted_bytes=4000))
    alice = world.join("alice")
    alice.send("x" * 3000, "bob")
    assert alice.state == "reading"
    alice.send("x" * 1000, "bob")
    assert alice.state == "paused"
    world.commit()
    assert alice.state == "reading"
    world.settle()
    assert len(alice.stored) == 2


def test_the_smallest_limit_still_lets_one_through() -> None:
    """If this fails, a connection with a limit of one is never read again."""
    world = World(Settings(send_rate=None, uncommitted=1, uncommitted_bytes=1))
    alice = world.join("alice")
    for number in range(3):
        alice.send("hi", "bob")
        assert alice.state == "paused"
        world.settle()
        assert alice.state == "reading"
        assert len(alice.stored) == number + 1


# Silence.


def test_silence_is_asked_about_and_then_ends() -> None:
    """If this fails, a peer that vanished keeps its place, or one that is there is thrown out (failures 12)."""
    world = World()
    silent, alive = world.join("alice"), world.join("bob")
    world.wait(24.0, alive=(alive,))
    assert silent.pings == 0
    world.wait(2.0, alive=(alive,))
    assert (silent.pings, alive.pings) == (1, 0)
    world.wait(8.0, alive=(alive,))
    assert silent.open
    world.wait(2.0, alive=(alive,))
    assert silent.code == CloseCode.SILENT
    assert silent.pings == 1
    assert alive.open


def test_who_is_not_read_cannot_answer() -> None:
    """If this fails, a disk that stalls costs everybody who sent much their connection: nobody read their pongs."""
    core = Core(Settings(send_rate=None, uncommitted=2))
    core.handle(Connected(1, "alice", "phone"), 0.0)
    core.next_batch(0.0)
    core.handle(Committed(Results(openings=(Opened("log", 0, 0, 0, new=True),))), 0.0)
    sends = tuple(wire.Send(id=id, to="bob", text="hi") for id in ("a", "b"))
    assert core.handle(Received(1, sends), 0.0) == [effects.Pause(1)]
    core.next_batch(0.0)
    assert [effect for second in range(60) for effect in core.handle(Tick(), float(second))] == []
    core.handle(Committed(Results(drafts=(Stored(1, 1, 1), Stored(2, 2, 1)))), 60.0)
    done = [(second, type(effect)) for second in range(60, 120) for effect in core.handle(Tick(), float(second))]
    assert done == [(84, effects.Ping), (94, effects.Close)]


def test_an_answer_to_a_ping_counts() -> None:
    """If this fails, a quiet client behind a proxy is thrown out every half minute."""
    world = World()
    alice = world.join("alice")
    for pings in range(1, 5):
        world.wait(28.0)
        assert alice.pings == pings
        world.handle(Tick(frozenset({alice.id, 999})))
    assert alice.open


def test_a_connection_that_is_opening_is_not_pinged() -> None:
    """If this fails, a slow store looks like a silent client."""
    world = World()
    alice = world.connect("alice")
    for _ in range(60):
        world.now += 1.0
        world.handle(Tick())
    assert alice.pings == 0
    assert alice.code is None
    world.commit()
    world.now += 1.0
    world.handle(Tick())
    assert alice.open
    assert alice.pings == 0


def test_an_empty_server_needs_no_waking() -> None:
    """If this fails, a server without clients wakes every second."""
    world = World()
    assert world.core.deadline() is None
    alice = world.join("alice")
    assert world.core.deadline() == world.now + 1.0
    alice.leave()
    world.wait(1.0)
    assert world.core.deadline() is None
    world.handle(Tick())


# Going.


def test_leaving_records_where_the_device_was() -> None:
    """If this fails, the last acks are lost, or the device looks unused and is removed first (C2)."""
    world = World()
    alice = world.join("alice")
    alice.send("note", "alice")
    world.settle()
    alice.ack()
    alice.leave()
    world.wait(0.3)
    assert world.store.cursors["alice", "phone"] == 1
    assert world.core._users == {}
    assert world.core.connections == 0


def test_a_disconnect_is_told_once_whoever_closed() -> None:
    """If this fails, the end of a connection that the core closed itself crashes the registry."""
    world = World()
    alice = world.join("alice")
    world.handle(Revoked("alice"))
    alice.leave()
    world.handle(Disconnected(999))
    assert world.core.connections == 0


def test_revoked() -> None:
    """If this fails, somebody who may no longer be connected still is; or others are thrown out."""
    world = World()
    phone, laptop, sender = world.join("alice"), world.join("alice", "laptop"), world.join("alice", send_only=True)
    opening, bob = world.connect("alice", "watch"), world.join("bob")
    world.handle(Revoked("alice", "laptop"))
    assert [client.code for client in (phone, laptop)] == [None, CloseCode.UNAUTHORIZED]
    world.handle(Revoked("alice"))
    world.handle(Revoked("nobody"))
    assert {client.code for client in (phone, laptop, sender, opening)} == {CloseCode.UNAUTHORIZED}
    assert bob.open


def test_a_drain_answers_what_was_read_and_then_closes() -> None:
    """If this fails, a restart loses answers, or never ends (D1)."""
    world = World(FREE)
    alice, bob, quiet = world.join("alice"), world.join("bob"), world.join("eve")
    alice.send("in flight", "bob")
    alice.send("waiting", "bob")
    opening = world.connect("carol")
    world.drain()
    assert quiet.code == bob.code == opening.code == CloseCode.GOING_AWAY
    assert alice.state == "paused"
    world.commit()
    assert alice.state == "paused", "it is not read any more"
    world.commit()
    assert alice.code == CloseCode.GOING_AWAY
    assert [item.seq for item in alice.stored] == [1, 2]
    assert world.batch is not None, "the marks of those who left"
    world.settle()
    assert world.core.idle
    late = world.connect("dave")
    assert late.code == CloseCode.GOING_AWAY
    late.leave()
    assert world.core.idle


def test_refusals_are_answers_too_at_a_drain() -> None:
    """If this fails, a drain hangs because the store refuses."""
    world = World(FREE)
    alice = world.join("alice")
    alice.send("in flight", "bob")
    alice.send("waiting", "bob")
    world.drain()
    world.refuse_batch(ErrorCode.STORE_FULL)
    world.tell()
    assert alice.errors == [ErrorCode.STORE_FULL] * 2
    assert alice.code == CloseCode.GOING_AWAY


def test_acks_are_committed_before_a_drain_ends() -> None:
    """If this fails, each restart makes every device receive its last messages again (A3)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("hi", "bob")
    world.settle()
    bob.ack()
    world.drain()
    assert world.batch is not None, "at once, without waiting for company"
    world.settle()
    assert world.core.idle
    assert world.store.cursors["bob", "phone"] == 1


def test_a_drain_of_some() -> None:
    """If this fails, ending one listener ends the others, or keeps later clients out."""
    world = World(FREE)
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("hi", "bob")
    world.drain(alice, code=CloseCode.INTERNAL)
    assert alice.state == "paused"
    world.settle()
    assert alice.code == CloseCode.INTERNAL
    assert bob.texts == ["hi"]
    assert bob.open
    assert world.join("alice").open


def test_a_drain_of_a_connection_that_is_paused_already() -> None:
    """If this fails, the driver is told twice to stop reading."""
    world = World(Settings(send_rate=None, uncommitted=1))
    alice = world.join("alice")
    alice.send("hi", "bob")
    world.drain()
    world.settle()
    assert alice.code == CloseCode.GOING_AWAY


def test_clients_are_told_to_come_back_at_different_moments() -> None:
    """If this fails, all clients come back at the same moment after a restart (failures 14)."""
    world = World()
    clients = [world.join(f"user {number}") for number in range(100)]
    world.drain()
    hints = [client.closed.reason for client in clients if client.closed]
    waits = [float(hint.removeprefix("retry_after=")) for hint in hints]
    assert min(waits) >= 0.1
    assert max(waits) <= 5.1
    for second in range(5):
        assert 10 <= sum(second <= wait < second + 1 for wait in waits) <= 30


# The whole.


def test_effects_come_in_order_and_only_once() -> None:
    """If this fails, the driver carries something out twice."""
    core = Core(Settings())
    world = World()
    world.core = core
    alice = world.join("alice")
    said = core.handle(Received(alice.id, (wire.Ping(),)), world.now)
    assert said == [effects.Send(alice.id, wire.Pong())]
    assert core.handle(Tick(), world.now) == []


def test_a_replay_gives_the_same_effects() -> None:
    """If this fails, a failure that was recorded cannot be looked at again."""
    world = World(Settings(window=3))
    alice, bob = world.join("alice"), world.join("bob")
    for number in range(12):
        alice.send(f"{number}", "bob")
        world.settle()
        if number % 3 == 0:
            bob.ack()
    alice.leave()
    world.wait(40.0, alive=(bob,))
    world.drain()
    world.settle()
    assert len(world.tape) > 80
    replay(world, Core(Settings(window=3)))
    with pytest.raises(AssertionError):
        replay(world, Core(Settings(window=4)))


def test_the_core_knows_every_frame_and_every_event() -> None:
    """If this fails, a frame that `features` promises ends the server."""
    core = Core(FREE)
    assert set(core._on_frame) == {*get_args(wire.ClientFrame), InvalidFrame}
    assert set(core._on_event) == set(get_args(Event))
