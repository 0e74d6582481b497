"""A signed cookie: for pages that are served from the same host as the chat."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Final

from ..committer import unix_ms
from ..errors import ConfigurationError, Refused
from ..model import USER_LENGTH, Identity, is_name
from ..transport.http import Request

__all__ = ["SignedCookie", "signed_cookie"]

_KEY_BYTES: Final = 32
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 6265 §4.1.1: a token
_VALUE: Final = re.compile(r"([A-Za-z0-9_-]{2,700})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")


def signed_cookie(
    keys: str | bytes | Sequence[str | bytes],
    *,
    name: str = "trio_chat",
    max_age: int = 24 * 3600,
    clock: Callable[[], int] = unix_ms,
) -> SignedCookie:
    """Believe a cookie that the application has signed when its user logged in.

    ::

        cookie = authenticators.signed_cookie(key)
        response.headers["Set-Cookie"] = cookie.header("alice")    # after the log-in
        await serve_tcp(chat, 6662, authenticate=cookie)

    The device is what the query names, ``default`` if nothing. The connection ends with 4401 when the cookie expires.

    A browser sends a cookie whoever's page asks, so a WebSocket is opened only for a request with an ``Origin``, which the
    front door has checked: one without is no browser's, and has to show a token instead.

    Args:
        keys: a secret of at least 32 bytes, e.g. ``secrets.token_bytes(32)``; or several, to change it: new cookies are
            signed with the first, and those signed with any are believed.
        name: the cookie's. What is signed for one name is not believed under another.
        max_age: seconds for which a cookie is good.
        clock: gives Unix milliseconds; for tests.

    Raises:
        ConfigurationError: there is no key, one is too short, the name is not one, or the time is not positive.
    """
    listed = [keys] if isinstance(keys, str | bytes) else list(keys)
    secrets = [key.encode() if isinstance(key, str) else bytes(key) for key in listed]
    if not secrets or min(map(len, secrets)) < _KEY_BYTES:
        raise ConfigurationError(f"a signed cookie needs a key of at least {_KEY_BYTES} bytes: secrets.token_bytes(32)")
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"{name!r} is not the name of a cookie (RFC 6265)")
    if max_age <= 0:
        raise ConfigurationError("max_age is a time in seconds, more than 0")
    return SignedCookie(secrets, name, max_age, clock)


class SignedCookie:
    """An authenticator, and what makes the cookies that it believes. Made by `signed_cookie`."""

    def __init__(self, keys: Sequence[bytes], name: str, max_age: int, clock: Callable[[], int]) -> None:
        self._keys = tuple(keys)
        self._clock = clock
        self.name = name
        self.max_age = max_age

    def mint(self, user: str) -> str:
        """The value of a cookie that is good for `user` from now on.

        Raises:
            ValueError: `user` cannot name a user.
        """
        if not is_name(user):
            raise ValueError(f"a user is 1 to {USER_LENGTH} characters without control characters")
        payload = f"{_text(user.encode())}.{self._clock() // 1000 + self.max_age}"
        return f"{payload}.{self._signature(self._keys[0], payload)}"

    def header(self, user: str, *, secure: bool = True, path: str = "/") -> str:
        """What the application answers a log-in with, as the value of ``Set-Cookie``.

        Args:
            user: who has logged in.
            secure: False lets it travel over plain HTTP: on this machine, while trying things out.
            path: under which the browser sends it; the WebSocket's ``/ws`` must be within.

        Raises:
            ValueError: `user` cannot name a user.
        """
        flags = f"Path={path}; Max-Age={self.max_age}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
        return f"{self.name}={self.mint(user)}; {flags}"

    async def __call__(self, request: Request) -> Identity:
        """Who the cookie is signed for.

        Raises:
            Refused: there is none, or two; it is not ours, or expired; or a WebSocket is asked for by no page.
        """
        if request.upgrade and request.origin is None:
            raise Refused("a cookie without an Origin")
        # A browser names no Origin when a page asks its own host plainly. Nothing is opened then, and it cannot be read
        # by others; browsers that say where a request comes from are heard all the same.
        if request.origin is None and request.header("sec-fetch-site") not in (None, "same-origin"):
            raise Refused("a cookie from another site")
        user, expires = self._opened(self._value(request))
        if expires * 1000 <= self._clock():
            raise Refused("the cookie has expired")
        try:
            return Identity(user, request.parameter("device") or "default", expires)
        except ValueError as error:
            raise Refused(str(error)) from None

    def _value(self, request: Request) -> str:
        pairs = [
            pair.strip().partition("=")
            for header, value in request.headers
            if header == "cookie"
            for pair in value.split(";")
        ]
        values = [value for name, _, value in pairs if name == self.name]
        if len(values) != 1:  # a sub-domain can add one of its own; which of the two is meant is not guessed at
            raise Refused("there is more than one cookie" if values else "there is no cookie")
        return values[0]

    def _opened(self, value: str) -> tuple[str, int]:
        parts = _VALUE.fullmatch(value)
        if parts is None:
            raise Refused("the cookie is not one of ours")
        payload = value.rpartition(".")[0]
        good = [hmac.compare_digest(self._signature(key, payload), parts[3]) for key in self._keys]
        if not any(good):
            raise Refused("the cookie's signature is wrong")
        try:
            return base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)).decode(), int(parts[2])
        except (binascii.Error, UnicodeDecodeError):  # signed with our key, but not by us
            raise Refused("the cookie holds no user") from None

    def _signature(self, key: bytes, payload: str) -> str:
        return _text(hmac.digest(key, f"trio-chat cookie {self.name}={payload}".encode(), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
