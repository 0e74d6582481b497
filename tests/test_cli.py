"""The command line: as processes, as a user runs them; and its options."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from trio_chat import wire
from trio_chat.cli import main
from trio_chat.client.raw import ClosedByServer, open_raw_client
from trio_chat.errors import CloseCode

from .processes import PATIENCE, command, done, one_sentence, server
from .support import UPGRADE, closed, dial, frame
from .support import send as sending
from .transport.peer import CLOSE

pytestmark = pytest.mark.process


async def test_two_people_chat(tmp_path: Path) -> None:
    """Else the five minutes of somebody who tries it end here: bob away has it when he comes, once."""
    db = tmp_path / "chat.db"
    async with server(db) as (serving, url):
        sends = ("send", "--as", "alice", "--to", "bob", "--url", url)
        assert await done(*sends, "hi bob\x1b[2J\nsecond line") == (0, "1\n", "")
        assert await done(*sends, "zwei 👩‍💻") == (0, "2\n", "")
        code, said, _ = await done("listen", "--as", "bob", "--url", url, "--count", "2")
        assert (code, said) == (0, "alice: hi bob\\x1b[2J\\nsecond line\nalice: zwei 👩‍💻\n")
        async with command("listen", "--as", "bob", "--url", url, "--json") as listening:
            text = "drei \x9b31m \u202e \U000e0001"
            assert (await done(*sends, "--id", "my-id", text))[0] == 0
            line = await listening.line()  # and not what was acknowledged before
            assert line.isprintable()
            entry = msgspec.json.decode(line)
            assert entry.pop("sent_at") > 1_700_000_000_000
            assert entry.pop("kind", "message") == "message"  # may be left out
            assert entry == {"seq": 3, "id": "my-id", "from": "alice", "to": "bob", "text": text}
            assert await done(*sends, "--id", "my-id", text) == (0, "3\n", "")
            code, _, errors = await done(*sends, "--id", "my-id", "other")
            assert code == 1
            assert one_sentence(errors)
            assert "id_conflict" in errors
            listening.signal(signal.SIGINT)
            assert await listening.ended() == (130, "")
        async with command("serve", "--demo", "--port", "0", "--db", db) as second:
            code, errors = await second.ended()
            assert code == 1
            assert one_sentence(errors)
            assert str(serving.pid) in errors
        port = url.rpartition(":")[2].removesuffix("/ws")
        async with command("serve", "--demo", "--port", port, "--db", tmp_path / "other.db") as taken:
            code, errors = await taken.ended()
            assert code == 1
            assert one_sentence(errors.splitlines()[-1])  # it has made the file before, and logged that
            assert "in use" in errors
        serving.signal(signal.SIGTERM)
        assert (await serving.ended())[0] == 0
    assert (db.stat().st_mode & 0o777) == 0o600


async def test_the_demo_has_its_page(tmp_path: Path) -> None:
    """Else whoever tries it opens the address that the server names, and nothing is there."""
    async with server(tmp_path / "chat.db") as (_, url):
        host, _, port = url.removeprefix("ws://").removesuffix("/ws").partition(":")
        for path, text in {"/": "<title>trio-chat</title>", "/trio-chat.js": "export async function connect"}.items():
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
                answer = b"".join([data async for data in stream])
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert text in answer.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(number: int, tmp_path: Path) -> None:
    """Else a restart cuts clients off, loses answers, or shows as a failure to whoever supervises the process."""
    async with server(tmp_path / "chat.db", "--rate-limit", "off") as (serving, url):
        async with open_raw_client(f"{url}?user=alice") as alice, open_raw_client(f"{url}?user=bob") as bob:
            await frame(alice, wire.Welcome)
            await frame(bob, wire.Welcome)
            for n in range(50):
                await alice.send(sending(f"a{n}", "bob"))
            await frame(alice, wire.Stored)
            serving.signal(number)
            for client in (alice, bob):
                end = await closed(client)
                assert end.code == CloseCode.GOING_AWAY
                assert end.reason.startswith("retry_after=")
        code, errors = await serving.ended()
        assert code == 0
        assert "ERROR" not in errors


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Else an operator in a hurry, or with a client that does not go, has to reach for SIGKILL (failures 26)."""
    patient = {"TRIO_CHAT_CLOSE_TIMEOUT": "30", "TRIO_CHAT_WRITE_TIMEOUT": "30"}
    async with server(tmp_path / "chat.db", env=patient) as (serving, url):
        address = url.removeprefix("ws://").removesuffix("/ws")
        host, _, port = address.partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stuck:
            peer = await dial(stuck, "/ws?user=eve", UPGRADE | {"Host": address})
            await peer.read()
            serving.signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE):
                while (read := await peer.read()) is not None and read[0] != CLOSE:
                    pass
            assert read is not None  # and that is not answered, so the drain waits
            serving.signal(signal.SIGTERM)
            with trio.fail_after(3):
                code = await serving.process.wait()
            assert code == -signal.SIGTERM


