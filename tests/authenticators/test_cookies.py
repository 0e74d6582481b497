"""A signed cookie: who may show it, from where, for how long, and what of it can be forged."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_chat import authenticators
from trio_chat.authenticators import SignedCookie
from trio_chat.errors import CloseCode, ConfigurationError, Refused
from trio_chat.model import Identity
from trio_chat.settings import Settings
from trio_chat.testing import open_test_server
from trio_chat.transport.http import Request

from ..support import UPGRADE, answer, dial, request
from .tokens import NOW, clock, still

KEY = b"k" * 32
OLDER = b"o" * 32
ORIGIN = ("origin", "http://localhost")


def cookie(keys: Sequence[bytes] = (KEY,), clock: Callable[[], int] = still) -> SignedCookie:
    return authenticators.signed_cookie(keys, max_age=600, clock=clock)


def asking(*headers: tuple[str, str], upgrade: bool = True, device: str | None = None) -> Request:
    query = () if device is None else (("device", device),)
    return Request("GET", "/ws", query, headers, None, secure=False, upgrade=upgrade)


async def test_who_logged_in_is_believed() -> None:
    """Else an application whose pages and chat are on one host has to hand tokens to its scripts."""
    ours = cookie()
    for user in ("alice", "Ünï 😀", "é" * 128, "a.b.c", "="):
        shown = ("cookie", f"theme=dark; trio_chat={ours.mint(user)}; x=y=z")
        assert await ours(asking(ORIGIN, shown, device="web")) == Identity(user, "web", NOW + 600)
        assert (await ours(asking(shown, ORIGIN))).device == "default"


def test_the_header_keeps_the_cookie_from_scripts_and_other_sites() -> None:
    """Else a script that was smuggled into a page takes it along, or another site's page sends it."""
    header = cookie().header("alice")
    value, *flags = header.split("; ")
    assert value.startswith("trio_chat=")
    assert flags == ["Path=/", "Max-Age=600", "HttpOnly", "SameSite=Strict", "Secure"]
    assert cookie().header("alice", secure=False, path="/ws").split("; ")[1:] == [
        "Path=/ws",
        "Max-Age=600",
        "HttpOnly",
        "SameSite=Strict",
    ]


@pytest.mark.parametrize("user", ["", "x" * 129, "a\n", "\ud800"])
def test_a_name_that_is_none_gets_no_cookie(user: str) -> None:
    """Else a cookie is given out that is never believed."""
    with pytest.raises(ValueError, match="a user is"):
        cookie().mint(user)


async def test_without_a_page_a_cookie_opens_nothing() -> None:
    """Else a program that has come by a cookie, or a browser that names no origin, is let in by it alone."""
    ours = cookie()
    shown = ("cookie", f"trio_chat={ours.mint('alice')}")
    with pytest.raises(Refused, match="Origin"):
        await ours(asking(shown))


@pytest.mark.parametrize(
    ("site", "told"), [(None, True), ("same-origin", True), ("same-site", False), ("cross-site", False), ("none", False)]
)
async def test_a_page_of_the_same_host_may_ask_plainly(site: str | None, told: bool) -> None:
    """Else a page cannot tell whether its cookie has expired, for browsers name no origin then; or other sites' can."""
    ours = cookie()
    headers = [("cookie", f"trio_chat={ours.mint('alice')}"), *([] if site is None else [("sec-fetch-site", site)])]
    if told:
        assert (await ours(asking(*headers, upgrade=False))).user == "alice"
    else:
        with pytest.raises(Refused, match="another site"):
            await ours(asking(*headers, upgrade=False))


def signed(payload: str, key: bytes = KEY, name: str = "trio_chat") -> str:
    signature = hmac.digest(key, f"trio-chat cookie {name}={payload}".encode(), hashlib.sha256)
    return f"{payload}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def user64(user: bytes) -> str:
    return base64.urlsafe_b64encode(user).decode().rstrip("=")


