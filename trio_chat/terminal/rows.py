"""A conversation as the rows of a screen. No message can look as if it were several, or somebody else's.

The rows are broken here and not by the terminal, so that each further row of a message begins with a mark: else a message
with enough spaces in it could have a row of its own that looks like another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

from msgspec import Struct
from prompt_toolkit.utils import get_cwidth

from .conversation import Conversation, Line, Note, State
from .visible import visible

__all__ = ["Place", "Row", "rows"]

Place: TypeAlias = tuple[Line | Note, int]
Pieces: TypeAlias = list[tuple[str, str]]

_MARGIN: Final = "      "
_FURTHER: Final = ("class:aside", "      │ ")
_NARROWEST: Final = 20
_NAME: Final = 24
"""Cells for a name in front of each message: a longer one is cut."""
_WORDS: Final = re.compile(r"\n|[^\S\n]+|\S+")
_STYLES: Final = {State.READ: "class:read", State.REFUSED: "class:refused"}


class Row(Struct, frozen=True, eq=False):
    """One row: of which item, the how manieth, and what is in it."""

    place: Place
    pieces: Pieces


def rows(conversation: Conversation, columns: int) -> Iterator[Row]:
    """All rows of the conversation on a screen of so many columns."""
    width = max(columns, _NARROWEST)
    day: date | None = None
    for item in conversation.items:
        if isinstance(item, Note):
            pieces = [("class:aside", _MARGIN + visible(item.text))]
        else:
            when = None if item.at is None else datetime.fromtimestamp(item.at / 1000, UTC).astimezone()
            if when is not None and when.date() != day:
                day = when.date()
                yield Row((item, -1), [("class:aside", f"── {day} ──")])
            pieces = [("class:aside", f"{when:%H:%M} " if when else _MARGIN), *_said(conversation, item)]
        for number, row in enumerate(_broken(pieces, width)):
            yield Row((item, number), row)


def _said(conversation: Conversation, line: Line) -> Iterator[tuple[str, str]]:
    yield "" if line.mine else "class:peer", _cut(visible(line.sender or conversation.me or ""))
    yield "", ": "
    if line.text is None:
        yield "class:aside", "(deleted)"
    else:
        yield "", "\n".join(map(visible, line.text.split("\n")))
        if line.edited:
            yield "class:aside", " (edited)"
    if line.mine and line.sender != conversation.peer:  # to oneself there are no receipts
        state = conversation.state(line)
        why = "" if line.refusal is None else f": {visible(line.refusal)}"
        yield _STYLES.get(state, "class:aside"), f"  {state.value}{why}"


def _cut(name: str) -> str:
    while get_cwidth(name) > _NAME:
        name = name[:-2] + "…"
    return name


def _broken(pieces: Iterable[tuple[str, str]], width: int) -> list[Pieces]:
    """The pieces in rows of at most `width` cells, broken between words if possible."""
    broken: list[Pieces] = [[]]
    room = width
    further = width - get_cwidth(_FURTHER[1])
    for style, text in pieces:
        for word in _WORDS.findall(text):
            size = get_cwidth(word)
            if word == "\n" or (room < size <= further):
                broken.append([_FURTHER])
                room = further
                if word.isspace():
                    continue
            while size > room:  # longer than a row
                head = _fitting(word, room)
                broken[-1].append((style, head))
                broken.append([_FURTHER])
                room = further
                word = word[len(head) :]  # noqa: PLW2901
                size = get_cwidth(word)
            broken[-1].append((style, word))
            room -= size
    return broken


def _fitting(word: str, room: int) -> str:
    """As much of the beginning as fits."""
    cells = 0
    for at, character in enumerate(word):
        cells += get_cwidth(character)
        if cells > room:
            return word[:at]
    return word
