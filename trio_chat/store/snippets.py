"""What a search shows of a text: a part of it around the first match, in pieces."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

__all__ = ["AROUND", "BEFORE", "shorten"]

AROUND: Final = 200
"""How long a snippet is, in characters, at most."""
BEFORE: Final = 60
"""How much of it lies before the first match, at most."""
WORD: Final = 20
"""How far to look for the end of a word, so that none is cut."""

_JOINER: Final = "\u200d"


def shorten(pieces: Sequence[str]) -> tuple[str, ...]:
    """A text in pieces, of which every second one, from the second, matches: the same, cut down to what is worth showing.

    Begins and ends between words where it can, and never inside of what is seen as one character: a letter and its accents,
    or an emoji that several make. If a single one of those is too long it is cut all the same.
    """
    text = "".join(pieces)
    if len(pieces) < 2 or len(text) <= AROUND:
        return tuple(pieces)
    match = len(pieces[0])
    start = _begin(text, max(match - BEFORE, 0), match)
    end = _end(text, match, start + AROUND)
    shown: list[str] = []
    position = 0
    for piece in pieces:
        if position < end:
            shown.append(piece[max(start - position, 0) : end - position])
        position += len(piece)
    return tuple(shown)


def _begin(text: str, start: int, match: int) -> int:
    if not start:
        return start
    for space in range(start - 1, min(start + WORD, match)):
        if text[space].isspace():
            return space + 1
    while start < match and _is_inside(text, start):
        start += 1
    return start


def _end(text: str, match: int, end: int) -> int:
    if end >= len(text):
        return len(text)
    for space in range(end, max(end - WORD, match), -1):
        if text[space].isspace():
            return space
    cut = end
    while cut > match and _is_inside(text, cut):
        cut -= 1
    return cut if cut > match else end


def _is_inside(text: str, position: int) -> bool:
    """Whether a cut at this position parts what is seen as one character (roughly UAX #29)."""
    after = text[position]
    if text[position - 1] == _JOINER or after == _JOINER or unicodedata.category(after).startswith("M"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":  # skin tones, tags
        return True
    flags = 0  # two letters make one
    while flags < position and _is_flag(text[position - flags - 1]):
        flags += 1
    return _is_flag(after) and flags % 2 == 1


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
