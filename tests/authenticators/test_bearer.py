"""Where a token is looked for, and where it is not."""

from __future__ import annotations

import pytest

from trio_chat.authenticators.bearer import bearer_token
from trio_chat.errors import Refused
from trio_chat.transport.http import Request


def asking(*headers: tuple[str, str], query: tuple[tuple[str, str], ...] = ()) -> Request:
    return Request("GET", "/ws", query, headers, None, secure=False, upgrade=True)


PROTOCOL = "sec-websocket-protocol"


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer a.b.c")],
        [("authorization", "bearer   a.b.c ")],
        [(PROTOCOL, "trio-chat.v1, bearer.a.b.c")],
        [(PROTOCOL, "bearer.a.b.c,trio-chat.v1")],
        [(PROTOCOL, "trio-chat.v1"), (PROTOCOL, "bearer.a.b.c")],
    ],
)
def test_a_token_is_found(headers: list[tuple[str, str]]) -> None:
    """Else programs, or browsers, which can set no other header of a WebSocket, cannot show a token."""
    assert bearer_token(asking(*headers)) == "a.b.c"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Basic YTpi")],
        [("authorization", "a.b.c")],
        [("authorization", "Bearer, Bearer a.b.c")],
        [(PROTOCOL, "trio-chat.v1, token.a.b.c")],
        [("cookie", "bearer=a.b.c")],
    ],
)
def test_no_token_is_found(headers: list[tuple[str, str]]) -> None:
    """Else something that is no token, or that a browser adds by itself, opens the door."""
    with pytest.raises(Refused):
        bearer_token(asking(*headers, query=(("token", "a.b.c"),)))


def test_the_query_is_looked_at_only_when_asked_for() -> None:
    """Else tokens in URLs work for everybody, and stand in everybody's access logs."""
    request = asking(query=(("token", "a.b.c"), ("t", "d.e.f")))
    assert bearer_token(request, query="t") == "d.e.f"
    with pytest.raises(Refused):
        bearer_token(request)


@pytest.mark.parametrize(
    "request_",
    [
        asking(("authorization", "Bearer a"), (PROTOCOL, "bearer.a")),
        asking((PROTOCOL, "bearer.a, bearer.b")),
        asking(("authorization", "Bearer a"), query=(("t", "a"),)),
        asking(query=(("t", "a"), ("t", "b"))),
    ],
)
def test_two_tokens_are_refused(request_: Request) -> None:
    """Else a proxy that checks the one and this server, which believes the other, mean two different users."""
    with pytest.raises(Refused, match="more than one"):
        bearer_token(request_, query="t")
