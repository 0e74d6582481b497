"""``trio-chat listen``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from trio_chat.store.memory import MemoryStore

from ..processes import command, done, server
from .servers import on_a_port
from .test_send import nowhere

pytestmark = pytest.mark.process


async def test_it_comes_back_when_the_server_does(tmp_path: Path) -> None:
    """Else every restart of the server ends whoever listens; scripts would loop around it, and lose what they print."""
    db, state = tmp_path / "chat.db", tmp_path / "state.db"
    async with server(db) as (serving, url):
        port = url.rpartition(":")[2].removesuffix("/ws")
        sends = ("send", "--as", "alice", "--to", "bob", "--url", url)
        async with command("listen", "--as", "bob", "--url", url, "--state", state) as listening:
            assert (await done(*sends, "one"))[0] == 0
            assert await listening.line() == "alice: one"
            serving.signal(signal.SIGKILL)
            assert (await listening.complaint()).startswith("no connection: ")
            async with server(db, port=port):
                assert await listening.complaint() == "connected"
                assert (await done(*sends, "two"))[0] == 0
                assert await listening.line() == "alice: two"  # and not what it had before
                listening.signal(signal.SIGINT)
                assert await listening.ended() == (130, "")
                assert (await done(*sends, "three"))[0] == 0
                code, said, _ = await done("listen", "--as", "bob", "--url", url, "--state", state, "--count", "1")
                assert (code, said) == (0, "alice: three\n")


async def test_it_can_have_enough_of_waiting() -> None:
    """Else a script has no way to hear that there is no server."""
    code, said, errors = await done("listen", "--as", "bob", "--url", nowhere(), "--wait", "0.3")
    assert (code, said) == (3, "")
    assert "not reached" in errors


async def test_a_second_one_ends_the_first_unless_it_is_another_device() -> None:
    """Else two of them would throw one another out for ever, or nobody knows why the first has ended."""
    async with on_a_port(MemoryStore()) as url:
        listens = ("listen", "--as", "bob", "--url", url)
        sends = ("send", "--as", "alice", "--to", "bob", "--url", url)
        for device in ("other", "cli-listen"):  # known to the server, so that each has a cursor of its own
            await done(*sends, "zero")
            assert (await done(*listens, "--device", device, "--count", "1"))[1] == "alice: zero\n"
        async with command(*listens) as listening, command(*listens, "--device", "other") as other:
            assert await other.line() == "alice: zero"
            await done(*sends, "one")
            assert [await listening.line(), await other.line()] == ["alice: one"] * 2
            async with command(*listens) as second:
                code, errors = await listening.ended()
                assert code == 1
                assert "4409" in errors
                await done(*sends, "two")
                assert [await second.line(), await other.line()] == ["alice: two"] * 2


async def test_own_messages_are_not_printed_but_those_to_oneself() -> None:
    """Else a bot in a pipe answers itself; or notes to oneself get lost."""
    async with on_a_port(MemoryStore()) as url:
        for to in ("bob", "alice"):
            await done("send", "--as", "alice", "--to", to, "--url", url, f"to {to}")
        code, said, _ = await done("listen", "--as", "alice", "--url", url, "--count", "1")
        assert (code, said) == (0, "alice: to alice\n")
