"""Which addresses a URL from outside may lead to."""

from __future__ import annotations

import pytest

from trio_chat.push.addresses import is_public


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"])
def test_what_everybody_reaches(address: str) -> None:
    """Else no browser is ever notified."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1",
        "::127.0.0.1", "2002:7f00:1::", "2001::1", "", "localhost", "0x7f000001", "127.1", "2130706433",
    ],
)  # fmt: skip
def test_what_nobody_else_reaches(address: str) -> None:
    """Else a subscription makes this server call its own network, in whatever clothes the address comes."""
    assert not is_public(address)
