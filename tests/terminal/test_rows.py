"""The rows of a screen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from trio_chat.model import Message
from trio_chat.terminal.conversation import Conversation
from trio_chat.terminal.rows import rows

from .test_conversation import message


def shown(talk: Conversation, columns: int = 40) -> list[str]:
    return ["".join(text for _, text in row.pieces) for row in rows(talk, columns)]


def test_a_conversation_is_rows_with_its_days_and_states() -> None:
    """Else nobody sees when something was said, by whom, or what became of it."""
    talk = Conversation("bob")
    talk.me = "alice"
    talk.entry(message(1, text="one\ntwo"))
    talk.entry(message(60 * 24 + 1, "alice", "three"))
    talk.entry(message(60 * 24 + 2, "bob", "edited", edit_seq=5000, edited_at=1))
    talk.entry(message(60 * 24 + 3, "bob", id="gone"))
    talk.entry(message(60 * 24 + 4, "bob", kind="delete", target="gone"))
    talk.note("a note")
    talk.said("x", "four")
    talk.said("y", "five")
    talk.refused("y", "too much")
    read = shown(talk)
    assert [row[6:] if row[2:3] == ":" else row for row in read if not row.startswith("──")] == [
        "bob: one",
        "      │ two",
        "alice: three  stored",
        "bob: edited (edited)",
        "bob: (deleted)",
        "      a note",
        "      alice: four  sent",
        "      alice: five  refused: too much",
    ]
    assert len([row for row in read if row.startswith("──")]) == 2


def test_to_oneself_there_are_no_states() -> None:
    """Else a note to oneself waits for ever to be delivered."""
    talk = Conversation("alice")
    talk.entry(Message(seq=1, id="n", sender="alice", recipient="alice", text="a note", sent_at=1))
    assert shown(talk)[-1].endswith("alice: a note")


@given(st.text(max_size=200), st.integers(20, 60), st.text(min_size=1, max_size=40))
def test_whatever_is_said_each_row_fits_and_shows_whose_it_is(text: str, columns: int, name: str) -> None:
    """Else the terminal breaks a row itself, and what begins the next one looks like another's message."""
    talk = Conversation(name)
    talk.entry(Message(seq=1, id="n", sender=name, recipient="me", text=text or "x", sent_at=1))
    _, first, *further = shown(talk, columns)
    assert first[2] == ":"
    assert all(row.startswith("      │ ") for row in further)
    assert all(get_cwidth(row) <= columns for row in (first, *further))
    assert all(row.replace("\u200c", "").replace("\u200d", "").isprintable() for row in (first, *further))
