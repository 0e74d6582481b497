"""Checking a JSON Web Token (RFC 7519), after RFC 8725. PyJWT checks the signature; the claims are checked here.

The times are compared with a clock that is given, and no version of PyJWT has to be trusted with what a claim may be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Any, Final

import jwt as pyjwt

from ..errors import Refused
from ..model import Identity
from ..transport.http import Request
from .bearer import bearer_token
from .keys import Keys

__all__ = ["TokenChecker"]

_MALFORMED: Final = (pyjwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
_SIGNATURE_ONLY: Final = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}


class TokenChecker:
    """The authenticator that `trio_chat.authenticators.jwt` makes; see there."""

    def __init__(
        self,
        keys: Keys,
        *,
        audience: Collection[str],
        issuer: str | None,
        user_claim: str,
        device_claim: str | None,
        require_exp: bool,
        leeway: float,
        query: str | None,
        clock: Callable[[], int],
    ) -> None:
        self._keys = keys
        self._audience = frozenset(audience)
        self._issuer = issuer
        self._user_claim = user_claim
        self._device_claim = device_claim
        self._require_exp = require_exp
        self._leeway = leeway
        self._query = query
        self._clock = clock

    async def __call__(self, request: Request) -> Identity:
        """Who the token of the request is issued for.

        Raises:
            Refused: it is not valid, or not for us, or there is none, or more than one.
        """
        claims = self._signed(bearer_token(request, query=self._query))
        expires_at = self._times(claims)
        self._parties(claims)
        device = request.parameter("device") or "default"
        if self._device_claim is not None and self._device_claim in claims:
            device = claims[self._device_claim]
        try:
            return Identity(claims.get(self._user_claim), device, expires_at)  # type: ignore[arg-type]  # it looks
        except ValueError as error:
            raise Refused(f"the token names no usable user and device: {error}") from None

    def _signed(self, token: str) -> dict[str, Any]:
        """The claims, if the signature is good. What is wrong with it is told by name only: no text may quote the token."""
        try:
            header = pyjwt.get_unverified_header(token)
            # RFC 7515 §4.1.11: what is critical and not understood is refused, and nothing is understood here.
            if header.keys() & {"crit", "b64", "enc"}:
                raise Refused("the token uses an extension")
            key = self._keys.key(header)
            if header.get("alg") not in key.algorithms:
                raise Refused("the token is signed with an algorithm that is not the key's")
            claims = pyjwt.decode(token, key.material, algorithms=list(key.algorithms), options=_SIGNATURE_ONLY)  # type: ignore[arg-type]  # a TypedDict in newer versions
        except _MALFORMED as error:
            raise Refused(f"the token is not valid: {type(error).__name__}") from None
        return dict(claims)

    def _times(self, claims: Mapping[str, Any]) -> float | None:
        now = self._clock() / 1000
        not_before = _moment(claims, "nbf")
        if not_before is not None and not_before - self._leeway > now:
            raise Refused("the token is not valid yet")
        expires = _moment(claims, "exp")
        if expires is None:
            if self._require_exp:
                raise Refused("the token never expires")
            return None
        # The connection ends when this very token would no longer be accepted.
        expires += self._leeway
        if expires <= now:
            raise Refused("the token has expired")
        return expires

    def _parties(self, claims: Mapping[str, Any]) -> None:
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Refused("the token is from another issuer")
        audience = claims.get("aud", [])
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise Refused("the token's audience is not one")
        # RFC 7519 §4.1.3: one that is meant for somebody is not for who does not go by that name.
        if (named or self._audience) and not self._audience & set(named):
            raise Refused("the token is for another audience")


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            moment = float(value)
        except OverflowError:  # an integer of hundreds of digits
            moment = float("inf")
        if isfinite(moment):
            return moment
    raise Refused(f"the token's {name} is not a time")
