"""Access tokens: one fetch, however many ask; renewed before they end; a failure is everybody's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from trio_chat.push.base import Misconfigured, RetryAfter
from trio_chat.push.http import PushClient
from trio_chat.push.tokens import AccessToken, AccessTokens

from ..authenticators.tokens import private
from .far import CUT, GARBAGE, NOW, Asked, Reply, claims, clock, far_away, reply

URI = "https://oauth2.googleapis.com/token"


def tokens(http: PushClient) -> AccessTokens:
    return AccessTokens(http, email="push@p.iam.gserviceaccount.com", key=private(), token_uri=URI, scope="s", clock=clock)


def granting(seconds: float = 3600) -> Callable[[Asked], Reply]:
    given = iter(range(100))
    return lambda _: reply({"access_token": f"t{next(given)}", "expires_in": seconds, "token_type": "Bearer"})


async def all_of(tokens: AccessTokens, number: int) -> set[str]:
    got: set[str] = set()

    async def ask() -> None:
        token = await tokens.get()
        got.add(token.value if isinstance(token, AccessToken) else token.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(ask)
    return got


async def test_one_fetches_for_all_and_early(autojump_clock: MockClock) -> None:
    """Else a thousand notifications fetch a thousand tokens, or one that ends on the way is refused."""
    async with far_away(granting()) as (far, http):
        account = tokens(http)
        assert await all_of(account, 50) == {"t0"}
        await trio.sleep(3299)
        assert await all_of(account, 50) == {"t0"}
        assert len(far.asked) == 1
        await trio.sleep(2)
        assert await all_of(account, 50) == {"t0", "t1"}  # the old one is good while it is renewed
        assert await all_of(account, 50) == {"t1"}
        assert len(far.asked) == 2


async def test_the_request(autojump_clock: MockClock) -> None:
    """Else Google gives nothing: RFC 7523 §2.1, as its documentation wants it."""
    async with far_away(granting()) as (far, http):
        await tokens(http).get()
    (asked,) = far.asked
    assert (asked.method, asked.host, asked.target) == ("POST", "oauth2.googleapis.com", "/token")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    grant, _, assertion = asked.body.decode().partition("&assertion=")
    assert grant == "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
    assert claims(assertion) == (
        {"alg": "RS256", "typ": "JWT"},
        {"iss": "push@p.iam.gserviceaccount.com", "scope": "s", "aud": URI, "iat": int(NOW), "exp": int(NOW) + 3600},
    )


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply({"error": "invalid_grant"}, 400), Misconfigured),
        (reply({"error": "invalid_client"}, 401), Misconfigured),
        (Reply(403), Misconfigured),
        (Reply(429), RetryAfter),
        (Reply(500), RetryAfter),
        (Reply(503), RetryAfter),
        (CUT, RetryAfter),
        (GARBAGE, RetryAfter),
        (reply({"access_token": "t\nx", "expires_in": 9}), RetryAfter),
        (reply({"access_token": "t", "expires_in": -9}), RetryAfter),
        (Reply(200, b"<html>log in"), RetryAfter),
    ],
)
async def test_a_failure_is_told_to_all_who_waited_for_it(answer: Reply, kind: type, autojump_clock: MockClock) -> None:
    """Else each of a thousand notifications fails for itself, one after the other; or a portal's page is a token."""
    async with far_away(answer) as (far, http):
        account = tokens(http)
        assert len(await all_of(account, 50)) == 1
        assert len(far.asked) == 1
        assert isinstance(await account.get(), kind)


async def test_a_renewal_that_fails_costs_nothing_while_the_old_one_is_good(autojump_clock: MockClock) -> None:
    """Else a hiccup of the token service stops notifications that it had nothing to do with."""
    grant = granting()
    async with far_away(grant) as (far, http):
        account = tokens(http)
        await account.get()
        far.answer = lambda _: Reply(503)
        await trio.sleep(3400)
        assert await all_of(account, 5) == {"t0"}
        await trio.sleep(180)
        assert isinstance(await account.get(), RetryAfter)  # it would end on the way
        far.answer = grant
        assert await all_of(account, 5) == {"t1"}


async def test_who_is_cancelled_leaves_the_fetching_to_the_next(autojump_clock: MockClock) -> None:
    """Else one notification that takes too long leaves all others without a token."""
    asked = trio.Event()
    grant = granting()

    def hang_once(request: Asked) -> Reply:
        from .far import HANG

        if asked.is_set():
            return grant(request)
        asked.set()
        return HANG

    async with far_away(hang_once) as (_, http):
        account = tokens(http)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(account.get)
            await asked.wait()
            nursery.cancel_scope.cancel()
        assert await all_of(account, 5) == {"t0"}


async def test_its_repr_does_not_show_it() -> None:
    """Else a traceback with locals, or a debug line, opens the project to whoever reads it."""
    assert "s3cret" not in repr(AccessToken("s3cret", 5.0))
