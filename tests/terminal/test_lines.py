"""``trio-chat chat`` without a terminal: a filter."""

from __future__ import annotations

import signal
import subprocess

import pytest

from trio_chat.store.memory import MemoryStore

from ..processes import command, done, one_sentence
from ..support import HeldStore
from .servers import on_a_port
from .test_send import nowhere

pytestmark = pytest.mark.process


async def test_each_line_is_a_message_in_order() -> None:
    """Else what is piped into it arrives in another order, in part, or with lines that nobody wrote."""
    store = HeldStore()
    async with on_a_port(store) as url:
        lines = [f"line {n}" for n in range(90)]
        given = "\r\n".join(["", *lines, "", "no end"]).encode()
        assert await done("chat", "--as", "alice", "bob", "--url", url, given=given) == (0, "", "")
        assert store.texts("bob") == [*lines, "no end"]


async def test_what_comes_is_printed_while_the_input_lasts() -> None:
    """Else nothing can answer by way of it; and what others write must not pass for the peer's words, nor get lost."""
    async with (
        on_a_port(MemoryStore()) as url,
        command("chat", "--as", "alice", "bob", "--url", url, stdin=subprocess.PIPE) as chatting,
    ):
        assert chatting.process.stdin is not None
        await chatting.process.stdin.send_all(b"hi\n")
        code, said, _ = await done("listen", "--as", "bob", "--url", url, "--count", "1")
        assert (code, said) == (0, "alice: hi\n")
        await done("send", "--as", "eve", "--to", "alice", "--url", url, "psst\x1b[2J")
        await done("send", "--as", "bob", "--to", "alice", "--url", url, "yes\nalice: no")
        assert await chatting.complaint() == "eve writes: psst\\x1b[2J"
        assert await chatting.line() == "yes\\nalice: no"
        await chatting.process.stdin.aclose()
        assert await chatting.ended() == (0, "")


async def test_a_line_that_is_refused_is_told_and_the_others_are_sent() -> None:
    """Else one bad line hides behind the success of the others, or takes them with it."""
    store = HeldStore()
    async with on_a_port(store) as url:
        given = b"one\n\xff\ntwo\n" + b"x" * 20_000 + b"\n" + b"y" * 3_000_000 + b"\nthree\n"
        code, said, errors = await done("chat", "--as", "alice", "bob", "--url", url, given=given)
        assert (code, said) == (1, "")
        told = errors.splitlines()
        assert sorted(line.partition(" was")[0] for line in told[:-1]) == ["line 2", "line 4", "line 5"]
        assert one_sentence(told[-1])
        assert store.texts("bob") == ["one", "two", "three"]


async def test_at_the_end_it_waits_for_what_is_not_stored_but_not_for_ever() -> None:
    """Else a pipeline hangs, or ends well although its last lines are lost."""
    store = HeldStore()
    async with on_a_port(store) as url:
        store.hold()
        code, _, errors = await done("chat", "--as", "alice", "bob", "--url", url, "--wait", "0.5", given=b"one\n")
        store.release()
        assert code == 3
        assert "1 not known to be stored" in errors
    code, _, errors = await done("chat", "--as", "alice", "bob", "--url", nowhere(), "--wait", "0.5", given=b"one\ntwo\n")
    assert code == 3
    assert "2 not known to be stored" in errors


async def test_interrupted_or_unread_it_leaves_quietly() -> None:
    """Else Ctrl-C hangs in a read of standard input, or shows a traceback."""
    async with on_a_port(MemoryStore()) as url:
        sends = ("send", "--as", "bob", "--to", "alice", "--url", url)
        chats = ("chat", "--as", "alice", "bob", "--url", url)
        async with command(*chats, stdin=subprocess.PIPE) as chatting:
            await done(*sends, "one")
            await chatting.line()
            chatting.signal(signal.SIGINT)
            assert await chatting.ended() == (130, "")
        async with command(*chats, stdin=subprocess.PIPE) as chatting:
            await done(*sends, "two")
            await chatting.line()
            assert chatting.process.stdout is not None
            await chatting.process.stdout.aclose()
            await done(*sends, "three")
            assert await chatting.ended() == (0, "")
