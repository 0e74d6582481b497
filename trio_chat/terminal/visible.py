"""Text of others on the reader's terminal, which it must not steer."""

from __future__ import annotations

import unicodedata
from typing import Final

from .. import wire
from ..model import Message

__all__ = ["as_json", "visible"]

_JOINERS: Final = "\u200c\u200d"  # in words of some languages, and in emoji; they steer nothing


def visible(text: str) -> str:
    """`text` with control characters shown and not obeyed, in one line. Whatever space there is, is a plain one."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else _shown(c) for c in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()


def as_json(message: Message) -> str:
    """The message as the server sends it, in one line of printable characters."""
    line = wire.encode_entry(message).decode()
    return "".join(c if c.isprintable() else _escape(c) for c in line)


def _escape(character: str) -> str:
    """As JSON writes any character (RFC 8259 §7), in halves if need be. It leaves C1 controls and the like as they are."""
    halves = character.encode("utf-16-be").hex()
    return "".join(f"\\u{halves[n : n + 4]}" for n in range(0, len(halves), 4))
