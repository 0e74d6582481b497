"""A session between a transport and a running chat: when it reads, what it writes, and how it ends."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.chat import Chat, open_chat
from trio_chat.core.events import Connected
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.session import ConnectionEnded, Session
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.transport.websocket import WebSocketTransport

from .support import HeldStore, send
from .transport.peer import CLOSE, TEXT, Peer
from .transport.peer import frame as client_frame

PING = wire.encode(wire.Ping())


class Line:
    """A transport that the test holds both ends of."""

    def __init__(self) -> None:
        self._incoming: list[list[bytes | None]] = []
        self._changed = trio.Event()
        self._hung_up = False
        self.taking = trio.Event()
        self.taking.set()
        self.broken = False
        self.bug: Exception | None = None
        self.lingers = 0.0
        self.reads = 0
        self.pings = 0
        self.written: list[wire.ServerFrame] = []
        self.closings: list[tuple[CloseCode, str]] = []
        self.closed_at = math.nan

    # The test's end.

    def says(self, *texts: bytes | None) -> None:
        """The peer's messages of one read."""
        self._incoming.append(list(texts))
        self._changed.set()

    def hangs_up(self) -> None:
        self._hung_up = True
        self._changed.set()

    @property
    def unread(self) -> int:
        return len(self._incoming)

    def got(self, kind: type[wire.ServerFrame]) -> list[wire.ServerFrame]:
        return [frame for frame in self.written if isinstance(frame, kind)]

    # The session's end.

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.bug is not None:
            raise self.bug
        await trio.sleep_forever()

    async def receive(self) -> list[bytes | None]:
        while not self._incoming:
            if self._hung_up:
                raise ConnectionEnded
            self._changed = trio.Event()
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        self.reads += 1
        return self._incoming.pop(0)

    async def send(self, texts: list[bytes]) -> None:
        await self._take()
        self.written += [wire.decode_server(text) for text in texts]

    async def ping(self) -> None:
        await self._take()
        self.pings += 1

    async def close(self, code: CloseCode, reason: str) -> None:
        self.closings.append((code, reason))
        self.closed_at = trio.current_time()
        with trio.move_on_after(self.lingers):
            await trio.sleep_forever()

    async def _take(self) -> None:
        await self.taking.wait()
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise ConnectionEnded("the peer is gone")


@asynccontextmanager
async def session_on(
    line: Line,
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    user: str = "alice",
    expires: float = math.inf,
) -> AsyncIterator[tuple[Session, Chat, trio.Nursery]]:
    """A session of a running chat. It must have ended, or is cut off, when the block is left."""
    settings = settings or Settings()
    async with open_chat(store or MemoryStore(settings), settings=settings) as chat, trio.open_nursery() as nursery:
        session = Session(chat.next_connection(), line, settings, expires=expires)
        nursery.start_soon(session.run, chat, Connected(session.connection, user, "phone"))
        await wait_all_tasks_blocked()
        yield session, chat, nursery
        nursery.cancel_scope.cancel()


def sends(count: int, *, first: int = 0) -> list[bytes]:
    return [wire.encode(send(f"m{n}", "bob")) for n in range(first, first + count)]


# Reading.


async def test_nothing_is_read_before_welcome_is_queued(autojump_clock: MockClock) -> None:
    """Else a fast client's first message would be taken in by a connection that does not stand anywhere yet (C9)."""
    line, store = Line(), HeldStore()
    store.hold()
    line.says(*sends(1))
    async with session_on(line, store=store):
        assert line.reads == 0
        store.release()
        await wait_all_tasks_blocked()
        assert line.reads == 1
        assert [type(frame) for frame in line.written] == [wire.Welcome, wire.Stored]


async def test_reading_stops_with_much_uncommitted_and_resumes(autojump_clock: MockClock) -> None:
    """Else a slow disk makes the server take in messages without end, or a client is never read again."""
    line, store = Line(), HeldStore()
    async with session_on(line, store=store, settings=Settings(uncommitted=4)):
        store.hold()
        line.says(*sends(3))
        line.says(*sends(1, first=3))
        line.says(*sends(1, first=4))  # in hand
        line.says(*sends(1, first=5))
        await wait_all_tasks_blocked()
        assert line.unread == 1
        store.release()
        await wait_all_tasks_blocked()
        assert line.unread == 0
        assert store.ids("bob") == ["m0", "m1", "m2", "m3", "m4", "m5"]


