"""Which tokens are believed, through the front door of a whole server: what is wrong with one, nobody is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_chat import authenticators, wire
from trio_chat.errors import CloseCode
from trio_chat.model import Identity
from trio_chat.settings import Settings
from trio_chat.testing import InMemoryServer, open_test_server
from trio_chat.transport.http import Request

from ..support import UPGRADE, answer, dial, request
from ..transport.peer import TEXT, Peer, frame
from .tokens import ALGORITHMS, NOW, OTHER, SECRET, claims, clock, forged, private, private_pem, public_pem, token

HEADER = {"alg": "HS256", "typ": "JWT"}


def bearer(token: str) -> dict[str, str]:
    return UPGRADE | {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def server(
    key: str | bytes = SECRET, *, settings: Settings | None = None, **options: Any
) -> AsyncIterator[InMemoryServer]:
    authenticate = authenticators.jwt(key, clock=clock, **options)
    origins = ["https://app.example"]
    async with open_test_server(settings=settings, authenticate=authenticate, clock=clock, allowed_origins=origins) as made:
        yield made


async def welcomed(server: InMemoryServer, headers: dict[str, str], target: str = "/ws") -> tuple[str, str]:
    """Who the server says this is."""
    peer = await dial(await server.stream(), target, headers)
    read = await peer.read()
    assert read is not None
    welcome = wire.decode_server(read[1])
    assert isinstance(welcome, wire.Welcome)
    await peer.stream.aclose()
    return welcome.user, welcome.device


def nested(depth: int) -> bytes:
    return b'{"alg":"HS256","a":' + b"[" * depth + b"]" * depth + b"}"


# Each with the options of the authenticator that it is tried on, and what the operator's log says of it.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "expired": ({}, token(exp=NOW - 1), "expired"),
    "expired this moment": ({}, token(exp=NOW), "expired"),
    "expired longer ago than the leeway": ({"leeway": 30}, token(exp=NOW - 30), "expired"),
    "never expires": ({}, token(exp=None), "never expires"),
    "expires null": ({}, forged(HEADER, claims() | {"exp": None}), "exp"),
    "expires at true": ({}, forged(HEADER, claims(exp=True)), "exp"),
    "expires at a string": ({}, forged(HEADER, claims(exp=str(NOW + 9))), "exp"),
    "expires at infinity": ({}, forged(HEADER, b'{"sub":"alice","exp":1e999}'), "exp"),
    "expires at no number": ({}, forged(HEADER, b'{"sub":"alice","exp":NaN}'), "exp"),
    "expires at a huge number": ({}, forged(HEADER, b'{"sub":"alice","exp":1' + b"0" * 400 + b"}"), "exp"),
    "expires at a number too long": ({}, forged(HEADER, b'{"sub":"alice","exp":1' + b"0" * 5000 + b"}"), "DecodeError"),
    "future nbf": ({}, token(nbf=NOW + 1), "not valid yet"),
    "future nbf beyond the leeway": ({"leeway": 30}, token(nbf=NOW + 31), "not valid yet"),
    "nbf is no time": ({}, token() and forged(HEADER, claims(nbf="soon")), "nbf"),
    "wrong key": ({}, token(OTHER), "InvalidSignatureError"),
    "wrong RSA key": ({"key": public_pem()}, token(private("RSA", 1), "RS256"), "InvalidSignatureError"),
    "no signature": ({}, token().rpartition(".")[0] + ".", "InvalidSignatureError"),
    "cut signature": ({}, token()[:-1], "Error"),
    "alg none": ({}, forged({"alg": "none"}, claims(), secret=None), "algorithm"),
    "alg None": ({}, forged({"alg": "None"}, claims(), secret=None), "algorithm"),
    "alg none on RSA": ({"key": public_pem()}, forged({"alg": "none"}, claims(), secret=None), "algorithm"),
    "alg none and signed": ({}, forged({"alg": "none"}, claims()), "algorithm"),
    "no alg": ({}, forged({"typ": "JWT"}, claims()), "algorithm"),
    "alg is a list": ({}, forged({"alg": ["HS256"]}, claims()), "algorithm"),
    "alg too long for the secret": ({}, token(SECRET * 2, "HS512"), "algorithm"),
    "RSA's public key as a secret": ({"key": public_pem()}, forged(HEADER, claims(), secret=public_pem()), "algorithm"),
    "and stripped": ({"key": public_pem()}, forged(HEADER, claims(), secret=public_pem().strip()), "algorithm"),
    "a curve's public key as a secret": (
        {"key": public_pem("P-256")},
        forged(HEADER, claims(), secret=public_pem("P-256")),
        "algorithm",
    ),
    "Ed25519's public key as a secret": (
        {"key": public_pem("Ed25519")},
        forged(HEADER, claims(), secret=public_pem("Ed25519")),
        "algorithm",
    ),
    "RSA where there is a curve": ({"key": public_pem("P-256")}, token(private(), "RS256"), "algorithm"),
    "not the pinned one": ({"key": public_pem(), "algorithms": ["PS256"]}, token(private(), "RS256"), "algorithm"),
    "its own key": (
        {"key": public_pem()},
        forged({"alg": "RS256", "jwk": {"kty": "oct", "k": "MDEy"}}, claims()),
        "InvalidSignatureError",
    ),
    "critical extension": ({}, token(SECRET, "HS256", {"crit": ["exp"], "exp": 1}), "extension|InvalidTokenError"),
    "payload not encoded": ({}, forged({"alg": "HS256", "b64": False}, claims()), "Error|extension"),
    "wrong audience": ({"audience": "chat"}, token(aud="shop"), "audience"),
    "part of the audience": ({"audience": "chat"}, token(aud="cha"), "audience"),
    "no audience": ({"audience": "chat"}, token(), "audience"),
    "an audience, and none expected": ({}, token(aud="shop"), "audience"),
    "audience is a number": ({"audience": "chat"}, forged(HEADER, claims(aud=7)), "audience"),
    "audience holds a number": ({"audience": "chat"}, forged(HEADER, claims(aud=["chat", 7])), "audience"),
    "wrong issuer": ({"issuer": "https://login.example"}, token(iss="https://login.example.evil"), "issuer"),
    "part of the issuer": ({"issuer": "https://login.example"}, token(iss="https://login"), "issuer"),
    "no issuer": ({"issuer": "https://login.example"}, token(), "issuer"),
    "issuer in a list": ({"issuer": "x"}, forged(HEADER, claims(iss=["x"])), "issuer"),
    "no sub": ({}, token(sub=None), "user"),
    "empty sub": ({}, token(sub=""), "user"),
    "over-long sub": ({}, token(sub="x" * 129), "user"),
    "control character in sub": ({}, token(sub="alice\n"), "user"),
    "sub is a number": ({}, forged(HEADER, claims(sub=7)), "user"),
    "sub is true": ({}, forged(HEADER, claims(sub=True)), "user"),
    "sub is null": ({}, forged(HEADER, claims() | {"sub": None}), "user"),
    "sub is a list": ({}, forged(HEADER, claims(sub=["alice"])), "user"),
    "sub is half a character": ({}, forged(HEADER, b'{"sub":"\\ud800","exp":%d}' % (NOW + 9)), "user"),
    "no user claim": ({"user_claim": "email"}, token(), "user"),
    "over-long device": ({}, token(device="x" * 129), "device"),
    "device is a number": ({}, token(device=7), "device"),
    "not three parts": ({}, "garbage", "DecodeError"),
    "five parts": ({}, "a.b.c.d.e", "DecodeError"),
    "not base64": ({}, "!.!.!", "DecodeError"),
    "header is no JSON": ({}, forged(b"nonsense", claims()), "DecodeError"),
    "header is a list": ({}, forged([1], claims()), "DecodeError"),
    # Pythons differ in whether they read it; one that does finds that nobody who knows the secret has signed it.
    "header is deep": ({}, forged(nested(4_000), claims(), secret=b"another secret " * 4), "Error"),
    "header is not UTF-8": ({}, forged(b"\xff\xfe", claims()), "Error"),
    "kid is a list": ({}, forged(HEADER | {"kid": [1]}, claims()), "InvalidTokenError"),
    "payload is no JSON": ({}, forged(HEADER, b"nonsense"), "DecodeError"),
    "payload is a list": ({}, forged(HEADER, ["sub", "alice"]), "DecodeError"),
    "payload is deep": ({}, forged(HEADER, nested(4_000)), "Error|expires"),
    "as large as fits": ({}, forged(HEADER, claims(sub="x" * 10_000)), "user"),
}


@pytest.mark.parametrize(("options", "bad", "logged"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_token_is_refused_before_the_upgrade(
    options: dict[str, Any], bad: str, logged: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else somebody is let in as whoever they like; or is told what to try next; or the log tells everybody the token."""
    with caplog.at_level(logging.DEBUG):
        async with server(**options) as made:
            reply = await answer(await made.stream(), request("/ws?device=phone", bearer(bad)))
            plain = await answer(
                await made.stream(), request("/ws", {"Host": "localhost", "Authorization": f"Bearer {bad}"})
            )
    for said in (reply, plain):
        assert said.startswith(b"HTTP/1.1 401 Unauthorized\r\n"), said
        assert said.endswith(b"\r\n\r\nunauthorized\n")
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == []
    (why, _) = [record.getMessage() for record in caplog.records if "the authenticator refused" in record.getMessage()]
    assert any(word in why for word in logged.split("|")), why
    for part in filter(None, bad.split(".")):
        assert part not in caplog.text or len(part) < 6


