"""Believing everybody, on this machine."""

from __future__ import annotations

import ipaddress
import re

from ..errors import Refused
from ..model import Identity
from ..transport.http import Request

__all__ = ["demo"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


async def demo(request: Request) -> Identity:
    """Believe whoever says who they are: ``?user=alice&device=web``. For trying things out on one machine only.

    The ``Host`` must name this machine: a page of another site whose name was made to point here (DNS rebinding) is refused.
    So is a client at another address, whatever it calls this machine; behind trusted proxies it is theirs to say which that
    is. Where there is no address, as on a Unix socket, the client is here.

    Raises:
        Refused: it is another machine, or there is no usable user in the query.
    """
    host = re.sub(r":[0-9]*\Z", "", request.header("host") or "")
    if host.lower() not in _LOOPBACK or not _is_here(request.client):
        raise Refused("the demo identity is for this machine only", status=403)
    try:
        return Identity(request.parameter("user") or "", request.parameter("device") or "default")
    except ValueError as error:
        raise Refused(str(error)) from None


def _is_here(client: str | None) -> bool:
    if client is None:
        return True
    try:
        return ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False
