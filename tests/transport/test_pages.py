"""The page that is served beside the WebSocket: what, how, and to whom it is not."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files

import pytest
from trio.testing import MockClock

from trio_chat.testing import open_test_server
from trio_chat.transport.http import HEAD_BYTES, HttpError, Request
from trio_chat.transport.pages import demo_pages, page_answer

PAGES = demo_pages()


def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The answer to a plain request, taken apart."""
    sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    reply = page_answer(PAGES, Request(method, path, (), sent, "127.0.0.1", secure=False, upgrade=False))
    assert reply is not None
    head, _, body = reply.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    named = [line.partition(": ") for line in lines]
    assert len({name for name, _, _ in named}) == len(named)
    return int(status.split()[1]), {name.lower(): value for name, _, value in named}, body


def test_every_file_of_the_page_has_its_path_and_type() -> None:
    """Else the page is not found, or a browser does not run its scripts (they need a JavaScript type)."""
    expected = {"": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert {"/", "/style.css", "/app.js", "/trio-chat.js", "/icon.svg"} <= PAGES.keys()
    assert "/index.html" not in PAGES  # one address for one thing
    for path in PAGES:
        status, headers, body = ask(path)
        assert status == 200
        assert headers["content-type"].partition(";")[0] == expected[path.rpartition(".")[2] if "." in path else ""]
        assert headers["content-length"] == str(len(body))
        assert body == (files("trio_chat") / "web" / (path[1:] or "index.html")).read_bytes()


@pytest.mark.parametrize("path", PAGES)
def test_nothing_but_our_own_scripts_runs(path: str) -> None:
    """Else a text that gets into the page as markup is a script in the name of whoever reads it."""
    _, headers, _ = ask(path)
    policy = dict(directive.partition(" ")[::2] for directive in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "notify-worker"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PAGES)
def test_the_page_asks_nobody_else_for_anything(path: str) -> None:
    """Else a chat on one machine tells another that it is used, or does not work without a network."""
    text = ask(path)[2].decode()
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"} | (
        {"wss://chat.example.com/ws"} if path == "/trio-chat.js" else set()
    )
    assert "innerHTML" not in text
    assert not re.search(r"\son\w+=|style=|javascript:", text) or path.endswith((".js", ".css"))


def test_a_browser_keeps_the_page_and_asks_whether_it_is_still_the_same() -> None:
    """Else a page from before an update talks to the server from after it, or everything is loaded every time."""
    _, headers, body = ask("/")
    etag = headers["etag"]
    assert headers["cache-control"] == "no-cache"
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    for asked in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        status, fresh, nothing = ask("/", if_none_match=asked)
        assert (status, nothing) == (304, b"")
        assert fresh["etag"] == etag
        assert fresh["content-length"] == str(len(body))  # RFC 9110 §8.6: as for 200
    assert ask("/", if_none_match='"other"')[0] == 200


def test_a_browser_gets_it_compressed_under_another_tag() -> None:
    """Else a phone loads three times as much, or a cache takes the one form for the other."""
    _, plain, body = ask("/app.js")
    _, zipped, small = ask("/app.js", accept_encoding="gzip, deflate, br, zstd")
    assert zipped["content-encoding"] == "gzip"
    assert "content-encoding" not in plain
    assert gzip.decompress(small) == body
    assert len(small) < len(body) / 2
    assert zipped["etag"] != plain["etag"]
    assert zipped["vary"] == plain["vary"] == "Accept-Encoding"
    assert "content-encoding" not in ask("/app.js", accept_encoding="gzip;q=0")[1]


def test_all_of_the_page_is_light() -> None:
    """Else it has grown into something that nobody can look through, or load on a train."""
    assert sum(len(page.gzipped) for page in PAGES.values()) < 100_000


def test_a_head_has_the_same_head_and_no_body() -> None:
    """Else a monitor that asks by HEAD is told something else, or waits for a body."""
    status, headers, body = ask("/", "HEAD")
    assert (status, body) == (200, b"")
    assert headers == ask("/")[1]


def test_a_page_is_for_reading() -> None:
    """Else a question of a browser's, by OPTIONS, is answered with a page."""
    with pytest.raises(HttpError) as refused:
        ask("/", "OPTIONS")
    assert refused.value.status == 405


async def test_a_server_that_was_not_asked_to_serves_no_page(autojump_clock: MockClock) -> None:
    """Else an application that embeds trio-chat gets a page that it never wanted, on a port of its own."""
    async with open_test_server() as server:
        for path in PAGES:
            stream = await server.stream()
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await stream.receive_some(HEAD_BYTES)).startswith(b"HTTP/1.1 404 ")
