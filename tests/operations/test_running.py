"""A server as an operator runs it: its listener, its commands, its log, and a socket that outlives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from click.testing import CliRunner, Result

from trio_chat import wire
from trio_chat.cli import main
from trio_chat.client import open_client
from trio_chat.client.raw import open_raw_client
from trio_chat.errors import CloseCode, IdConflict, Unauthorized
from trio_chat.operations import running

from ..processes import Command, command, done, handing_over, one_sentence
from ..support import closed, frame


@pytest.mark.process
async def test_a_whole_run(tmp_path: Path) -> None:
    """Else the operator's commands do not reach the server; or its log holds what is nobody's business (failures 32)."""
    db, key = tmp_path / "chat.db", tmp_path / "key"
    code, token, _ = await done("token", "--user", "alice", "--key-file", key)
    assert code == 0
    config, signs = tmp_path / "chat.toml", tmp_path / "signs"
    signs.write_text("sIgNs" * 8)  # noqa: ASYNC240
    config.write_text(f'push_webhook_url = "https://app.example/?uRl"\npush_webhook_secret_file = "{signs}"')  # noqa: ASYNC240
    options = ("--jwt-key-file", key, "--port", "0", "--admin-port", "0", "--log-format", "json", "--watch-stalls",
               "--config", config)  # fmt: skip
    async with command("serve", "--db", db, *options) as serving:
        url = (await serving.line()).partition("(WebSockets at ")[2].partition(")")[0]
        admin = (await serving.line()).rpartition(" ")[2]
        async with open_client(f"{url}?note=qUeRy", token=token.strip(), device="phone") as alice:
            await alice.send("bob", "tExt of alice's", id="a1")
            assert (await alice.register_push("webhook", "phone", "tArGeT")).targets[0].device == "phone"
            with pytest.raises(IdConflict):
                await alice.send("bob", "another tExt", id="a1")
            async with open_client(f"{url}?token=qUeRy", token="bad.tOkEn.here") as eve:
                with pytest.raises(Unauthorized):
                    await eve.wait_connected()
            code, said, _ = await done("stats", "--admin", admin, "--json")
            held = json.loads(said)
            assert (code, held["devices"], held["progress"]["refused"]) == (0, 1, {"id_conflict": 1})
            assert held["turned_away"] == {"401": 1}
            code, said, _ = await done("users", "--db", db)
            assert code == 0
            assert said.startswith("alice  1 entries")
            assert await done("revoke", "--user", "alice", "--admin", admin) == (0, "closed: phone\n", "")
            with pytest.raises(Unauthorized):
                await anext(alice.messages())
        async with httpx2.AsyncClient(trust_env=False) as prometheus:
            metrics = (await prometheus.get(f"{admin}/metrics")).text
        assert "trio_chat_messages_stored_total 1.0" in metrics
        serving.signal(signal.SIGTERM)
        code, log = await serving.ended()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines() if '"severity"' not in line]  # perpetuo has a format of its own
    (connection,) = [line for line in lines if "connection" in line]
    assert (connection["user"], connection["device"], connection["client"], connection["closed"]) == (
        "alice", "phone", "127.0.0.1", 4401,
    )  # fmt: skip
    (refused,) = [line for line in lines if line.get("status") == 401]
    assert refused["client"] == "127.0.0.1"
    for secret in (
        "tExt",
        "qUeRy",
        "tOkEn",
        "tArGeT",
        "sIgNs",
        "uRl",
        token.strip(),
        token.split(".")[2].strip(),
        key.read_text().strip(),
    ):
        assert secret not in log


@pytest.mark.process
async def test_a_socket_that_is_handed_over(tmp_path: Path) -> None:
    """Else systemd holds a socket that nobody serves; or takes the server for one that never becomes ready."""
    with socket.create_server(("127.0.0.1", 0)) as held, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(name := str(tmp_path / "notify"))
        hears.settimeout(30)
        process = await trio.lowlevel.open_process(
            handing_over(held.fileno(), "serve", "--demo", "--db", tmp_path / "chat.db"),
            pass_fds=[held.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"},
        )
        serving = Command(process)
        try:
            port = held.getsockname()[1]
            assert f"http://127.0.0.1:{port} " in await serving.line()
            told = {await trio.to_thread.run_sync(hears.recv, 100) for _ in range(2)}
            assert told == {b"READY=1", b"WATCHDOG=1"}
            async with open_raw_client(f"ws://127.0.0.1:{port}/ws?user=alice") as alice:
                await frame(alice, wire.Welcome)
                serving.signal(signal.SIGTERM)
                assert (await closed(alice)).code == CloseCode.GOING_AWAY
            assert await trio.to_thread.run_sync(hears.recv, 100) == b"STOPPING=1"
            assert (await serving.ended())[0] == 0
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                await trio.aclose_forcefully(stream)
        async with await trio.open_tcp_stream("127.0.0.1", port):  # the server is gone, and nobody is refused
            pass


# The commands, in this process.


_Client = httpx2.Client


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def answering(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> list[httpx2.Request]:
    """What the commands ask, which is answered so."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(status, content=body)

    monkeypatch.setattr(httpx2, "Client", lambda **_: _Client(transport=httpx2.MockTransport(answer)))
    return asked


