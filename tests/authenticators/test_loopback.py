"""Who the demo believes, and from where."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from trio_chat import authenticators
from trio_chat.errors import Refused
from trio_chat.model import Identity
from trio_chat.transport.http import HttpError, Request, forwarded


def asking(
    host: str | None = "localhost:6662", *query: tuple[str, str], client: str | None = "127.0.0.1", via: str | None = None
) -> Request:
    headers = [("host", host), ("x-forwarded-for", via)]
    given = tuple((name, value) for name, value in headers if value is not None)
    return Request("GET", "/ws", query, given, client, secure=False, upgrade=True)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:6662", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:6662", "[::1]", "[::1]:6662"]
)
async def test_on_this_machine_it_believes_everybody(host: str) -> None:
    """Else nobody can try the server in five minutes."""
    identity = await authenticators.demo(asking(host, ("user", "0151 23"), ("device", "web")))
    assert identity == Identity("0151 23", "web")
    assert await authenticators.demo(asking(host, ("user", "alice"))) == Identity("alice", "default")


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "::1", "[::1].evil", "0.0.0.0"]
)
async def test_another_name_of_this_machine_is_refused(host: str | None) -> None:
    """Else any page on the web can chat as anybody, by a name of its own that points to 127.0.0.1 (DNS rebinding)."""
    with pytest.raises(Refused) as refused:
        await authenticators.demo(asking(host, ("user", "alice")))
    assert refused.value.status == 403


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.0.1", "::1", None])
async def test_a_client_on_this_machine_is_let_in(client: str | None) -> None:
    """Else the demo fails over IPv6, or on a Unix socket, which has no address."""
    assert (await authenticators.demo(asking("localhost", ("user", "alice"), client=client))).user == "alice"


@pytest.mark.parametrize("client", ["203.0.113.9", "192.168.0.7", "2001:db8::1", "::", "0.0.0.0", "not an address", ""])
async def test_a_client_on_another_machine_is_refused(client: str) -> None:
    """Else anybody who reaches the port is whom they like: the Host header says what its sender wants it to say."""
    with pytest.raises(Refused) as refused:
        await authenticators.demo(asking("localhost", ("user", "alice"), client=client))
    assert refused.value.status == 403


async def test_behind_a_trusted_proxy_the_client_is_whom_the_proxy_names() -> None:
    """Else a proxy on this machine opens the demo to the world; one that is not trusted cannot close or open it."""
    proxies = [ip_network("127.0.0.0/8")]
    with pytest.raises(Refused):
        await authenticators.demo(forwarded(asking("localhost", ("user", "alice"), via="203.0.113.9"), proxies))
    pretender = asking("localhost", ("user", "alice"), client="203.0.113.9", via="127.0.0.1")
    with pytest.raises(Refused):
        await authenticators.demo(forwarded(pretender, proxies))


@pytest.mark.parametrize("query", [[], [("user", "")], [("user", "x" * 129)], [("user", "a"), ("device", "\x00")]])
async def test_without_a_usable_name_nobody_is_let_in(query: list[tuple[str, str]]) -> None:
    """Else there are users without a name, or with one that breaks logs and terminals."""
    with pytest.raises(Refused) as refused:
        await authenticators.demo(asking("localhost", *query))
    assert refused.value.status == 401


async def test_two_names_are_refused_as_a_mistake_of_the_client() -> None:
    """Else a proxy that appends a user to the query, and this server, would mean two different ones."""
    with pytest.raises(HttpError) as refused:
        await authenticators.demo(asking("localhost", ("user", "alice"), ("user", "bob")))
    assert refused.value.status == 400
