"""OneSignal: what is sent, and what its answers mean, 200 among them."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from trio_chat.errors import ConfigurationError
from trio_chat.push.base import Gone, Misconfigured, Outcome, RetryAfter, Sent
from trio_chat.push.http import open_push_client
from trio_chat.push.onesignal import OneSignal

from .far import CLEAR, CUT, GARBAGE, HANG, HELLO, Reply, clock, far_away, reply, target

APP = "5eb5a37e-b458-11e3-ac11-000c2940e62c"
KEY = "os_v2_app_s3cret"
SUBSCRIPTION = "1dd608f2-c6a1-11e3-851d-000c2940e62c"
ALIAS = target("external_id", "5f0c-a-name-nobody-guesses")
TAKEN = reply({"id": "b98881cc-1e94-4366-bbd9-db8f3429292b", "external_id": None, "errors": None})


async def sent(answer: Reply) -> Outcome:
    async with far_away(answer) as (_, http):
        return await OneSignal(http, APP, KEY, clock=clock).send(ALIAS, HELLO)


async def test_the_request(autojump_clock: MockClock) -> None:
    """Else OneSignal refuses it, sends it twice, or sends it to whom a device says, instead of to the user of the target."""
    async with far_away(TAKEN) as (far, http):
        onesignal = OneSignal(http, APP, KEY)
        assert await onesignal.send(ALIAS, HELLO) == Sent("b98881cc-1e94-4366-bbd9-db8f3429292b")
        await onesignal.send(target("subscription", SUBSCRIPTION), HELLO)
    first, second = far.asked
    assert (first.method, first.host, first.target) == ("POST", "api.onesignal.com", "/notifications")
    assert first.headers["authorization"] == f"Key {KEY}"
    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert first.json == {
        "app_id": APP,
        "target_channel": "push",
        "include_aliases": {"external_id": ["bob"]},
        "idempotency_key": HELLO.id,
        "collapse_id": HELLO.collapse_key,
        "ttl": 3600,
        "ios_badgeType": "SetTo",
        "ios_badgeCount": 7,
        "headings": {"en": "alice"},
        "contents": {"en": "3 new messages"},
        "data": {
            "type": "message",
            "user": "bob",
            "peer": "alice",
            "conversation": HELLO.collapse_key,
            "unread": 3,
            "badge": 7,
        },
    }
    assert second.json["include_subscription_ids"] == [SUBSCRIPTION]
    assert "include_aliases" not in second.json  # one targeting mode per request


async def test_a_clear_shows_nothing(autojump_clock: MockClock) -> None:
    """Else whoever reads on one device is alerted on the other."""
    async with far_away(TAKEN) as (far, http):
        await OneSignal(http, APP, KEY).send(ALIAS, CLEAR)
    document = far.asked[0].json
    assert not document.keys() & {"contents", "headings"}
    assert document["content_available"] is True
    assert (document["data"]["type"], document["ios_badgeCount"]) == ("clear", 4)


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        (reply({"id": "", "errors": ["All included players are not subscribed"]}), Gone, None),
        (reply({"id": "", "errors": {"invalid_aliases": {"external_id": ["bob"]}}}), Gone, None),
        (reply({"errors": {"invalid_aliases": {"external_id": ["bob"]}}}), Gone, None),
        (reply({"id": "", "errors": {"invalid_player_ids": [SUBSCRIPTION]}}), Gone, None),
        (reply({"id": "", "errors": ["Something else"]}), Misconfigured, None),
        (reply({"id": "", "errors": []}), RetryAfter, None),
        (reply({"errors": ["app_id not found"]}, 400), Misconfigured, None),
        (reply({"errors": [f"no access with {KEY}"]}, 403), Misconfigured, None),
        (Reply(401), Misconfigured, None),
        (Reply(404), Misconfigured, None),
        (Reply(413), Misconfigured, None),
        (reply({"errors": ["API rate limit exceeded"]}, 429, Retry_After="7"), RetryAfter, 7),
        (reply({"errors": ["API rate limit exceeded"]}, 429, Retry_After="Fri, 15 Jan 2027 08:00:30 GMT"), RetryAfter, 30),
        (Reply(429), RetryAfter, None),
        (Reply(500), RetryAfter, None),
        (Reply(503, b"", {"Retry-After": "9"}), RetryAfter, 9),
        (Reply(200, b"<html>log in"), RetryAfter, None),
        (CUT, RetryAfter, None),
        (GARBAGE, RetryAfter, None),
        (HANG, RetryAfter, None),
    ],
)
async def test_what_an_answer_means(
    answer: Reply, kind: type[Gone | Misconfigured | RetryAfter], seconds: float | None, autojump_clock: MockClock
) -> None:
    """Else 200 is taken for a success when nothing was sent, or the key stands in a log."""
    outcome = await sent(answer)
    assert isinstance(outcome, kind)
    assert KEY not in outcome.reason
    if isinstance(outcome, RetryAfter):
        assert (None if outcome.seconds is None else round(outcome.seconds)) == seconds


async def test_some_of_a_users_devices_are_enough(autojump_clock: MockClock) -> None:
    """Else a user with one device that has gone is forgotten with all others."""
    partial = reply({"id": "b98881cc-1e94-4366-bbd9-db8f3429292b", "errors": {"invalid_player_ids": [SUBSCRIPTION]}})
    assert isinstance(await sent(partial), Sent)


async def test_the_check_bothers_nobody(autojump_clock: MockClock) -> None:
    """Else whoever looks whether it works sends something to somebody, or a good key is reported as bad."""
    nobody = reply({"id": "", "errors": {"invalid_aliases": {"external_id": ["x"]}}})
    async with far_away(nobody) as (far, http):
        onesignal = OneSignal(http, APP, KEY)
        assert isinstance(await onesignal.check(), Sent)
        far.answer = lambda _: Reply(403)
        assert isinstance(await onesignal.check(), Misconfigured)
    (external,) = far.asked[0].json["include_aliases"]["external_id"]
    assert external.startswith("trio-chat-check-")


async def test_targets_repr_and_credentials() -> None:
    """Else anything is registered, a wrong key is noticed late, and a traceback shows it."""
    async with open_push_client() as http:
        onesignal = OneSignal(http, APP, KEY)
        assert repr(onesignal) == f"<OneSignal 'onesignal' for {APP}>"
        onesignal.check_target("subscription", SUBSCRIPTION)
        onesignal.check_target("external_id", "x")
        for kind, text in (("token", "x"), ("subscription", "x"), ("external_id", ""), ("external_id", "x" * 129)):
            with pytest.raises(ValueError, match=r"subscription|registration"):
                onesignal.check_target(kind, text)
        for app, key in (("app", KEY), (APP, ""), (APP, "a b"), (APP, "a\nb")):
            with pytest.raises(ConfigurationError):
                OneSignal(http, app, key)
