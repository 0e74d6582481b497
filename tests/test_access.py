"""How the command line tells who connects: keys in files, tokens for development, and what is wrong with either."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import jwt as pyjwt
import pytest
import trio
from click.testing import CliRunner, Result

from trio_chat import wire
from trio_chat.cli import main

from .authenticators.tokens import jwk, private_pem, public_der, public_pem
from .processes import command, one_sentence
from .support import UPGRADE, answer, dial, request
from .transport.peer import Peer

pytestmark = pytest.mark.process


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


async def connected(port: int, token: str, target: str = "/ws") -> Peer:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    return await dial(stream, target, UPGRADE | {"Authorization": f"Bearer {token}"})


async def test_a_token_opens_the_server_that_has_its_key(tmp_path: Path) -> None:
    """Else the five minutes after the demo end here: a secret is made, and a token that the server believes."""
    key = tmp_path / "chat.key"
    made = run("token", "--user", "alice", "--key-file", key, "--device", "phone")
    assert made.exit_code == 0, made.output
    assert made.stderr == f"made a new secret in {key}; serve believes its tokens with --jwt-key-file {key}\n"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = run("token", "--user", "bob", "--key-file", key, "--expires", "7d")
    assert (again.exit_code, again.stderr) == (0, "")
    alice, bob = made.stdout.strip(), again.stdout.strip()
    options: list[str | Path] = [
        "--jwt-key-file",
        key,
        "--allow-origin",
        "https://app.example",
        "--trusted-proxy",
        "127.0.0.1",
    ]
    async with command("serve", "--host", "0.0.0.0", "--port", "0", "--db", tmp_path / "chat.db", *options) as serving:
        line = await serving.line()
        assert line.startswith("trio-chat is listening on http://0.0.0.0:"), line
        port = int(line.partition("//0.0.0.0:")[2].partition(" ")[0])
        for token, target, who in (
            (alice, "/ws?device=ignored", ("alice", "phone")),
            (bob, "/ws?device=web", ("bob", "web")),
        ):
            peer = await connected(port, token, target)
            read = await peer.read()
            assert read is not None
            welcome = wire.decode_server(read[1])
            assert isinstance(welcome, wire.Welcome)
            assert (welcome.user, welcome.device) == who
            await peer.stream.aclose()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            reply = await answer(
                stream, request("/ws?user=alice&token=" + alice, UPGRADE | {"Origin": "https://app.example"})
            )
            assert reply.startswith(b"HTTP/1.1 401 ")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            reply = await answer(stream, request("/ws", UPGRADE | {"Origin": "https://evil.example"}))
            assert reply.startswith(b"HTTP/1.1 403 ")
        serving.process.terminate()
        code, said = await serving.ended()
        assert code == 0
        for secret in (alice, bob, key.read_text().strip()):
            assert secret not in said


async def test_a_set_of_keys_and_an_audience(tmp_path: Path) -> None:
    """Else an operator whose log-in publishes its keys cannot use them, or every service's tokens are good for the chat."""
    private = written(tmp_path / "private.pem", private_pem("P-256"))
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [jwk("P-256")]}))
    made = run("token", "--user", "alice", "--key-file", private, "--audience", "chat", "--issuer", "https://login.example")
    other = run("token", "--user", "alice", "--key-file", private, "--audience", "shop", "--issuer", "https://login.example")
    assert (made.exit_code, made.stderr, other.exit_code) == (0, "", 0)
    options: list[str | Path]
    options = ["--jwt-jwks-file", keys, "--jwt-audience", "chat", "--jwt-issuer", "https://login.example"]
    async with command("serve", "--port", "0", "--db", tmp_path / "chat.db", *options) as serving:
        port = int((await serving.line()).partition("//127.0.0.1:")[2].partition(" ")[0])
        peer = await connected(port, made.stdout.strip())
        assert await peer.read()
        await peer.stream.aclose()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            headers = UPGRADE | {"Authorization": f"Bearer {other.stdout.strip()}"}
            assert (await answer(stream, request("/ws", headers))).startswith(b"HTTP/1.1 401 ")


def test_exactly_one_way_to_tell_who_connects(tmp_path: Path) -> None:
    """Else a server believes less, or more, than its operator wrote."""
    key = written(tmp_path / "key", b"k" * 32)
    jwks = written(tmp_path / "jwks", json.dumps({"keys": [jwk()]}).encode())
    for options, says in (
        ([], "no way to tell"),
        (["--demo", "--jwt-key-file", key], "alternatives"),
        (["--demo", "--jwt-jwks-file", jwks], "alternatives"),
        (["--jwt-key-file", key, "--jwt-jwks-file", jwks], "alternatives"),
        (["--demo", "--jwt-audience", "chat"], "nothing to --demo"),
        (["--demo", "--jwt-issuer", "x"], "nothing to --demo"),
        (["--demo", "--jwt-user-claim", "x"], "nothing to --demo"),
        (["--demo", "--host", "0.0.0.0"], "this machine only"),
    ):
        result = run("serve", "--db", tmp_path / "chat.db", *options)
        assert result.exit_code == 2, result.output
        assert one_sentence(result.stderr)
        assert says in result.stderr
    assert not (tmp_path / "chat.db").exists()


