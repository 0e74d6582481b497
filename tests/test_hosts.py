"""The examples that run in a host, as processes: clients chat, are told what the page on embedding says, and come back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from trio_chat import wire
from trio_chat.client import ChatClient, Disconnected, Timing, open_client
from trio_chat.client.raw import NotConnected, open_raw_client

from .processes import PATIENCE
from .support import closed, frame, send, stored

pytestmark = pytest.mark.process

SOON = Timing(backoff_cap=0.5)
"""A host takes seconds to start: clients look for it more often than they would."""

EXAMPLES = Path(__file__).parent.parent / "examples"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Host:
    """A host's command line, with its port, the chat's and where the chat is kept."""

    command: Sequence[str]
    port: int
    environment: dict[str, str]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Process]:
        process = await trio.lowlevel.open_process(
            [sys.executable, *self.command],
            cwd=EXAMPLES,
            env=os.environ | self.environment | {"PYTHONWARNINGS": "ignore"},  # those of the hosts are theirs
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        said = bytearray()

        async def read() -> None:
            assert process.stderr is not None
            async for data in process.stderr:
                said.extend(data)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                with trio.fail_after(PATIENCE):
                    await listening(self.port, process, said)
                yield process
                nursery.cancel_scope.cancel()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with trio.move_on_after(10, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()
            if process.stderr is not None:
                await trio.aclose_forcefully(process.stderr)


async def listening(port: int, process: trio.Process, said: bytearray) -> None:
    """Wait until somebody listens there. Nobody tells, so it is tried as often as the machine likes."""
    while True:
        assert process.returncode is None, said.decode()
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.to_thread.run_sync(os.sched_yield)
        else:
            await stream.aclose()
            return


async def stopped(process: trio.Process) -> int:
    process.send_signal(signal.SIGTERM)
    with trio.fail_after(PATIENCE):
        return await process.wait()


async def chat_once(alice: ChatClient, bob: ChatClient, text: str) -> None:
    """Alice says something, and it reaches Bob."""
    with trio.fail_after(PATIENCE):
        await alice.send("bob", text)
        async for message in bob.messages():  # noqa: ASYNC913
            if (message.sender, message.text) == ("alice", text):
                await message.ack()
                return


BESIDE = {
    "embedded": ["embedded.py"],
    "starlette": ["-m", "hypercorn", "-k", "trio", "starlette_beside:app"],
    "quart": ["-m", "hypercorn", "-k", "trio", "quart_app:app"],
}


@pytest.mark.parametrize("example", BESIDE)
async def test_beside_an_application(example: str, tmp_path: Path) -> None:
    """Else the recommended way does not outlive a restart, or SIGTERM cuts clients off without telling when to come back."""
    db, port, own = str(tmp_path / "chat.db"), free_port(), free_port()
    command = [*BESIDE[example], *([] if example == "embedded" else ["-b", f"127.0.0.1:{own}"])]
    host = Host(command, port, {"CHAT_DB": db, "CHAT_PORT": str(port)})
    url = f"ws://127.0.0.1:{port}/ws"
    users: dict[str, Any] = {
        user: {"headers": {"Authorization": f"Bearer {token}"}} if example == "embedded" else {}
        for user, token in (("alice", "s3cr3t"), ("bob", "0th3r"))
    }
    async with (
        open_client(f"{url}?user=alice", device="phone", timing=SOON, **users["alice"]) as alice,
        open_client(f"{url}?user=bob", device="phone", timing=SOON, **users["bob"]) as bob,
    ):
        async with host.running() as process:
            await chat_once(alice, bob, "before")
            watcher = f"{url}?user=alice&device=watcher"
            if example == "embedded":  # it knows no watcher
                events = alice.events()
                code = await stopped(process)
                with trio.fail_after(PATIENCE):
                    while not isinstance(event := await anext(events), Disconnected):
                        pass
                assert (event.code, "retry_after" in event.reason) == (1001, True)
            else:
                async with open_raw_client(watcher) as watching:
                    await frame(watching, wire.Welcome)
                    process.send_signal(signal.SIGTERM)
                    end = await closed(watching)
                    assert (end.code, "retry_after" in end.reason) == (1001, True)
                code = await stopped(process)
            assert code == 0
        async with host.running():
            await chat_once(alice, bob, "after")


UNDRAINED = """
import sys
import trio
from trio_chat import authenticators, open_chat, serve_tcp

async def main(db: str, port: int) -> None:
    async with open_chat(db) as chat:
        await serve_tcp(chat, port, authenticate=authenticators.demo)