async def test_reading_stops_with_much_unsent_and_resumes(autojump_clock: MockClock) -> None:
    """Else a client that asks and does not read costs memory for as long as it likes (C8)."""
    line = Line()
    async with session_on(line, settings=Settings(outbox_bytes=1000)):
        line.taking = trio.Event()
        line.says(*[PING] * 10)
        line.says(PING)  # in hand
        line.says(PING)
        await wait_all_tasks_blocked()
        assert line.unread == 1
        line.taking.set()
        await wait_all_tasks_blocked()
        assert line.unread == 0
        assert len(line.got(wire.Pong)) == 12


async def test_junk_is_answered_and_the_connection_stays(autojump_clock: MockClock) -> None:
    """Else one bad frame, or a binary one, ends a connection, or what comes with it in the same read is lost."""
    line = Line()
    async with session_on(line):
        line.says(b"{", None, b'{"type":"send","id":"x","to":"bob","text":"a","more":1}', b"\xff\xfe", PING, *sends(1))
        await wait_all_tasks_blocked()
        refusals = [frame for frame in line.written if isinstance(frame, wire.Error)]
        assert [refusal.code for refusal in refusals] == [ErrorCode.BAD_FRAME] * 4
        assert [refusal.id for refusal in refusals] == [None, None, "x", None]
        assert len(line.got(wire.Pong)) == len(line.got(wire.Stored)) == 1
        assert not line.closings


async def test_after_stop_reading_nothing_more_is_taken(autojump_clock: MockClock) -> None:
    """Else a drain never ends under load: every answer is followed by another message."""
    line, store = Line(), HeldStore()
    async with session_on(line, store=store) as (session, _, _):
        line.says(*sends(1))
        await wait_all_tasks_blocked()
        session.stop_reading()
        line.says(*sends(1, first=1))
        await wait_all_tasks_blocked()
        assert store.ids("bob") == ["m0"]
        assert not line.closings


async def test_stop_reading_has_an_end(autojump_clock: MockClock) -> None:
    """Else a session whose answers never come keeps a drain waiting for ever; a later end does not postpone the first."""
    line = Line()
    async with session_on(line) as (session, chat, _):
        session.stop_reading(end_by=trio.current_time() + 3)
        session.stop_reading(end_by=trio.current_time() + 30)
        before = trio.current_time()
        await chat.registry.wait_idle()
        assert line.closed_at - before == 3
        assert line.closings == [(CloseCode.GOING_AWAY, "")]


# Writing.


async def test_everything_that_waits_is_written_at_once(autojump_clock: MockClock) -> None:
    """Else a wake-up and a write per frame cost most of the throughput."""
    line = Line()
    async with session_on(line) as (session, _, _):
        line.taking = trio.Event()
        session.send(wire.Pong())
        await wait_all_tasks_blocked()
        for n in range(3):
            session.send(wire.Stored(messages=[wire.StoredItem(f"m{n}", n + 1, 0)]))
        line.taking.set()
        await wait_all_tasks_blocked()
        (answer,) = line.got(wire.Stored)
        assert isinstance(answer, wire.Stored)
        assert [item.id for item in answer.messages] == ["m0", "m1", "m2"]


async def test_an_offer_is_dropped_while_output_waits(autojump_clock: MockClock) -> None:
    """Else typing piles up in front of a slow reader, and reaches it when nobody types any more (C8)."""
    line = Line()
    typing = wire.TypingFrom(sender="bob", typing=True)
    async with session_on(line) as (session, _, _):
        session.offer(typing)
        await wait_all_tasks_blocked()
        assert len(line.got(wire.TypingFrom)) == 1
        line.taking = trio.Event()
        session.send(wire.Pong())
        session.offer(typing)
        await wait_all_tasks_blocked()
        session.offer(typing)  # the pong is being written and counts
        line.taking.set()
        await wait_all_tasks_blocked()
        session.offer(typing)
        await wait_all_tasks_blocked()
        assert [type(frame) for frame in line.written[1:]] == [wire.TypingFrom, wire.Pong, wire.TypingFrom]


def receipt(peer: str, read: int) -> wire.Receipt:
    return wire.Receipt(peer=peer, read=read)