BAD_KEYS = {
    "short": (b"k" * 31 + b"\n", "31 bytes"),
    "empty": (b"", "0 bytes"),
    "private": (private_pem(), "private key"),
    "DER": (public_der(), "DER"),
    "set": (json.dumps({"keys": [jwk()]}).encode(), "jwks"),
    "broken": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
}


@pytest.mark.parametrize(("data", "says"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_file_is_told_in_one_sentence(data: bytes, says: str, tmp_path: Path) -> None:
    """Else a server starts with a key that anybody can guess or knows, or says what it is by a traceback."""
    file = written(tmp_path / "the.key", data)
    result = run("serve", "--db", tmp_path / "chat.db", "--jwt-key-file", file)
    assert result.exit_code == 2
    assert one_sentence(result.stderr)
    assert str(file) in result.stderr
    assert says in result.stderr
    assert "AAAA" not in result.output


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    """Else a misspelt path is a traceback."""
    for option in ("--jwt-key-file", "--jwt-jwks-file"):
        result = run("serve", "--db", tmp_path / "chat.db", option, tmp_path / "nowhere")
        assert result.exit_code == 2
        assert one_sentence(result.stderr)
        assert "nowhere cannot be read: No such file or directory" in result.stderr
    result = run("token", "--user", "alice", "--key-file", tmp_path / "no" / "folder")
    assert result.exit_code == 1
    assert one_sentence(result.stderr)
    assert "cannot be made" in result.stderr


def test_a_public_key_makes_no_token(tmp_path: Path) -> None:
    """Else what is printed is no token, or one that is signed with what everybody knows."""
    result = run("token", "--user", "alice", "--key-file", written(tmp_path / "public.pem", public_pem()))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "public key" in result.stderr
    assert one_sentence(result.stderr)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_warned_of(mode: int, tmp_path: Path) -> None:
    """Else everybody on the machine can be anybody in the chat, and the operator does not know."""
    for data in (b"k" * 32, private_pem()):
        file = written(tmp_path / "key", data, mode)
        result = run("token", "--user", "alice", "--key-file", file)
        assert result.exit_code == 0
        assert "warning: others can read the secret" in result.stderr
        assert "k" * 32 not in result.output
    public = written(tmp_path / "public.pem", public_pem(), mode)
    result = run("serve", "--db", tmp_path / "no" / "where" / "chat.db", "--jwt-key-file", public)
    assert "warning" not in result.stderr


@pytest.mark.parametrize("line_end", [b"", b"\n", b"\r\n"])
def test_the_line_end_of_a_secret_is_no_part_of_it(line_end: bytes, tmp_path: Path) -> None:
    """Else a secret that was saved by an editor is another one than its owner sees."""
    ended = written(tmp_path / "ended", b"k" * 32 + line_end)
    token = run("token", "--user", "a", "--key-file", ended).stdout.strip()
    assert pyjwt.decode(token, b"k" * 32, algorithms=["HS256"])["sub"] == "a"
    binary = written(tmp_path / "binary", bytes(range(200, 231)) + b"\n")
    assert run("token", "--user", "a", "--key-file", binary).exit_code == 0  # 32 bytes, the last of them a line end


@pytest.mark.parametrize("time", ["0", "-1", "1w", "h", "", "1.5h", "9" * 10])
def test_times_that_are_none(time: str, tmp_path: Path) -> None:
    """Else a token expires at another time than was meant."""
    result = run("token", "--user", "a", "--key-file", tmp_path / "key", "--expires", time)
    assert result.exit_code == 2
    assert "90s, 15m, 1h or 7d" in result.stderr
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(("option", "value"), [("--allow-origin", "app.example"), ("--trusted-proxy", "nobody")])
def test_what_is_no_origin_and_no_proxy_is_told(option: str, value: str, tmp_path: Path) -> None:
    """Else nobody is let in from there, and nobody is told why."""
    result = run("serve", "--demo", "--port", "0", "--db", tmp_path / "chat.db", option, value)
    assert result.exit_code == 1
    assert value in result.stderr
    assert one_sentence(result.stderr.splitlines()[-1])
