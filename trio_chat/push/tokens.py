"""Access tokens of Google's for a service account (RFC 7523): fetched by one task at a time, kept, and renewed early."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import httpx2
import jwt as pyjwt
import trio
from msgspec import Struct

from .answers import otherwise
from .base import Misconfigured, RetryAfter
from .documents import from_json
from .http import Answer, post

__all__ = ["AccessToken", "AccessTokens"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 3600
_EARLY_SECONDS: Final = 300.0
"""Renewed so long before it ends, while the old one still does."""
_USABLE_SECONDS: Final = 30.0
"""With less than this left, a token may end on the way."""


class AccessToken(Struct, frozen=True):
    """What opens the API, until `ends` by Trio's clock. Its ``repr`` does not show it."""

    value: str
    ends: float

    def __repr__(self) -> str:
        return f"<AccessToken for {self.ends - trio.current_time():.0f} s>"


class _Granted(Struct):
    access_token: str
    expires_in: float


class AccessTokens:
    """The access tokens of one service account.

    Args:
        http: the client.
        email: the account's.
        key: its private key, as PyJWT takes it.
        token_uri: where they are given out.
        scope: what for.
        clock: gives Unix seconds.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        email: str,
        key: Any,
        token_uri: str,
        scope: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._email = email
        self._key = key
        self._uri = token_uri
        self._scope = scope
        self._clock = clock
        self._lock = trio.Lock()
        self._turns = 0
        self._latest: AccessToken | RetryAfter | Misconfigured = RetryAfter(None, "there is no token yet")
        self._held: AccessToken | None = None

    async def get(self) -> AccessToken | RetryAfter | Misconfigured:
        """A token to be used now, or why there is none.

        One task fetches. Others go on with the old token while it is good, or wait, and share what came of it, a failure
        too: else a thousand of them would fail one after the other. Cancelled, it leaves the fetching to the next.
        """
        left = self._left()
        if self._held is not None and (left > _EARLY_SECONDS or (left > _USABLE_SECONDS and self._lock.locked())):
            return self._held
        turns = self._turns
        async with self._lock:
            if self._turns == turns:
                self._latest = await self._fetch()
                self._turns += 1
                if isinstance(self._latest, AccessToken):
                    self._held = self._latest
        if self._held is not None and self._left() > _USABLE_SECONDS:
            return self._held
        return self._latest

    def forget(self, token: AccessToken) -> None:
        """The API did not take it, however long it should have lasted."""
        if self._held is token:
            self._held = None

    def _left(self) -> float:
        return 0.0 if self._held is None else self._held.ends - trio.current_time()

    async def _fetch(self) -> AccessToken | RetryAfter | Misconfigured:
        asked = trio.current_time()
        now = int(self._clock())
        claims = {"iss": self._email, "scope": self._scope, "aud": self._uri, "iat": now, "exp": now + _ASSERTION_SECONDS}
        assertion = pyjwt.encode(claims, self._key, algorithm="RS256")
        answer = await post(
            self._http,
            self._uri,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            content=urlencode({"grant_type": _GRANT, "assertion": assertion}).encode(),
        )
        if isinstance(answer, RetryAfter):
            return answer
        return self._token(answer, asked)

    def _token(self, answer: Answer, asked: float) -> AccessToken | RetryAfter | Misconfigured:
        if answer.status == 200:
            try:
                granted = from_json(answer.body, _Granted)
            except ValueError:
                pass
            else:
                if granted.access_token.isascii() and granted.access_token.isprintable() and granted.expires_in > 0:
                    return AccessToken(granted.access_token, asked + granted.expires_in)
        if answer.status in (400, 401, 403):
            return Misconfigured(
                f"Google answered {answer.status} to the service account: its key was deleted, it is disabled, "
                "or the clock of this machine is off"
            )
        return otherwise("Google's token service", answer, self._clock)
