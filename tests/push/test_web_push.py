"""Web Push: what the push service gets, what the browser reads of it, and where nothing is ever sent."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import http_ece  # type: ignore[import-untyped]
import httpx2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from trio.testing import MockClock

from trio_chat.errors import ConfigurationError
from trio_chat.push.base import Gone, Misconfigured, Notification, RetryAfter, Sent, Target
from trio_chat.push.encryption import b64, public_bytes
from trio_chat.push.vapid import Vapid, make_key_file
from trio_chat.push.web_push import KNOWN_HOSTS, WebPush

from .far import CLEAR, CUT, GARBAGE, HANG, HELLO, Far, Reply, clock, far_away, target

BROWSER = ec.generate_private_key(ec.SECP256R1())
SECRET = os.urandom(16)
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/s3cret"


def subscription(endpoint: object = ENDPOINT, **keys: object) -> str:
    known: dict[str, object] = {"p256dh": b64(public_bytes(BROWSER)), "auth": b64(SECRET)}
    return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": known | keys})


def browser(endpoint: str = ENDPOINT) -> Target:
    return target("subscription", subscription(endpoint))


@asynccontextmanager
async def pushing(
    folder: Path,
    answer: Reply,
    hosts: Collection[str] | None = KNOWN_HOSTS,
    resolve: Callable[[str], list[str]] | None = None,
) -> AsyncIterator[tuple[Far, WebPush]]:
    key = folder / "vapid.pem"
    make_key_file(key)
    async with far_away(answer, resolve) as (far, http):
        vapid = Vapid(key, subject="mailto:ops@example.com", clock=clock)
        yield far, WebPush(http, vapid, hosts=hosts, clock=clock)


def read(body: bytes) -> Any:
    """As the browser reads it: by an implementation that is not ours."""
    return json.loads(http_ece.decrypt(body, private_key=BROWSER, auth_secret=SECRET, version="aes128gcm"))


async def test_the_request_and_what_the_browser_reads(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else a push service refuses it, or the service worker has nothing to show: RFC 8030 §5, RFC 8291 §4."""
    async with pushing(tmp_path, Reply(201, b"", {"Location": "https://x/m/1"})) as (far, web):
        assert await web.send(browser(), HELLO) == Sent()
        await web.send(browser(), msgspec.structs.replace(HELLO, text="Hi"))
        await web.send(browser(), CLEAR)
        public_key = web.public_key
    asked, with_text, clear = far.asked
    assert (asked.method, asked.host, asked.target) == ("POST", "updates.push.services.mozilla.com", "/wpush/v2/s3cret")
    assert asked.headers["authorization"].startswith("vapid t=")
    assert asked.headers["authorization"].endswith(f", k={public_key}")
    assert {name: asked.headers[name] for name in ("ttl", "urgency", "topic", "content-encoding", "content-type")} == {
        "ttl": "3600",
        "urgency": "high",
        "topic": HELLO.collapse_key,
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
    }
    common = {"id": HELLO.id, "user": "bob", "peer": "alice", "tag": HELLO.collapse_key}
    shown = {**common, "unread": 3, "badge": 7, "title": "alice", "body": "3 new messages"}
    assert read(asked.body) == shown
    assert read(with_text.body) == {**shown, "text": "Hi"}
    assert read(clear.body) == {**common, "unread": 0, "badge": 4, "clear": True}
    assert clear.headers["urgency"] == "low"
    assert b"alice" not in asked.body


