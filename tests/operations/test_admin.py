"""The operator's listener."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from unittest import mock

import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from trio_chat import Settings, wire
from trio_chat.chat import open_chat
from trio_chat.errors import CloseCode, ErrorCode, StoreUnavailable
from trio_chat.operations import admin
from trio_chat.operations.metrics import METRICS
from trio_chat.serve import guarded
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import InMemoryServer, open_test_server

from ..support import closed, enter, frame, send


class Operator:
    """Asks the listener of a chat, from this machine or from another."""

    def __init__(self, answers: admin._Answers) -> None:
        self._answers = answers

    async def says(self, request: bytes) -> bytes:
        here, there = trio.testing.memory_stream_pair()
        async with here, trio.open_nursery() as nursery:
            nursery.start_soon(guarded, there, partial(admin._serve_one, self._answers))
            await here.send_all(request)
            await here.send_eof()
            answer = [data async for data in here]
        return b"".join(answer)

    async def asks(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        fields = {"Host": "127.0.0.1:6663", **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        head, _, body = (await self.says(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@asynccontextmanager
async def listening(
    settings: Settings | None = None, *, local: bool = True
) -> AsyncIterator[tuple[InMemoryServer, Operator]]:
    """A server, and its operator, who is on this machine or not: of a stream in memory nobody can tell."""
    with mock.patch.object(admin, "_is_local", return_value=local):
        async with open_test_server(settings=settings) as server:
            yield server, Operator(admin._Answers(server.chat))


async def test_health_and_readiness_are_two_things(autojump_clock: MockClock) -> None:
    """Else a supervisor kills a server that drains, or a proxy sends clients to one."""
    async with listening() as (server, operator):
        assert await operator.asks("/healthz") == (200, b"ok\n")
        assert await operator.asks("/readyz") == (200, b"ok\n")
        assert await operator.asks("/readyz", "HEAD") == (200, b"")
        await server.chat.drain()
        assert await operator.asks("/healthz") == (200, b"ok\n")
        assert await operator.asks("/readyz") == (503, b"draining\n")


async def test_the_operator_is_told_what_failed(autojump_clock: MockClock) -> None:
    """A page at night that says 503 and nothing else."""
    async with listening() as (server, operator):
        assert isinstance(server.store, MemoryStore)
        server.store.failure = "the disk is gone"
        assert await operator.asks("/healthz") == (503, b"the disk is gone\n")
        assert await operator.asks("/readyz") == (503, b"the disk is gone\n")
        server.store.failure = None
        server.chat.registry._committer.refused_at = trio.current_time()
        assert await operator.asks("/readyz") == (503, b"the store refused a batch a moment ago\n")
        assert (await operator.asks("/healthz"))[0] == 200


async def test_metrics_are_read_by_prometheus_own_parser(autojump_clock: MockClock) -> None:
    """Else a scrape fails as a whole, on the day that it is needed."""
    async with listening(Settings(send_rate=0.001, send_burst=1)) as (server, operator):
        alice = await enter(server, "alice")
        bob = await enter(server, "bob")
        await alice.send(send("a", "bob"), send("b", "bob"))
        await frame(alice, wire.Stored)
        assert (await frame(alice, wire.Error)).code == ErrorCode.RATE_LIMITED
        server.chat.revoke("bob")
        assert (await closed(bob)).code == CloseCode.UNAUTHORIZED
        await trio.sleep(2)  # until it has ended, too; by the virtual clock
        server.chat.admission.turned_away[401] += 2
        await operator.asks("/metrics")
        status, text = await operator.asks("/metrics")  # as they are now, and not as they were
        assert status == 200
        families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert set(families) == {f"trio_chat_{row.name}" for row in METRICS} | {"trio_chat_healthy", "trio_chat_ready"}
    values = {
        (sample.name, *sample.labels.values()): sample.value for family in families.values() for sample in family.samples
    }
    assert values["trio_chat_messages_stored_total",] == 1
    assert values["trio_chat_refused_total", "rate_limited"] == 1
    assert values["trio_chat_refused_total", "internal"] == 0
    assert values["trio_chat_closed_total", "4401"] == 1
    assert values["trio_chat_turned_away_total", "401"] == 2
    assert values["trio_chat_devices",] == 1
    assert values["trio_chat_healthy",] == values["trio_chat_ready",] == 1
    commits = values["trio_chat_commit_seconds_count",]
    assert commits >= 3
    assert commits == values["trio_chat_commit_seconds_bucket", "+Inf"] == values["trio_chat_commit_rows_count",]
    for row in METRICS:
        assert families[f"trio_chat_{row.name}"].type == row.kind
        assert families[f"trio_chat_{row.name}"].documentation == row.meaning


async def test_statistics_are_one_object(autojump_clock: MockClock) -> None:
    """Else ``trio-chat stats`` has nothing to show."""
    async with listening() as (server, operator):
        await enter(server, "alice")
        _, text = await operator.asks("/statistics")
        held = msgspec.json.decode(text)
    assert held["devices"] == 1
    assert held["progress"]["commits"]["rows"]["sum"] == 1
    assert held["uptime"] >= 0


async def test_revoking_closes(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Else somebody whose account was closed goes on reading until they leave by themselves."""
    async with listening() as (server, operator):
        phone, tablet = await enter(server, "alice"), await enter(server, "alice", "tablet")
        await enter(server, "bob")
        with caplog.at_level(logging.INFO, "trio_chat.admin"):
            assert await operator.asks("/revoke?user=alice&device=tablet", "POST") == (
                200, b'{"user":"alice","devices":["tablet"]}\n',
            )  # fmt: skip
        assert (await closed(tablet)).code == CloseCode.UNAUTHORIZED
        assert await operator.asks("/revoke?user=alice", "POST", Content_Length="0") == (
            200, b'{"user":"alice","devices":["phone"]}\n',
        )  # fmt: skip
        assert (await closed(phone)).code == CloseCode.UNAUTHORIZED
        assert server.chat.statistics().devices == 1
    assert [record.getMessage() for record in caplog.records] == ["revoked 'alice', device 'tablet'"]