async def test_what_is_told_comes_last_and_the_newest_wins(autojump_clock: MockClock) -> None:
    """Else a slow reader is told step by step how it came about, or of a receipt before the answer that it is about (C8)."""
    line = Line()
    async with session_on(line) as (session, _, _):
        session.tell(("read", "bob"), receipt("bob", 1))
        await wait_all_tasks_blocked()
        assert line.written[1:] == [receipt("bob", 1)]
        line.taking = trio.Event()
        session.send(wire.Pong())
        await wait_all_tasks_blocked()
        for n in range(2, 6):
            session.tell(("read", "bob"), receipt("bob", n))
            session.tell(("read", "eve"), receipt("eve", n))
        session.send(wire.Stored(messages=[wire.StoredItem("m", 1, 0)]))
        session.offer(wire.TypingFrom(sender="bob", typing=True))  # something waits
        line.taking.set()
        await wait_all_tasks_blocked()
        assert [type(frame) for frame in line.written[2:]] == [wire.Pong, wire.Stored, wire.Receipt, wire.Receipt]
        assert line.written[4:] == [receipt("bob", 5), receipt("eve", 5)]


async def test_who_does_not_read_is_told_a_bounded_number_of_things(autojump_clock: MockClock) -> None:
    """Else anybody can fill this server's memory by reading what a peer that does not read has sent (C8)."""
    line = Line()
    async with session_on(line) as (session, _, _):
        line.taking = trio.Event()
        session.tell(("read", "first"), receipt("first", 1))
        await wait_all_tasks_blocked()
        for n in range(3_000):
            session.tell(("read", f"peer{n}"), receipt(f"peer{n}", 1))
        session.tell(("read", "peer5"), receipt("peer5", 9))  # there is room for what waits already
        line.says(PING)
        await wait_all_tasks_blocked()
        assert line.unread == 0  # what others cause does not keep this one from being read
        line.taking.set()
        await wait_all_tasks_blocked()
        told = line.got(wire.Receipt)
        assert len(told) == 1 + 1024
        assert receipt("peer5", 9) in told
        assert line.written[2:3] == [wire.Pong()]


async def test_an_offer_is_dropped_while_something_is_to_be_told(autojump_clock: MockClock) -> None:
    """Else typing overtakes what is worth more, and piles up behind it."""
    line = Line()
    typing = wire.TypingFrom(sender="bob", typing=True)
    async with session_on(line) as (session, _, _):
        line.taking = trio.Event()
        session.tell(("read", "bob"), receipt("bob", 1))
        session.offer(typing)
        await wait_all_tasks_blocked()
        session.offer(typing)  # the receipt is being written and counts
        line.taking.set()
        await wait_all_tasks_blocked()
        session.offer(typing)
        await wait_all_tasks_blocked()
        assert line.written[1:] == [receipt("bob", 1), typing]


async def test_what_was_told_is_written_before_the_close(autojump_clock: MockClock) -> None:
    """Else the last receipts of a drain are lost, and nobody sends them again."""
    line = Line()
    async with session_on(line) as (session, _, _):
        session.tell(("read", "bob"), receipt("bob", 1))
        session.close(CloseCode.GOING_AWAY, "")
        await wait_all_tasks_blocked()
        assert line.written[1:] == [receipt("bob", 1)]
        assert line.closings[0] == (CloseCode.GOING_AWAY, "")


async def test_a_ping_goes_before_what_waits(autojump_clock: MockClock) -> None:
    """Else a slow link is taken for a dead one: its ping stands behind all that is to be read before it."""
    line = Line()
    async with session_on(line) as (session, _, _):
        line.taking = trio.Event()
        session.send(wire.Pong())
        await wait_all_tasks_blocked()
        session.send(wire.Pong())
        session.ping()
        session.ping()
        line.taking.set()
        await wait_all_tasks_blocked()
        assert line.pings == 1
        assert len(line.got(wire.Pong)) == 2


# Ending.


async def test_closing_writes_the_outbox_first(autojump_clock: MockClock) -> None:
    """Else the answer that made the server close, or the last ``stored`` before a drain, never arrives."""
    line = Line()
    async with session_on(line) as (session, chat, _):
        line.taking = trio.Event()
        session.send(wire.Pong())
        session.close(CloseCode.REPLACED, "newer")
        await wait_all_tasks_blocked()
        assert not line.closings
        line.taking.set()
        await chat.registry.wait_idle()
        assert len(line.got(wire.Pong)) == 1
        assert line.closings[0] == (CloseCode.REPLACED, "newer")


