"""The webhook: what is sent, how it is verified, and what answers mean."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from trio.testing import MockClock

from trio_chat.errors import ConfigurationError
from trio_chat.push.base import Gone, Misconfigured, RetryAfter, Sent
from trio_chat.push.http import open_push_client
from trio_chat.push.webhook import Webhook

from .far import CLEAR, CUT, GARBAGE, HANG, HELLO, NOW, Reply, clock, far_away, target

URL = "https://app.example/hooks/s3cret-path"
NEW, OLD = b"n" * 32, "o" * 40


def verified(secret: bytes, headers: dict[str, str], body: bytes, now: float) -> bool:
    """The snippet of docs/push-providers.md."""
    timestamp = headers["trio-chat-timestamp"]
    expected = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    signatures = [part.strip().removeprefix("v1=") for part in headers["trio-chat-signature"].split(",")]
    fresh = abs(now - int(timestamp)) < 300
    return fresh and any(hmac.compare_digest(expected, signature) for signature in signatures)


async def test_the_request_and_its_signature(autojump_clock: MockClock) -> None:
    """Else the application cannot tell our request from anybody's, or an old one from a new one."""
    async with far_away(Reply(204)) as (far, http):
        hook = Webhook(http, URL, secrets=[NEW, OLD], clock=clock)
        assert await hook.send(target("phone", "t0k"), HELLO) == Sent()
        assert await hook.send(target("phone", "t0k"), CLEAR) == Sent()
    asked, clear = far.asked
    assert (asked.method, asked.host, asked.target) == ("POST", "app.example", "/hooks/s3cret-path")
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == {
        "type": "notification",
        "target": {"kind": "phone", "target": "t0k", "device": "phone"},
        "id": HELLO.id,
        "user": "bob",
        "peer": "alice",
        "collapse_key": HELLO.collapse_key,
        "title": "alice",
        "body": "3 new messages",
        "unread": 3,
        "badge": 7,
        "ttl": 3600,
    }
    assert (clear.json["type"], clear.json["unread"], clear.json["badge"]) == ("clear", 0, 4)
    for secret in (NEW, OLD.encode()):
        assert verified(secret, asked.headers, asked.body, NOW)
        assert not verified(secret, asked.headers, asked.body + b" ", NOW)
        assert not verified(secret, asked.headers, asked.body, NOW + 301)
    assert not verified(b"x" * 32, asked.headers, asked.body, NOW)


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        (Reply(200, b"whatever"), Sent, None),
        (Reply(307, b"", {"Location": "/"}), Misconfigured, None),
        (Reply(400), Misconfigured, None),
        (Reply(401), Misconfigured, None),
        (Reply(403), Misconfigured, None),
        (Reply(404), Misconfigured, None),
        (Reply(410), Gone, None),
        (Reply(413), Misconfigured, None),
        (Reply(429), RetryAfter, None),
        (Reply(429, b"", {"Retry-After": "7"}), RetryAfter, 7),
        (Reply(429, b"", {"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}), RetryAfter, 30),
        (Reply(500), RetryAfter, None),
        (Reply(503), RetryAfter, None),
        (CUT, RetryAfter, None),
        (GARBAGE, RetryAfter, None),
        (HANG, RetryAfter, None),
    ],
)
async def test_what_an_answer_means(
    answer: Reply, kind: type[Sent | Gone | Misconfigured | RetryAfter], seconds: float | None, autojump_clock: MockClock
) -> None:
    """Else a deploy of the application's loses notifications, or a wrong URL is called for an hour each."""
    async with far_away(answer) as (_, http):
        outcome = await Webhook(http, URL, secrets=[NEW], clock=clock).send(target("phone", "t0k"), HELLO)
    assert isinstance(outcome, kind)
    assert "s3cret" not in repr(outcome)
    if isinstance(outcome, RetryAfter):
        assert (None if outcome.seconds is None else round(outcome.seconds)) == seconds


async def test_the_check(autojump_clock: MockClock) -> None:
    """Else whoever looks whether it works is told so by an application that would not take a notification."""
    async with far_away(Reply(204)) as (far, http):
        hook = Webhook(http, URL, secrets=NEW, clock=clock)  # type: ignore[arg-type]  # one is often given for several
        assert await hook.check() == Sent()
        assert far.asked[0].json["type"] == "check"
        assert verified(NEW, far.asked[0].headers, far.asked[0].body, NOW)
        far.answer = lambda _: Reply(410)
        assert isinstance(await hook.check(), Misconfigured)


async def test_targets_repr_and_settings() -> None:
    """Else a secret that can be guessed is taken, or a URL's secret path stands in a traceback."""
    async with open_push_client() as http:
        hook = Webhook(http, URL, secrets=[NEW])
        assert repr(hook) == "<Webhook 'webhook' at app.example>"
        hook.check_target("any", "text")
        for kind, text in (("", "x"), ("x", ""), ("x", "x" * 4097)):
            with pytest.raises(ValueError, match="characters"):
                hook.check_target(kind, text)
        for secrets in ([], [b"short"], [NEW, b""]):
            with pytest.raises(ConfigurationError, match="32 bytes"):
                Webhook(http, URL, secrets=secrets)
        for url in (
            "",
            "ftp://x/",
            "https://",
            "https://a@b/",
            "https://b/#c",
            "https://b/ c",
            "https://b:x/",
            "https://[::1",
            "https://é/",
        ):
            with pytest.raises(ConfigurationError, match="no http or https URL"):
                Webhook(http, url, secrets=[NEW])
