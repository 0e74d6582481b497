"""JSON Web Tokens, for applications whose log-in issues them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..committer import unix_ms
from ..errors import ConfigurationError
from ..model import Identity
from ..transport.http import Request

__all__ = ["jwt", "mint"]


def jwt(
    key: str | bytes | None = None,
    *,
    jwks: str | os.PathLike[str] | None = None,
    algorithms: Collection[str] | None = None,
    audience: str | Collection[str] = (),
    issuer: str | None = None,
    user_claim: str = "sub",
    device_claim: str | None = "device",
    require_exp: bool = True,
    leeway: float = 0.0,
    query: str | None = None,
    clock: Callable[[], int] = unix_ms,
) -> Callable[[Request], Awaitable[Identity]]:
    """Believe a JSON Web Token (RFC 7519).

    ::

        authenticate = authenticators.jwt(jwks="keys.json", audience="chat", issuer="https://login.example.com")

    The token stands in ``Authorization: Bearer …``, or, from a script in a browser, among the subprotocols:
    ``new WebSocket(url, ["trio-chat.v1", "bearer." + token])``. The connection ends with 4401 when the token expires.
    Whatever is wrong with a token is answered with 401 and nothing more, before the WebSocket opens; the log says what it
    was, and never the token.

    Args:
        key: a secret of at least 32 bytes, or a public key in PEM (RSA of 2,048 bits or more, ECDSA, Ed25519). Not a path.
        jwks: in place of `key`, the path of a JSON Web Key Set with public keys. It is read again when it has changed; the
            keys from before are used while it is broken.
        algorithms: those that are accepted, of those that the kind of the key allows. All of them, if not given; for the
            keys of a set, the one that the set names, or else the usual one of the kind.
        audience: the names this server goes by: the token's ``aud`` must hold one of them. Without any, a token that
            is for an audience is refused.
        issuer: what ``iss`` must be, exactly; anything if not given.
        user_claim: the claim that names the user: a string.
        device_claim: the claim that names the device, if it is there; else it is what the query names, or ``default``.
        require_exp: False accepts tokens that never expire: then nothing but `Chat.revoke` and `revalidate` ends what was
            opened with one.
        leeway: seconds by which the clock of the issuer may be off.
        query: the name of a query parameter that may hold the token, too. It then stands in the access log of each proxy on
            the way; this library logs no query.
        clock: gives Unix milliseconds; for tests.

    Raises:
        ConfigurationError: the extra ``jwt`` is not installed; there is no key, or more than one; it is too short, of an
            unknown kind, or secret where a public one belongs; or an algorithm does not fit it.
    """
    with _extra():
        from .checking import TokenChecker  # noqa: PLC0415  (needs the extra)
        from .jwks import KeyFile  # noqa: PLC0415
        from .keys import OneKey, restricted, verifying_key  # noqa: PLC0415
    if (key is None) is (jwks is None):
        raise ConfigurationError("web tokens are checked with a key or with a file of keys: give one of key and jwks")
    if isinstance(algorithms, str):
        raise ConfigurationError("algorithms is a list of names")
    if not 0 <= leeway < float("inf"):
        raise ConfigurationError("leeway is a time in seconds, not negative")
    return TokenChecker(
        KeyFile(jwks, algorithms) if jwks is not None else OneKey(restricted(verifying_key(key or b""), algorithms)),
        audience=[audience] if isinstance(audience, str) else audience,
        issuer=issuer,
        user_claim=user_claim,
        device_claim=device_claim,
        require_exp=require_exp,
        leeway=leeway,
        query=query,
        clock=clock,
    )


def mint(key: str | bytes, claims: Mapping[str, Any]) -> str:
    """A web token with these claims: for tests and development, where no log-in issues them.

    Args:
        key: a secret of at least 32 bytes, or a private key in PEM without a password. The algorithm is its usual one.
        claims: ``sub`` and ``exp`` (Unix seconds) at least, or `jwt` does not believe it.

    Raises:
        ConfigurationError: the extra ``jwt`` is not installed, or the key is none to sign with.
    """
    with _extra():
        import jwt as pyjwt  # noqa: PLC0415  (needs the extra)

        from .keys import signing_key  # noqa: PLC0415
    signing = signing_key(key)
    return pyjwt.encode(dict(claims), signing.material, algorithm=signing.algorithms[0])  # type: ignore[arg-type]  # it fits


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"web tokens need {missing.name}, which comes with the extra jwt: pip install 'trio-chat[jwt]'"
        ) from None
