"""Messages, edits and deletions: one stream for each connection, answered alike, shown alike."""

from __future__ import annotations

import pytest

from trio_chat import wire
from trio_chat.core.batch import Draft, Refused, Stored
from trio_chat.errors import ErrorCode
from trio_chat.settings import Settings

from .world import Client, World

FREE = Settings(send_rate=None)


def edit(client: Client, target: str, text: str, to: str) -> wire.Edit:
    return wire.Edit(id=client.world.new_id(), to=to, target=target, text=text)


def delete(client: Client, target: str, to: str) -> wire.Delete:
    return wire.Delete(id=client.world.new_id(), to=to, target=target)


@pytest.mark.parametrize("memory_path", [True, False])
def test_replies_edits_and_deletions_are_entries_of_their_own(memory_path: bool) -> None:
    """If this fails, a device that is there sees something else than one that comes later (L5, C4)."""
    world = World(memory_path=memory_path)
    alice, bob, laptop = world.join("alice"), world.join("bob"), world.join("alice", "laptop")
    question = alice.send("tea?", "bob")
    world.settle()
    bob.say(wire.Send(id="r", to="alice", text="yes", reply_to=question))
    world.settle()
    alice.say(edit(alice, question, "coffee?", "bob"))
    world.settle()
    alice.say(delete(alice, question, "bob"))
    world.settle()
    shown = [(entry.kind, entry.text, entry.reply_to, entry.target) for entry in bob.entries]
    assert shown == [
        ("message", "tea?", None, None),
        ("edit", "coffee?", None, question),
        ("delete", None, None, question),
    ]
    assert [(entry.kind, entry.reply_to) for entry in laptop.entries][1] == ("message", question)
    assert [item.seq for item in alice.stored] == [1, 3, 4]
    assert [item.seq for item in bob.stored] == [2]


def test_what_is_deleted_in_the_same_commit_does_not_leave_with_its_text() -> None:
    """If this fails, a text goes out that is no longer in the store when it goes (L4, C4)."""
    world = World(FREE)
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("keeps the store busy", "bob")
    secret, kept = alice.message("secret", "bob"), alice.message("kept", "bob")
    alice.say(secret, kept, edit(alice, secret.id, "a secret", "bob"), edit(alice, kept.id, "kept!", "bob"))
    alice.say(delete(alice, secret.id, "bob"))
    world.settle()
    assert bob.texts[1:] == [None, "kept", None, "kept!", None]
    assert [entry.kind for entry in bob.entries[1:]] == ["message", "message", "edit", "edit", "delete"]


def test_somebody_elses_message_of_the_same_id_keeps_its_text() -> None:
    """If this fails, deleting one's own message takes the text from another's, whose client chose the same id."""
    world = World(FREE)
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("keeps the store busy", "bob")
    bob.say(wire.Send(id="same", to="alice", text="mine"))
    alice.say(wire.Send(id="same", to="bob", text="yours"), delete(alice, "same", "bob"))
    world.settle()
    assert [entry.text for entry in alice.entries] == ["mine"]
    assert bob.texts[1:] == [None, None]


def test_a_deletion_sent_again_takes_nothing_from_later_messages() -> None:
    """If this fails, a deletion that is repeated is carried out twice (S2)."""
    world = World(FREE)
    alice, bob = world.join("alice"), world.join("bob")
    alice.say(wire.Send(id="x", to="bob", text="hi"))
    gone = delete(alice, "x", "bob")
    alice.say(gone)
    world.settle()
    bob.forget()
    alice.say(gone, wire.Send(id="y", to="bob", text="later"))
    world.settle()
    assert bob.texts == ["later"]
    assert [item.seq for item in alice.stored] == [1, 2, 2, 3]


