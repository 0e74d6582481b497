"""What is kept, and for how long: the values of retention, export, erasure and explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from .errors import ConfigurationError
from .model import Kind

__all__ = [
    "DAY",
    "WEIGHT",
    "Account",
    "Advance",
    "DeviceDelivery",
    "Erased",
    "Explanation",
    "PushState",
    "Retained",
    "Retention",
    "account",
]

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


class Account(Struct, frozen=True, kw_only=True):
    """What erasing a user meant for one table: how many rows, or texts, went and how many stay, and why."""

    table: str
    removed: int
    kept: int
    why: str


class Erased(Struct, frozen=True, kw_only=True):
    """What erasing a user did. `log` is what the user's log is called from now on; None if the store has no such user."""

    user: str
    log: str | None
    tables: tuple[Account, ...] = ()


_TABLES: Final = {
    "texts": "what the user said, edits included, is gone for everybody, with its words in the search index",
    "log": "the user's log is empty, and is another one from now on: its clients begin anew",
    "messages": "those that stay are in the logs of the others: without a text if the user sent them, else the other side's",
    "devices": "",
    "blocks": "whom the user blocked; who blocks the user stays, for that is the others' choice",
    "conversations": "with whom the user talked, and how far each had read: the other sides see that",
    "push_targets": "",
    "push_jobs": "what waited for the user's devices; what waits for others holds no text, and is about nothing now",
    "push_mutes": "whom the user muted; who mutes the user stays, for that is the others' choice",
    "push_quiet": "",
    "users": "the name, which the logs of others give as that of sender or recipient, and where the numbers go on",
}
"""What there is of a user, and why some of it stays; see ``docs/keep.md``."""


def account(user: str, log: str | None, removed: Mapping[str, int], kept: Mapping[str, int]) -> Erased:
    """The account of what was removed and kept, by table; for stores."""
    if log is None:
        return Erased(user=user, log=None)
    rows = [
        Account(table=table, removed=removed.get(table, 0), kept=kept.get(table, 0), why=why)
        for table, why in _TABLES.items()
    ]
    return Erased(user=user, log=log, tables=tuple(rows))


class DeviceDelivery(Struct, frozen=True, kw_only=True):
    """How one device of either user stands to a message: it has everything up to `cursor` of its user's log.

    `seen` is when it last acknowledged or left, Unix milliseconds. Whether it is connected is not known here.
    """

    user: str
    device: str
    delivered: bool
    cursor: int
    seen: int


class PushState(Struct, frozen=True, kw_only=True):
    """What was done to tell a device of the recipient's that is away of the sender's messages.

    There is one for each target, about all of them together. It waits `since` and is tried at `due`, after so many
    `attempts`; `due` is None if nothing waits. `answer` is what the last attempt came to, `answered` when; 0 if there was
    none. All times are Unix milliseconds.
    """

    device: str
    provider: str
    since: int
    due: int | None
    attempts: int
    answered: int
    answer: str


class Explanation(Struct, frozen=True, kw_only=True):
    """What became of one message, without its text.

    It was accepted at `sent_at`, Unix milliseconds, as `seq` of the sender's log and `peer_seq` of the recipient's; that is
    0 if it is not there: a note to oneself, or to somebody who blocks the sender. `held` and `peer_held` say whether the
    logs have it still. `size` is that of the text when it was stored, in bytes; `deleted` that there is none any more.
    `edits` are the ids of its edits, `target` is the id of what it edits, deletes or answers. `delivered`: a device of the
    recipient's has it; `read`: the recipient has read it. While one of the two blocks the other, the sender is told neither.
    """

    sender: str
    id: str
    recipient: str
    kind: Kind
    target: str | None
    sent_at: int
    size: int
    deleted: bool
    edits: tuple[str, ...]
    seq: int
    held: bool
    peer_seq: int
    peer_held: bool
    delivered: bool
    read: bool
    devices: tuple[DeviceDelivery, ...]
    push: tuple[PushState, ...]
