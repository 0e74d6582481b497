"""Firebase: what is sent, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from trio_chat.errors import ConfigurationError
from trio_chat.push.base import Gone, Misconfigured, Outcome, RetryAfter, Sent
from trio_chat.push.fcm import Fcm
from trio_chat.push.http import open_push_client

from ..authenticators.tokens import private_pem
from .far import CLEAR, CUT, GARBAGE, HANG, HELLO, NOW, Asked, Far, Reply, clock, far_away, reply, target

TOKEN = "dGhlLXRva2Vu:APA91b-the_rest"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
TAKEN = reply({"name": "projects/p-1/messages/0:1500415314455276"})


def account(folder: Path, **other: object) -> Path:
    file = folder / "account.json"
    document = {
        "type": "service_account",
        "project_id": "p-1",
        "private_key": private_pem().decode(),
        "client_email": "push@p-1.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    file.write_text(json.dumps({name: value for name, value in (document | other).items() if value is not None}))
    return file


def refused(status: int, word: str, code: str | None, *violations: str, **headers: str) -> Reply:
    details: list[dict[str, Any]] = [{"@type": FCM_ERROR, "errorCode": code}] if code else []
    if violations:
        details.append(
            {"@type": BAD_REQUEST, "fieldViolations": [{"field": name, "description": "x"} for name in violations]}
        )
    error = {"code": status, "message": f"about {TOKEN}", "status": word, "details": details}
    return reply({"error": error}, status, **headers)


@asynccontextmanager
async def firebase(folder: Path, answer: Reply | Callable[[Asked], Reply] = TAKEN) -> AsyncIterator[tuple[Far, Fcm]]:
    given = iter(range(100))

    def answered(asked: Asked) -> Reply:
        if asked.host == "oauth2.googleapis.com":
            return reply({"access_token": f"t{next(given)}", "expires_in": 3600})
        return answer if isinstance(answer, Reply) else answer(asked)

    async with far_away(answered) as (far, http):
        yield far, Fcm(http, account(folder), clock=clock)


def messages(far: Far) -> list[Asked]:
    return [asked for asked in far.asked if asked.host == "fcm.googleapis.com"]


async def sent(folder: Path, answer: Reply) -> Outcome:
    async with firebase(folder, answer) as (_, fcm):
        return await fcm.send(target("token", TOKEN), HELLO)


async def test_the_request(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else Firebase refuses it, or a phone shows it wrongly: the documented contract, byte by byte."""
    async with firebase(tmp_path) as (far, fcm):
        assert await fcm.send(target("token", TOKEN), HELLO) == Sent("projects/p-1/messages/0:1500415314455276")
        await fcm.send(target("fid", "cLcdNWtDQ7G1b2"), HELLO)
    first, second = messages(far)
    assert (first.method, first.target) == ("POST", "/v1/projects/p-1/messages:send")
    assert first.headers["authorization"] == "Bearer t0"
    assert first.headers["content-type"] == "application/json; charset=UTF-8"
    key = HELLO.collapse_key
    assert first.json == {
        "message": {
            "token": TOKEN,
            "notification": {"title": "alice", "body": "3 new messages"},
            "data": {
                "type": "message", "id": HELLO.id, "user": "bob", "peer": "alice", "conversation": key, "unread": "3",
                "badge": "7",
            },
            "android": {
                "collapse_key": key, "priority": "HIGH", "ttl": "3600s",
                "notification": {"tag": key, "notification_count": 7},
            },
            "apns": {
                "headers": {"apns-expiration": str(int(NOW) + 3600), "apns-collapse-id": key, "apns-priority": "10"},
                "payload": {"aps": {"badge": 7, "sound": "default", "thread-id": key}},
            },
            "webpush": {"headers": {"TTL": "3600", "Topic": key, "Urgency": "high"}},
        }
    }  # fmt: skip
    assert second.json["message"]["fid"] == "cLcdNWtDQ7G1b2"
    assert "token" not in second.json["message"]


