"""Drafts that wait for the application's word: their order, their room, and what becomes of them when somebody leaves."""

from __future__ import annotations

from msgspec.structs import replace

from trio_chat import wire
from trio_chat.core import events
from trio_chat.core.batch import Draft, Refused
from trio_chat.core.events import Rejection
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .world import Client, World, replay


def ids(world: World) -> list[str]:
    """The messages of the batch in flight."""
    return [draft.id for draft in world.batch.drafts] if world.batch is not None else []


def refusals(client: Client) -> list[tuple[str | None, str, str]]:
    """The errors it was sent: of which id, with which code, and what they say."""
    return [(frame.id, frame.code, frame.message) for frame in client.frames if isinstance(frame, wire.Error)]


def test_without_the_applications_say_nobody_is_asked() -> None:
    """Every message of a chat without hooks would take a turn through a task for nothing."""
    world = World()
    world.join("alice").send("hi", "bob")
    assert world.judges == []
    assert world.batch is not None


def test_nothing_is_committed_before_it_is_judged() -> None:
    """A message that the application would refuse might be stored."""
    world = World(judged=True)
    alice = world.join("alice")
    id = alice.send("hi", "bob")
    assert not ids(world)
    assert not world.core.idle
    world.judge()
    assert ids(world) == [id]
    world.settle()
    assert alice.named == {1}


def test_an_edit_and_a_deletion_keep_their_place_behind_the_message() -> None:
    """A deletion that overtakes its message is refused, and the message stays."""
    world = World(judged=True)
    alice = world.join("alice")
    id = alice.send("hi", "bob")
    alice.say(wire.Edit(id="e", to="bob", target=id, text="ho"), wire.Delete(id="d", to="bob", target=id))
    assert [judge.draft.kind for judge in world.judges] == ["message", "edit", "delete"]
    for _ in range(3):
        world.judge()
    world.settle()
    assert refusals(alice) == []
    assert alice.named == {1, 2, 3}


def test_a_changed_text_is_what_everybody_gets_the_sender_included() -> None:
    """Who sent it would go on showing a text that nobody else has."""
    world = World(judged=True)
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("darn", "bob")
    world.judge(replace(world.judges[0].draft, text="d**n", sent="darn"))
    world.settle()
    assert [entry.text for entry in bob.entries] == ["d**n"]
    assert [item.text for frame in alice.frames if isinstance(frame, wire.Stored) for item in frame.messages] == ["d**n"]
    assert alice.named == {1}


def test_a_longer_text_takes_its_room() -> None:
    """A hook that lengthens texts would let them pile up beyond all bounds (I6)."""
    world = World(judged=True)
    alice = world.join("alice")
    alice.send("first", "bob")
    alice.send("hi", "bob")
    world.judge()
    before = world.core.workload().waiting_bytes
    world.judge(replace(world.judges[0].draft, text="x" * 1000, sent="hi"))
    assert world.core.workload().waiting_bytes == before + 998
    world.settle()
    assert world.core.workload().waiting_bytes == 0
    assert world.core._connections[alice.id].unanswered_bytes == 0


def test_a_rejection_is_told_with_its_own_words_and_stops_nobody() -> None:
    """The sender would not learn why; or later messages would be refused for one that is hopeless anyway."""
    world = World(judged=True)
    alice = world.join("alice")
    first, second = alice.send("spam", "bob"), alice.send("ham", "bob")
    world.judge(Rejection(ErrorCode.NOT_ALLOWED, "no advertising"))
    world.judge()
    world.settle()
    assert refusals(alice) == [(first, "not_allowed", "no advertising")]
    assert alice.named == {1}
    assert alice.awaiting[second] == 0


def test_after_a_rejection_for_now_what_came_behind_it_is_refused_likewise() -> None:
    """A later message would overtake the one that is to be sent again (S4)."""
    world = World(judged=True)
    alice = world.join("alice")
    sent = [alice.send("1", "bob"), alice.send("2", "bob"), alice.send("3", "bob")]
    other = world.join("bob")
    others = other.send("4", "alice")
    world.judge(Rejection(ErrorCode.RATE_LIMITED))
    assert [(id, code) for id, code, _ in refusals(alice)] == [(id, "rate_limited") for id in sent]
    assert world.unjudged == {judge.serial for judge in world.judges if judge.draft.sender == "alice"}
    # What the application says of those that were refused already comes too late.
    world.judge()
    world.judge()
    world.judge()
    assert ids(world) == [others]
    world.settle()
    assert world.core.workload().waiting == 0


def test_a_refusal_by_the_store_reaches_those_that_are_being_judged() -> None:
    """They were sent behind the one that is refused for now, so they must not be stored before it (S4)."""
    world = World(judged=True)
    alice = world.join("alice")
    first, second, third = (alice.send(text, "bob") for text in "123")
    world.judge()
    world.judge()
    world.commit(lambda draft: ErrorCode.MAILBOX_FULL)
    assert [id for id, _, _ in refusals(alice)] == [first, second, third]
    world.judge()
    assert world.batch is None
    assert world.core.workload().waiting == 0


def test_what_was_sent_before_the_sender_left_is_judged_and_committed() -> None:
    """A message that was read would be lost although the server lives on; and a drain would never end."""
    world = World(judged=True)
    alice = world.join("alice")
    alice.send("hi", "bob")
    alice.leave()
    world.settle()
    world.judge()
    world.settle()
    assert [entry.text for entry in world.store.logs["bob"]] == ["hi"]
    assert world.core.idle


def test_a_drain_waits_for_the_word_and_for_the_answer() -> None:
    """What was read is to be committed and answered before the farewell (D1)."""
    world = World(judged=True)
    alice = world.join("alice")
    alice.send("hi", "bob")
    alice.send("spam", "bob")
    world.drain()
    world.judge()
    world.settle()
    assert alice.named == {1}
    assert alice.closed is None
    world.judge(Rejection(ErrorCode.NOT_ALLOWED))
    assert [alice.closed.code for alice in world.clients.values() if alice.closed] == [CloseCode.GOING_AWAY]


def test_what_is_being_judged_has_no_more_room_than_what_waits() -> None:
    """A slow hook would let drafts pile up without bound (I6)."""
    world = World(Settings(waiting=3, send_rate=None), judged=True)
    alice, bob = world.join("alice"), world.join("bob")
    for text in "123":
        alice.send(text, "bob")
    fourth = bob.send("4", "alice")
    assert [(id, code) for id, code, _ in refusals(bob)] == [(fourth, "overloaded")]
    assert len(world.judges) == 3
    assert world.core.workload().waiting == 3


def test_the_applications_own_messages_are_not_put_to_itself() -> None:
    """A bot that writes from inside of its hook would wait for itself."""
    world = World(judged=True)
    ticket = world.request(world_draft("hi"))
    assert world.judges == []
    world.settle()
    assert not isinstance(world.fulfilled[ticket], Refused)


def test_the_same_events_give_the_same_effects() -> None:
    """A failing run of the simulation could not be replayed."""
    world = World(judged=True)
    alice = world.join("alice")
    alice.send("1", "bob")
    alice.send("2", "bob")
    world.judge()
    world.judge(Rejection(ErrorCode.OVERLOADED))
    world.settle()
    replay(world, Core(world.settings, judged=True))


def test_a_word_about_nothing_is_ignored() -> None:
    """A driver that reports twice would end the server."""
    world = World(judged=True)
    world.handle(events.Judged(7, Rejection(ErrorCode.INTERNAL)))
    assert world.core.idle


def world_draft(text: str) -> Draft:
    return Draft(-1, "bot", "alice", "m", text)
