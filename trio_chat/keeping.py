"""What is kept, and for how long: the values of retention, export, erasure and explanation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from .errors import ConfigurationError

__all__ = ["DAY", "WEIGHT", "Advance", "Retained", "Retention"]

DAY = 86_400_000
"""Milliseconds of a day."""

WEIGHT = 300
"""What a message takes of a file beside its text, in bytes, roughly: rows, indexes, words (measured: 283)."""


Advance: TypeAlias = Callable[[int, int], None]
"""Is told how much of some work is done, and of how much; from any thread, as often as one likes."""


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may leave the logs. An entry goes if any of the first three says so; with none of them nothing does.

    `days`: entries older than that. `per_user`: all but so many of each log, the newest ones. `max_bytes`: the oldest
    messages of all, until the rest weighs no more, each as its text and `WEIGHT`. Whatever these say, what no device of a
    user's has taken stays in that user's log for `undelivered_days`.
    """

    days: Annotated[float, Meta(gt=0)] | None = None
    per_user: Annotated[int, Meta(ge=1)] | None = None
    max_bytes: Annotated[int, Meta(ge=1)] | None = None
    undelivered_days: Annotated[float, Meta(ge=0)] = 30.0

    def __bool__(self) -> bool:
        """Whether anything may go at all."""
        return not (self.days is None and self.per_user is None and self.max_bytes is None)

    def since(self, now: int) -> int | None:
        """Entries sent before this go, Unix milliseconds; None if their age says nothing."""
        return None if self.days is None else now - round(self.days * DAY)

    def undelivered_since(self, now: int) -> int:
        """What is not delivered stays if it was sent at this time or later, Unix milliseconds."""
        return now - round(self.undelivered_days * DAY)

    @classmethod
    def of(cls, **values: object) -> Retention:
        """These values, checked.

        Raises:
            ConfigurationError: one is out of its range; one sentence says which.
        """
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"retention: {error}") from None


class Retained(Struct, frozen=True, kw_only=True):
    """What retention did: `entries` left the logs of so many `users`, `messages` are nobody's any more and are removed.

    What a run that was interrupted had left to do is done by the next one, and counts as a message there. `bytes` is by how
    much the file shrank; nothing where there is none, or where it cannot (see ``docs/keep.md``).
    """

    users: int = 0
    entries: int = 0
    messages: int = 0
    bytes: int = 0
