"""A thousand connections over sockets, some of whose clients do not read, are told within a second of a revocation."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_chat import Chat, Settings, authenticators, open_chat, serve_tcp, wire
from trio_chat.errors import CloseCode

from ..support import dial
from ..transport.peer import TEXT, frame
from .slow import deaf

pytestmark = pytest.mark.timed

READING = 950
DEAF = 50
ROUNDS = 3
SECONDS = 1.0
CLIENTS = Path(__file__).parent / "bystanders.py"


async def test_a_thousand_connections_are_told_within_a_second(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, who is locked out stays as long as there are many of them, or as long as they do not read."""
    rounds = [await _round(tmp_path / f"{number}.db") for number in range(ROUNDS)]
    for half, last, gone, busy in rounds:
        figures(
            f"{READING + DEAF} connections, {DEAF} of which do not read: half were told after {half * 1000:.0f} ms, the "
            f"last after {last * 1000:.0f} ms; taken apart after {gone * 1000:.0f} ms, {busy * 1000:.0f} of them busy"
        )
    assert statistics.median(last for _, last, _, _ in rounds) < SECONDS
    assert max(gone for _, _, gone, _ in rounds) < 10  # deaf and mute since they were revoked; those who do not read, too


async def _round(db: Path) -> tuple[float, float, float, float]:
    many = 2 * READING
    settings = Settings(user_connections=many, devices=many, new_devices=many, half_open=many, send_rate=None)
    async with open_chat(db, settings=settings) as chat, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticators.demo))
        # What the system takes off the server's hands is no longer waiting: the connections inherit a small buffer.
        listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        port = listeners[0].socket.getsockname()[1]
        command = [sys.executable, str(CLIENTS), str(port), str(READING), "eve"]
        clients = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        try:
            assert clients.stdout is not None
            with trio.fail_after(60):
                said = bytes(await clients.stdout.receive_some())
            assert said.strip() == b"ready"  # a pipe may cut a line anywhere
            silent = await _silent(port)
            assert READING + DEAF <= chat.registry.sessions <= READING + DEAF + 1  # alice is about to leave
            began, cpu = time.monotonic(), time.process_time()
            for user in ("eve", *(f"deaf{number}" for number in range(DEAF))):
                chat.revoke(user)
            gone, busy = await _gone(chat) - began, time.process_time() - cpu
            with trio.fail_after(60):
                told = b"".join([data async for data in clients.stdout]).split()
        finally:
            clients.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await clients.wait()
                await clients.stdout.aclose()  # type: ignore[union-attr]
        for stream in silent:
            await trio.aclose_forcefully(stream)
        assert [int(code) for code in told[1::2]] == [CloseCode.UNAUTHORIZED] * READING
        moments = sorted(float(moment) - began for moment in told[::2])
        nursery.cancel_scope.cancel()
    return statistics.median(moments), moments[-1], gone, busy


async def _silent(port: int) -> list[trio.SocketStream]:
    """Connections on which the server is in the middle of a write that does not end."""
    silent = [await deaf(port, f"deaf{number}") for number in range(DEAF)]
    alice = await dial(await trio.open_tcp_stream("127.0.0.1", port), "/ws?user=alice")
    assert await alice.read()
    count = 4 * DEAF  # more than the buffers hold
    for number in range(count):
        text = wire.encode(wire.Send(id=f"m{number}", to=f"deaf{number % DEAF}", text="x" * 16_000))
        await alice.send(frame(TEXT, text))
    answered = 0
    while answered < count:
        read = await alice.read()
        assert read is not None
        said = wire.decode_server(read[1])
        answered += len(said.messages) if isinstance(said, wire.Stored) else 0
    await alice.stream.aclose()
    return silent


async def _gone(chat: Chat) -> float:
    while chat.registry.sessions:  # noqa: ASYNC110  (there is no event for it)
        await trio.sleep(0.005)
    return time.monotonic()