@pytest.mark.parametrize(("code", "seconds"), [(CloseCode.REPLACED, 7.0), (CloseCode.UNAUTHORIZED, 0.8)])
async def test_a_peer_that_does_not_read_is_cut_off_when_closed(
    code: CloseCode, seconds: float, autojump_clock: MockClock
) -> None:
    """Else whoever is told to go can stay, and hold its place, by not listening; who is revoked is gone within a second."""
    line = Line()
    async with session_on(line, settings=Settings(write_timeout=7.0)) as (session, chat, _):
        line.taking = trio.Event()
        session.send(wire.Pong())
        session.close(code, "")
        before = trio.current_time()
        await chat.registry.wait_idle()
        assert line.closed_at - before == seconds
        assert line.closings == [(code, "")]


async def test_the_first_reason_to_close_is_told_and_nothing_is_sent_after_it(autojump_clock: MockClock) -> None:
    """Else who is no longer authorised goes on getting messages, or is told that a newer connection took over: come back."""
    line = Line()
    async with session_on(line) as (session, chat, _):
        session.close(CloseCode.UNAUTHORIZED, "revoked")
        session.send(wire.Pong())
        session.offer(wire.Pong())
        session.close(CloseCode.REPLACED, "newer")
        await chat.registry.wait_idle()
        assert not line.got(wire.Pong)
        assert line.closings[0] == (CloseCode.UNAUTHORIZED, "revoked")


async def test_a_busy_server_finds_time_to_say_why(autojump_clock: MockClock) -> None:
    """Else a thousand who are revoked at once, which takes a moment, see their connections break, and come back."""
    line = Line()
    async with session_on(line) as (session, chat, _):
        line.taking = trio.Event()
        session.send(wire.Pong())
        session.close(CloseCode.UNAUTHORIZED, "")
        line.lingers = 5.0
        await trio.sleep(0.7)
        before = trio.current_time()
        line.taking.set()
        await chat.registry.wait_idle()
        assert trio.current_time() - before >= 5.0
        assert line.closings[0] == (CloseCode.UNAUTHORIZED, "")


@pytest.mark.parametrize("reads", [True, False])
async def test_at_its_moment_a_session_expires(reads: bool, autojump_clock: MockClock) -> None:
    """Else a token that was good for an hour is good for ever, once a connection stands, or for one that does not read."""
    line = Line()
    async with session_on(line, expires=trio.current_time() + 20) as (session, chat, _):
        if not reads:
            line.taking = trio.Event()
            session.send(wire.Pong())
        await trio.sleep(19.5)
        assert not line.closings
        await chat.registry.wait_idle()
        assert line.closed_at == 20
        assert line.closings[0][0] == CloseCode.UNAUTHORIZED


async def test_who_leaves_before_the_end_of_its_time_has_not_expired(autojump_clock: MockClock) -> None:
    """Else every client of a server that shuts down is told that it may not come back."""
    line = Line()
    async with session_on(line, expires=trio.current_time() + 20) as (session, chat, _):
        session.close(CloseCode.GOING_AWAY, "retry_after=1")
        await chat.registry.wait_idle()
        assert line.closings[0] == (CloseCode.GOING_AWAY, "retry_after=1")


@pytest.mark.parametrize("lingers", [0.0, math.inf])
async def test_a_cancelled_session_says_goodbye(lingers: float, autojump_clock: MockClock) -> None:
    """Else clients of a server that is cancelled see 1006, or one of them holds up the shutdown."""
    line = Line()
    line.lingers = lingers
    async with session_on(line) as (_, chat, nursery):
        before = trio.current_time()
        nursery.cancel_scope.cancel()
    assert line.closings == [(CloseCode.GOING_AWAY, "")]
    assert trio.current_time() - before <= 1.0
    assert chat.registry.sessions == 0


async def test_a_bug_is_told_as_internal(autojump_clock: MockClock) -> None:
    """Else a client that did nothing wrong is told that the server shuts down; the bug must reach the boundary, too."""
    line = Line()
    line.bug = RuntimeError("planted")
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="planted"), flatten_subgroups=True):
        async with session_on(line):
            raise AssertionError("the session did not fail")
    assert line.closings == [(CloseCode.INTERNAL, "")]


