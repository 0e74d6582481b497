"""What the core has done since it began: counted where it is done, for whoever asks."""

from __future__ import annotations

from collections import Counter

from ..errors import ErrorCode

__all__ = ["Tally"]


class Tally:
    """`stored` counts messages, edits and deletions that are durable, `refused` the ``error`` frames by their code.

    That costs an addition for each message, and one for what is refused.
    """

    __slots__ = ("refused", "stored")

    def __init__(self) -> None:
        self.stored: int = 0
        self.refused: Counter[ErrorCode] = Counter()
