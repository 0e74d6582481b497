"""Which pages may connect: a browser says which page asks, and no page can make it lie (RFC 6454, the Fetch standard)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from ..errors import ConfigurationError
from .http import HttpError, Request, respond

__all__ = ["cors", "listed_origin", "origin_allowed", "preflight"]

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._~-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


def origin_allowed(request: Request, allowed: Collection[str] = ()) -> bool:
    """Whether the page that asks may connect: it is of this very server, or in `allowed`, or there is no page.

    Without this check every page a user visits could connect in the user's name (cross-site WebSocket hijacking). A
    sandboxed page's ``null`` is nobody's origin and never allowed.

    Args:
        request: after `forwarded`, if there is a proxy that ends TLS.
        allowed: origins such as ``https://app.example.com``, compared exactly.
    """
    origin = request.origin
    if origin is None:
        return True
    if origin == "null":
        return False
    if origin in allowed:
        return True
    # Browsers write an origin in lower case, but a Host as it was typed is as good as any.
    host = (request.header("host") or "").lower()
    scheme = "https" if request.secure else "http"
    return bool(host) and _canonical(origin) == _canonical(f"{scheme}://{host}")


def listed_origin(origin: str) -> str:
    """`origin`, if it is one as browsers write it: else nobody would ever be let in by it.

    Raises:
        ConfigurationError: a browser would write it differently, or not at all.
    """
    if _ORIGIN.fullmatch(origin) is None or _canonical(origin) != origin:
        raise ConfigurationError(
            f"the allowed origin {origin!r} is not as browsers write it: "
            "scheme://host or scheme://host:port, in lower case, without a path and without the scheme's own port"
        )
    return origin


def cors(request: Request, allowed: Collection[str]) -> list[tuple[str, str]]:
    """Headers that let a script of an allowed page read the answer, so that it can tell 401 from 426.

    The Fetch standard's CORS protocol. A page of this very server needs none, and the browser asks for none to connect.
    """
    origin = request.origin
    if origin is None or origin not in allowed or request.upgrade:
        return []
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"), ("Vary", "Origin")]


def preflight(request: Request, allowed: Collection[str]) -> bytes:
    """The answer to a browser that asks whether a script may send an ``Authorization`` with a plain request.

    Raises:
        HttpError: 403, the page is not in `allowed`.
    """
    headers = cors(request, allowed)
    if not headers:
        raise HttpError(403, "this origin is not allowed")
    return respond(200, [*headers, ("Access-Control-Allow-Headers", "authorization")])


def _canonical(origin: str) -> str:
    scheme = origin.partition("://")[0]
    return origin.removesuffix(_DEFAULT_PORTS.get(scheme, ":0"))
