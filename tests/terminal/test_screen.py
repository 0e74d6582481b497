"""``trio-chat chat`` in a terminal, looked at as a person does."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from trio_chat.store.memory import MemoryStore

from ..processes import command, done, server
from ..support import HeldStore
from .servers import on_a_port
from .teletype import COLUMNS, teletype
from .test_send import nowhere

pytestmark = pytest.mark.process


async def test_two_people_chat_and_one_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Else what README promises first is not so: states, typing, presence, an outage while somebody types, history."""
    db = tmp_path / "chat.db"
    async with server(db) as (serving, url):
        port = url.rpartition(":")[2].removesuffix("/ws")
        chats = ("chat", "--url", url, "--as")
        async with teletype(*chats, "alice", "bob") as alice:
            await alice.shows("alice")
            await alice.type("are you there?\r")
            await alice.shows("alice: are you there?  stored")
            async with teletype(*chats, "bob", "alice") as bob:
                await bob.shows("alice: are you there?")
                await alice.shows("alice: are you there?  read")
                await bob.type("yes")
                await alice.until(lambda: "is writing" in alice.bar, "typing")
                await bob.type("\r")
                await alice.shows("bob: yes")
                await alice.until(lambda: "bob is here" in alice.bar, "presence")
                await bob.shows("bob: yes  read")
                # The server is restarted while alice types.
                await alice.type("half of it")
                serving.signal(signal.SIGKILL)
                await alice.until(lambda: "no connection" in alice.bar, "the outage")
                await alice.type(", and the rest\r")
                await alice.shows("alice: half of it, and the rest  sent")
                async with server(db, port=port):
                    await alice.shows("alice: half of it, and the rest  read")
                    await bob.shows("alice: half of it, and the rest")
                    await bob.type("\x04")
                    assert await bob.ended() == 0
                    assert b"\x1b[?1049l" in bob.raw.rpartition(b"\x1b[?1049h")[2]  # the terminal is as it was
                    await alice.until(lambda: "is here" not in alice.bar, "that he has left")
                    await alice.type("gone?\r")
                    await alice.shows("alice: gone?  stored")
                    async with teletype(*chats, "bob", "alice") as bob_again:
                        await bob_again.shows("bob: yes  read", "alice: half of it, and the rest", "alice: gone?")
                        await alice.shows("alice: gone?  read")
                        bob_again.process.send_signal(signal.SIGTERM)
                        assert await bob_again.ended() == 143
                        assert b"\x1b[?1049l" in bob_again.raw.rpartition(b"\x1b[?1049h")[2]
                    await alice.type("\x03")
                    assert await alice.ended() == 130
                    assert b"Traceback" not in alice.raw + bob.raw + bob_again.raw


async def test_no_message_steers_the_terminal() -> None:
    """Else whoever writes to somebody can clear their screen, change its title, or put words into others' mouths."""
    attack = "\x1b[2J\x1b]0;owned\x07\u202egnp\x9b31m\n08:00 alice: I owe you\r" + " " * (COLUMNS * 2) + "alice: all"
    async with on_a_port(MemoryStore()) as url:
        await done("send", "--as", "bob", "--to", "alice", "--url", url, attack)
        await done("send", "--as", "eve", "--to", "alice", "--url", url, "me\x1b[2J too")
        async with teletype("chat", "--as", "alice", "bob", "--url", url) as alice:
            await alice.shows("bob: \\x1b[2J\\x1b]0;owned\\x07\\u202egnp\\x9b31m", "eve writes: me\\x1b[2J too")
            assert b"owned\x07" not in alice.raw
            assert "\u202e".encode() not in alice.raw
            assert not [row for row in alice.rows if re.match(r"(\d\d:\d\d )?alice: ", row)]
            assert [row for row in alice.rows if row.startswith("      │ 08:00 alice: I owe you\\r")]


async def test_what_is_not_stored_is_waited_for_when_somebody_leaves() -> None:
    """Else the last words before Ctrl-D are lost without a sign."""
    store = HeldStore()
    async with on_a_port(store) as url, teletype("chat", "--as", "alice", "bob", "--url", url, "--wait", "60") as alice:
        await alice.until(lambda: alice.bar.endswith("alice"), "the connection")
        store.hold()
        await alice.type("last words\r")
        await alice.shows("last words  sent")
        await alice.type("\x04")
        await alice.until(lambda: "1 not stored yet" in alice.bar, "why it does not leave")
        store.release()
        assert await alice.ended() == 0
        assert store.texts("bob") == ["last words"]


async def test_what_is_left_at_the_end_is_told_and_kept_with_state(tmp_path: Path) -> None:
    """Else somebody believes that it was sent; or has to write it again, though the file has it."""
    url, state = nowhere(), tmp_path / "state.db"
    for more, told in (("--wait", "0.5"), b"lost"), (("--state", state), b"kept"):
        async with teletype("chat", "--as", "alice", "bob", "--url", url, *more) as alice:
            await alice.until(lambda: "no connection" in alice.bar, "that there is no server")
            await alice.type("words\r")
            await alice.shows("words  sent")
            await alice.type("\x04")
            assert await alice.ended() == 3
            await alice.until(lambda: told in alice.raw, "what becomes of it")  # noqa: B023
    store = HeldStore()
    async with on_a_port(store) as there:
        assert (await done("chat", "--as", "alice", "bob", "--url", there, "--state", state))[0] == 0
        assert store.texts("bob") == ["words"]


async def test_replaced_or_refused_it_says_so() -> None:
    """Else it looks as if it went on, or the terminal is left in disorder."""
    async with on_a_port(MemoryStore()) as url:
        async with teletype("chat", "--as", "alice", "bob", "--url", url) as alice:
            await alice.until(lambda: alice.bar.endswith("alice"), "the connection")
            async with command("listen", "--as", "alice", "--url", url, "--device", "cli-chat"):
                assert await alice.ended() == 1
                await alice.until(lambda: b"Error: closed with 4409" in alice.raw, "why")
                assert b"\x1b[?1049l" in alice.raw
        async with teletype("chat", "--as", "alice", "bob", "--url", url) as alice:
            await alice.until(lambda: alice.bar.endswith("alice"), "the connection")
            await alice.type("x" * 20_000 + "\r")
            await alice.until(lambda: any("refused" in row for row in alice.rows), "the refusal")


async def test_somebody_can_leaf_back(tmp_path: Path) -> None:
    """Else what is above the screen, or before the first page, is out of reach."""
    async with on_a_port(MemoryStore()) as url:
        given = "\n".join(f"line {n}" for n in range(120)).encode()
        assert (await done("chat", "--as", "bob", "alice", "--url", url, given=given))[0] == 0
        await done("listen", "--as", "alice", "--url", url, "--count", "120")  # so that only history has them
        async with teletype("chat", "--as", "alice", "bob", "--url", url) as alice:
            await alice.shows("bob: line 119")
            while not any("bob: line 0" in row for row in alice.rows):
                before = alice.rows
                await alice.type("\x1b[5~")
                await alice.until(lambda: alice.rows != before, "an earlier page")  # noqa: B023
            assert "Page Down" in alice.bar
            while not any("bob: line 119" in row for row in alice.rows):
                before = alice.rows
                await alice.type("\x1b[6~")
                await alice.until(lambda: alice.rows != before, "a later page")  # noqa: B023
