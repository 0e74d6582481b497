"""What the answers of all providers have in common."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from .base import Misconfigured, RetryAfter
from .http import Answer

__all__ = ["clipped", "otherwise", "retry_after"]

_LONGEST: Final = 24 * 3600.0
_LATER: Final = frozenset({408, 425, 429})
_SHOWN: Final = 200


def retry_after(answer: Answer, now: float) -> float | None:
    """The seconds that ``Retry-After`` asks for (RFC 9110 §10.2.3): 1 to a day; None if it asks for nothing.

    A date counts from the answer's own ``Date``, if there is one: the clocks need not agree. `now` is in Unix seconds.
    """
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text[:9])
    else:
        until = _moment(text)
        if until is None:
            return None
        begin = _moment(answer.headers.get("date", ""))
        seconds = until - (now if begin is None else begin)
    return min(max(seconds, 1.0), _LONGEST)


def otherwise(who: str, answer: Answer, clock: Callable[[], float]) -> RetryAfter | Misconfigured:
    """What a status means that the provider gives no meaning of its own: later, or never without a change."""
    if answer.status in _LATER or answer.status >= 500:
        return RetryAfter(retry_after(answer, clock()), f"{who} answered {answer.status}")
    if 300 <= answer.status < 400:
        return Misconfigured(f"{who} answered {answer.status}: redirects are not followed")
    if answer.status < 300:
        return RetryAfter(None, f"{who} answered {answer.status} with something that is no answer of its own")
    return Misconfigured(f"{who} answered {answer.status}")


def clipped(text: str, *secrets: str) -> str:
    """What somebody else says, short enough and plain enough for a log, and without what must not be in one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return "".join(c if c.isprintable() else " " for c in text[:_SHOWN])


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):  # it raises each of them, by version and by text
        return None
