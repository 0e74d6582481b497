"""What breaks, repeats, delays and ends, under both event loops and on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import sniffio

from trio_chat import wire
from trio_chat.client import (
    ChatClient,
    ClosedForGood,
    Connected,
    ConnectionClosed,
    Disconnected,
    NotAccepted,
    Replaced,
    Timing,
    Unauthorized,
)
from trio_chat.errors import CloseCode

from .fake import NO_JITTER, Connection, FakeServer, fake_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return virtual


async def test_it_runs_under_the_event_loop_that_is_named(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """Else one of the two is tested twice, and the other not at all."""
    assert sniffio.current_async_library() == anyio_backend[0]
    began = anyio.current_time()
    await anyio.sleep(3600)
    assert 3600 <= anyio.current_time() - began < 3601


async def converse(server: FakeServer, chat: ChatClient, count: int) -> list[str]:
    """Send `count` messages and receive as many; gives the ids of those that came."""
    for number in range(count):
        server.append(f"in {number}")
    came: list[str] = []

    async def receive() -> None:
        async for message in chat.messages():
            came.append(message.id)
            if len(came) == count:
                await message.ack()
                return

    async def send(number: int) -> None:
        stored = await chat.send("bob", "hi", id=f"out {number}")
        assert stored.id == f"out {number}"

    with anyio.fail_after(3600):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            for number in range(count):
                tasks.start_soon(send, number)
    return came


def check(server: FakeServer, came: list[str], count: int) -> None:
    """All came once and in order; all that was sent is stored once."""
    assert came == [f"in {number}" for number in range(count)]
    stored = [entry.id for entry in server.model.entries if entry.id.startswith("out")]
    assert sorted(stored) == sorted(f"out {number}" for number in range(count))


async def test_a_connection_that_is_dropped_at_any_frame() -> None:
    """Else there is a moment at which a broken line loses or doubles a message."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.behave(connection, frames=connection.number)

        server.script = script
        async with server.client() as chat:
            came = await converse(server, chat, 20)
            assert chat.statistics().connections > 10
        check(server, came, 20)


async def test_every_frame_repeated() -> None:
    """Else a message that comes twice is given twice, or an answer that comes twice ends the client."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.behave(connection, times=2)

        server.script = script
        async with server.client() as chat:
            check(server, await converse(server, chat, 20), 20)


async def test_every_frame_delayed() -> None:
    """Else a slow server is taken for a dead one."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.behave(connection, pause=9.0)

        server.script = script
        async with server.client() as chat:
            check(server, await converse(server, chat, 10), 10)
            assert chat.statistics().connections == 1


TERMINAL = {code: ClosedForGood for code in CloseCode if not code.reconnect} | {
    CloseCode.UNAUTHORIZED: Unauthorized,
    CloseCode.REPLACED: Replaced,
}


async def everything_raises(chat: ChatClient, kind: type[ConnectionClosed]) -> ConnectionClosed:
    """Whatever waits, and whatever is called afterwards, raises the reason."""
    raised: list[ConnectionClosed] = []

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(kind) as caught:
            await call()
        raised.append(caught.value)

    async def all_messages() -> None:
        async for _ in chat.messages():
            raise AssertionError("a message")

    async def all_events() -> None:
        async for _ in events:
            pass

    events = chat.events()
    with anyio.fail_after(3600):
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for call in (all_messages, all_events, chat.blocked, lambda: chat.send("bob", "hi")):
                    tasks.start_soon(one, call)
    await one(chat.wait_connected)
    with pytest.raises(kind):
        chat.typing("bob", on=True)
    assert len(raised) == 9
    assert len({id(error) for error in raised}) == 1
    return raised[0]


@pytest.mark.parametrize("code", sorted(TERMINAL))
async def test_a_close_code_that_says_do_not_reconnect(code: CloseCode) -> None:
    """Else the client knocks for ever at a door that stays shut, or a program waits for ever for an answer."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            await connection.receive()
            await connection.close(code, "enough")

        server.script = script
        async with server.client() as chat:
            error = await everything_raises(chat, TERMINAL[code])
        assert (error.code, error.reason, len(server.connections)) == (code, "enough", 1)


@pytest.mark.parametrize("code", [1001, 1005, 1011, 1012, 3000, 4408, 4999])
async def test_a_close_code_that_says_come_back(code: int) -> None:
    """Else a restart of the server ends its clients."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number < 3:
                await server.greet(connection)
                await connection.close(code, "for a while")
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            check(server, await converse(server, chat, 3), 3)
        assert len(server.connections) == 4


