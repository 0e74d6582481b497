"""Behind the real nginx, with the configuration that examples/nginx.conf is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, WebSocket, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .nginx import READ_TIMEOUT, Nginx
from .stage import SETTINGS, Crowd, Server, crowd_at

TRUSTING = ("--trusted-proxy", "127.0.0.1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, TRUSTING) as server:
        yield server


@pytest.fixture
def nginx(tmp_path: Path, server: Server) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", server.port) as nginx:
        yield nginx


@pytest.fixture
def crowd(browser: Browser, nginx: Nginx) -> Iterator[Crowd]:
    with crowd_at(browser, nginx.url) as crowd:
        yield crowd


def test_an_idle_connection_outlives_the_limit_of_nginx(crowd: Crowd) -> None:
    """Else everybody who reads for a minute is thrown out, and gets the next message late."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    closed: list[WebSocket] = []
    opened: list[WebSocket] = []
    for person in (alice, bob):
        person.page.on("websocket", lambda socket: opened.append(socket))  # noqa: PLW0108  (Playwright marks the handler)
        person.page.reload()
    alice.says("Hi Bob")
    bob.sees("Hi Bob")
    for opening in opened:
        opening.on("close", lambda socket: closed.append(socket))  # noqa: PLW0108
    alice.page.wait_for_timeout((2 * READ_TIMEOUT + 1) * 1000)  # real silence, in nginx's time
    before = time.monotonic()
    alice.says("Still there?")
    bob.sees("Hi Bob", "Still there?")
    assert time.monotonic() - before < 2
    assert (len(opened), len(closed)) == (2, 0)


def test_nginx_would_have_cut_it(tmp_path: Path, browser: Browser) -> None:
    """Else the test above passes whatever the server does: here it says nothing for longer than nginx bears."""
    silent = SETTINGS.replace("ping_interval = 2.0", "ping_interval = 60.0")
    with (
        Server(tmp_path, TRUSTING, silent) as server,
        Nginx(tmp_path / "nginx", server.port) as nginx,
        crowd_at(browser, nginx.url) as crowd,
    ):
        bob = crowd.person("bob", "alice")
        bob.says("Hi Alice")
        bob.ticks("stored")
        with bob.page.expect_event("websocket", timeout=(READ_TIMEOUT + 10) * 1000) as again:
            before = time.monotonic()
        assert time.monotonic() - before > READ_TIMEOUT - 1
        assert again.value.url.startswith("wss://")
        server.say("alice", "bob", ["Hi Bob"])
        bob.sees("Hi Alice", "Hi Bob")


def test_a_restart_of_nginx_costs_nothing(crowd: Crowd, nginx: Nginx) -> None:
    """Else a new certificate costs messages, doubles them, or needs everybody to reload."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    alice.says("before")
    bob.sees("before")
    for round_ in range(2):
        nginx.stop()
        alice.says(f"from alice {round_}")
        expect(alice.banner).to_contain_text("1 message is kept here")
        expect(bob.banner).to_be_visible()
        nginx.start()
        expect(alice.messages.locator(".tick.read")).to_have_count(2 + round_, timeout=30_000)
    bob.says("from bob")
    for person in (alice, bob):
        person.sees("before", "from alice 0", "from alice 1", "from bob")
        expect(person.banner).to_be_hidden()


def test_without_being_told_of_the_proxy_its_own_page_is_refused(tmp_path: Path, browser: Browser) -> None:
    """Else a server believes anybody who says that a page came by TLS. The page says where to look."""
    with (
        Server(tmp_path) as server,
        Nginx(tmp_path / "nginx", server.port) as nginx,
        crowd_at(browser, nginx.url) as crowd,
    ):
        alice = crowd.person("alice", "bob")
        alice.says("Hi Bob")
        expect(alice.banner).to_contain_text("WebSockets do not get through to it. 1 message is kept here")


def dial(nginx: Nginx, user: str, address: str, **headers: str) -> ClientConnection:
    """From another address of this machine; no browser can do that."""
    stream = socket.create_connection(("127.0.0.1", nginx.port), source_address=(address, 0))
    url = f"wss://127.0.0.1:{nginx.port}/ws?user={user}&window=0"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return connect(url, sock=stream, ssl=nginx.trust, additional_headers=names)


def test_an_address_is_the_clients_and_cannot_be_made_up(tmp_path: Path) -> None:
    """Else everybody behind the proxy shares one limit, or whoever writes the header himself has none."""
    with (
        Server(tmp_path, TRUSTING, SETTINGS + "per_address = 1\n") as server,
        Nginx(tmp_path / "nginx", server.port) as nginx,
        dial(nginx, "alice", "127.0.0.3"),
        dial(nginx, "bob", "127.0.0.4"),
    ):
        for headers in ({}, {"X_Forwarded_For": "10.1.2.3"}, {"X_Forwarded_For": "10.1.2.3, 127.0.0.1"}):
            with pytest.raises(InvalidStatus) as refused:
                dial(nginx, "carol", "127.0.0.3", **headers)
            assert refused.value.response.status_code == 503


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1"])
def test_a_page_from_elsewhere_is_refused_behind_the_proxy_too(origin: str, nginx: Nginx) -> None:
    """Else any page that a user visits chats in the user's name, once there is a proxy."""
    with dial(nginx, "alice", "127.0.0.3", Origin=f"https://127.0.0.1:{nginx.port}"):
        pass
    with pytest.raises(InvalidStatus) as refused:
        dial(nginx, "alice", "127.0.0.3", Origin=origin)
    assert refused.value.response.status_code == 403
