"""The bots in the README, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_chat import authenticators, open_chat, serve_tcp
from trio_chat.client import open_client
from trio_chat.store.memory import MemoryStore

pytestmark = pytest.mark.process

README = Path(__file__).parents[1] / "README.md"


def bots() -> dict[str, str]:
    """The programs, by the event loop they run under."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {block.split()[1]: block for block in blocks if "open_client" in block}


def test_there_are_two_and_they_are_short() -> None:
    """Else the README no longer shows what it promises: ten lines, under either event loop."""
    assert set(bots()) == {"trio", "asyncio"}
    for bot in bots().values():
        assert len([line for line in bot.splitlines() if line]) <= 10


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
async def test_a_bot_echoes_others_and_not_itself(loop: str, tmp_path: Path) -> None:
    """The first thing that the author of a bot copies would not work, or talk to itself for ever."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticators.demo))
        port = listener.socket.getsockname()[1]
        program = bots()[loop].replace(":6662", f":{port}")
        assert f":{port}" in program
        process = await trio.lowlevel.open_process([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE)
        try:
            with trio.fail_after(60):
                url = f"ws://127.0.0.1:{port}/ws?user="
                async with open_client(url + "alice") as alice, open_client(url + "echo", device="other") as echo:
                    stream = alice.messages()
                    await alice.send("echo", "one")
                    assert (await anext(stream)).text == "You said: one"
                    # The bot's own user writes, to others and to itself, from another device: none of it is answered.
                    await echo.send("alice", "by hand")
                    await echo.send("echo", "a note to myself")
                    assert (await anext(stream)).text == "by hand"
                    await alice.send("echo", "two")
                    assert (await anext(stream)).text == "You said: two"
                    assert process.returncode is None
        finally:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()
            assert process.stderr is not None
            await process.stderr.aclose()  # noqa: ASYNC102
        nursery.cancel_scope.cancel()
        assert (tmp_path / "bot.db").exists()
