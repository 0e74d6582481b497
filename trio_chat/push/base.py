"""What a push provider is: one protocol, and the values that go in and come out."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

__all__ = ["Gone", "Misconfigured", "Notification", "Outcome", "Provider", "RetryAfter", "Scattered", "Sent", "Target"]


class Target(Struct, frozen=True, kw_only=True):
    """Where a user's device can be reached: what the device registered with `push_register`.

    `provider` is the `Provider.name` it is for, `kind` says what `target` is to that provider, e.g. ``token`` or ``fid`` of
    FCM. `target` is a secret of the device's: it is not logged, and the ``repr`` does not show it.
    """

    user: str
    device: str
    provider: str
    kind: str
    target: str

    def __repr__(self) -> str:
        return f"<Target {self.provider} {self.kind} of {self.user!r} {self.device!r}>"


class Notification(Struct, frozen=True, kw_only=True):
    """What a device is to show, or, with `clear`, to show no longer.

    `id` is a UUID, the same for every attempt, so that a provider which knows it sends once. `collapse_key` stands for the
    conversation (at most 32 characters of base64url): a newer notification with it takes the place of the older one.
    `unread` is the number of unread messages from `peer`, `badge` that of all conversations, both computed from the read
    marks when it is sent. `text` is the message's, if the application wants it to travel (``include_text``), else None.
    `ttl` is the number of seconds after which nobody need be told any more.
    """

    id: str
    user: str
    peer: str
    collapse_key: str
    title: str
    body: str
    unread: int
    badge: int
    ttl: int
    clear: bool = False
    text: str | None = None


class Sent(Struct, frozen=True):
    """The provider has taken it. `receipt` is what it calls it, if it said so."""

    receipt: str = ""


class Gone(Struct, frozen=True):
    """The target does not exist any more, or never did: forget it."""

    reason: str


class RetryAfter(Struct, frozen=True):
    """Not now: try again after `seconds`, or, if they are None, when the dispatcher sees fit."""

    seconds: float | None
    reason: str


class Misconfigured(Struct, frozen=True):
    """It will not work until somebody changes something, and that is not the device: alarm, keep the target."""

    reason: str


Outcome: TypeAlias = Sent | Gone | RetryAfter | Misconfigured


class Provider(Protocol):
    """A way to reach devices. One file each, all on one HTTP client that the application opens and closes.

    A `public_key` of its is told to clients, in the answer to ``push``. One whose targets lead to hosts of their own is a
    `Scattered`.
    """

    @property
    def name(self) -> str:
        """What targets call it; unique among the providers of a chat."""
        ...

    def check_target(self, kind: str, target: str) -> None:
        """Look at what a device wants to register.

        Raises:
            ValueError: it cannot be a target of this provider; the message is for the device and shows no secret.
        """
        ...

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Send it once. Failures of the network are `RetryAfter`; nothing but a defect is raised.

        The dispatcher owns the timeout. When cancelled, it may have been sent or not.
        """
        ...

    async def check(self) -> Sent | RetryAfter | Misconfigured:
        """Whether the credentials are good, as far as can be told without bothering anybody."""
        ...


@runtime_checkable
class Scattered(Protocol):
    """A provider whose targets are at many hosts, some of them perhaps nobody's to trust: each is left alone by itself."""

    def host(self, target: Target) -> str:
        """Who is asked for this target: it gets a rest of its own when it answers nobody."""
        ...