async def test_a_close_code_in_place_of_the_welcome() -> None:
    """Else a user with too many devices knocks for ever."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await connection.accept()
            await connection.close(1011 if connection.number == 0 else 1008, "retry_after=7.5")

        server.script = script
        async with server.client() as chat:
            with pytest.raises(ClosedForGood) as caught:
                await chat.wait_connected()
        assert caught.value.code == 1008
        assert [round(connection.at, 1) for connection in server.connections] == [0, 7.5]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, NotAccepted), (401, Unauthorized), (403, Unauthorized), (404, NotAccepted), (405, NotAccepted),
     (426, NotAccepted), (431, NotAccepted), (302, NotAccepted), (200, NotAccepted)],
)  # fmt: skip
async def test_a_handshake_that_is_refused_for_good(status: int, kind: type[ConnectionClosed]) -> None:
    """Else a wrong token or a wrong address shows as a server that is away."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await connection.answer(status, "Location: ws://elsewhere.example.com/")

        server.script = script
        async with server.client() as chat:
            error = await everything_raises(chat, kind)
        assert (error.status, len(server.connections)) == (status, 1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_handshake_that_is_refused_for_now(status: int) -> None:
    """Else a server that is being restarted behind its proxy is given up, or not left in peace for as long as it asks."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await connection.answer(status, "Retry-After: 30")
            elif connection.number == 1:
                await connection.answer(status)
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            events = chat.events()
            with anyio.fail_after(3600):
                await chat.wait_connected()
                assert await anext(events) == Disconnected(f"HTTP status {status}", 30, 1006, status)
        assert [round(connection.at, 2) for connection in server.connections] == [0, 30, 30.1]


@pytest.mark.parametrize("fault", ["token", "subprotocol"])
async def test_what_answers_is_something_else(fault: str) -> None:
    """Else the client talks to whatever accepts WebSockets (docs/protocol.md: it MUST close)."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await (connection.accept(token="x") if fault == "token" else connection.accept(subprotocol=None))
            await connection.receive()

        server.script = script
        async with server.client() as chat:
            with pytest.raises(NotAccepted):
                await chat.wait_connected()


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b'{"type":"welcome"}', b'{"type":"stored","messages":[]}', b'{"type":"novelty"}{', b"\xff", b"[" * 50_000],
)  # fmt: skip
async def test_a_first_frame_that_is_no_welcome(text: bytes) -> None:
    """Else a broken server, or a proxy's own WebSocket, is believed (docs/protocol.md: as 1006)."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await connection.accept()
                await connection.write(text)
                await connection.receive()
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            with anyio.fail_after(60):
                await chat.wait_connected()
        assert len(server.connections) == 2


@pytest.mark.parametrize("text", [b"{", b'{"type":"stored","messages":[{}]}', b'{"type":"gap"}', b"\xff"])
async def test_a_later_frame_that_is_broken(text: bytes) -> None:
    """Else one broken frame ends the client, or is passed over with all that it held."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await server.greet(connection)
                await connection.write(b'{"type":"novelty","of":"a newer server"}')
                await connection.write(text)
                await connection.receive()
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            check(server, await converse(server, chat, 3), 3)
        assert len(server.connections) == 2


async def test_the_pause_grows_and_is_reset_by_progress() -> None:
    """Else a dead server is hammered, or one that came back is found late."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 7:
                line = await server.greet(connection)
                await connection.send(wire.Pong())
                assert line.start == 0
            await connection.drop()

        server.script = script
        async with server.client():
            with anyio.move_on_after(9.9):
                await anyio.sleep_forever()
        pauses = [later.at - earlier.at for earlier, later in itertools.pairwise(server.connections)]
        assert [round(pause, 2) for pause in pauses] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]


def test_the_pause_has_full_jitter_and_a_cap() -> None:
    """Else all clients of a server that fell over come back in the same instant."""
    assert [NO_JITTER.pause(attempt) for attempt in (0, 1, 10, 1000)] == [0.05, 0.1, 51.2, 60.0]
    assert Timing(jitter=lambda: 0.25).pause(1) == 0.025
    assert len({Timing().pause(5) for _ in range(10)}) > 1


@pytest.mark.parametrize(("code", "reason", "pause"), [
    (1001, "retry_after=3.2", 3.2), (1011, "retry_after=4", 4), (1001, "", 0.05), (1001, "retry_after=soon", 0.05),
    (1012, "retry_after=3.2", 0.05), (1001, "retry_after=-3", 0.05),
])  # fmt: skip
async def test_the_servers_hint_when_to_come_back(code: int, reason: str, pause: float) -> None:
    """Else a restart is followed by a herd of clients, all at once."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await server.greet(connection)
                await connection.close(code, reason)
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            events = chat.events()
            with anyio.fail_after(60):
                assert isinstance(await anext(events), Connected)
                away = await anext(events)
                assert isinstance(away, Disconnected)
                assert (away.code, away.retry_in) == (code, pause)
                assert isinstance(await anext(events), Connected)
        assert server.connections[1].at - server.connections[0].at == pytest.approx(pause)


