"""Who may no longer be there is gone within a second, whatever the connection is doing at that moment."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from trio_chat import authenticators, wire
from trio_chat.errors import CloseCode
from trio_chat.model import Identity
from trio_chat.serve import handle
from trio_chat.settings import Settings
from trio_chat.testing import open_test_server
from trio_chat.transport.http import Request

from .support import PATIENCE, HeldStore, closed, dial, enter, frame, send, silence, stored
from .transport.peer import CLOSE, TEXT
from .transport.peer import frame as peer_frame


class Ended:
    """A connection over a stream that holds nothing: a peer that does not read is noticed at once."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.event = trio.Event()

    async def wait(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.event.wait()

    async def serve(self, chat: object, stream: trio.abc.Stream) -> None:
        await handle(chat, stream, authenticate=authenticators.demo)  # type: ignore[arg-type]
        self.at = trio.current_time()
        self.event.set()


async def test_a_peer_that_does_not_read_is_gone_within_a_second(autojump_clock: MockClock) -> None:
    """Else somebody who was locked out stays for ten seconds more by not reading, and gets what comes in the meantime."""
    async with open_test_server() as server, trio.open_nursery() as nursery:
        ours, theirs = lockstep_stream_pair()
        ended = Ended()
        nursery.start_soon(ended.serve, server.chat, theirs)
        eve = await dial(ours, "/ws?user=eve")
        assert await eve.read()
        alice = await enter(server, "alice")
        await alice.send(*(send(f"m{n}", "eve", "x" * 1000) for n in range(50)))
        await stored(alice, 50)
        await wait_all_tasks_blocked()  # the writer is in the middle of a frame
        before = trio.current_time()
        server.chat.revoke("eve")
        await ended.wait()
        assert ended.at is not None
        assert ended.at - before < 1
        await alice.send(wire.Ping())
        await frame(alice, wire.Pong)


async def test_a_peer_that_does_not_answer_the_close_is_told_at_once(autojump_clock: MockClock) -> None:
    """Else a client that ignores close frames stays, or writes on."""
    async with open_test_server() as server, trio.open_nursery() as nursery:
        ours, theirs = lockstep_stream_pair()
        ended = Ended()
        nursery.start_soon(ended.serve, server.chat, theirs)
        eve = await dial(ours, "/ws?user=eve")
        assert await eve.read()
        before = trio.current_time()
        server.chat.revoke("eve", "default")
        read = await eve.read()
        assert read is not None
        assert read[0] == CLOSE
        assert trio.current_time() == before
        alice = await enter(server, "alice")
        await eve.send(peer_frame(TEXT, wire.encode(send("late", "alice"))))
        await ended.wait()
        assert ended.at is not None
        assert ended.at - before <= 2  # a second for its answer, and one to linger
        await silence(alice, 5)


async def test_a_connection_that_is_being_opened_is_closed(autojump_clock: MockClock) -> None:
    """Else a revocation passes by a client whose first frame waits for a slow disk."""
    store = HeldStore()
    async with open_test_server(store=store) as server:
        store.hold()
        peer = await dial(await server.stream(), "/ws?user=eve")
        other = await dial(await server.stream(), "/ws?user=bob")
        await store.begun.wait()
        server.chat.revoke("eve")
        try:
            with trio.fail_after(2):  # it answers no close frame, so it is heard to the end
                assert await peer.closed_with() == (CloseCode.UNAUTHORIZED, "no longer authorised")
        finally:
            store.release()
        read = await other.read()
        assert read is not None
        assert read[0] == TEXT


async def test_a_connection_that_only_sends_is_closed(autojump_clock: MockClock) -> None:
    """Else who was locked out can still write."""
    async with open_test_server() as server:
        sender = await enter(server, "eve", "tool", window=0)
        server.chat.revoke("eve")
        assert (await closed(sender)).code == CloseCode.UNAUTHORIZED


async def test_what_was_read_after_the_revocation_is_not_taken_in(autojump_clock: MockClock) -> None:
    """Else whoever is fast writes once more, in the name of a user who is locked out."""
    async with open_test_server() as server:
        eve, alice = await enter(server, "eve"), await enter(server, "alice")
        server.chat.revoke("eve")
        await eve.send(send("late", "alice"))
        assert (await closed(eve)).code == CloseCode.UNAUTHORIZED
        with trio.move_on_after(5):
            raise AssertionError(await alice.receive())


async def test_an_authenticator_that_takes_long_does_not_let_in_who_was_revoked(autojump_clock: MockClock) -> None:
    """Else who is locked out while the hook looks, and looked before, is let in by what it saw."""
    looked, go = trio.Event(), trio.Event()

    async def slow(request: Request) -> Identity:
        looked.set()
        await go.wait()
        return Identity("eve")

    async with open_test_server(authenticate=slow) as server, trio.open_nursery() as nursery:

        async def comes() -> None:
            peer = await dial(await server.stream(), "/ws")
            began = trio.current_time()
            assert (await peer.closed_with())[0] == CloseCode.UNAUTHORIZED
            assert trio.current_time() - began <= 1

        nursery.start_soon(comes)
        await looked.wait()
        server.chat.revoke("eve", "default")
        go.set()


@pytest.mark.once  # it is long
@pytest.mark.parametrize("reading", [True, False])
async def test_a_thousand_connections_are_gone_within_a_second(reading: bool, autojump_clock: MockClock) -> None:
    """Else they are let go one after the other. By the virtual clock; tests/proofs has the real one, with sockets."""
    settings = Settings(user_connections=2000, devices=2000, new_devices=2000)
    async with open_test_server(settings=settings) as server, trio.open_nursery() as nursery:
        peers, ends = [], [Ended() for _ in range(1000)]
        for n, ended in enumerate(ends):
            ours, theirs = lockstep_stream_pair()
            nursery.start_soon(ended.serve, server.chat, theirs)
            peers.append(await dial(ours, f"/ws?user=eve&device=d{n}"))
        welcomed = 0
        for peer in peers:
            welcomed += await peer.read() is not None
        assert welcomed == 1000
        bystander = await enter(server, "bob")
        codes: list[int] = []

        async def reads(peer: object) -> None:
            codes.append((await peer.closed_with())[0])  # type: ignore[attr-defined]

        before = trio.current_time()
        server.chat.revoke("eve")
        if reading:
            for peer in peers:
                nursery.start_soon(reads, peer)
        for ended in ends:
            await ended.wait()
            assert ended.at is not None
            assert ended.at - before <= (1 if reading else 2)
        assert codes == [CloseCode.UNAUTHORIZED] * (1000 if reading else 0)
        assert server.chat.registry.sessions == 1
        await bystander.send(wire.Ping())
        await frame(bystander, wire.Pong)