BAD = {
    "empty": "",
    "nonsense": "nonsense",
    "another key": signed(f"{user64(b'alice')}.{NOW + 9}", OLDER),
    "another name": signed(f"{user64(b'alice')}.{NOW + 9}", name="session"),
    "unsigned": f"{user64(b'alice')}.{NOW + 9}.",
    "quoted": '"' + signed(f"{user64(b'alice')}.{NOW + 9}") + '"',
    "expired": signed(f"{user64(b'alice')}.{NOW}"),
    "no user": signed(f".{NOW + 9}"),
    "user is not UTF-8": signed(f"{user64(b'abc' + bytes([255]))}.{NOW + 9}"),
    "user is no name": signed(f"{user64(b'a' + bytes(1))}.{NOW + 9}"),
    "user is too long": signed(f"{user64(b'x' * 129)}.{NOW + 9}"),
    "user is not base64": signed(f"AAAAA.{NOW + 9}"),
    "no time": signed(f"{user64(b'alice')}."),
    "a time of another script": signed(f"{user64(b'alice')}.١٢"),
    "a negative time": signed(f"{user64(b'alice')}.-1"),
    "a huge time": signed(f"{user64(b'alice')}.{10**13}"),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
async def test_what_is_no_cookie_of_ours_is_refused(value: str) -> None:
    """Else anybody can make one."""
    with pytest.raises(Refused):
        await cookie()(asking(ORIGIN, ("cookie", f"trio_chat={value}")))


@given(data=st.data())
async def test_a_changed_cookie_is_refused(data: st.DataObject) -> None:
    """Else some part of it is not covered by the signature."""
    good = cookie().mint("alice")
    at = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.;= "))
    changed = good[:at] + letter + good[at + 1 :]
    if changed == good:
        return
    with pytest.raises(Refused):
        await cookie()(asking(ORIGIN, ("cookie", f"trio_chat={changed}")))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("cookie", "other=1")],
        [("cookie", "trio_chat=A; trio_chat=A")],
        [("cookie", "trio_chat=A"), ("cookie", "trio_chat=A")],
        [("x-cookie", "trio_chat=A")],
        [("cookie", "Trio_Chat=A")],
        [("cookie", "xtrio_chat=A")],
    ],
)
async def test_one_cookie_is_wanted(headers: list[tuple[str, str]]) -> None:
    """Else a page of a sub-domain, which can add a cookie of its own, logs the user in as somebody else."""
    good = cookie().mint("alice")
    with pytest.raises(Refused):
        await cookie()(asking(ORIGIN, *((name, value.replace("A", good)) for name, value in headers)))


async def test_keys_are_changed_without_logging_anybody_out() -> None:
    """Else a key is never changed."""
    before, during, after = cookie([OLDER]), cookie([KEY, OLDER]), cookie([KEY])
    old, new = before.mint("alice"), during.mint("alice")
    for ours, value, good in (
        (during, old, True),
        (during, new, True),
        (after, new, True),
        (after, old, False),
        (before, new, False),
    ):
        if good:
            assert (await ours(asking(ORIGIN, ("cookie", f"trio_chat={value}")))).user == "alice"
        else:
            with pytest.raises(Refused, match="signature"):
                await ours(asking(ORIGIN, ("cookie", f"trio_chat={value}")))


@pytest.mark.parametrize(
    ("keys", "name", "max_age", "says"),
    [
        ([], "a", 1, "32 bytes"),
        ("k" * 31, "a", 1, "32 bytes"),
        ([KEY, b""], "a", 1, "32 bytes"),
        (KEY, "", 1, "name"),
        (KEY, "a;b", 1, "name"),
        (KEY, "a", 0, "max_age"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(keys: str | bytes | list[bytes], name: str, max_age: int, says: str) -> None:
    """Else a key that can be guessed passes, or a cookie that no browser sends."""
    with pytest.raises(ConfigurationError, match=says):
        authenticators.signed_cookie(keys, name=name, max_age=max_age)
    assert authenticators.signed_cookie(secrets.token_bytes(32)).max_age == 24 * 3600


async def test_through_the_front_door(autojump_clock: MockClock) -> None:
    """Else it works in a test and not in a server: the page is checked first, and the connection ends with the cookie."""
    ours = cookie(clock=clock)
    async with open_test_server(authenticate=ours, clock=clock, settings=Settings(ping_interval=1000)) as server:
        headers = UPGRADE | {"Cookie": f"trio_chat={ours.mint('alice')}"}
        for origin, status in (("https://evil.example", 403), ("null", 403), (None, 401)):
            asked = headers | ({"Origin": origin} if origin else {})
            assert (await answer(await server.stream(), request("/ws", asked))).startswith(b"HTTP/1.1 %d " % status)
        plain = {"Host": "localhost", "Cookie": headers["Cookie"]}
        assert (await answer(await server.stream(), request("/ws", plain))).startswith(b"HTTP/1.1 426 ")
        peer = await dial(await server.stream(), "/ws", headers | {"Origin": "http://localhost"})
        assert await peer.read()
        assert (await peer.closed_with())[0] == CloseCode.UNAUTHORIZED
        assert 599 <= trio.current_time() <= 600