async def test_a_token_that_is_larger_than_the_head_may_be(autojump_clock: MockClock) -> None:
    """Else a token costs any amount of memory before it is looked at."""
    async with server() as made:
        reply = await answer(await made.stream(), request("/ws", bearer(forged(HEADER, claims(sub="x" * 20_000)))))
        assert reply.startswith(b"HTTP/1.1 431 ")


GOOD: dict[str, tuple[dict[str, Any], str, tuple[str, str]]] = {
    "plain": ({}, token(), ("alice", "phone")),
    "not yet expired": ({}, token(exp=NOW + 2), ("alice", "phone")),
    "expires at a fraction": ({}, token(exp=NOW + 2.5), ("alice", "phone")),
    "within the leeway": ({"leeway": 30}, token(exp=NOW - 5, nbf=NOW + 29), ("alice", "phone")),
    "never expires": ({"require_exp": False}, token(exp=None), ("alice", "phone")),
    "audience": ({"audience": "chat"}, token(aud="chat"), ("alice", "phone")),
    "one of the audience": ({"audience": ["chat", "talk"]}, token(aud=["shop", "talk"]), ("alice", "phone")),
    "issuer": ({"issuer": "https://login.example"}, token(iss="https://login.example"), ("alice", "phone")),
    "another claim": ({"user_claim": "email"}, token(sub=None, email="a@b.example"), ("a@b.example", "phone")),
    "a sub that is none, and another claim": (
        {"user_claim": "email"},
        forged(HEADER, claims(sub=7, email="a")),
        ("a", "phone"),
    ),
    "bound to a device": ({}, token(device="watch"), ("alice", "watch")),
    "a device of another meaning": ({"device_claim": None}, token(device={"os": "x"}), ("alice", "phone")),
    "unicode": ({}, token(sub="Ünï 😀"), ("Ünï 😀", "phone")),
    "issued in the future": ({}, token(iat=NOW + 100), ("alice", "phone")),
    "PS256": ({"key": public_pem()}, token(private(), "PS256"), ("alice", "phone")),
    "pinned": ({"key": public_pem(), "algorithms": ["RS512"]}, token(private(), "RS512"), ("alice", "phone")),
    **{
        kind: ({"key": public_pem(kind)}, token(private_pem(kind), algorithm), ("alice", "phone"))
        for kind, algorithm in ALGORITHMS.items()
    },
}


