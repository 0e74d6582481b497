"""What the answers of all providers have in common."""

from __future__ import annotations

import pytest

from trio_chat.push.answers import clipped, otherwise, retry_after
from trio_chat.push.base import Misconfigured, RetryAfter
from trio_chat.push.http import Answer

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "99999999999999999999"}, 86400.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}, 60.0),
        ({"retry-after": "Sun, 06 Nov 1994 07:00:00 GMT"}, 1.0),
        ({"retry-after": "Sun, 06 Nov 1994 09:50:37 GMT", "date": "Sun, 06 Nov 1994 09:49:37 GMT"}, 60.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_when_to_try_again(headers: dict[str, str], seconds: float | None) -> None:
    """Else a provider that asks for patience is asked again at once, or, with a clock that differs, never."""
    assert retry_after(Answer(429, headers, b""), NOW) == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, RetryAfter), (301, Misconfigured), (400, Misconfigured), (408, RetryAfter), (413, Misconfigured),
     (425, RetryAfter), (429, RetryAfter), (500, RetryAfter), (502, RetryAfter), (503, RetryAfter), (599, RetryAfter)],
)  # fmt: skip
def test_what_a_status_means_by_itself(status: int, kind: type[RetryAfter | Misconfigured]) -> None:
    """Else what will never work is tried for an hour, or what will is given up."""
    outcome = otherwise("somebody", Answer(status, {"retry-after": "7"}, b""), lambda: NOW)
    assert isinstance(outcome, kind)
    assert str(status) in outcome.reason
    if isinstance(outcome, RetryAfter) and status > 300:
        assert outcome.seconds == 7


def test_what_somebody_says_is_fit_for_a_log() -> None:
    """Else a provider's words forge lines of the log, fill it, or show the key that was sent."""
    assert clipped("bad key k3y\n\x1b[2Jmore" + "x" * 500, "k3y", "")[:18] == "bad key ***  [2Jmo"
    assert len(clipped("x" * 500)) == 200
