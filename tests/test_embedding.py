"""`open_chat` inside an application: whatever becomes of that, nothing acknowledged is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
from anyio.from_thread import start_blocking_portal

from trio_chat import authenticators, open_chat, serve_tcp, wire
from trio_chat.client import open_client
from trio_chat.client.raw import RawClient, open_raw_client
from trio_chat.store.memory import MemoryStore

from .support import closed, frame, send, stored


class Unlucky(Exception):
    """What an application may raise."""


async def test_an_application_that_raises(tmp_path: Path) -> None:
    """Else a bug in an application loses what its users were told is stored, hides in a group, or cuts them off."""
    codes: list[int] = []
    acknowledged: list[str] = []

    async def talk(client: RawClient) -> None:
        await frame(client, wire.Welcome)
        await client.send(*(send(str(n), "bob") for n in range(50)))
        acknowledged.extend(item.id for item in await stored(client, 50))

    async def read_on(client: RawClient) -> None:
        codes.append((await closed(client)).code)

    async def application() -> None:
        async with open_chat(tmp_path / "chat.db") as chat:
            (listener,) = await clients.start(partial(serve_tcp, chat, 0, authenticate=authenticators.demo))
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws?user=alice"
            alice = await clients.start(partial(client_of, url))
            await talk(alice)
            clients.start_soon(read_on, alice)
            assert (await chat.send("alice", "bob", "the application's own", id="own")).seq == 51
            raise Unlucky

    async def client_of(url: str, *, task_status: trio.TaskStatus[RawClient]) -> None:
        async with open_raw_client(url) as client:
            task_status.started(client)
            await gone.wait()

    gone = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as clients:
            with pytest.raises(Unlucky):
                await application()
            gone.set()
    assert codes == [1001]
    assert acknowledged == [str(n) for n in range(50)]
    async with open_chat(tmp_path / "chat.db") as chat:
        page = await chat.history("bob", limit=100)
        assert [message.id for message in reversed(page.messages)] == [*acknowledged, "own"]


def a_view(url: str) -> int:
    """What docs/embedding.md shows for code that is not async."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_client(url, device="shop")) as chat,
    ):
        return portal.call(chat.send, "bob", "Your order is on its way.").seq


async def test_code_that_is_not_async_can_send() -> None:
    """Else a view of Django's has no way to write to a user."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticators.demo))
        port = listener.socket.getsockname()[1]
        with trio.fail_after(20):
            assert await trio.to_thread.run_sync(a_view, f"ws://127.0.0.1:{port}/ws?user=shop") == 1
            (message,) = (await chat.history("bob")).messages
        assert (message.sender, message.text) == ("shop", "Your order is on its way.")
        nursery.cancel_scope.cancel()