async def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    """Else ``trio-chat listen | head -1`` ends with a traceback."""
    async with (
        server(tmp_path / "chat.db") as (_, url),
        command("listen", "--as", "bob", "--url", url) as listening,
        open_raw_client(f"{url}?user=alice&window=0") as alice,
    ):
        await frame(alice, wire.Welcome)
        await alice.send(sending("a", "bob"))
        await listening.line()
        assert listening.process.stdout is not None
        await listening.process.stdout.aclose()
        await alice.send(sending("b", "bob"))
        assert await listening.ended() == (0, "")


# Options. In this process, which is faster.


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


WRONG = {
    "no-command": (),
    "unknown": ("chat-with-me",),
    "no-authenticator": ("serve",),
    "demo-for-everybody": ("serve", "--demo", "--host", "0.0.0.0"),
    "demo-for-everybody-6": ("serve", "--demo", "--host", "::"),
    "demo-on-a-name": ("serve", "--demo", "--host", "chat.example"),
    "port": ("serve", "--demo", "--port", "65536"),
    "rate-words": ("serve", "--demo", "--rate-limit", "often"),
    "rate-0": ("serve", "--demo", "--rate-limit", "0"),
    "rate-nan": ("serve", "--demo", "--rate-limit", "nan"),
    "rate-inf": ("serve", "--demo", "--rate-limit", "inf"),
    "no-sender": ("send", "--to", "bob", "x"),
    "no-text": ("send", "--as", "alice", "--to", "bob"),
    "empty-text": ("send", "--as", "alice", "--to", "bob", ""),
    "text-not-utf8": ("send", "--as", "alice", "--to", "bob", "\udcff"),
    "text-nul": ("send", "--as", "alice", "--to", "bob", "a\0b"),
    "empty-id": ("send", "--as", "", "--to", "bob", "x"),
    "control-id": ("send", "--as", "a\nb", "--to", "bob", "x"),
    "long-id": ("send", "--as", "alice", "--to", "b" * 129, "x"),
    "long-message-id": ("send", "--as", "alice", "--to", "bob", "--id", "x" * 65, "x"),
    "url-http": ("send", "--as", "alice", "--to", "bob", "--url", "http://localhost", "x"),
    "url-host": ("send", "--as", "alice", "--to", "bob", "--url", "ws:///ws", "x"),
    "url-bracket": ("send", "--as", "alice", "--to", "bob", "--url", "ws://[::1/ws", "x"),
    "url-port": ("listen", "--as", "alice", "--url", "ws://localhost:99999/ws"),
    "nobody": ("listen",),
    "nobody-chats": ("chat", "bob"),
    "no-peer": ("chat", "--as", "alice"),
    "token-with-a-break": ("listen", "--token", "a\nb"),
    "no-patience": ("send", "--as", "alice", "--to", "bob", "--wait", "0", "x"),
    "count-0": ("listen", "--as", "alice", "--count", "0"),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_told_and_nothing_is_done(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a mistake shows as a traceback, starts something else than was meant, or lets everybody be anyone."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.output.strip()
    assert not list(tmp_path.iterdir())


def test_without_an_authenticator_it_says_how_to_get_one() -> None:
    """Else whoever starts it without reading does not know how to go on."""
    output = run("serve").output
    assert "--demo" in output
    assert "authenticator" in output


def test_a_file_that_cannot_be_served_is_told(tmp_path: Path) -> None:
    """Else a wrong path shows as a traceback; and a file of something else must not be touched."""
    other = tmp_path / "other.txt"
    other.write_text("these are my notes" * 100)
    for db in (other, tmp_path / "nowhere" / "chat.db"):
        result = run("serve", "--demo", "--port", "0", "--db", str(db))
        assert result.exit_code == 1
        assert one_sentence(result.output)
    assert other.read_text() == "these are my notes" * 100


def test_help_and_version() -> None:
    """Else nobody finds out what there is."""
    for command_name in ("serve", "send", "listen", "chat"):
        result = run(command_name, "--help")
        assert result.exit_code == 0
        assert "--" in result.output
    assert "trio-chat" in run("--version").output


def test_closing_codes_are_sentences() -> None:
    """Else a person who listens is shown a number only."""
    for code in CloseCode:
        assert code.meaning in str(ClosedByServer(code, ""))