async def test_a_server_that_falls_silent() -> None:
    """Else a line that is dead without a word is trusted for ever (docs/protocol.md, Heartbeats)."""
    async with fake_server() as server:
        pinged: list[float] = []

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            if connection.number == 1:
                await server.behave(connection)
            await connection.receive()

        async def deaf(connection: Connection) -> None:
            if connection.number == 0:
                await server.greet(connection)
                await connection.ping()
                connection._engine.receive_data(await connection._stream.receive())  # the pong, to our ping
                connection._engine.receive_data(await connection._stream.receive())  # the ping that we do not answer
                pinged.append(anyio.current_time())
                await anyio.sleep_forever()
            await server.behave(connection)

        server.script = deaf
        async with server.client() as chat:
            await anyio.sleep(36)
            assert chat.statistics().connections == 2
        assert [round(at) for at in pinged] == [25]
        assert round(server.connections[1].at) == 35


async def test_a_server_that_is_only_quiet() -> None:
    """Else an idle connection is given up every half a minute."""
    async with fake_server() as server, server.client() as chat:
        await anyio.sleep(300)
        assert chat.statistics().connections == 1
        assert server.connections[0].pings == 11


async def test_an_attempt_that_brings_no_welcome() -> None:
    """Else a server that accepts and says nothing holds the client for ever."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await anyio.sleep_forever()
            if connection.number == 1:
                await connection.accept()
                await anyio.sleep_forever()
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            with anyio.fail_after(60):
                await chat.wait_connected()
        assert [round(connection.at, 2) for connection in server.connections] == [0, 10.05, 20.15]


async def test_replaced_by_an_attempt_of_its_own() -> None:
    """Else a client whose own abandoned attempt was let in late takes that for another client, and stays away."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await connection.drop()  # so it looks from the client; the server may yet let it in
            await server.greet(connection)
            await connection.close(CloseCode.REPLACED)

        server.script = script
        async with server.client() as chat:
            await everything_raises(chat, Replaced)
        assert len(server.connections) == 3


async def test_leaving_a_server_that_does_not_read() -> None:
    """Else the end of a program is in the hands of a peer that hangs."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection, limits={})
            await anyio.sleep_forever()

        server.script = script
        async with anyio.create_task_group() as tasks:
            async with server.client() as chat:
                await chat.wait_connected()
                for number in range(100):
                    tasks.start_soon(swallow, chat, number)  # noqa: ASYNC111  (it outlives the client on purpose)
                await anyio.sleep(5)
                began = anyio.current_time()
            assert anyio.current_time() - began <= 2
        began = anyio.current_time()
        with anyio.move_on_after(5) as scope:
            async with server.client() as chat:
                await chat.wait_connected()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert anyio.current_time() - began <= 7


async def swallow(chat: ChatClient, number: int) -> None:
    """Send much, and do not mind the end."""
    with pytest.raises(ConnectionClosed):
        await chat.send("bob", "x" * 8000, id=str(number))


async def test_a_server_that_stops_taking_bytes_is_given_up() -> None:
    """Else a write that hangs is waited for for ever, and nothing reaches the server any more."""
    async with fake_server() as server:
        server.limits = {}

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await server.greet(connection)
                while True:
                    await connection.send(wire.Pong())  # it is there, but reads nothing
                    await anyio.sleep(1)
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            with anyio.fail_after(600):
                await chat.wait_connected()
                assert (await chat.send("bob", "x" * 200_000)).seq == 1
            assert round(server.connections[1].at, 2) == 10.05


async def test_leaving_says_goodbye() -> None:
    """Else what was acknowledged last is sent again the next time, and the server sees 1006."""
    async with fake_server() as server:
        ends: list[Any] = []

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            await connection.send(wire.Messages(messages=server.model.entries[:1], head=1))
            try:
                while True:
                    ends.append(await connection.receive())
            except Exception as gone:
                ends.append(getattr(gone, "code", None))
                raise

        server.script = script
        server.append("one")
        async with server.client() as chat:
            async for message in chat.messages():
                await message.ack()
                break
        for _ in range(1000):  # the server hears of it in a turn or two; a clock would stand still meanwhile
            await anyio.lowlevel.checkpoint()
        assert ends == [wire.Ack(seq=1), 1000]


async def test_everything_raises_when_the_block_is_left() -> None:
    """Else a task of the program that still waits hangs for ever."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            while True:
                await connection.receive()

        server.script = script
        async with anyio.create_task_group() as tasks, server.client() as chat:
            tasks.start_soon(everything_raises, chat, ConnectionClosed)  # noqa: ASYNC111  (likewise)
            await anyio.sleep(1)
        async with server.client() as chat:
            await chat.aclose()
            await chat.aclose()
            await everything_raises(chat, ConnectionClosed)


async def test_what_the_block_raises_leaves_as_it_is() -> None:
    """Else a program's own exception comes out in a group, and no `except` of its matches."""
    async with fake_server() as server:
        mine = KeyError("mine")
        left: BaseException | None = None
        try:
            async with server.client() as chat:
                await chat.wait_connected()
                raise mine
        except KeyError as error:
            left = error
        assert left is mine
