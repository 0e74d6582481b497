"""The client in JavaScript that was written after docs/protocol.md (examples/node), against a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest
import trio

pytestmark = pytest.mark.process

EXAMPLE = Path(__file__).parents[1] / "examples" / "node"
OLDEST_NODE = 18


def _unavailable(why: str) -> NoReturn:
    """A developer may do without Node; where CI is set, that would be a hole that nobody sees."""
    if os.environ.get("CI"):
        pytest.fail(f"the client in JavaScript cannot be tested, and CI is set: {why}")
    pytest.skip(f"the client in JavaScript is not tested: {why}")


@pytest.fixture(scope="session")
def chat_mjs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that starts the client: a copy of it, with its one dependency beside it, where Node looks for that."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _unavailable("there is no node, or no npm, on the PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        _unavailable(f"node is {version}, and has to be {OLDEST_NODE} or newer")
    folder = tmp_path_factory.mktemp("node")
    for file in ("package.json", "chat.mjs"):
        shutil.copy(EXAMPLE / file, folder)
    install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder)]
    try:
        subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.TimeoutExpired:
        _unavailable("npm did not install ws within a minute")
    except subprocess.CalledProcessError as error:
        _unavailable(f"npm did not install ws: {error.stderr.strip()}")
    return [node, str(folder / "chat.mjs")]


class Program:
    """A process, and the lines it has printed so far."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.ended = trio.Event()
        self._more = trio.Event()

    async def read(self) -> None:
        assert self.process.stdout
        rest = b""
        async for some in self.process.stdout:
            *whole, rest = (rest + some).split(b"\n")
            self.lines += [line.decode() for line in whole]
            self._more.set()
            self._more = trio.Event()
        await self.process.wait()
        self.ended.set()
        self._more.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        """Wait for lines."""
        while not enough():
            assert not self.ended.is_set(), self.lines[-5:]
            await self._more.wait()

    async def says(self, pattern: str) -> re.Match[str]:
        await self.until(lambda: any(re.search(pattern, line) for line in self.lines))
        return next(found for line in self.lines if (found := re.search(pattern, line)))

    def events(self, type: str) -> list[dict[str, Any]]:
        return [event for line in self.lines if (event := json.loads(line))["type"] == type]

    def texts(self, type: str) -> list[str]:
        return [event["text"] for event in self.events(type)]

    async def sees(self, type: str, count: int = 1) -> None:
        await self.until(lambda: len(self.events(type)) >= count)

    async def type(self, *lines: str) -> None:
        assert self.process.stdin
        await self.process.stdin.send_all("".join(f"{line}\n" for line in lines).encode())

    async def leave(self) -> int | None:
        """Its input ends; everything that it still has to say."""
        assert self.process.stdin
        await self.process.stdin.aclose()
        await self.ended.wait()
        return self.process.returncode

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.ended.wait()


class Stage:
    """Starts servers and clients, and ends what is left of them."""

    def __init__(self, nursery: trio.Nursery, chat_mjs: list[str], folder: Path) -> None:
        self.nursery = nursery
        self.chat_mjs = chat_mjs
        self.folder = folder
        self.url = ""
        self.programs: list[Program] = []

    async def _start(self, command: list[str]) -> Program:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        program = Program(process)
        self.programs.append(program)
        self.nursery.start_soon(program.read)
        return program

    async def server(self, db: str = "chat.db", port: str = "0", settings: str = "") -> Program:
        """A server that listens, with these settings (TOML); give the port of an earlier one to take its place."""
        config = self.folder / "settings.toml"
        config.write_text(settings, encoding="utf-8")
        options = ["--demo", "--port", port, "--db", str(self.folder / db), "--rate-limit", "off", "--config", str(config)]
        server = await self._start([sys.executable, "-m", "trio_chat", "serve", *options])
        self.url = (await server.says(r"listening on .* (ws://[^)\s]+)"))[1]
        return server

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2].partition("/")[0]

    async def client(self, user: str, to: str, *, wait: bool = True) -> Program:
        """A client that keeps its state in the file of its user; it has been welcomed, if that is to be waited for."""
        options = ["--url", self.url, "--as", user, "--to", to, "--state", str(self.folder / f"{user}.json")]
        client = await self._start([*self.chat_mjs, *options])
        if wait:
            await client.sees("welcome")
        return client

    def state(self, user: str) -> Any:
        return json.loads((self.folder / f"{user}.json").read_text(encoding="utf-8"))


Staged: TypeAlias = Callable[[], AbstractAsyncContextManager[Stage]]


@pytest.fixture
def staged(chat_mjs: list[str], tmp_path: Path) -> Staged:
    @asynccontextmanager
    async def staged() -> AsyncIterator[Stage]:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                stage = Stage(nursery, chat_mjs, tmp_path)
                try:
                    yield stage
                finally:
                    with trio.CancelScope(shield=True):
                        for program in stage.programs:
                            if not program.ended.is_set():
                                program.process.kill()
                            await program.process.wait()
                            for pipe in (program.process.stdin, program.process.stdout):
                                if pipe:
                                    await pipe.aclose()
                nursery.cancel_scope.cancel()

    return staged


