"""What is to be seen of a conversation."""

from __future__ import annotations

from trio_chat.model import Message
from trio_chat.terminal.conversation import Conversation, Line, Note, State

MINUTE = 60_000


def message(seq: int, sender: str = "bob", text: str | None = None, id: str | None = None, **more: object) -> Message:
    recipient = "bob" if sender == "alice" else "alice"
    values: dict[str, object] = {"text": f"text {seq}" if text is None else text, "sent_at": seq * MINUTE} | more
    return Message(seq=seq, id=id or f"{sender}{seq}", sender=sender, recipient=recipient, **values)  # type: ignore[arg-type]


def lines(talk: Conversation) -> list[str | None]:
    return [item.text for item in talk.items]


def state(talk: Conversation, id: str) -> State:
    (line,) = (item for item in talk.items if isinstance(item, Line) and item.id == id)
    return talk.state(line)


def test_an_own_line_goes_through_its_states_and_never_back() -> None:
    """Else somebody believes that a message arrived which did not, or the other way round."""
    talk = Conversation("bob")
    talk.said("a", "hi")
    assert (state(talk, "a"), talk.unsettled) == (State.SENT, 1)
    talk.stored("a", 4, MINUTE)
    assert (state(talk, "a"), talk.unsettled) == (State.STORED, 0)
    talk.receipt(3, 3)
    assert state(talk, "a") is State.STORED
    talk.receipt(4, 0)
    assert state(talk, "a") is State.DELIVERED
    talk.receipt(0, 4)
    assert state(talk, "a") is State.READ
    talk.receipt(2, 1)
    assert state(talk, "a") is State.READ
    talk.said("b", "no")
    talk.refused("b", "not allowed")
    assert (state(talk, "b"), talk.unsettled) == (State.REFUSED, 0)


def test_lines_stand_in_the_order_of_the_log_however_they_come() -> None:
    """Else the two of them see different conversations; or a message that comes twice is seen twice."""
    talk = Conversation("bob")
    talk.said("a", "mine")
    talk.entry(message(5))
    assert lines(talk) == ["text 5", "mine"]
    talk.stored("a", 4, MINUTE)
    talk.entry(message(4, "alice", "mine", id="a"))
    talk.note("the note")
    talk.entry(message(6))
    for seq in (3, 2, 3, 6):
        talk.entry(message(seq))
    assert lines(talk) == ["text 2", "text 3", "mine", "text 5", "the note", "text 6"]
    assert (talk.oldest, talk.heard, talk.mutual) == (2, 6, True)


def test_edits_and_deletions_are_applied_once_and_in_their_order() -> None:
    """Else an old edit that comes again undoes a newer one, or what was deleted comes back."""
    talk = Conversation("bob")
    talk.entry(message(1, id="x"))
    talk.entry(message(3, text="newer", kind="edit", target="x"))
    talk.entry(message(2, text="older", kind="edit", target="x"))
    talk.entry(message(4, text="of another", kind="edit", target="unknown"))
    assert lines(talk) == ["newer"]
    talk.entry(message(1, id="x"))
    assert lines(talk) == ["newer"]
    talk.entry(message(1, text="newest", id="x", edit_seq=7, edited_at=7 * MINUTE))
    assert lines(talk) == ["newest"]
    talk.entry(message(8, text="", kind="delete", target="x"))
    talk.entry(message(9, text="late", kind="edit", target="x"))
    assert lines(talk) == [None]


def test_the_same_id_on_both_sides_is_two_messages() -> None:
    """Else the other one can overwrite what I wrote, by choosing its id."""
    talk = Conversation("bob")
    talk.said("x", "mine")
    talk.entry(message(1, "bob", "yours", id="x"))
    assert lines(talk) == ["yours", "mine"]


def test_a_long_conversation_keeps_its_newest_lines() -> None:
    """Else a terminal that is left open grows for ever."""
    talk = Conversation("bob")
    talk.note("first")
    for seq in range(1, 2101):
        talk.entry(message(seq))
    assert len(talk.items) == 2000
    assert talk.oldest == 101
    assert not any(isinstance(item, Note) for item in talk.items)