def test_stats_are_lines_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an operator reads JSON in the middle of the night."""
    held = {
        "devices": 3,
        "closed": {"4401": 2},
        "seconds": {"bounds": [1], "counts": [3, 1], "sum": 8.0, "max": 5.0},
        "uptime": 1.25,
    }
    answering(monkeypatch, 200, json.dumps(held).encode())
    assert run("stats").output.splitlines() == [
        "devices  3", "closed.4401  2", "seconds  4 times, mean 2, max 5", "uptime  1.2",
    ]  # fmt: skip
    answering(monkeypatch, 200, b'{"push":{"fcm":{"misconfigured":"\\u001b[2Jno"}}}')
    assert run("stats").output == "push.fcm.misconfigured  \\x1b[2Jno\n"
    none: dict[str, Any] = {"seconds": {"bounds": [1], "counts": [0, 0], "sum": 0.0, "max": 0.0}}
    assert running.lines(none) == [("seconds", "0 times, mean 0, max 0")]


def test_revoke_says_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else somebody else is thrown out, or nobody knows whether anybody was."""
    asked = answering(monkeypatch, 200, b'{"user":"a&b","devices":["x\\u202e","y"]}')
    assert run("revoke", "--user", "a&b").output == "closed: x\\u202e, y\n"
    assert run("revoke", "--user", "a&b", "--device", "x", "--json").output == '{"user":"a&b","devices":["x\\u202e","y"]}\n'
    assert [(request.method, str(request.url)) for request in asked] == [
        ("POST", "http://127.0.0.1:6663/revoke?user=a%26b"),
        ("POST", "http://127.0.0.1:6663/revoke?user=a%26b&device=x"),
    ]
    answering(monkeypatch, 200, b'{"user":"bob","devices":[]}')
    assert run("revoke", "--user", "bob").output == "no device was connected\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b"pages are not answered here\x1b[2J\n", "the server refused: 403 pages are not answered here\\x1b[2J"),
        (200, b"<html>", "is no operator's listener of trio-chat"),
    ],
)
def test_another_answer_is_one_sentence(status: int, body: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whatever answers there shows as a traceback."""
    answering(monkeypatch, status, body)
    result = run("stats")
    assert result.exit_code == 1
    assert said in result.output
    assert one_sentence(result.output)


@pytest.mark.parametrize(("url", "code"), [("http://127.0.0.1:1", 3), ("ftp://127.0.0.1", 2), ("nonsense", 2)])
def test_no_server_is_one_sentence(url: str, code: int) -> None:
    """Else a script cannot tell a server that is down from a mistake of its own."""
    result = run("stats", "--admin", url)
    assert result.exit_code == code, result.output
    assert one_sentence(result.output)


def test_push_that_cannot_be_set_up_ends_it(tmp_path: Path) -> None:
    """Else a server starts that tells nobody, and a slip in a path is found out when the first person complains."""
    environ = {"TRIO_CHAT_PUSH_FCM_ACCOUNT": str(tmp_path / "none.json")}
    result = CliRunner().invoke(main, ["serve", "--demo", "--db", str(tmp_path / "chat.db")], env=environ)
    assert result.exit_code == 1
    assert one_sentence(result.output)
    assert "none.json cannot be read" in result.output
    assert not (tmp_path / "chat.db").exists()


def test_metrics_are_not_exposed_by_accident() -> None:
    """Else a listener that anybody can ask is opened by a host that was copied from somewhere."""
    result = run("serve", "--demo", "--admin-port", "6663", "--admin-host", "0.0.0.0")
    assert result.exit_code == 2
    assert "--admin-exposed" in result.output