async def test_the_largest_notification_is_one_record(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else a long message is answered with 413 and nobody hears of it (RFC 8030 §7.2: 4,096 bytes are always taken)."""
    long: Notification = msgspec.structs.replace(HELLO, body="\u00e9" * 5000, text="x" * 5000)
    async with pushing(tmp_path, Reply(201)) as (far, web):
        await web.send(browser(), long)
    assert len(far.asked[0].body) <= 4096
    assert read(far.asked[0].body)["body"].endswith("…")


async def test_safari_is_sent_no_clear(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else, after a few pushes that show nothing, it takes the subscription away."""
    async with pushing(tmp_path, Reply(201)) as (far, web):
        assert await web.send(browser("https://web.push.apple.com/QOsw"), CLEAR) == Sent()
        assert not far.asked
        assert await web.send(browser("https://web.push.apple.com/QOsw"), HELLO) == Sent()
        assert len(far.asked) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        (Reply(200), Sent, None),
        (Reply(202), Sent, None),
        (Reply(301, b"", {"Location": "https://127.0.0.1/"}), Misconfigured, None),
        (Reply(400), Misconfigured, None),
        (Reply(401), Misconfigured, None),
        (Reply(403), Misconfigured, None),
        (Reply(404), Gone, None),
        (Reply(410), Gone, None),
        (Reply(413), Misconfigured, None),
        (Reply(429), RetryAfter, None),
        (Reply(429, b"", {"Retry-After": "7"}), RetryAfter, 7),
        (Reply(429, b"", {"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}), RetryAfter, 30),
        (Reply(500), RetryAfter, None),
        (Reply(503, b"", {"Retry-After": "9"}), RetryAfter, 9),
        (CUT, RetryAfter, None),
        (GARBAGE, RetryAfter, None),
        (HANG, RetryAfter, None),
    ],
)
async def test_what_an_answer_means(
    answer: Reply,
    kind: type[Sent | Gone | Misconfigured | RetryAfter],
    seconds: float | None,
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    """Else a browser that is there is forgotten, one that has gone is written to for ever, or a log shows an endpoint."""
    async with pushing(tmp_path, answer) as (far, web):
        outcome = await web.send(browser(), HELLO)
    assert isinstance(outcome, kind)
    assert "s3cret" not in repr(outcome)
    assert len(far.asked) == 1  # no redirect was followed
    if isinstance(outcome, RetryAfter):
        assert (None if outcome.seconds is None else round(outcome.seconds)) == seconds


async def test_any_host_means_any_public_host(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else a subscription makes this server call its own network, if not at once, then when the name leads elsewhere."""
    leads_to = ["93.184.215.14"]
    async with pushing(tmp_path, Reply(201), hosts=None, resolve=lambda _: leads_to) as (far, web):
        evil = browser("https://evil.example/x")
        assert isinstance(await web.send(evil, HELLO), Sent)
        for private in ("127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1"):
            leads_to[:] = [private]
            web_connections = len(far.dialled)
            assert isinstance(await web.send(browser(f"https://{private.count(':')}.evil.example/"), HELLO), Gone)
            assert len(far.dialled) == web_connections


async def test_a_host_that_nobody_vouches_for_raises_no_alarm(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else anybody can make an operator get up at night, with an endpoint that answers 403."""
    async with pushing(tmp_path, Reply(403), hosts=None) as (_, web):
        assert isinstance(await web.send(browser("https://evil.example/x"), HELLO), Gone)


@pytest.mark.parametrize(
    ("endpoint", "hosts", "good"),
    [
        (ENDPOINT, KNOWN_HOSTS, True),
        ("https://fcm.googleapis.com/fcm/send/abc:def", KNOWN_HOSTS, True),
        ("https://wns2-par02p.notify.windows.com/w/?token=BQ%3d", KNOWN_HOSTS, True),
        ("https://evil.example/x", KNOWN_HOSTS, False),
        ("https://push.services.mozilla.com.evil.example/", KNOWN_HOSTS, False),
        ("https://evilfcm.googleapis.com/", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com:22/", KNOWN_HOSTS, False),
        ("https://push.inside.example:8443/x", ["push.inside.example:8443"], True),
        ("https://push.inside.example/x", ["push.inside.example:8443"], False),
        ("https://anybody.example/x", None, True),
        ("https://anybody.example:22/x", None, False),
        ("http://fcm.googleapis.com/x", KNOWN_HOSTS, False),
        ("https://alice@fcm.googleapis.com/x", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com/x#y", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com/x y", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com\\@evil.example/", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com/\r\nX: y", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com/\u00e9", KNOWN_HOSTS, False),
        ("https://fcm.googleapis.com/" + "x" * 2048, KNOWN_HOSTS, False),
        ("https://[::1", KNOWN_HOSTS, False),
        ("file:///etc/passwd", None, False),
        ("", None, False),
    ],
)
async def test_which_endpoints_are_called(endpoint: str, hosts: Collection[str] | None, good: bool, tmp_path: Path) -> None:
    """Else a device that registers a URL of its choice has us call it. What was registered once is looked at each time."""
    async with pushing(tmp_path, Reply(201), hosts) as (far, web):
        if good:
            web.check_target("subscription", subscription(endpoint))
        else:
            with pytest.raises(ValueError, match="endpoint"):
                web.check_target("subscription", subscription(endpoint))
            assert isinstance(await web.send(browser(endpoint), HELLO), Gone)
            assert not far.dialled


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("token", subscription()),
        ("subscription", "s3cret"),
        ("subscription", '{"endpoint": "https://fcm.googleapis.com/s3cret"}'),
        ("subscription", subscription(endpoint=5)),
        ("subscription", subscription(p256dh="s3cret")),
        ("subscription", subscription(p256dh=b64(b"\x04" + bytes(64)))),
        ("subscription", subscription(auth=b64(b"s3cret"))),
        ("subscription", subscription(auth="!s3cret")),
    ],
)
async def test_what_is_no_subscription(kind: str, text: str, tmp_path: Path) -> None:
    """Else it is noticed when the first notification fails; and the message, which the device is told, shows no secret."""
    async with pushing(tmp_path, Reply(201)) as (_, web):
        with pytest.raises(ValueError, match="subscription") as refusal:
            web.check_target(kind, text)
        assert "s3cret" not in str(refusal.value)


async def test_only_a_client_that_can_look_may_call_any_host(tmp_path: Path) -> None:
    """Else an application that brings a client of its own has no protection, and does not know."""
    async with pushing(tmp_path, Reply(201)) as (_, web), httpx2.AsyncClient() as other:
        with pytest.raises(ConfigurationError, match="open_push_client"):
            WebPush(other, web._vapid, hosts=None)  # type: ignore[arg-type]
        assert isinstance(await web.check(), Sent)
        assert repr(web) == f"<WebPush 'web_push' {web.public_key}>"
        assert web.name == "web_push"
