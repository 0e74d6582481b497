"""Where a request carries a bearer token (RFC 6750): in one place, or it is refused."""

from __future__ import annotations

from typing import Final

from ..errors import Refused
from ..transport.http import Request

__all__ = ["PREFIX", "bearer_token"]

PREFIX: Final = "bearer."
"""Goes before a token among the subprotocols a client offers: the one header that a script in a browser can fill in."""


def bearer_token(request: Request, *, query: str | None = None) -> str:
    """The token of the request: from ``Authorization: Bearer …``, or from ``Sec-WebSocket-Protocol: …, bearer.…``.

    Args:
        request: its headers are looked at and nothing else, unless `query` is given.
        query: the name of a query parameter that may hold it, too. What stands in a URL ends up in the logs of proxies.

    Raises:
        Refused: there is none, or more than one: a proxy that adds one and this server might mean two different users.
    """
    found: list[str] = []
    authorization = request.header("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":  # RFC 9110 §11.1: in any case
            raise Refused("the Authorization is no Bearer token")
        found.append(token.strip(" "))
    offered = request.tokens("sec-websocket-protocol")
    found += [token.removeprefix(PREFIX) for token in offered if token.startswith(PREFIX)]
    if query is not None:
        found += [value for name, value in request.query if name == query]
    if not found:
        raise Refused("there is no token")
    if len(found) > 1:
        raise Refused("there is more than one token")
    return found[0]
