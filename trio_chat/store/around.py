"""The page around a message: put together from what is before and after it."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Message
from ..retrieval import HistoryPage
from .pages import OVERHEAD

__all__ = ["around"]


def around(seq: int, older: Sequence[Message], middle: Sequence[Message], newer: HistoryPage, size: int) -> HistoryPage:
    """The page around `seq`. `older`, the newest first, and `newer` were read with a limit of `size` bytes each.

    Such a page holds one message at least, even if that is too large. Here that holds for the middle alone, or, if there is
    none at `seq`, for one of the sides: else three large messages would be the least that can be asked for.
    """
    if middle and not _fits(newer.messages, size):
        newer = HistoryPage(messages=(), more=True, next=seq)
    if (middle or newer.messages) and not _fits(older, size):
        older = ()
    return HistoryPage(messages=(*reversed(older), *middle, *newer.messages), more=newer.more, next=newer.next)


def _fits(messages: Sequence[Message], size: int) -> bool:
    """Whether they are within the limit; if they are not, it is a single one."""
    return sum(OVERHEAD + len((message.text or "").encode()) for message in messages) <= size