@pytest.mark.parametrize(("options", "good", "who"), GOOD.values(), ids=GOOD)
async def test_a_good_token_says_who_it_is(
    options: dict[str, Any], good: str, who: tuple[str, str], autojump_clock: MockClock
) -> None:
    """Else those who have logged in stay outside, or are taken for somebody else."""
    async with server(**options) as made:
        assert await welcomed(made, bearer(good), "/ws?device=phone") == who


async def test_a_browser_shows_its_token_and_nobody_repeats_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else browsers cannot connect: they refuse an answer that names a subprotocol which is not one, or none of theirs."""
    good = token()
    with caplog.at_level(logging.DEBUG):
        async with server() as made:
            headers = UPGRADE | {"Sec-WebSocket-Protocol": f"trio-chat.v1, bearer.{good}", "Origin": "https://app.example"}
            stream = await made.stream()
            await stream.send_all(request("/ws", headers))
            head = bytes(await stream.receive_some())
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Protocol: trio-chat.v1\r\n" in head
            assert good.encode() not in head
            await stream.aclose()
    assert good not in caplog.text


async def test_a_token_in_the_query_works_only_where_it_is_wanted_and_is_not_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else tokens end up in logs without anybody having decided so."""
    good, bad = token(), token(OTHER)
    with caplog.at_level(logging.DEBUG):
        async with server() as made:
            reply = await answer(await made.stream(), request(f"/ws?token={good}"))
            assert reply.startswith(b"HTTP/1.1 401 ")
        async with server(query="token") as made:
            assert await welcomed(made, UPGRADE, f"/ws?token={good}") == ("alice", "default")
            for target in (
                f"/ws?token={bad}",
                f"/ws?token={good}&token={good}",
                f"/other?token={good}",
                f"/ws?token={good}%zz",
            ):
                reply = await answer(await made.stream(), request(target))
                assert good.encode() not in reply
                assert bad.encode() not in reply
    assert good not in caplog.text
    assert bad not in caplog.text


async def test_two_tokens_are_refused(autojump_clock: MockClock) -> None:
    """Else what is in front of this server and this server believe different ones."""
    good = token()
    async with server(query="token") as made:
        for headers, target in (
            (bearer(good) | {"Sec-WebSocket-Protocol": f"trio-chat.v1, bearer.{good}"}, "/ws"),
            (bearer(good), f"/ws?token={good}"),
            (UPGRADE | {"Sec-WebSocket-Protocol": f"bearer.{good}, bearer.{good}"}, "/ws"),
        ):
            reply = await answer(await made.stream(), request(target, headers))
            assert reply.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("leeway", [0, 60])
