"""What an application decides about push."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from ..errors import ConfigurationError
from ..model import Message
from .base import Provider, Target

__all__ = ["Push"]

ShouldPush: TypeAlias = Callable[[Message, Target], Awaitable[bool]]
Render: TypeAlias = Callable[[Message, int], Awaitable[tuple[str, str]]]


class Push(Struct, frozen=True, kw_only=True):
    """How people are told of messages when they are away: for `open_chat`.

    `providers` have names of their own. `delay` is how many seconds a device has to acknowledge a message before it is
    told. `include_text` lets the text travel through the provider. `concurrency` is how many attempts a provider takes at a
    time, `timeout` how many seconds one may take, and after `expiry` seconds nobody need be told any more.

    `should_push` is asked about the newest unread message and the target, and may say no. `render` is given that message and
    the number of unread ones from its sender, and returns title and body. Each has `hook_timeout` seconds. If the first
    fails nobody is told; if the second does, the title is the sender and the body says how many messages there are.
    """

    providers: Sequence[Provider]
    delay: float = 5.0
    include_text: bool = False
    should_push: ShouldPush | None = None
    render: Render | None = None
    concurrency: int = 16
    timeout: float = 10.0
    expiry: float = 3600.0
    hook_timeout: float = 5.0

    def offers(self) -> Iterator[tuple[str, str | None]]:
        """The providers' names, each with the key that a browser subscribes with if it has such a `public_key`."""
        for provider in self.providers:
            yield provider.name, getattr(provider, "public_key", None)

    def check_target(self, provider: str, kind: str, target: str) -> None:
        """Look at what a device wants to register.

        Raises:
            ValueError: there is no such provider, or it cannot be a target of its; the message shows no secret.
        """
        for one in self.providers:
            if one.name == provider:
                one.check_target(kind, target)
                return
        raise ValueError("there is no such push provider")

    def check(self) -> None:
        """Look at the values.

        Raises:
            ConfigurationError: one is out of its range, or two providers share a name.
        """
        names = [provider.name for provider in self.providers]
        if len(set(names)) < len(names):
            raise ConfigurationError("two push providers have the same name")
        if not 0 <= self.delay <= 3600 or not 1 <= self.concurrency <= 1000:
            raise ConfigurationError("push: delay is 0 to 3600 seconds, concurrency 1 to 1000")
        if not (0 < self.timeout <= 300 and 0 < self.expiry <= 30 * 86_400 and 0 < self.hook_timeout <= 300):
            raise ConfigurationError("push: timeouts are above 0 and at most 300 seconds, expiry at most 30 days")
