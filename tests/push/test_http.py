"""The client that providers share, and what a request can come to."""

from __future__ import annotations

import logging
import ssl
from functools import partial

import pytest
import trio
import trustme

from trio_chat.push.base import RetryAfter
from trio_chat.push.http import ANSWER_BYTES, SILENT_SECONDS, Answer, NotPublic, open_push_client, post

from .far import CUT, CUT_IN_THE_BODY, ENDLESS, GARBAGE, HANG, Asked, Reply, far_away, serve

URL = "https://push.example/capability/s3cret?key=s3cret"


async def test_a_request_and_its_answer() -> None:
    """Else nothing is sent as the providers want it."""
    async with far_away(Reply(201, b"taken", {"X-Id": "7"})) as (far, http):
        answer = await post(http, URL, headers={"TTL": "60"}, content=b"body")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body, answer.headers["x-id"]) == (201, b"taken", "7")
    (asked,) = far.asked
    assert (asked.method, asked.target, asked.host, asked.body) == (
        "POST",
        "/capability/s3cret?key=s3cret",
        "push.example",
        b"body",
    )
    assert asked.headers == {
        "host": "push.example",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "user-agent": "trio-chat",
        "ttl": "60",
        "content-length": "4",
    }
    assert far.dialled == [("push.example", 443)]
    assert far.names == ["push.example"]


async def test_only_the_host_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Else the endpoint of a subscription, which is a secret, stands in the log of every server that logs at INFO."""
    for library in (None, "httpx2", "httpcore2"):  # a command that logs has made them quiet
        caplog.set_level(logging.DEBUG, logger=library)
    async with far_away(Reply(201)) as (_, http):
        await post(http, URL, headers={"Authorization": "Bearer s3cret"}, content=b"s3cret")
    assert "push.example" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (CUT, "RemoteProtocolError"),
        (CUT_IN_THE_BODY, "RemoteProtocolError"),
        (GARBAGE, "RemoteProtocolError"),
        (HANG, "ReadTimeout"),
    ],
)
async def test_what_hinders_it_is_an_outcome(reply: Reply, why: str, autojump_clock: trio.testing.MockClock) -> None:
    """Else a provider's bad moment ends the task that sends, or keeps it for ever."""
    async with far_away(reply) as (_, http):
        outcome = await post(http, URL, headers={}, content=b"")
    assert outcome == RetryAfter(None, f"push.example was not reached or did not answer: {why}")
    assert trio.current_time() <= SILENT_SECONDS + 1


async def test_an_answer_is_read_so_far_and_no_further() -> None:
    """Else a push service that a device has named fills the memory."""
    async with far_away(ENDLESS) as (_, http):
        answer = await post(http, URL, headers={}, content=b"")
    assert isinstance(answer, Answer)
    assert len(answer.body) == ANSWER_BYTES


async def test_a_redirect_and_a_cookie_lead_nowhere() -> None:
    """Else a public endpoint sends us on to a private address, or hosts fill a jar that all providers share."""
    headers = {"Location": "https://127.0.0.1/", "Set-Cookie": "a=b; Path=/"}
    async with far_away(Reply(307, b"", headers)) as (far, http):
        for _ in range(2):
            answer = await post(http, URL, headers={}, content=b"")
            assert isinstance(answer, Answer)
            assert answer.status == 307
        assert len(http.cookies) == 0
    assert [asked.host for asked in far.asked] == ["push.example"] * 2
    assert "cookie" not in far.asked[1].headers


async def test_the_address_that_was_looked_at_is_the_one_that_is_dialled() -> None:
    """Else a name that leads elsewhere when it is resolved once more gets past the look."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    async with far_away(Reply(201), lambda _: next(answers)) as (far, http):
        await post(http, URL, headers={"Connection": "close"}, content=b"", public_only=True)
        assert far.dialled == [("93.184.215.14", 443)]
        assert far.names == ["push.example"]  # the certificate is the name's all the same
        with pytest.raises(NotPublic):
            await post(http, URL, headers={}, content=b"", public_only=True)
    assert len(far.dialled) == 1


async def test_private_addresses_among_public_ones_are_passed_over() -> None:
    """Else one public address vouches for a private one beside it; the next one is tried if one is down."""
    addresses = ["10.0.0.1", "93.184.215.14", "::1", "93.184.215.15", "::ffff:127.0.0.1"]
    async with far_away(Reply(201), lambda _: addresses) as (far, http):
        far.refused.add("93.184.215.14")
        answer = await post(http, URL, headers={}, content=b"", public_only=True)
        assert isinstance(answer, Answer)
        assert far.dialled == [("93.184.215.14", 443), ("93.184.215.15", 443)]


async def test_a_connection_that_was_dialled_without_a_look_carries_no_other_request() -> None:
    """Else an endpoint at the host of the application's own webhook gets through by its connection."""
    async with far_away(Reply(200), lambda _: ["10.0.0.1"]) as (far, http):
        await post(http, "https://inside.example/hook", headers={}, content=b"")
        with pytest.raises(NotPublic):
            await post(http, "https://inside.example/endpoint", headers={}, content=b"", public_only=True)
    assert [asked.target for asked in far.asked] == ["/hook"]


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else credentials go by way of whatever a shell had set, once."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with far_away(Reply(201)) as (far, http):
        await post(http, URL, headers={}, content=b"")
    assert far.dialled == [("push.example", 443)]


async def test_with_sockets_and_tls() -> None:
    """Else what works in memory does not on a network: the certificate is checked, and a refused port is an outcome."""
    asked: list[Asked] = []

    def take(request: Asked) -> Reply:
        asked.append(request)
        return Reply(201)

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    async with trio.open_nursery() as nursery:

        async def connection(stream: trio.SSLStream[trio.SocketStream]) -> None:
            try:
                await serve(stream, take)
            except trio.BrokenResourceError:  # the certificate was not believed
                await trio.aclose_forcefully(stream)

        listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, connection, 0, theirs, host="localhost"))
        port = listeners[0].transport_listener.socket.getsockname()[1]
        url = f"https://localhost:{port}/here"
        async with open_push_client(ssl_context=ours) as http:
            answer = await post(http, url, headers={}, content=b"over TLS")
            assert isinstance(answer, Answer)
            with pytest.raises(NotPublic):
                await post(http, url, headers={}, content=b"", public_only=True)
        async with open_push_client() as stranger:
            assert isinstance(await post(stranger, url, headers={}, content=b"secret"), RetryAfter)
        nursery.cancel_scope.cancel()
    assert [(request.target, request.body) for request in asked] == [("/here", b"over TLS")]
    async with open_push_client(ssl_context=ours) as http:
        assert isinstance(await post(http, url, headers={}, content=b""), RetryAfter)  # nobody listens any more
