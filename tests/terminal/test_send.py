"""``trio-chat send``."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import trio

from trio_chat.core.batch import Batch, Results
from trio_chat.store.memory import MemoryStore

from ..processes import PATIENCE, command, done, one_sentence, server
from ..support import HeldStore
from .servers import bearer, on_a_port

pytestmark = pytest.mark.process


def nowhere() -> str:
    """The URL of a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        return f"ws://127.0.0.1:{other.getsockname()[1]}/ws"


class Drafting(HeldStore):
    """Holds the commit of the first message, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.drafted = trio.Event()

    async def append(self, batch: Batch, now: int) -> Results:
        if batch.drafts and not self.drafted.is_set():
            self.hold()
            self.drafted.set()
        return await super().append(batch, now)


async def test_what_is_not_stored_in_time_is_told_and_kept(tmp_path: Path) -> None:
    """Else ``send`` hangs for ever, a script takes silence for success, or a message that was promised is never sent."""
    state = tmp_path / "state.db"
    port = nowhere().rpartition(":")[2].removesuffix("/ws")
    sends = ("send", "--as", "alice", "--to", "bob", "--url", f"ws://127.0.0.1:{port}")
    code, said, errors = await done(*sends, "--wait", "0.5", "gone")
    assert (code, said) == (3, "")
    assert one_sentence(errors.splitlines()[-1])
    assert "not reached" in errors
    for text in ("one", "two"):
        code, said, errors = await done(*sends, "--wait", "0.5", "--state", state, text)
        assert (code, said) == (3, "")
        assert f"kept in {state}" in errors
    code, _, errors = await done("send", "--as", "eve", "--to", "bob", "--url", sends[-1], "--state", state, "x")
    assert code == 1
    assert "'alice'" in errors  # and not: sent in eve's name
    async with server(tmp_path / "chat.db", port=port) as (_, url):
        assert await done(*sends, "--state", state, "three") == (0, "3\n", "")
        code, said, _ = await done("listen", "--as", "bob", "--url", url, "--count", "3")
        assert (code, said) == (0, "alice: one\nalice: two\nalice: three\n")


async def test_killed_before_it_returned_the_message_still_arrives_once(tmp_path: Path) -> None:
    """Else ``--state`` promises what it does not keep: the process is killed while the server commits its message."""
    store, state = Drafting(), tmp_path / "state.db"
    async with on_a_port(store) as url:
        async with command("send", "--as", "alice", "--to", "bob", "--url", url, "--state", state, "survivor") as sending:
            with trio.fail_after(PATIENCE):
                await store.drafted.wait()
            sending.signal(signal.SIGKILL)
            await sending.process.wait()
        store.release()
        given = ("chat", "--as", "alice", "bob", "--url", url, "--state", state)
        assert await done(*given, given=b"after\n") == (0, "", "")
        assert store.texts("bob") == ["survivor", "after"]


async def test_interrupted_it_leaves_quietly(tmp_path: Path) -> None:
    """Else whoever has waited long enough is shown a traceback."""
    async with command("send", "--as", "alice", "--to", "bob", "--url", nowhere(), "--wait", "60", "x") as sending:
        assert "no connection" in await sending.complaint()
        sending.signal(signal.SIGINT)
        assert await sending.ended() == (130, "")


async def test_a_token_proves_who_it_is() -> None:
    """Else no server but a demo can be talked to; or a message is sent in the name of the token's owner by mistake."""
    store = MemoryStore()
    async with on_a_port(store, bearer) as url:
        sends = ("send", "--to", "bob", "--url", url)
        assert (await done(*sends, "x", env={"TRIO_CHAT_TOKEN": "ALICE"}))[:2] == (0, "1\n")
        assert (await done(*sends, "--token", "ALICE", "--as", "alice", "x"))[:2] == (0, "2\n")
        code, said, errors = await done(*sends, "--token", "EVE", "--as", "alice", "x")
        assert (code, said) == (1, "")
        assert "for 'eve'" in errors
        code, said, errors = await done(*sends, "--token", "nonsense", "x")
        assert (code, said) == (1, "")
        assert "401" in errors
        assert len(store.log("bob")) == 2


async def test_a_refusal_is_a_sentence() -> None:
    """Else a text that is too long is tried again for ever, or shows as a traceback."""
    async with on_a_port(MemoryStore()) as url:
        code, said, errors = await done("send", "--as", "alice", "--to", "bob", "--url", url, "x" * 20_000)
        assert (code, said) == (1, "")
        assert one_sentence(errors)
        assert "too_large" in errors