REFUSED = {
    "a-page-looks": (403, "/metrics", "GET", {"Origin": "https://evil.example"}),
    "a-page-of-this-host": (403, "/metrics", "GET", {"Origin": "http://127.0.0.1"}),
    "an-image-in-a-page": (403, "/metrics", "GET", {"Sec-Fetch-Site": "cross-site"}),
    "a-page-revokes": (403, "/revoke?user=alice", "POST", {"Origin": "https://evil.example"}),
    "a-sandboxed-page": (403, "/revoke?user=alice", "POST", {"Origin": "null"}),
    "by-a-name-that-leads-here": (403, "/revoke?user=alice", "POST", {"Host": "evil.example:6663"}),
    "by-another-address": (403, "/revoke?user=alice", "POST", {"Host": "10.0.0.1"}),
    "by-looking": (405, "/revoke?user=alice", "GET", {}),
    "posting-metrics": (405, "/metrics", "POST", {}),
    "no-user": (400, "/revoke", "POST", {}),
    "a-bad-user": (400, "/revoke?user=", "POST", {}),
    "a-bad-device": (400, "/revoke?user=alice&device=", "POST", {}),
    "two-users": (400, "/revoke?user=alice&user=bob", "POST", {}),
    "a-body": (400, "/revoke?user=alice", "POST", {"Content-Length": "5"}),
    "chunked": (400, "/revoke?user=alice", "POST", {"Transfer-Encoding": "chunked"}),
    "elsewhere": (404, "/../etc/passwd%00", "GET", {}),
    "nothing": (404, "/", "GET", {}),
    "another-method": (405, "/metrics", "DELETE", {}),
    "a-websocket": (404, "/ws", "GET", {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                                       "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}),
    "too-much": (431, "/metrics", "GET", {"X": "x" * 20_000}),
}  # fmt: skip


@pytest.mark.parametrize(("status", "path", "method", "headers"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused(
    status: int, path: str, method: str, headers: dict[str, str], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a page that the operator looks at reads the metrics or throws users out; or a stranger's bytes do harm."""
    async with listening() as (server, operator):
        await enter(server, "alice")
        expected = 400 if "%00" in path else status
        with caplog.at_level(logging.INFO):
            assert (await operator.asks(path, method, **headers))[0] == expected
        assert server.chat.statistics().devices == 1
        assert (await operator.asks("/healthz"))[0] == 200
    assert "alice" not in caplog.text


async def test_only_this_machine_changes_anything(autojump_clock: MockClock) -> None:
    """Else whoever may look at the metrics of a listener that is exposed may throw users out as well."""
    async with listening(local=False) as (server, operator):
        await enter(server, "alice")
        assert (await operator.asks("/statistics"))[0] == 200
        assert (await operator.asks("/revoke?user=alice", "POST"))[0] == 403
        assert server.chat.statistics().devices == 1


JUNK = [b"", b"\x00\xff" * 100, b"GET", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("data", JUNK)
async def test_junk_ends_one_connection(data: bytes, autojump_clock: MockClock) -> None:
    """Else one packet ends what watches the server, or the server itself."""
    async with listening() as (_, operator):
        assert b"200" not in await operator.says(data)
        assert (await operator.asks("/healthz"))[0] == 200


async def test_who_says_nothing_is_gone_soon(autojump_clock: MockClock) -> None:
    """Else somebody holds all its places for nothing, and the monitor cannot get in."""
    async with open_chat(MemoryStore()) as chat:
        here, there = trio.testing.memory_stream_pair()
        began = trio.current_time()
        await here.send_all(b"GET /metr")
        await admin._serve_one(admin._Answers(chat), there)
        assert trio.current_time() - began == 5
        await trio.aclose_forcefully(there)


async def test_there_are_places_for_so_many() -> None:
    """Else whoever reaches it opens connections until the server has no descriptors left for its clients."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(admin.serve_admin, chat, 0))
        address = listener.socket.getsockname()
        assert address[0] == "127.0.0.1"
        idle = [await trio.open_tcp_stream(*address) for _ in range(admin._AT_ONCE)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with await trio.open_tcp_stream(*address) as stream:
            assert await stream.receive_some() == b""
        for one in idle:
            await trio.aclose_forcefully(one)
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"POST /revoke?user=alice HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
        nursery.cancel_scope.cancel()


async def test_without_the_extra_metrics_say_so(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who has not installed it sees a traceback, and no health either."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with listening() as (_, operator):
        status, text = await operator.asks("/metrics")
        assert status == 501
        assert b"trio-chat[metrics]" in text
        assert (await operator.asks("/healthz"))[0] == 200


def test_what_is_this_machine_only() -> None:
    """Else metrics are open to everybody although nobody said so."""
    hosts = ["127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "chat.example", ""]
    assert [host for host in hosts if admin.is_loopback(host)] == hosts[:4]


def test_the_host_that_was_asked_for() -> None:
    """Else a name of an attacker's that the DNS leads here is taken for this machine's."""
    hosts = ["127.0.0.1:6663", "[::1]:6663", "[::1]", "localhost", None, "evil.example", "evil.example:1", "localhost.evil"]
    assert [host for host in hosts if admin._names_address(host)] == hosts[:4]


async def test_a_fault_in_the_store_is_seen(autojump_clock: MockClock) -> None:
    """Else batches are refused and no metric moves."""
    async with open_chat(store := MemoryStore()) as chat:
        store.fail_next(StoreUnavailable("gone"))
        with pytest.raises(StoreUnavailable):
            await chat.send("alice", "bob", "hi")
        assert chat.statistics().progress.commits.failed == 1
