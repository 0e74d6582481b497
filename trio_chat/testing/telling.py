"""A push provider that reaches nobody: it keeps what it was asked to send, and answers as a test wants."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import trio
from msgspec import Struct

from ..push.base import Notification, Outcome, Sent, Target

__all__ = ["PushAttempt", "RecordingProvider"]

WITHIN: Final = 60.0
"""Seconds, by Trio's clock: more than `Push.delay` and the pause after it."""


class PushAttempt(Struct, frozen=True, kw_only=True):
    """One attempt to tell a device of a conversation, or, with ``notification.clear``, to have it show that no longer.

    `target` is where, `notification` is what, and `answer` is what the provider said to that.
    """

    target: Target
    notification: Notification
    answer: Outcome

    def fits(self, fields: dict[str, Any]) -> bool:
        """Whether it has these fields of `Notification`, and of `Target`.

        Raises:
            AttributeError: neither has a field of such a name.
        """
        return all(getattr(self._home(name), name) == wanted for name, wanted in fields.items())

    def _home(self, name: str) -> Notification | Target:
        return self.target if name in Target.__struct_fields__ else self.notification

    def __str__(self) -> str:
        whose, what = f"{self.target.user}'s {self.target.device}", self.notification
        told = f"{whose} to clear {what.peer}'s" if what.clear else f"{whose} of {what.unread} unread from {what.peer}"
        return f"{told}: {what.title!r}, {what.body!r}; answered {self.answer}"


class RecordingProvider:
    """A push provider for tests: takes every target, sends nothing, and remembers what it was to send.

    `ChatKit.push` is one. On its own it is a provider like any other, for `Push.providers`.
    """

    def __init__(self, name: str = "recording") -> None:
        self.name = name
        """What targets call it."""
        self._sent: list[PushAttempt] = []
        self._unexpected: list[PushAttempt] = []
        self._answers: deque[Outcome] = deque()
        self._news = trio.Event()

    @property
    def sent(self) -> tuple[PushAttempt, ...]:
        """Every attempt so far, the oldest first, whatever the answer was."""
        return tuple(self._sent)

    def answer(self, *answers: Outcome) -> None:
        """How the next attempts are to be answered, one after the other: `Gone`, `RetryAfter`, `Misconfigured`, `Sent`.

        After those it is `Sent` again.
        """
        self._answers.extend(answers)

    async def expect(self, *, within: float = WITHIN, **fields: Any) -> PushAttempt:
        """An attempt with these fields of `Notification` or `Target`: ``user="bob", device="phone", unread=2``, say.

        It is the oldest that fits and was not expected before: there is no order among devices. Cancelling loses none.

        Args:
            within: seconds by Trio's clock; on a virtual one, none really go by.
            fields: what it is to be.

        Raises:
            AssertionError: there was none; the failure shows those that there were.
            AttributeError: an attempt has no such field.
        """
        __tracebackhide__ = True
        try:
            with trio.fail_after(within):  # noqa: ASYNC912  (what has come needs no waiting)
                while (found := self._next(fields)) is None:
                    await self._news.wait()
        except trio.TooSlowError:
            wanted = ", ".join(f"{name}={value!r}" for name, value in fields.items()) or "anything"
            shown = "".join(f"\n    {attempt}" for attempt in self._sent) or " nothing"
            raise AssertionError(
                f"expected to be told to push {wanted}, but was not within {within:g} s. It was told:{shown}"
            ) from None
        return found

    def _next(self, fields: dict[str, Any]) -> PushAttempt | None:
        for index, attempt in enumerate(self._unexpected):
            if attempt.fits(fields):
                return self._unexpected.pop(index)
        return None

    def check_target(self, kind: str, target: str) -> None:
        """Every target will do."""

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Note it, and answer what `answer` was given for it, or `Sent`."""
        await trio.lowlevel.checkpoint()
        answer = self._answers.popleft() if self._answers else Sent()
        attempt = PushAttempt(target=target, notification=notification, answer=answer)
        self._sent.append(attempt)
        self._unexpected.append(attempt)
        self._news.set()
        self._news = trio.Event()
        return answer

    async def check(self) -> Sent:
        """There are no credentials that could be wrong."""
        await trio.lowlevel.checkpoint()
        return Sent()