async def test_a_clear_shows_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else whoever reads on one device is alerted on the other; iOS takes no background push with more than that in aps."""
    async with firebase(tmp_path) as (far, fcm):
        await fcm.send(target("token", TOKEN), CLEAR)
    message = messages(far)[0].json["message"]
    assert "notification" not in message
    assert message["data"]["type"] == "clear"
    assert (message["data"]["unread"], message["data"]["badge"]) == ("0", "4")
    assert message["android"] == {"collapse_key": CLEAR.collapse_key, "priority": "NORMAL", "ttl": "3600s"}
    assert message["apns"]["payload"] == {"aps": {"content-available": 1}}
    assert message["apns"]["headers"]["apns-push-type"] == "background"
    assert message["apns"]["headers"]["apns-priority"] == "5"
    assert message["webpush"]["headers"]["Urgency"] == "low"


async def test_data_is_text_under_keys_that_are_not_reserved_and_all_of_it_fits(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Else Firebase answers 400 for a message of some kind, and only for that kind."""
    long = msgspec.structs.replace(HELLO, title="\u00e9" * 3000, body='"' * 5000, text="\U0001f642" * 4000)
    fits = msgspec.structs.replace(HELLO, text="Hi Bob")
    async with firebase(tmp_path) as (far, fcm):
        for notification in (long, fits):
            await fcm.send(target("token", TOKEN), notification)
    for asked in messages(far):
        assert len(asked.body) <= 4096
        data = asked.json["message"]["data"]
        assert all(isinstance(value, str) for value in data.values())
        assert not [key for key in data if key in ("from", "message_type") or key.startswith(("google", "gcm"))]
    assert "text" not in messages(far)[0].json["message"]["data"]
    assert messages(far)[1].json["message"]["data"]["text"] == "Hi Bob"


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        (refused(404, "NOT_FOUND", "UNREGISTERED"), Gone, None),
        (refused(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.token"), Gone, None),
        (refused(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.fid"), Gone, None),
        (refused(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.ttl"), Misconfigured, None),
        (refused(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Misconfigured, None),
        (refused(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Misconfigured, None),
        (refused(401, "UNAUTHENTICATED", None), Misconfigured, None),
        (refused(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Misconfigured, None),
        (refused(403, "PERMISSION_DENIED", None), Misconfigured, None),
        (Reply(404, b"<html>no such thing"), Misconfigured, None),
        (Reply(413), Misconfigured, None),
        (refused(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), RetryAfter, 60),
        (refused(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", Retry_After="7"), RetryAfter, 7),
        (refused(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", Retry_After="Fri, 15 Jan 2027 08:00:30 GMT"), RetryAfter, 30),
        (refused(500, "INTERNAL", "INTERNAL"), RetryAfter, None),
        (refused(503, "UNAVAILABLE", "UNAVAILABLE"), RetryAfter, None),
        (refused(503, "UNAVAILABLE", "UNAVAILABLE", Retry_After="90"), RetryAfter, 90),
        (Reply(200, b"<html>log in"), RetryAfter, None),
        (Reply(200, b"{}"), RetryAfter, None),
        (CUT, RetryAfter, None),
        (GARBAGE, RetryAfter, None),
        (HANG, RetryAfter, None),
    ],
)  # fmt: skip
async def test_what_an_answer_means(
    answer: Reply,
    kind: type[Gone | Misconfigured | RetryAfter],
    seconds: float | None,
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    """Else a phone that is there is forgotten, one that is gone is written to for ever, or a bug is taken for its end."""
    outcome = await sent(tmp_path, answer)
    assert isinstance(outcome, kind)
    assert TOKEN not in outcome.reason
    if isinstance(outcome, RetryAfter):
        assert (None if outcome.seconds is None else round(outcome.seconds)) == seconds


async def test_a_token_that_was_revoked_is_replaced_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else notifications stop for an hour when somebody rotates the account's key; or a bad account is asked for ever."""

    def answered(asked: Asked) -> Reply:
        return TAKEN if asked.headers["authorization"] == "Bearer t1" else refused(401, "UNAUTHENTICATED", None)

    async with firebase(tmp_path, answered) as (far, fcm):
        assert isinstance(await fcm.send(target("token", TOKEN), HELLO), Sent)
        assert isinstance(await fcm.send(target("token", TOKEN), HELLO), Sent)
        assert len(messages(far)) == 3
    async with firebase(tmp_path, refused(401, "UNAUTHENTICATED", None)) as (far, fcm):
        assert isinstance(await fcm.send(target("token", TOKEN), HELLO), Misconfigured)
        assert len(messages(far)) == 2


async def test_the_check_bothers_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else whoever looks whether it works sends something to somebody."""
    async with firebase(tmp_path) as (far, fcm):
        assert isinstance(await fcm.check(), Sent)
        far_message = messages(far)[0].json
    assert far_message["validate_only"] is True
    assert set(far_message["message"]) == {"topic", "notification"}
    async with firebase(tmp_path, refused(403, "PERMISSION_DENIED", None)) as (_, fcm):
        assert isinstance(await fcm.check(), Misconfigured)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"private_key": "s3cret"}, "the private_key in"),
        ({"private_key": private_pem("P-256").decode()}, "the private_key in"),
        ({"client_email": None}, "no service account"),
        ({"project_id": "../x"}, "the project_id or the token_uri"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "the project_id or the token_uri"),
    ],
)
async def test_credentials_that_are_none(other: dict[str, object], why: str, tmp_path: Path) -> None:
    """Else a wrong file is noticed when the first notification fails; and no message may show what stands in it."""
    async with open_push_client() as http:
        with pytest.raises(ConfigurationError, match=why) as refusal:
            Fcm(http, account(tmp_path, **other))
        assert "s3cret" not in str(refusal.value)
        with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
            Fcm(http, tmp_path / "nothing.json")


async def test_targets_and_repr(tmp_path: Path) -> None:
    """Else anything is registered, and a traceback shows the account's key."""
    async with open_push_client() as http:
        fcm = Fcm(http, account(tmp_path), name="phones")
        assert repr(fcm) == "<Fcm 'phones' for p-1>"
        assert fcm.name == "phones"
        fcm.check_target("token", TOKEN)
        for kind, text in (
            ("topic", "news"),
            ("token", ""),
            ("token", "a b"),
            ("fid", "x" * 2000),
            ("token", "t\n" + "x" * 20),
        ):
            with pytest.raises(ValueError, match=r"phones|Firebase"):
                fcm.check_target(kind, text)
        assert TOKEN not in repr(target("token", TOKEN))
    await trio.lowlevel.checkpoint()
