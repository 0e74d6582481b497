"""Which pages may connect: 200 and more that may not, and none of them gets as far as a hook."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from trio.testing import MockClock

from trio_chat.authenticators import demo
from trio_chat.errors import ConfigurationError
from trio_chat.model import Identity
from trio_chat.testing import open_test_server
from trio_chat.transport.front import FrontDoor
from trio_chat.transport.http import Request
from trio_chat.transport.origins import listed_origin

from ..support import answer

HOST = "chat.example:6662"
LISTED = ["https://app.example", "https://app.example:8443", "capacitor://localhost"]
VICTIMS = [("http", "chat.example", ":6662"), ("https", "app.example", ""), ("https", "app.example", ":8443")]
"""The server itself and two that are listed: what an attacker would like to be taken for."""


def look_alikes(scheme: str, host: str, port: str) -> Iterator[str]:
    """Origins that are not `scheme://host:port`, and each of which some comparison has been known to take for it."""
    here = f"{scheme}://{host}{port}"
    name = host.partition(".")[0]
    # Suffixes and prefixes: for who compares beginnings, ends or parts.
    yield from (
        f"{scheme}://{host}{end}{port}" for end in (".evil.example", "evil", "-evil.example", ".", "..", "%2eevil", "_")
    )
    yield from (f"{here}{end}" for end in (".evil.example", "evil", "0", "1"))
    yield from (f"{scheme}://{start}{host}{port}" for start in ("evil", "evil-", "evil.", "www.", ".", "*.", "xn--"))
    yield from (f"{scheme}://{host.partition('.')[2]}{port}", f"{scheme}://{name}{port}", f"{scheme}://evil.example#{here}")
    # Another port, or the same one in another way.
    yield from (
        f"{scheme}://{host}{other}" for other in (":1", ":0", ":6661", ":06662", ":+6662", ":6662.0", ":", ":x", ":80")
    )
    # Another scheme, or none.
    yield from (
        f"{other}://{host}{port}" for other in ("ws", "wss", "ftp", "file", "chrome-extension", "evil", "", scheme + "s")
    )
    yield from (f"{host}{port}", f"//{host}{port}", f"{scheme}:{host}{port}", f"{scheme}:/{host}{port}")
    # Names and passwords.
    yield from (f"{scheme}://{who}@{host}{port}" for who in ("user", "user:password", "evil.example", "", ":"))
    yield from (f"{scheme}://{host}{port}@evil.example", f"{here}:@evil.example", f"{scheme}://{host}%40evil.example")
    # Case: no browser writes it.
    yield from (here.upper(), here.title(), f"{scheme.upper()}://{host}{port}", f"{scheme}://{host.upper()}{port}")
    # A path, a query, a fragment, a backslash.
    yield from (f"{here}{end}" for end in ("/", "/ws", "?", "?x=1", "#", "#x", "\\", "\\@evil.example", "/..", ";", "&"))
    # Blanks in the middle; around it they are no part of the value (RFC 9110 §5.5).
    yield from (
        f"{here} {here}",
        f"{here},{here}",
        f"{here}, null",
        f"null {here}",
        f"{scheme}:// {host}{port}",
        f"{here}\tx",
    )
    yield from (f"{scheme}://{host} {port}", f"{here}\tx", f'"{here}"', f"<{here}>", f"'{here}'")
    # Encodings.
    yield from (quote(here, safe=""), f"{scheme}://%{ord(host[0]):02x}{host[1:]}{port}", f"{scheme}%3a//{host}{port}")
    # Names that look alike: as browsers write them, and as they came in.
    for letter, twin in (("a", "а"), ("e", "е"), ("p", "р"), (".", "。"), ("a", "ａ"), ("e", "é"), (".", "\u00ad.")):
        other = host.replace(letter, twin, 1)
        if other != host:
            yield f"{scheme}://{other}{port}"
            if twin.isalpha() and not twin.isascii():
                yield f"{scheme}://{other.encode('punycode').decode()}{port}"
                yield f"{scheme}://xn--{other.partition('.')[0].encode('punycode').decode()}.example{port}"
    yield from (f"{scheme}://{host.replace('.', dot)}{port}" for dot in ("x", "-", "..", ""))


ELSEWHERE = [
    "",
    "null",
    "Null",
    "NULL",
    "undefined",
    "*",
    "https://*",
    "https://*.example",
    "https://",
    "://",
    "file://",
    "about:blank",
    "about:srcdoc",
    "data:text/html,x",
    "blob:https://app.example/7",
    "javascript:0",
    "chrome-extension://abcdefghijklmnop",
    "capacitor://localhost:1",
    "capacitor://Localhost",
    "http://localhost",
    "http://localhost:6662",
    "http://127.0.0.1:6662",
    "http://[::1]:6662",
    "http://2130706433:6662",
    "http://0.0.0.0:6662",
    "https://evil.example",
    "https://" + "a" * 10_000 + ".app.example",
]


def hostile() -> dict[str, bytes]:
    """Header lines by their name in the report; all are distinct."""
    lines = {origin: b"Origin: " + origin.encode() + b"\r\n" for origin in ELSEWHERE}
    for scheme, host, port in VICTIMS:
        here = f"{scheme}://{host}{port}"
        lines |= {origin: b"Origin: " + origin.encode() + b"\r\n" for origin in look_alikes(scheme, host, port)}
        for pair in (
            (here, here),
            (here, "https://evil.example"),
            ("https://evil.example", here),
            ("null", here),
            ("", here),
        ):
            text = "".join(f"{name}: {origin}\r\n" for name, origin in zip(("Origin", "ORIGIN"), pair, strict=True))
            lines[f"two: {pair}"] = text.encode()
        lines[f"folded: {here}"] = f"Origin: {here}\r\n evil\r\n".encode()
    return {name: line for name, line in lines.items() if name.strip() not in ("http://chat.example:6662", *LISTED)}


def asking(lines: bytes) -> bytes:
    return (
        f"GET /ws?user=alice HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    ).encode() + lines + b"\r\n"  # fmt: skip


async def test_hostile_origins_are_refused_before_any_hook(autojump_clock: MockClock) -> None:
    """Else a page that somebody visits chats in that person's name (cross-site WebSocket hijacking), or can at least ask."""
    asked: list[str | None] = []

    async def authenticate(request: Request) -> Identity:
        asked.append(request.origin)
        return Identity("alice")

    variants = hostile()
    assert len(variants) >= 200
    async with open_test_server(authenticate=authenticate, allowed_origins=LISTED) as server:
        for name, lines in variants.items():
            plainly = asking(lines).replace(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"")
            for data in (asking(lines), plainly):
                async with await server.stream() as stream:
                    reply = await answer(stream, data)
                assert reply.startswith(b"HTTP/1.1 403 "), (name, reply)
                assert b"access-control" not in reply.lower()
        assert asked == []
        for origin in ("http://chat.example:6662", *LISTED):
            stream = await server.stream()
            await stream.send_all(asking(f"Origin: {origin}\r\n".encode()))
            assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            await stream.aclose()
        assert asked == ["http://chat.example:6662", *LISTED]


@pytest.mark.parametrize("origin", [*LISTED, "http://[::1]:6662", "https://xn--bcher-kva.example", "tauri://localhost"])
async def test_what_browsers_write_can_be_listed(origin: str) -> None:
    """Else an application on another host, or in a web view, cannot be let in."""
    assert listed_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "*",
        "https://*.example",
        "app.example",
        "https://app.example/",
        "https://App.example",
        "HTTPS://app.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://bücher.example",
        "https://user@app.example",
        "https://app.example, https://b.example",
        "https://app.example\n",
    ],
)
async def test_what_no_browser_writes_is_told_at_the_start(origin: str, autojump_clock: MockClock) -> None:
    """Else an operator believes to have let a page in, or a whole domain, and nobody is."""
    async with open_test_server() as server:
        with pytest.raises(ConfigurationError, match="as browsers write it"):
            FrontDoor(server.chat, demo, allowed_origins=["https://app.example", origin])
