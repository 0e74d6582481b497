"""A restart behind a socket that outlives the server refuses nobody, and loses and doubles nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import pytest
import trio

from trio_chat.client import Connected, Disconnected, Timing, open_client

from ..processes import handing_over

pytestmark = pytest.mark.timed

CLIENTS = 500
PACE = 2.0
"""Seconds between two messages of a client, so that there are 250 a second: these clients share the server's cores."""
BACK = 5.0
"""Seconds from the loss of a connection to the next ``welcome``, at most, on a machine that has nothing else to do."""
STARTING = 1.2
"""How many seconds such a machine takes to start a server. A busy one takes longer for that, and for the rest as well."""
SPREAD = 2.0
"""Over how many seconds clients are told to come back: they wait in the backlog, so they may come soon (docs/operate.md)."""


class Crowd:
    """What the clients went through."""

    def __init__(self) -> None:
        self.sent: dict[int, list[str]] = {number: [] for number in range(CLIENTS)}
        self.stored = 0
        self.came: dict[int, list[str]] = {number: [] for number in range(CLIENTS)}
        self.connected = 0
        self.ready = trio.Event()
        self.away: list[float] = []
        self.losses: list[Disconnected] = []
        self.stop = trio.Event()
        self.finished = trio.Event()

    @property
    def missing(self) -> int:
        """How many messages have not come."""
        return sum(map(len, self.sent.values())) - sum(map(len, self.came.values()))

    async def live(self, number: int, port: int) -> None:
        """Send to the next one at a steady pace until told to stop, then wait for what is not stored."""
        user, peer = f"user{number}", f"user{(number + 1) % CLIENTS}"
        url = f"ws://127.0.0.1:{port}/ws?user={user}"
        async with open_client(url, device="phone", timing=Timing(patience=30.0)) as chat, trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, chat.events())
            nursery.start_soon(self._listen, number, chat.messages())
            await chat.wait_connected()
            await self.ready.wait()
            await trio.sleep(number / CLIENTS * PACE)
            async with trio.open_nursery() as sending:
                while not self.stop.is_set():
                    text = f"{user} says {len(self.sent[number])}"
                    self.sent[number].append(text)
                    sending.start_soon(self._send, chat, peer, text)
                    with trio.move_on_after(PACE):
                        await self.stop.wait()
            await self.finished.wait()
            nursery.cancel_scope.cancel()

    async def _send(self, chat: object, peer: str, text: str) -> None:
        await chat.send(peer, text)  # type: ignore[attr-defined]
        self.stored += 1

    async def _listen(self, number: int, messages: AsyncIterator[object]) -> None:
        async for message in messages:
            self.came[number].append(message.text)  # type: ignore[attr-defined]

    async def _watch(self, events: AsyncIterator[object]) -> None:
        lost: float | None = None
        async for event in events:
            if isinstance(event, Connected):
                self.connected += 1
                if self.connected == CLIENTS:
                    self.ready.set()
                if lost is not None:
                    self.away.append(trio.current_time() - lost)
                    lost = None
            elif isinstance(event, Disconnected):
                self.losses.append(event)
                lost = trio.current_time() if lost is None else lost


@asynccontextmanager
async def started(held: socket.socket, db: Path) -> AsyncIterator[trio.Process]:
    """The server, with the socket as systemd hands it over: as descriptor 3, and with the server's own process id."""
    serve = handing_over(held.fileno(), "serve", "--demo", "--rate-limit", "off", "--db", db)
    with db.with_suffix(".log").open("a") as errors:
        process = await trio.lowlevel.open_process(
            serve,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=[held.fileno()],
            env={**os.environ, "TRIO_CHAT_RETRY_SPREAD": str(SPREAD)},
        )
    try:
        assert process.stdout is not None
        with trio.fail_after(30):
            said = await process.stdout.receive_some()
        assert said.startswith(b"trio-chat is listening on http://127.0.0.1:"), (said, db.with_suffix(".log").read_text())
        yield process
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


class Prober:
    """Somebody who asks for the server's health every 50 ms, by a connection of their own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: Counter[str] = Counter()
        self.waited = 0.0
        self.scope = trio.CancelScope()

    async def probe(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._ask)
                    await trio.sleep(0.05)

    async def _ask(self) -> None:
        began = trio.current_time()
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                answer = await stream.receive_some()
        except trio.BrokenResourceError:
            answer = b"cut off"
        except OSError:
            answer = b"refused"
        self.waited = max(self.waited, trio.current_time() - began)
        self.answers[answer[:12].decode() or "cut off"] += 1


async def test_a_restart_refuses_nobody(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """If this fails, putting a new version in place costs messages, or throws people out for longer than they notice."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as held:
        port = held.getsockname()[1]
        crowd, prober = Crowd(), Prober(port)
        async with trio.open_nursery() as nursery:
            async with started(held, tmp_path / "chat.db") as old:
                for number in range(CLIENTS):
                    nursery.start_soon(crowd.live, number, port)
                with trio.fail_after(120):
                    await crowd.ready.wait()
                await trio.sleep(5)
                nursery.start_soon(prober.probe)
                before = crowd.stored
                began = trio.current_time()
                old.terminate()
                with trio.fail_after(20):
                    assert await old.wait() == 0
                drained = trio.current_time() - began
            async with started(held, tmp_path / "chat.db"):
                served = trio.current_time() - began
                with trio.move_on_after(30):  # noqa: ASYNC912
                    while len(crowd.away) < CLIENTS:  # noqa: ASYNC110  (of 500 tasks)
                        await trio.sleep(0.05)
                back = trio.current_time() - began
                prober.scope.cancel()
                await trio.sleep(2)
                crowd.stop.set()
                with trio.move_on_after(30):  # noqa: ASYNC912
                    while crowd.missing:  # noqa: ASYNC110  (of 500 tasks)
                        await trio.sleep(0.05)
                await trio.sleep(0.5)  # for what would come twice
                crowd.finished.set()
                with trio.fail_after(60):  # noqa: ASYNC912
                    while nursery.child_tasks:  # noqa: ASYNC110  (the server is to be there until they are gone)
                        await trio.sleep(0.05)
    everything = sum(map(len, crowd.sent.values()))
    figures(f"{CLIENTS} clients, {everything} messages through a restart, none lost or doubled")
    figures(f"SIGTERM to exit {drained:.2f} s, to the next server {served:.2f} s, to the last client back {back:.2f} s")
    figures(f"a client was away {median(crowd.away):.2f} s (median), {max(crowd.away):.2f} s at most")
    busy = max(1.0, (served - drained) / STARTING)
    figures(f"the machine was as slow as {busy:.2f} that have nothing else to do")
    figures(f"others who asked meanwhile: {dict(prober.answers)}, {prober.waited:.2f} s at most")
    assert crowd.stored == everything, "every message was acknowledged"
    for number, texts in crowd.sent.items():
        assert crowd.came[(number + 1) % CLIENTS] == texts, "each came once, in order"
    assert before > CLIENTS
    assert {loss.code for loss in crowd.losses} == {1001}, "nobody was told anything but to come back"
    assert len(crowd.away) == CLIENTS, "each was away once"
    assert max(crowd.away) < BACK * busy
    assert not prober.answers["refused"]