def test_an_edit_of_what_is_not_there_is_refused_with_its_id() -> None:
    """If this fails, a client waits for the answer to an edit, or somebody edits another's words."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    theirs = bob.send("hi", "alice")
    world.settle()
    reply = wire.Send(id="r", to="bob", text="what?", reply_to="nothing")
    frames = (edit(alice, theirs, "HI", "bob"), delete(alice, "nothing", "bob"), reply)
    alice.say(*frames)
    world.settle()
    errors = alice.all(wire.Error)
    assert [(error.code, error.id) for error in errors] == [(ErrorCode.BAD_QUERY, frame.id) for frame in frames]
    assert bob.entries == []


def test_edits_and_deletions_wait_behind_a_refusal_like_sends() -> None:
    """If this fails, an edit is stored though the message it was made for was refused before it (S4)."""
    world = World(FREE)
    alice = world.join("alice")
    first = alice.send("keeps the store busy", "bob")
    refused = alice.message("refused", "bob")
    alice.say(refused, edit(alice, first, "edited", "bob"))
    world.commit()
    world.commit(lambda draft: ErrorCode.MAILBOX_FULL if draft.id == refused.id else None)
    alice.say(delete(alice, first, "bob"))
    assert alice.errors == [ErrorCode.MAILBOX_FULL] * 3
    world.now += 1.0
    alice.say(delete(alice, first, "bob"))
    world.settle()
    assert len(alice.stored) == 2


def test_texts_have_a_rate_in_bytes() -> None:
    """If this fails, a user fills the disk with a few large messages a second (C9)."""
    world = World(Settings(byte_rate=100, byte_burst=1000, send_burst=3, send_rate=0.001))
    alice = world.join("alice")
    alice.send("x" * 900, "bob")
    alice.send("é" * 100, "bob")
    assert [(error.code, error.retry_after) for error in alice.all(wire.Error)] == [(ErrorCode.RATE_LIMITED, 1.0)]
    world.settle()
    world.wait(1.0, alive=(alice,))
    alice.send("é" * 100, "bob")
    alice.say(delete(alice, alice.spoken[0], "bob"))  # the refused one cost no token of the other bucket
    world.settle()
    assert len(alice.stored) == 3
    assert alice.errors == [ErrorCode.RATE_LIMITED]


def test_a_text_larger_than_the_burst_passes_when_all_is_quiet() -> None:
    """If this fails, limits that contradict each other make a message impossible to send, for ever."""
    world = World(Settings(byte_rate=100, byte_burst=1000))
    alice = world.join("alice")
    alice.send("x" * 2000, "bob")
    world.settle()
    assert len(alice.stored) == 1


def test_the_application_sends() -> None:
    """If this fails, `Chat.send` does not answer, or its message reaches nobody who is there."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    ticket = world.request(Draft(1, "alice", "bob", "x", "from the house"))
    assert world.batch is not None
    assert world.batch.drafts[0].source < 0, "a refusal of it would hold for a client, too"
    world.settle()
    assert world.fulfilled == {ticket: Stored(1, 1, int(world.now * 1000))}
    assert alice.texts == bob.texts == ["from the house"]
    assert alice.stored == []


def test_the_application_is_told_of_a_refusal_and_nobody_else_is_refused() -> None:
    """If this fails, a call of the application hangs, or its refusal stops a client's messages (S4)."""
    world = World(FREE)
    alice = world.join("alice")
    alice.send("keeps the store busy", "bob")
    tickets = [world.request(Draft(alice.id, "alice", "bob", f"x{number}", "hi")) for number in range(3)]
    alice.send("after it", "bob")
    world.commit()
    world.commit(lambda draft: ErrorCode.MAILBOX_FULL if draft.id in ("x0", "x1") else None)
    refused = Refused(ErrorCode.MAILBOX_FULL)
    assert [world.fulfilled[ticket] for ticket in tickets[:2]] == [refused, refused]
    assert isinstance(world.fulfilled[tickets[2]], Stored)
    assert alice.errors == []
    assert len(alice.stored) == 2


def test_the_application_is_refused_when_too_much_waits_or_the_end_has_come() -> None:
    """If this fails, the application's own requests know no bound, or are never answered at the end."""
    world = World(Settings(send_rate=None, waiting=1))
    alice = world.join("alice")
    alice.send("in flight", "bob")
    alice.send("waiting", "bob")
    assert world.fulfilled == {}
    refused = Refused(ErrorCode.OVERLOADED)
    assert world.fulfilled.get(world.request(Draft(0, "alice", "bob", "x", "hi"))) == refused
    world.settle()
    ticket = world.request(Draft(0, "alice", "bob", "y", "hi"))
    world.drain()
    assert not world.core.idle
    assert world.fulfilled.get(world.request(Draft(0, "alice", "bob", "z", "hi"))) == refused
    world.settle()
    assert isinstance(world.fulfilled[ticket], Stored)
    assert world.core.idle