async def test_two_clients_chat_and_one_that_was_away_gets_what_it_missed(staged: Staged) -> None:
    """Else the page is not enough to write a client that resumes: something is lost, comes twice, or out of order."""
    async with staged() as stage:
        await stage.server()
        alice, bob = await stage.client("alice", "bob"), await stage.client("bob", "alice")
        await alice.type("Hi Bob", "How are you? 🙂")
        await bob.sees("message", 2)
        await bob.type("Fine")
        await alice.sees("message")
        assert await bob.leave() == 0
        assert bob.texts("message") == ["Hi Bob", "How are you? 🙂"]
        assert bob.texts("stored") == ["Fine"]
        held = stage.state("bob")
        assert (held["after"], held["outbox"]) == (3, [])

        missed = [f"missed {k}" for k in range(3)]
        await alice.type(*missed)
        await alice.sees("stored", 5)
        bob = await stage.client("bob", "alice")
        await bob.sees("message", 3)
        await alice.type("live again")
        await bob.sees("message", 4)
        assert await bob.leave() == 0
        assert await alice.leave() == 0
        assert bob.texts("message") == [*missed, "live again"]
        assert [entry["seq"] for entry in bob.events("message")] == [4, 5, 6, 7]
        (welcome,) = bob.events("welcome")
        assert (welcome["log"], welcome["cursor"], welcome["new"]) == (held["log"], 3, False)
        assert alice.texts("message") == ["Fine"]


async def test_all_300_arrive_once_though_the_server_is_killed_among_them(staged: Staged) -> None:
    """Else a client that follows the page loses messages, or shows them twice, when a server falls over."""
    texts = [f"message {k}" for k in range(300)]
    async with staged() as stage:
        server = await stage.server()
        bob, alice = await stage.client("bob", "alice"), await stage.client("alice", "bob")
        await alice.type(*texts[:200])
        await bob.sees("message", 20)
        await server.kill()
        await alice.type(*texts[200:])  # into its outbox
        await alice.sees("away")
        assert len(alice.events("stored")) < 300
        await stage.server(port=stage.port)
        assert await alice.leave() == 0  # not before everything is stored
        await bob.sees("message", 300)
        assert await bob.leave() == 0  # with what may have come twice
        assert bob.texts("message") == texts
        assert alice.texts("stored") == texts
        assert [item["id"] for item in alice.events("stored")] == [entry["id"] for entry in bob.events("message")]
        assert [item["seq"] for item in alice.events("stored")] == [*range(1, 301)]
        assert stage.state("alice")["outbox"] == []


async def test_what_was_typed_without_a_server_is_sent_when_there_is_one(staged: Staged) -> None:
    """Else the outbox does not outlive the client: what was not stored yet is lost with the process."""
    async with staged() as stage:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        stage.url = f"ws://127.0.0.1:{port}/ws"
        alice = await stage.client("alice", "bob", wait=False)
        await alice.sees("away")
        await alice.type("first", "second")
        await alice.until(lambda: (stage.folder / "alice.json").exists() and len(stage.state("alice")["outbox"]) == 2)
        await alice.kill()
        await stage.server(port=stage.port)
        alice = await stage.client("alice", "bob")
        assert await alice.leave() == 0
        assert alice.texts("stored") == ["first", "second"]


async def test_another_history_makes_the_position_void(staged: Staged) -> None:
    """Else a client whose server lost its file goes on counting in a history that is no more, and misses messages."""
    async with staged() as stage:
        server = await stage.server()
        alice, bob = await stage.client("alice", "bob"), await stage.client("bob", "alice")
        await alice.type("one", "two", "three")
        await bob.sees("message", 3)
        await alice.sees("stored", 3)  # else she sends them again
        await server.kill()
        await stage.server(db="empty.db", port=stage.port)
        await alice.sees("welcome", 2)
        await bob.sees("welcome", 2)
        first, second = bob.events("welcome")
        assert first["log"] != second["log"]
        await alice.type("four")
        await bob.sees("message", 4)
        assert await bob.leave() == 0
        assert bob.texts("message") == ["one", "two", "three", "four"]
        state = stage.state("bob")
        assert (state["log"], state["after"]) == (second["log"], 1)


async def test_a_replaced_device_stops(staged: Staged) -> None:
    """Else two clients that bear the same name throw each other out for ever."""
    async with staged() as stage:
        await stage.server()
        first = await stage.client("bob", "alice")
        second = await stage.client("bob", "alice")
        await first.ended.wait()
        assert first.process.returncode == 1
        (stopped,) = first.events("stopped")
        assert (stopped["code"], stopped["asked"]) == (4409, False)
        assert first.events("away") == []
        await second.type("still here")
        await second.sees("stored")
        assert await second.leave() == 0
        assert second.events("away") == []


async def test_a_full_mailbox_holds_up_messages_to_nobody_else(staged: Staged) -> None:
    """Else one recipient who is away for long keeps a client from writing to anybody, or gets what waited out of order."""
    texts = [f"message {k}" for k in range(8)]
    async with staged() as stage:
        await stage.server(settings="mailbox = 3\n")
        alice = await stage.client("alice", "bob")
        await alice.type(*texts)
        await alice.sees("stored", 3)
        alice.process.terminate()
        await alice.ended.wait()
        assert [message["text"] for message in stage.state("alice")["outbox"]] == texts[3:]

        alice = await stage.client("alice", "carol")  # the outbox has those to bob, and they come first
        await alice.type("one", "two")
        await alice.sees("stored", 2)
        assert alice.texts("stored") == ["one", "two"]

        bob = await stage.client("bob", "alice")
        await alice.sees("stored", 7)
        await bob.sees("message", 8)
        assert await alice.leave() == 0
        assert await bob.leave() == 0
        assert bob.texts("message") == texts
        assert alice.texts("stored") == ["one", "two", *texts[3:]]
        assert alice.events("refused") == []
