"""The in-memory server that applications test with."""

from __future__ import annotations

import anyio
import pytest
import trio
from trio.testing import MockClock

from trio_chat import wire
from trio_chat.client import Connected, Replaced, Timing, open_client
from trio_chat.errors import CloseCode, Refused
from trio_chat.model import Identity
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server
from trio_chat.transport.http import Request

from ..support import closed, enter, entries, frame, no_task_left, send, stored


async def test_two_clients_chat_without_sockets_or_waiting(autojump_clock: MockClock) -> None:
    """Else an application cannot test its chat, or its tests are slow."""
    async with no_task_left(), open_test_server() as server:
        alice, bob = await enter(server, "alice"), await enter(server, "bob")
        await alice.send(send("a", "bob", "hi bob"))
        await stored(alice, 1)
        (entry,) = await entries(bob, 1)
        assert (entry.sender, entry.text) == ("alice", "hi bob")
        assert trio.current_time() == 0


async def test_an_applications_own_authenticator_and_store(autojump_clock: MockClock) -> None:
    """Else only the demo identity can be tested, which no application uses."""

    async def authenticate(request: Request) -> Identity:
        if request.parameter("user") != "alice":
            raise Refused
        return Identity("0151", "phone")

    store = MemoryStore()
    async with open_test_server(store=store, authenticate=authenticate) as server:
        assert server.store is store
        alice = await server.connect("alice")
        welcome = await frame(alice, wire.Welcome)
        assert (welcome.user, welcome.device) == ("0151", "phone")


async def test_a_failed_assertion_leaves_as_it_is(autojump_clock: MockClock) -> None:
    """Else ``pytest.raises`` around the server does not match, and a failed assertion is hidden in a group."""

    async def fails() -> None:
        async with open_test_server() as server:
            await enter(server, "alice")
            raise AssertionError("the test's own")

    with pytest.raises(AssertionError, match="the test's own"):
        await fails()
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="the test's own")):
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112
            nursery.start_soon(fails)


async def test_the_exception_of_a_group_of_the_tests_own_is_the_same(autojump_clock: MockClock) -> None:
    """Else what a test raises is made anew on the way, and cannot be compared."""
    group = ExceptionGroup("mine", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])

    async def fails() -> None:
        async with open_test_server():
            raise group

    caught: BaseException | None = None
    try:
        await fails()
    except ExceptionGroup as left:
        caught = left
    assert caught is group


async def test_leaving_cuts_clients_off(autojump_clock: MockClock) -> None:
    """Else a test that does not close its clients hangs."""
    async with open_test_server() as server:
        alice = await enter(server, "alice")
        bob = await enter(server, "bob")
        await bob.aclose()
    assert (await closed(alice)).code in (1006, CloseCode.GOING_AWAY)


async def test_two_clients_that_reconnect_chat_in_memory(autojump_clock: MockClock) -> None:
    """Else an application cannot test its bot without sockets and without waiting."""
    async with (
        no_task_left(),
        open_test_server() as server,
        server.open_client("alice") as alice,
        server.open_client("bob", "web", timing=Timing(backoff=8.0, jitter=lambda: 1.0)) as bob,
    ):
        assert (await alice.send("bob", "hi")).seq == 1
        stream = bob.messages()
        assert (await anext(stream)).text == "hi"
        assert bob.device == "web"
        events = bob.events()
        other = await enter(server, "bob", "web")  # throws him out, for good
        await other.aclose()
        with pytest.raises(Replaced):
            await anext(stream)
        assert isinstance(await anext(events), Connected)


@pytest.mark.parametrize("there", ["ws://chat.example.com", "wss://chat.example.com", "wss://chat.example.com:8443"])
async def test_a_client_may_keep_the_url_that_it_has(there: str, autojump_clock: MockClock) -> None:
    """Else a program that will speak to ``wss://…`` cannot be tested with that URL: the stream's port was taken to be 80."""

    async def authenticate(request: Request) -> Identity:
        return Identity("alice")

    async with (
        open_test_server(authenticate=authenticate) as server,
        open_client(f"{there}/ws", connect=server.byte_stream) as alice,
    ):
        assert (await alice.send("bob", "hi")).seq == 1


async def test_a_byte_stream_behaves_as_anyios_do(autojump_clock: MockClock) -> None:
    """Else a client takes the end of a connection in memory for something else."""
    async with open_test_server() as server:
        stream = await server.byte_stream()
        await stream.send(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 ")
        await stream.send_eof()
        async for _ in stream:  # ends where the stream ends
            pass
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