async def test_a_transport_that_fails_to_close_ends_the_session_all_the_same(autojump_clock: MockClock) -> None:
    """Else the chat waits for the session in every drain, and for as long as it may when it ends."""

    class Stuck(Line):
        async def close(self, code: CloseCode, reason: str) -> None:
            await trio.lowlevel.checkpoint()
            raise OSError("not connected")

    line = Stuck()
    async with open_chat(MemoryStore()) as chat:
        session = Session(chat.next_connection(), line, Settings())
        line.hangs_up()
        with pytest.raises(OSError, match="not connected"):
            await session.run(chat, Connected(session.connection, "alice", "phone"))
        before = trio.current_time()
    assert trio.current_time() - before < 1


@pytest.mark.parametrize("side", ["read", "write"])
async def test_a_broken_connection_ends_the_session(side: str, autojump_clock: MockClock) -> None:
    """Else sessions of peers that are gone stay for ever."""
    line = Line()
    async with session_on(line) as (session, chat, _):
        if side == "read":
            line.hangs_up()
        else:
            line.broken = True
            session.send(wire.Pong())
        with trio.fail_after(1):
            await chat.registry.wait_idle()
        assert chat.registry.sessions == 0
        assert len(line.closings) == 1


async def test_what_was_read_before_the_peer_hung_up_is_committed(autojump_clock: MockClock) -> None:
    """Else a client that sends and leaves at once loses its message, though it was read."""
    line, store = Line(), HeldStore()
    async with session_on(line, store=store) as (_, chat, _):
        line.says(*sends(2))
        line.hangs_up()
        await chat.registry.wait_idle()
        assert store.ids("bob") == ["m0", "m1"]


async def test_half_a_frame_is_not_followed_by_a_farewell() -> None:
    """Else the close frame lands inside of the message that was cut short, and the peer reads nonsense."""
    ours, theirs = lockstep_stream_pair()  # a write ends when it was read
    settings = Settings()
    peer = Peer(theirs)
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        session = Session(chat.next_connection(), WebSocketTransport(ours, settings=settings), settings)
        nursery.start_soon(session.run, chat, Connected(session.connection, "alice", "phone"))
        read = await peer.read()
        assert read is not None
        assert isinstance(wire.decode_server(read[1]), wire.Welcome)
        await peer.send(client_frame(TEXT, PING))
        await wait_all_tasks_blocked()  # the pong is being written, and nobody reads
        head = await theirs.receive_some(1)
        await wait_all_tasks_blocked()
        session.cancel()
        await chat.registry.wait_idle()
        rest = b""
        while data := await theirs.receive_some():
            rest += data
        assert bytes([0x80 | CLOSE]) not in bytes(head) + rest


async def test_frames_may_be_any_size_the_protocol_has(autojump_clock: MockClock) -> None:
    """Else a long text is cut or refused somewhere between the socket and the store."""
    line, store = Line(), HeldStore()
    text = "ü" * (8 * 1024)
    async with session_on(line, store=store):
        line.says(wire.encode(send("long", "alice", text)))
        await wait_all_tasks_blocked()
        assert store.texts("alice") == [text]
        line.says(wire.encode(send("longer", "alice", text + "!")))
        await wait_all_tasks_blocked()
        (refusal,) = line.got(wire.Error)
        assert msgspec.structs.asdict(refusal)["code"] == ErrorCode.TOO_LARGE


async def test_sessions_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    """Else one client that does not read delays all others."""
    stuck, well = Line(), Line()
    async with session_on(stuck) as (_, chat, nursery):
        stuck.taking = trio.Event()
        other = Session(chat.next_connection(), well, Settings())
        nursery.start_soon(partial(other.run, chat, Connected(other.connection, "bob", "phone")))
        await wait_all_tasks_blocked()
        before = trio.current_time()
        for n in range(50):
            well.says(wire.encode(send(f"b{n}", "alice")))
        await wait_all_tasks_blocked()
        assert sum(len(f.messages) for f in well.written if isinstance(f, wire.Stored)) == 50
        assert trio.current_time() == before
        assert len(stuck.written) == 1
