"""What push asks of the store, and what it learns: changes that ride in a batch, and jobs that wait.

Everything that is written goes into `Batch.push`: so it shares transactions with messages, and there is one writer.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

from ..model import Message

__all__ = [
    "USER_TARGETS",
    "Job",
    "Mute",
    "Note",
    "Preferences",
    "Prune",
    "PushChange",
    "Quiet",
    "Register",
    "Registered",
    "TargetGone",
    "Unregister",
    "Waiting",
]


USER_TARGETS: Final = 100
"""The most targets of one user: for a further one, that which was registered longest ago is forgotten."""


class Register(Struct, frozen=True):
    """A device can be reached there. Somebody else's target becomes this user's, and what waited for it is dropped."""

    user: str
    device: str
    provider: str
    kind: str
    target: str


class Unregister(Struct, frozen=True):
    """Forget the user's targets: those of a device, those of a provider, one; or all, where nothing is given."""

    user: str
    device: str | None = None
    provider: str | None = None
    target: str | None = None


class Mute(Struct, frozen=True):
    """The user is not to be told of `peer`'s messages, or is again. Refused for more peers than ``settings.blocks``."""

    user: str
    peer: str
    muted: bool


class Quiet(Struct, frozen=True):
    """The user is not to be told of anything, or is again."""

    user: str
    quiet: bool


Outcome: TypeAlias = Literal["sent", "cleared", "dropped", "later", "put off"]


class Note(Struct, frozen=True):
    """What came of a job: nothing waits any more, or what came after `seq` does until `due`.

    ``sent``: the device shows what came up to `seq`. ``cleared``: it shows nothing. ``dropped``: there was nothing to say.
    ``later``: it is tried again at `due`. ``put off``: it was not tried, and is at `due`. Without effect if `id` is not that
    of the job any more.
    """

    target: int
    peer: str
    id: str
    seq: int
    outcome: Outcome
    due: int
    answer: str


class TargetGone(Struct, frozen=True):
    """The provider does not know the target any more: forget it, unless it was registered since."""

    target: int
    registered: int


class Prune(Struct, frozen=True):
    """Forget some of the targets that were not registered since, Unix milliseconds: the oldest, so many at most."""

    before: int
    limit: int


PushChange: TypeAlias = Register | Unregister | Mute | Quiet | Note | TargetGone | Prune


class Job(Struct, frozen=True, kw_only=True):
    """A job that is due, and all that decides what is to be done about it, at one moment.

    `key` names the target in the store and `registered` when it was registered; `cursor` is how far its device has
    acknowledged. `newest` is the newest message that is unread and neither deleted nor kept away. `unread` counts those
    from the peer and `badge` those from everybody, to 1,000 each.
    """

    key: int
    registered: int
    user: str
    device: str
    provider: str
    kind: str
    target: str
    peer: str
    id: str
    seq: int
    notified: int
    since: int
    attempts: int
    cursor: int
    silent: bool
    unread: int
    badge: int
    newest: Message | None


class Registered(Struct, frozen=True, kw_only=True):
    """A target of a user's, without the secret itself. `registered` is Unix milliseconds."""

    device: str
    provider: str
    kind: str
    registered: int


class Waiting(Struct, frozen=True, kw_only=True):
    """A row of the outbox: for an operator.

    It waits `since`, and is tried at `due`, after so many `attempts`; `due` is None if nothing waits. `answer` is what the
    last attempt came to, `answered` when; 0 if there was none. All times are Unix milliseconds.
    """

    id: str
    user: str
    device: str
    provider: str
    peer: str
    since: int
    due: int | None
    attempts: int
    answered: int
    answer: str


class Preferences(Struct, frozen=True, kw_only=True):
    """What a user wants to be told: not of the `muted` ones, by name, and of nobody if `quiet`."""

    muted: tuple[str, ...] = ()
    quiet: bool = False