trio.run(main, sys.argv[1], int(sys.argv[2]))
"""


async def test_a_program_that_does_not_drain(tmp_path: Path) -> None:
    """Else the page is wrong on what that costs: a broken line, and nothing that was acknowledged."""
    port = free_port()
    host = Host(["-c", UNDRAINED, str(tmp_path / "chat.db"), str(port)], port, {})
    async with host.running() as process, open_raw_client(f"ws://127.0.0.1:{port}/ws?user=alice&device=phone") as alice:
        await frame(alice, wire.Welcome)
        await alice.send(send("1", "bob"))
        await stored(alice, 1)
        assert await stopped(process) == -signal.SIGTERM
        assert (await closed(alice)).code == 1006
    async with host.running(), open_raw_client(f"ws://127.0.0.1:{port}/ws?user=alice&device=phone") as alice:
        assert (await frame(alice, wire.Welcome)).head == 1


@asynccontextmanager
async def tenant_client(port: int, tenant: str, user: str) -> AsyncIterator[ChatClient]:
    headers = {"Authorization": f"Bearer {tenant}-{user}"}
    async with open_client(f"ws://127.0.0.1:{port}/{tenant}/ws", device="phone", timing=SOON, headers=headers) as client:
        yield client


@pytest.mark.parametrize("server", ["hypercorn", "anycorn"])
async def test_tenants(server: str, tmp_path: Path) -> None:
    """Else what is said at one tenant is heard at another, or an endpoint in a host does not outlive a restart."""
    port = free_port()
    host = Host(["-m", server, "-k", "trio", "-b", f"127.0.0.1:{port}", "tenants:app"], port, {"CHAT_DB": str(tmp_path)})
    async with (
        tenant_client(port, "acme", "alice") as alice,
        tenant_client(port, "acme", "bob") as bob,
        tenant_client(port, "zoo", "alice") as namesake,
        tenant_client(port, "zoo", "bob") as stranger,
    ):
        async with host.running() as process:
            await chat_once(alice, bob, "of acme")
            await chat_once(namesake, stranger, "of the zoo")
            assert [message.text for message in (await bob.history()).messages] == ["of acme"]
            assert [message.text for message in (await stranger.history()).messages] == ["of the zoo"]
            assert [found.peer for found in (await bob.conversations()).conversations] == ["alice"]
            assert (await stranger.search("acme")).hits == ()
            with pytest.raises(NotConnected) as refused:
                await open_raw_client(f"ws://127.0.0.1:{port}/zoo/ws?user=alice").__aenter__()
            assert refused.value.status == 401
            events = alice.events()
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE):
                async for event in events:
                    if isinstance(event, Disconnected):
                        assert (event.code, "retry_after" in event.reason) == (1001, False)
                        break
            assert await stopped(process) == 0
        async with host.running():
            await chat_once(alice, bob, "acme again")
            await chat_once(namesake, stranger, "the zoo again")
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".db"} == {"acme.db", "zoo.db"}  # noqa: ASYNC240


async def test_a_sidecar(tmp_path: Path) -> None:
    """Else an application on asyncio cannot let its users in to the chat, or loses what it says while the chat restarts."""
    key, db, chat_port, port = tmp_path / "chat.key", tmp_path / "chat.db", free_port(), free_port()
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    url = f"ws://127.0.0.1:{chat_port}/ws"
    options = ["--jwt-key-file", str(key), "--jwt-audience", "chat"]
    serve = ["-m", "trio_chat", "serve", "--port", str(chat_port), "--db", str(db), *options]
    sidecar = Host(serve, chat_port, {})
    application = Host(
        ["-m", "uvicorn", "--port", str(port), "fastapi_sidecar:app"], port, {"CHAT_URL": url, "CHAT_KEY": str(key)}
    )
    async with (
        application.running() as uvicorn,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as web,
        sidecar.running() as process,
    ):
        assert (await web.post("/log-in", auth=("alice", "guessed"))).status_code == 401
        tokens = [
            (await web.post("/log-in", auth=who)).json()["token"] for who in (("alice", "wonderland"), ("bob", "builder"))
        ]
        async with (
            open_client(url, token=tokens[0], device="phone", timing=SOON) as alice,
            open_client(url, token=tokens[1], device="phone", timing=SOON) as bob,
        ):
            await chat_once(alice, bob, "before")
            assert (await web.post("/orders/bob")).json() == {"seq": 1}
            assert await stopped(process) == 0
            async with sidecar.running():
                await chat_once(alice, bob, "after")
                assert (await web.post("/orders/bob")).json() == {"seq": 2}
                page = await bob.history(peer="shop")
                assert [message.text for message in page.messages] == ["Your order is on its way."] * 2
                assert await stopped(uvicorn) in (0, -signal.SIGTERM)
                await chat_once(alice, bob, "the application is gone, the chat is not")
