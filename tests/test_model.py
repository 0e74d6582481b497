"""The values: which names are names, and that they are values."""

from __future__ import annotations

import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.model import ID_LENGTH, MAX_SEQ, USER_LENGTH, Identity, Message, is_name
from trio_chat.wire import Typing, decode, encode


@pytest.mark.parametrize("name", ["a", "0041", "+49 170 1", "é" * USER_LENGTH, "😀", "a\u200db", "日本", " ", "a\xa0b"])
def test_names(name: str) -> None:
    """Else an application's user cannot use the chat, whatever its IDs look like."""
    assert is_name(name)
    assert Identity(name, name) == Identity(user=name, device=name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * (USER_LENGTH + 1),
        "a\n",
        "\x00",
        "a\x1fb",
        "\x7f",
        "a\x85",
        "\x9f",
        "\ud800",
        "é\udfff",
        None,
        7,
        b"a",
        ["a"],
    ],
)
def test_not_names(name: object) -> None:
    """Else a name breaks a log line, a header or a row of the store."""
    assert not is_name(name)
    with pytest.raises(ValueError, match="1 to 128 characters"):
        Identity(name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a device is 1 to 128"):
        Identity("a", name)  # type: ignore[arg-type]


def test_a_name_may_be_shorter() -> None:
    """Else a message id may be as long as a user's name."""
    assert is_name("x" * ID_LENGTH, ID_LENGTH)
    assert not is_name("x" * (ID_LENGTH + 1), ID_LENGTH)


@given(st.text(max_size=USER_LENGTH + 2) | st.characters(categories=["Cc", "Cs", "Cf", "Zl"]))
def test_names_are_names_on_the_wire(name: str) -> None:
    """Else somebody can connect whom nobody can write to, or the other way round."""
    allowed = 1 <= len(name) <= USER_LENGTH and not {"Cc", "Cs"} & {unicodedata.category(c) for c in name}
    assert is_name(name) is allowed
    if allowed:
        frame = Typing(to=name, typing=True)
        assert decode(encode(frame), text_bytes=1) == frame


def test_the_default_device() -> None:
    """Else clients that name no device get one whose name depends on the caller."""
    assert Identity("alice").device == "default"


def test_values_are_frozen_and_compare() -> None:
    """Else one task's change is another one's surprise."""
    message = Message(seq=1, id="i", sender="a", recipient="b", text="hi", sent_at=7)
    assert message == Message(seq=1, id="i", sender="a", recipient="b", text="hi", sent_at=7)
    assert hash(message) == hash(msgspec.structs.replace(message))
    with pytest.raises(AttributeError):
        message.text = "ho"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Identity("alice").user = "eve"  # type: ignore[misc]


def test_the_largest_number() -> None:
    """Else a client in a language with 64-bit floats reads another number than was sent (RFC 8259 §6)."""
    assert float(MAX_SEQ) == MAX_SEQ
    assert float(MAX_SEQ + 2) != MAX_SEQ + 2
