"""The words of a text, as the index of words has them."""

from __future__ import annotations

import unicodedata
from itertools import groupby

__all__ = ["words"]


def words(text: str) -> list[tuple[str, int, int]]:
    """The words of a text, without case and without the accents of Latin letters, and where each begins and ends.

    What is between them is no letter, digit or mark. So FTS5's unicode61 sees them, but that it takes most marks for
    separators, too; then a word is to it several that follow one another. Nothing that has a meaning in FTS5's language is
    in them, and no half of a surrogate pair.
    """
    found = []
    for is_part, group in groupby(enumerate(text), lambda pair: _is_part(pair[1])):
        characters = [*group]
        if is_part and (word := _plain("".join(character for _, character in characters))):
            found.append((word, characters[0][0], characters[-1][0] + 1))
    return found


def _is_part(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LNM" or category == "Co"


def _plain(word: str) -> str:
    return "".join(_base(character) for character in word.lower() if not "\u0300" <= character <= "\u036f")


def _base(letter: str) -> str:
    """A letter without its accents, if it is a Latin one."""
    base = unicodedata.normalize("NFD", letter)[0]
    return base if base.isascii() else letter
