"""Text of others on the reader's terminal."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.model import Message
from trio_chat.terminal.visible import as_json, visible


@given(st.text())
def test_nothing_in_it_is_obeyed_by_a_terminal(text: str) -> None:
    """Else a message clears the screen, changes what was printed before, or reads backwards."""
    shown = visible(text)
    assert shown.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert visible(shown) == shown


def test_people_can_still_read_it() -> None:
    """Else what is harmless is shown as if it were an attack: no-break spaces, emoji, other scripts."""
    assert visible("Ça va\u00a0? 👩\u200d💻 漢字 می\u200cخواهم") == "Ça va ? 👩\u200d💻 漢字 می\u200cخواهم"
    assert visible("a\tb\x1b[2J\u202e") == "a\\tb\\x1b[2J\\u202e"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_is_one_printable_line_and_the_same_message(text: str) -> None:
    """Else a program that reads lines gets half of a message, or another text than was sent."""
    line = as_json(Message(seq=1, id="a", sender="bob", recipient="alice", text=text, sent_at=1))
    assert line.isprintable()
    assert msgspec.json.decode(line)["text"] == text
