"""Which addresses are everybody's: those that a URL from outside may lead to."""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

__all__ = ["is_public"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1: the last four bytes are an IPv4 address
_TUNNELS: Final = (
    ipaddress.IPv6Network("::/96"),  # RFC 4291 §2.5.5.1, obsolete; ::1 and :: are in it
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # RFC 8215: a translator of this network's own
    ipaddress.IPv6Network("2001::/32"),  # Teredo
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("fec0::/10"),  # RFC 3879: site-local, once
)
"""Where an IPv4 address hides in an IPv6 one, or where no public service has ever been."""


def is_public(address: str) -> bool:
    """Whether the literal IP address is reachable for everybody, however it is written.

    What is not an address is not public. Private, shared, local and documentation ranges are not; neither is an IPv6 address
    that stands for an IPv4 address which is not.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return _is_public(parsed)


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return _is_public(inner)
        if address.scope_id is not None or any(address in network for network in _TUNNELS):
            return False
    # Python calls a multicast address global, and the reserved ones not always private.
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