async def test_a_token_that_expires_closes_the_connection_at_that_moment(leeway: int, autojump_clock: MockClock) -> None:
    """Else a token of an hour lets its bearer stay for as long as the connection lasts."""
    async with server(leeway=leeway, settings=Settings(ping_interval=1000)) as made:
        short = await dial(await made.stream(), "/ws?device=a", bearer(token(exp=NOW + 600)))
        long = await dial(await made.stream(), "/ws?device=b", bearer(token(exp=NOW + 7200)))
        assert await short.read()
        assert await long.read()
        assert await short.closed_with() == (CloseCode.UNAUTHORIZED, "the authorisation has expired")
        assert 600 + leeway <= trio.current_time() < 600 + leeway + 0.01
        await long.send(frame(TEXT, wire.encode(wire.Ping())))
        assert await long.read() == (TEXT, b'{"type":"pong"}')


@pytest.mark.parametrize("jump", [-100, 100])
async def test_a_wall_clock_that_is_set_moves_no_end_that_was_fixed(jump: int, autojump_clock: MockClock) -> None:
    """Else a clock that is set throws out those who are connected; and what is new would not go by the new time."""
    offset = 0

    def wall() -> int:
        return clock() + offset * 1000

    authenticate = authenticators.jwt(SECRET, clock=wall)
    settings = Settings(ping_interval=1000)
    async with open_test_server(authenticate=authenticate, clock=wall, settings=settings) as made:
        old = await dial(await made.stream(), "/ws?device=a", bearer(token(exp=NOW + 200)))
        offset = jump
        new = await dial(await made.stream(), "/ws?device=b", bearer(token(exp=NOW + 200)))
        ends: dict[str, float] = {}

        async def ends_at(name: str, peer: Peer) -> None:
            await peer.read()
            assert (await peer.closed_with())[0] == CloseCode.UNAUTHORIZED
            ends[name] = round(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends_at, "old", old)
            nursery.start_soon(ends_at, "new", new)
        assert ends == {"old": 200, "new": 200 - jump}


async def test_who_has_expired_already_is_not_let_in(autojump_clock: MockClock) -> None:
    """Else an authenticator that looks only at the signature lets in everybody who ever was."""

    async def authenticate(request: Request) -> Identity:
        return Identity("alice", expires_at=NOW)

    async with open_test_server(authenticate=authenticate, clock=clock) as made:
        reply = await answer(await made.stream(), request())
        assert reply.startswith(b"HTTP/1.1 401 ")
        assert reply.endswith(b"\r\n\r\nunauthorized\n")


async def test_a_script_asks_plainly_whether_it_would_be_let_in(autojump_clock: MockClock) -> None:
    """Else a page cannot tell a token that has expired from a network that is down, and tries again for ever."""
    async with server() as made:
        for origin, readable in ((None, False), ("http://localhost", False), ("https://app.example", True)):
            for shown, status in ((token(), 426), (token(exp=NOW - 1), 401)):
                headers = {"Host": "localhost", "Authorization": f"Bearer {shown}"} | ({"Origin": origin} if origin else {})
                reply = await answer(await made.stream(), request("/ws", headers))
                assert reply.startswith(b"HTTP/1.1 %d " % status)
                assert (f"Access-Control-Allow-Origin: {origin}\r\n".encode() in reply) is readable
        headers = {"Host": "localhost", "Authorization": f"Bearer {token()}", "Origin": "https://evil.example"}
        reply = await answer(await made.stream(), request("/ws", headers))
        assert reply.startswith(b"HTTP/1.1 403 ")
        assert b"Access-Control" not in reply


@pytest.mark.parametrize(
    ("target", "origin", "status"),
    [
        ("/ws", "https://app.example", 200),
        ("/ws", "https://evil.example", 403),
        ("/ws", "http://localhost", 403),
        ("/ws", None, 403),
        ("/healthz", "https://app.example", 405),
        ("/", "https://app.example", 404),
    ],
)
async def test_a_browser_asks_whether_a_listed_page_may_ask(
    target: str, origin: str | None, status: int, autojump_clock: MockClock
) -> None:
    """Else a page on another host may connect, and not find out why it cannot; or any page may find out."""
    headers = {"Host": "localhost", "Access-Control-Request-Method": "GET"} | ({"Origin": origin} if origin else {})
    async with server() as made:
        reply = await answer(await made.stream(), request(target, headers, method="OPTIONS"))
        assert reply.startswith(b"HTTP/1.1 %d " % status)
        assert (b"Access-Control-Allow-Headers: authorization\r\n" in reply) is (status == 200)
