"""A hook of the application, run so that whatever it does harms nobody but the one it was asked about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from .errors import ChatError

__all__ = ["HookFailed", "HookTookTooLong", "run_hook"]

_log = logging.getLogger("trio_chat.hooks")

_Result = TypeVar("_Result")


class HookFailed(ChatError):
    """The hook raised something that is no answer, or returned something that is none. It was logged."""


class HookTookTooLong(HookFailed):
    """The hook was cancelled at its deadline."""


async def run_hook(
    what: str,
    hook: Callable[..., Awaitable[_Result]],
    *arguments: Any,
    seconds: float,
    returns: type[_Result],
    answers: tuple[type[Exception], ...] = (),
    accepts: Callable[[_Result], bool] = lambda _: True,
) -> _Result:
    """What `hook`, called with `arguments`, returns.

    Cancelling cancels the hook. Not caught is only what is to end the process, such as KeyboardInterrupt.

    Args:
        what: the hook's name for the log, e.g. ``the authenticator``.
        hook: an async function of the application. Failures of one that is not async are failures like any other.
        arguments: what it is asked about. They are not logged.
        seconds: after which it is cancelled. A hook that blocks without awaiting cannot be.
        returns: what an answer is an instance of; anything else is a failure.
        answers: exceptions with which it may answer. They are raised as they are, but not out of a group: a hook that runs
            several things at once and has one of them refused has not said whether the others would have agreed.
        accepts: whether what it returned is an answer; else that is a failure.

    Raises:
        HookFailed: it did none of this.
    """
    outcome: object = None
    failure: Exception | None = HookTookTooLong(f"{what} took longer than {seconds:g} s")
    with trio.move_on_after(seconds):  # noqa: ASYNC912  (a hook need not await)
        try:
            try:
                outcome = await hook(*arguments)
                failure = None
            except answers as answer:
                failure = answer
        # asyncio's Cancelled comes out of a hook that bridges to it; Trio's own is neither of these.
        except* (Exception, asyncio.CancelledError, GeneratorExit) as failures:  # noqa: ASYNC103
            _log.error("%s failed", what, exc_info=failures)
            failure = HookFailed(f"{what} failed")
    if isinstance(failure, HookTookTooLong):
        _log.error("%s", failure)
    if failure is not None:
        raise failure
    if not isinstance(outcome, returns):
        _log.error("%s returned a %s, not a %s", what, type(outcome).__name__, returns.__name__)
        raise HookFailed(f"{what} failed")
    if not accepts(outcome):
        _log.error("%s returned what is no answer", what)
        raise HookFailed(f"{what} failed")
    return outcome
