"""The Autobahn TestSuite, all of it: against what our connections are made of, and against the chat server itself.

An echo is what the suite expects of a server, so its verdicts are about `echo.py`: the same functions at the front door,
the same transport and engine. The chat server says other things, but a rule of RFC 6455 that is broken has to end a
connection to it with the very same code.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from .autobahn import Verdict
from .conftest import Record
from .harness import HERE, STARTING, Lines, serving
from .peers import connect

GROUPS = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
IN_GROUPS = 247
LIMITS = ("9.*",)
IN_LIMITS = 54
COMPRESSION = ("12.*", "13.*")
"""It is not offered: each of these is to find that out and go."""
IN_COMPRESSION = 216
BROKEN = {1002, 1007}


async def verdicts(address: str, cases: Sequence[str], seconds: float = 900.0) -> dict[str, Verdict]:
    """What the suite makes of these cases."""
    command = [sys.executable, str(HERE / "autobahn.py"), address, *cases]
    with trio.fail_after(seconds):
        ran = await trio.run_process(command, capture_stdout=True)
    found = [msgspec.json.decode(line, type=Verdict) for line in ran.stdout.splitlines()]
    return {verdict.case: verdict for verdict in found}


@asynccontextmanager
async def echoing(engine: str) -> AsyncIterator[int]:
    """`echo.py` with that engine; the port it listens at."""
    command = [sys.executable, str(HERE / "echo.py"), "--engine", engine]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            with trio.fail_after(STARTING):
                line = await Lines(process.stdout).next()
            yield int(line.rpartition(":")[2])
            assert process.returncode is None, "a case has ended the server"
        finally:
            with trio.CancelScope(shield=True):
                await process.stdin.aclose()
                with trio.move_on_after(5):
                    await process.wait()
                process.kill()
                await process.wait()
    assert process.returncode == 0


@pytest.mark.parametrize("engine", ["injected"])
async def test_the_suite_finds_nothing(engine: str, record: Record) -> None:
    """If this fails, a client that keeps to RFC 6455 does not get along with us, or one that does not is let off."""
    async with echoing(engine) as port:
        judged = await verdicts(f"ws://127.0.0.1:{port}", [*GROUPS, *LIMITS])
        compression = await verdicts(f"ws://127.0.0.1:{port}", COMPRESSION)
    assert len(judged) == IN_GROUPS + IN_LIMITS
    assert len(compression) == IN_COMPRESSION
    offered = [v for v in compression.values() if v.behaviour != "UNIMPLEMENTED" or v.extensions]
    failed = [v for v in judged.values() if v.behaviour not in ("OK", "NON-STRICT", "INFORMATIONAL")]
    unclean = [v for v in judged.values() if v.close not in ("OK", "INFORMATIONAL")]
    counts = Counter(verdict.behaviour.lower() for verdict in judged.values())
    record(
        f"autobahn-{engine}",
        cases=len(judged),
        failed=len(failed),
        wrong_or_unclean_closes=len(unclean),
        **{f"verdicts_{word.replace('-', '_')}": times for word, times in counts.items()},
        compression_not_offered=len(compression) - len(offered),
        closed_with_1002=sum(verdict.code == 1002 for verdict in judged.values()),
        closed_with_1007=sum(verdict.code == 1007 for verdict in judged.values()),
    )
    assert not failed
    assert not unclean
    assert not offered


async def test_the_chat_server_ends_them_with_the_same_codes(tmp_path: Path, record: Record) -> None:
    """If this fails, what the suite says of the engine does not hold for the server that people talk to."""
    async with echoing("injected") as port:
        echoed = await verdicts(f"ws://127.0.0.1:{port}", GROUPS)
    # What the suite is told besides keeps it from liking anything, so only the ends are compared: of what the server ends,
    # and of what the suite itself does.
    codes = {case: verdict.code for case, verdict in echoed.items() if verdict.code in BROKEN or case.startswith("7.")}
    async with serving(tmp_path / "chat.db") as server:
        answered = await verdicts(f"ws://127.0.0.1:{server.port}/ws?user=autobahn&window=0", list(codes))
        assert await server.health() == 200
        peer = await connect(server.port, "afterwards")
        async with peer.stream:
            assert (await peer.read())[0]["type"] == "welcome"
        assert "Traceback" not in server.log()
    wrong = {case: (code, answered[case].code) for case, code in codes.items() if answered[case].code != code}
    broken = sum(code in BROKEN for code in codes.values())
    record("autobahn-chat", cases=len(answered), broken_rules=broken, with_the_same_code=len(codes) - len(wrong))
    assert broken > 100
    assert not wrong
