"""Three users with three devices each do whatever they like, and a model in plain Python knows what each must see.

A real chat with real clients, in a thread of its own, on a clock that moves only when the test says so. After each step
everything has happened that follows from it: what every client holds, every tick and every answer is what the model says.
"""

from __future__ import annotations

import itertools
import queue
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import msgspec
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.client.raw import ClosedByServer
from trio_chat.core.batch import Batch, Page, PageRequest, Results
from trio_chat.errors import BadQuery, CloseCode, ErrorCode, IdConflict
from trio_chat.model import Message
from trio_chat.retrieval import (
    Conversation,
    ConversationsPage,
    ConversationsQuery,
    Device,
    HistoryPage,
    HistoryQuery,
    SearchPage,
    SearchQuery,
    Standing,
    check_combination,
)
from trio_chat.settings import Settings
from trio_chat.store.base import Store
from trio_chat.store.memory import MemoryStore
from trio_chat.store.sqlite import SqliteStore
from trio_chat.testing import InMemoryServer, open_test_server
from trio_chat.voice import Sent

from .support import Client
from .whole_model import Entry, Here, Model

T = TypeVar("T")
Say = Callable[[str, str, str | None, str], Awaitable[object]]

USERS = ("alice", "bob", "eve")
DEVICES = ("phone", "laptop", "web")
SETTINGS = Settings(send_rate=None, window=8, bad_frames=1000)
BREATH = 0.35
"""Seconds that pass after each step: acks are committed by then, and no multiple is the delay of presence."""
PATIENCE = 60
"""Real seconds after which the chat does not answer any more."""

users = st.sampled_from(USERS)
devices = st.sampled_from(DEVICES)
words = st.sampled_from(["apple", "apply", "banana"])
texts = st.lists(words, min_size=1, max_size=3).map(" ".join)
anywhere = st.floats(0, 1)


def rarely(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """None, mostly: filters that are all given at once leave nothing to compare."""
    return st.one_of(st.none(), st.none(), st.none(), values)


class Connected:
    """A client's side: what it was sent, and what it holds."""

    def __init__(self, client: Client, here: Here, log: str) -> None:
        self.client = client
        self.here = here
        self.log = log
        self.held: dict[int, str] = {}
        self.entries: list[Message] = []
        self.unchecked: list[Message] = []
        self.receipts: dict[str, tuple[int, int]] = {}
        self.elsewhere: dict[str, int] = {}
        self.presence: dict[str, bool] = {}
        self.answers: list[wire.ServerFrame] = []
        self.last = here.start
        self.upto = here.start
        self.code: int | None = None

    async def listen(self) -> None:
        try:
            while True:
                self._take(await self.client.receive())
        except ClosedByServer as end:
            self.code = end.code

    def _take(self, frame: wire.ServerFrame) -> None:
        match frame:
            case wire.Messages(messages=messages):
                for message in messages:
                    assert message.seq > self.last  # ascending, each at most once (I3)
                    self.last = message.seq
                    self.held[message.seq] = message.id
                self.entries += messages
                self.unchecked += messages
            case wire.Stored(messages=items):
                for item in items:
                    self.held[item.seq] = item.id
                self.answers.append(frame)
            case wire.Receipt(peer=peer, delivered=delivered, read=read):
                old = self.receipts.get(peer, (0, 0))
                self.receipts[peer] = max(old[0], delivered, read), max(old[1], read)
            case wire.ReadElsewhere(peer=peer, seq=seq):
                self.elsewhere[peer] = max(self.elsewhere.get(peer, 0), seq)
            case wire.Presence(user=user, online=online):
                self.presence[user] = online
            case _:
                self.answers.append(frame)
        while self.upto + 1 in self.held:  # A2
            self.upto += 1


class Watched:
    """Says when nothing is under way in the threads of a store."""

    def __init__(self) -> None:
        self.busy = 0
        self.moved = trio.Event()

    async def during(self, work: Awaitable[T]) -> T:
        self.busy += 1
        try:
            return await work
        finally:
            self.busy -= 1
            self.moved.set()
            self.moved = trio.Event()


class WatchedSqlite(SqliteStore):
    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(path, settings)
        self.watched = Watched()

    async def append(self, batch: Batch, now: int) -> Results:
        return await self.watched.during(super().append(batch, now))

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        return await self.watched.during(super().pages(requests))

    async def history(self, user: str, query: HistoryQuery, *, size: int) -> HistoryPage:
        return await self.watched.during(super().history(user, query, size=size))

    async def search(self, user: str, query: SearchQuery, *, size: int) -> SearchPage:
        return await self.watched.during(super().search(user, query, size=size))

    async def conversations(self, user: str, query: ConversationsQuery, *, size: int) -> ConversationsPage:
        return await self.watched.during(super().conversations(user, query, size=size))

    async def devices(self, user: str) -> tuple[Device, ...]:
        return await self.watched.during(super().devices(user))

    async def blocked(self, user: str) -> tuple[str, ...]:
        return await self.watched.during(super().blocked(user))

    async def standings(self, viewer: str, users: Sequence[str]) -> tuple[Standing, ...]:
        return await self.watched.during(super().standings(viewer, users))


class World:
    """A chat in a thread of its own. `run` has something done there, and then waits until nothing more follows from it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = MockClock()
        self.server: InMemoryServer
        self.nursery: trio.Nursery
        self._ready: queue.Queue[BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        self._raise(self._ready.get(timeout=PATIENCE))

    def _main(self) -> None:
        try:
            trio.run(self._serve, clock=self.clock)
        except BaseException as error:  # noqa: ASYNC103  (it is raised by who waits)
            self._ready.put(error)
        else:
            self._ready.put(None)

    @staticmethod
    def _raise(error: BaseException | None) -> None:
        if error is not None:
            raise error

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._commands, commands = trio.open_memory_channel[tuple[Callable[[], Awaitable[Any]], "queue.Queue[Any]"]](1)
        async with open_test_server(store=self.store, settings=SETTINGS) as server, trio.open_nursery() as nursery:
            self.server, self.nursery = server, nursery
            self._ready.put(None)
            async for command, reply in commands:
                try:
                    reply.put((await command(), None))
                except Exception as error:
                    reply.put((None, error))
            nursery.cancel_scope.cancel()

    def run(self, command: Callable[[], Awaitable[T]]) -> T:
        reply: queue.Queue[tuple[T, Exception | None]] = queue.Queue()
        self._token.run_sync_soon(self._commands.send_nowait, (command, reply))
        value, error = reply.get(timeout=PATIENCE)
        if error is not None:
            raise error
        return value

    def _close(self) -> None:
        # Farewells wait for time to pass. Threads take real time, which a clock that jumps would not leave them.
        if hasattr(self.store, "watched"):
            self.clock.rate = 30
        else:
            self.clock.autojump_threshold = 0
        self._commands.close()

    async def quiet(self) -> None:
        """Nothing happens any more before time passes."""
        while True:
            await wait_all_tasks_blocked()
            watched: Watched | None = getattr(self.store, "watched", None)
            if watched is None or not watched.busy:
                return
            await watched.moved.wait()

    async def settle(self, seconds: float = BREATH) -> None:
        await self.quiet()
        self.clock.jump(seconds)
        await self.quiet()

    def end(self) -> None:
        self._token.run_sync_soon(self._close)
        self._thread.join(PATIENCE)
        self._raise(self._ready.get(timeout=PATIENCE))


class Chatting(RuleBasedStateMachine):
    """The rules. Each does one thing in the world and in the model, and compares what came of it."""

    def make_store(self) -> Store:
        return MemoryStore(SETTINGS)

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.world = World(self.store)
        self.model = Model()
        self.connected: dict[tuple[str, str], Connected] = {}
        self.count = 0
        self.at_once: set[str] = set()
        """Messages that were deleted so soon that nobody may have seen their text."""

    @initialize(known=st.sampled_from([True, True, True, False]))
    def begin(self, known: bool) -> None:
        """Most examples begin where it gets interesting: three who know one another, and look what the others do."""
        if known:
            for user, device in (("alice", "phone"), ("alice", "laptop"), ("bob", "web"), ("eve", "phone")):
                self.connect(user, device, None)
            for user, other in itertools.permutations(USERS, 2):
                self.voice(user, other, "apple", 0.0, "message")
            for one in self.connected.values():
                assert self.ask(one, wire.Watch(ref=self.name(), users=USERS)) == []
                self.model.watch(one.here, USERS)
            self.settle()

    def teardown(self) -> None:
        self.world.end()

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def someone(self, where: float, user: str | None = None) -> Connected:
        """A connection, of this user if one is named and has any."""
        chosen = [one for key, one in sorted(self.connected.items()) if user in (None, key[0])] or [
            one for _, one in sorted(self.connected.items())
        ]
        return chosen[min(int(where * len(chosen)), len(chosen) - 1)]

    def pick(self, entries: list[Entry], where: float) -> str:
        """The id of one of these, or one that nobody has given."""
        return entries[int(where * len(entries))].id if where < 1 and entries else "unheard of"

    def settle(self, seconds: float = BREATH) -> None:
        async def settle() -> None:
            await self.world.settle(seconds)

        self.world.run(settle)
        self.model.pass_time(seconds)
        self.check(seconds)

    def ask(self, one: Connected, *frames: wire.ClientFrame) -> list[wire.ServerFrame]:
        """What is answered to these frames."""
        one.answers.clear()

        async def send() -> None:
            await one.client.send(*frames)
            await self.world.quiet()

        self.world.run(send)
        return one.answers

    def check(self, seconds: float) -> None:
        """Every client holds what it must, and was told what it must be."""
        for (user, _), one in self.connected.items():
            log = self.model.log(user)
            assert one.code is None
            # A window that is not half free is filled within a second (C6); what it wrote itself is in none.
            full = SETTINGS.window if seconds >= 1 else SETTINGS.window // 2 + 1
            missing = [seq for seq in range(one.here.start + 1, len(log) + 1) if seq not in one.held]
            assert not missing or len([entry for entry in one.entries if entry.seq > one.here.acked]) >= full, missing
            for entry in one.unchecked:
                expected = log[entry.seq - 1].as_stored(user)
                got = entry
                if entry.id in self.at_once:  # it may have left before its end was known
                    got = msgspec.structs.replace(entry, text=None)
                assert got == expected
            one.unchecked.clear()
            for seq, id in one.held.items():
                assert log[seq - 1].id == id
            assert one.receipts == {peer: marks for peer, marks in one.here.receipts.items() if any(marks)}
            for peer, seq in one.here.elsewhere.items():
                assert one.elsewhere[peer] >= seq
            for peer, seq in one.elsewhere.items():  # it may be told what is no news, or is about nobody it talks with
                assert seq <= self.model.read.get((user, peer), len(log))
            for name, online in one.here.watched.items():
                assert one.presence[name] == online, (user, name)
            for name, until in one.here.parting.items():
                assert one.presence[name] == (self.model.now < until), (user, name)
        self.look()

    def look(self) -> None:
        """What the application is told of each user is what the model says."""
        chat = self.world.server.chat

        async def look(user: str) -> tuple[HistoryPage, HistoryPage, ConversationsPage]:
            everything = await chat.history(user, after=0, limit=200)
            return everything, await chat.history(user, unread=True, limit=200), await chat.conversations(user)

        for user in USERS:

            async def look_at(user: str = user) -> tuple[HistoryPage, HistoryPage, ConversationsPage]:
                return await look(user)

            everything, unread, talks = self.world.run(look_at)
            assert list(everything.messages) == self.model.history(user, HistoryQuery(after=0, limit=200))[0]
            assert list(unread.messages) == self.model.history(user, HistoryQuery(unread=True, limit=200))[0]
            assert list(talks.conversations) == self.model.conversations(user)

    # Coming and going.

    @rule(user=users, device=devices, resume=st.sampled_from([None, None, 0.0, 0.5, 1.0]))
    def connect(self, user: str, device: str, resume: float | None) -> None:
        older = self.connected.pop((user, device), None)
        log = next((one.log for (name, _), one in self.connected.items() if name == user), older.log if older else None)
        after = None if resume is None or log is None else int(resume * self.model.head(user))

        async def open_connection() -> tuple[Client, wire.Welcome]:
            position: dict[str, str | int] = {} if after is None or log is None else {"log": log, "after": after}
            client = Client(await self.world.server.connect(user, device, **position), user)
            welcome = await client.receive()
            assert isinstance(welcome, wire.Welcome)
            return client, welcome

        client, welcome = self.world.run(open_connection)
        new = (user, device) not in self.model.cursors
        if older is not None:
            del self.model.here[user, device]  # in the same instant, so nobody sees anybody leave
        here = self.model.connect(user, device, after)
        assert (welcome.head, welcome.cursor, welcome.new) == (self.model.head(user), here.start, new)
        one = self.connected[user, device] = Connected(client, here, welcome.log)

        async def listen() -> None:
            self.world.nursery.start_soon(one.listen)

        self.world.run(listen)
        self.settle()
        if older is not None:
            assert older.code == CloseCode.REPLACED

    @precondition(lambda self: self.connected)
    @rule(where=anywhere)
    def disconnect(self, where: float) -> None:
        one = self.someone(where)
        key = one.here.user, one.here.device
        del self.connected[key]
        self.model.disconnect(*key)

        async def leave() -> None:
            await one.client.aclose()

        self.world.run(leave)
        self.settle()

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.settle(seconds)

    @rule()
    def restart(self) -> None:
        self.world.end()
        for one in self.connected.values():
            one.code = None
        self.connected.clear()
        self.model.here.clear()
        self.model.leaving.clear()
        self.world = World(self.store)

    # Saying something.

    def said(self, expected: Entry | ErrorCode, answer: wire.ServerFrame) -> None:
        """The answer to a draft is what the model says; then the model learns when it was stored."""
        if isinstance(expected, ErrorCode):
            assert isinstance(answer, wire.Error), answer
            assert (answer.code, answer.retry_after) == (expected, None)
        else:
            assert isinstance(answer, wire.Stored), answer
            (item,) = answer.messages
            assert (item.id, item.seq) == (expected.id, expected.places[expected.sender])
            assert expected.sent_at in (0, item.sent_at)
            expected.sent_at = item.sent_at

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, to=users, text=texts, reply=st.none() | anywhere)
    def send(self, where: float, to: str, text: str, reply: float | None) -> None:
        one = self.someone(where)
        user = one.here.user
        target = None
        if reply is not None:
            target = self.pick([entry for entry in self.model.sent.values() if user in entry.places], reply)
        id = self.name()
        expected = self.model.draft(user, to, id, text, "message", target)
        (answer,) = self.ask(one, wire.Send(id=id, to=to, text=text, reply_to=target))
        self.said(expected, answer)
        self.settle()

    @precondition(lambda self: self.connected and self.model.sent)
    @rule(where=anywhere, which=anywhere, text=st.none() | texts)
    def send_again(self, where: float, which: float, text: str | None) -> None:
        sent = list(self.model.sent.values())
        entry = sent[min(int(which * len(sent)), len(sent) - 1)]
        if entry.kind != "message" or not [key for key in self.connected if key[0] == entry.sender]:
            return
        one = self.someone(where, entry.sender)
        target = self.model.said_target[entry.sender, entry.id]
        again = text or self.model.said[entry.sender, entry.id] or ""
        expected = self.model.draft(entry.sender, entry.recipient, entry.id, again, "message", target)
        (answer,) = self.ask(one, wire.Send(id=entry.id, to=entry.recipient, text=again, reply_to=target))
        self.said(expected, answer)
        self.settle()

    def change(self, where: float, which: float, text: str | None) -> None:
        one = self.someone(where)
        user = one.here.user
        own = [entry for entry in self.model.sent.values() if user in entry.places]
        target = self.pick(own, which)
        to = next((entry.peer(user) for entry in own if entry.id == target), "bob")
        id = self.name()
        expected = self.model.draft(user, to, id, text, "delete" if text is None else "edit", target)
        frame: wire.ClientFrame = (
            wire.Delete(id=id, to=to, target=target) if text is None else wire.Edit(id=id, to=to, target=target, text=text)
        )
        (answer,) = self.ask(one, frame)
        self.said(expected, answer)
        self.settle()

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, which=anywhere, text=texts)
    def edit(self, where: float, which: float, text: str) -> None:
        self.change(where, which, text)

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, which=anywhere)
    def delete(self, where: float, which: float) -> None:
        self.change(where, which, None)

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, to=users, text=texts)
    def take_back_at_once(self, where: float, to: str, text: str) -> None:
        """A message, an edit of it and its deletion, in one breath."""
        one = self.someone(where)
        user = one.here.user
        first, second, third = ids = self.name(), self.name(), self.name()
        expected = [
            self.model.draft(user, to, first, text),
            self.model.draft(user, to, second, "banana", "edit", first),
            self.model.draft(user, to, third, None, "delete", first),
        ]
        self.at_once |= {first, second}
        answers = self.ask(
            one,
            wire.Send(id=first, to=to, text=text),
            wire.Edit(id=second, to=to, target=first, text="banana"),
            wire.Delete(id=third, to=to, target=first),
        )
        items = {item.id: item for got in answers if isinstance(got, wire.Stored) for item in got.messages}
        assert sorted(items) == sorted(ids)
        for entry, id in zip(expected, ids, strict=True):
            self.said(entry, wire.Stored(messages=[items[id]]))
        self.settle()

    @rule(user=users, to=users, text=texts, which=anywhere, kind=st.sampled_from(["message", "edit", "delete"]))
    def voice(self, user: str, to: str, text: str, which: float, kind: str) -> None:
        """The application says it, in the name of a user."""
        chat = self.world.server.chat
        id = self.name()
        target = self.pick([entry for entry in self.model.sent.values() if entry.sender == user], which)
        if kind == "message":
            expected = self.model.draft(user, to, id, text)
        elif kind == "edit":
            expected = self.model.draft(user, to, id, text, "edit", target)
        else:
            expected = self.model.draft(user, to, id, None, "delete", target)

        async def say() -> Sent | ErrorCode:
            try:
                if kind == "message":
                    return await chat.send(user, to, text, id=id)
                if kind == "edit":
                    return await chat.edit(user, to, target, text, id=id)
                return await chat.delete(user, to, target, id=id)
            except (BadQuery, IdConflict) as refused:
                return ErrorCode(refused.code)

        outcome = self.world.run(say)
        if isinstance(expected, ErrorCode):
            assert outcome == expected
        else:
            assert isinstance(outcome, Sent)
            assert (outcome.id, outcome.seq) == (id, expected.places[user])
            expected.sent_at = outcome.sent_at
        self.settle()

    # Acknowledging and reading.

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, how_far=anywhere)
    def ack(self, where: float, how_far: float) -> None:
        one = self.someone(where)
        seq = one.here.acked + round(how_far * (one.upto - one.here.acked))
        self.model.ack(one.here, seq)
        assert self.ask(one, wire.Ack(seq=seq)) == []
        self.settle()

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, peer=users, how_far=anywhere)
    def read(self, where: float, peer: str, how_far: float) -> None:
        one = self.someone(where)
        seq = round(how_far * self.model.head(one.here.user))
        self.model.mark_read(one.here.user, peer, seq, one.here)
        assert self.ask(one, wire.Read(peer=peer, seq=seq)) == []
        self.settle()

    @rule(user=users, peer=users, how_far=st.sampled_from([0.5, 1.0, 100.0]))
    def mark_read(self, user: str, peer: str, how_far: float) -> None:
        """The application marks as read, perhaps more than there is."""
        seq = round(how_far * self.model.head(user))

        async def mark() -> None:  # it is done when time has passed
            self.world.nursery.start_soon(self.world.server.chat.mark_read, user, peer, seq)

        self.world.run(mark)
        self.model.mark_read(user, peer, min(seq, self.model.head(user)), None)
        self.settle()

    # Blocking, watching, devices.

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, peer=users, blocks=st.booleans())
    def block(self, where: float, peer: str, blocks: bool) -> None:
        one = self.someone(where)
        user, ref = one.here.user, self.name()
        (answer,) = self.ask(one, (wire.Block if blocks else wire.Unblock)(ref=ref, user=peer))
        if peer == user:
            assert isinstance(answer, wire.Error)
            assert (answer.code, answer.ref) == (ErrorCode.BAD_QUERY, ref)
        else:
            if blocks:
                self.model.block(user, peer)
            else:
                self.model.blocks.discard((user, peer))
            assert answer == wire.Blocked(ref=ref, users=self.blocked(user))
        self.settle()

    def blocked(self, user: str) -> tuple[str, ...]:
        return tuple(sorted(peer for blocker, peer in self.model.blocks if blocker == user))

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, names=st.lists(users, max_size=3, unique=True))
    def watch(self, where: float, names: list[str]) -> None:
        one = self.someone(where)
        assert self.ask(one, wire.Watch(ref=self.name(), users=tuple(names))) == []
        for name, online in self.model.watch(one.here, tuple(names)).items():
            assert one.presence[name] == online, name
        self.settle()

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, device=devices)
    def remove_device(self, where: float, device: str) -> None:
        one = self.someone(where)
        user, ref = one.here.user, self.name()
        answers = self.ask(one, wire.RemoveDevice(ref=ref, device=device))
        self.model.cursors.pop((user, device), None)
        gone = self.connected.pop((user, device), None)
        if gone is not None:
            self.model.disconnect(user, device)
        if gone is one:
            assert answers == []
        else:
            (answer,) = answers
            assert isinstance(answer, wire.DevicesAnswer)
            self.check_devices(user, answer.devices)
        self.settle()
        if gone is not None:
            assert gone.code == CloseCode.UNAUTHORIZED

    def check_devices(self, user: str, devices: Sequence[Device]) -> None:
        assert [(device.name, device.cursor, device.connected) for device in devices] == [
            (device, cursor, (user, device) in self.connected)
            for (name, device), cursor in sorted(self.model.cursors.items())
            if name == user
        ]

    # Asking.

    @precondition(lambda self: self.connected)
    @rule(
        where=anywhere,
        peer=st.none() | users,
        first=st.none() | st.integers(0, 12),
        second=rarely(st.integers(0, 12)),
        around=rarely(st.integers(0, 12)),
        ids=rarely(st.lists(st.integers(1, 40).map(lambda n: f"n{n}"), min_size=1, max_size=5)),
        since=rarely(anywhere),
        unread=st.sampled_from([False, False, False, True]),
        direction=st.sampled_from([None, None, "in", "out"]),
        order=st.sampled_from([None, None, "asc", "desc"]),
        limit=st.integers(1, 6),
    )
    def history(
        self,
        where: float,
        peer: str | None,
        first: int | None,
        second: int | None,
        around: int | None,
        ids: list[str] | None,
        since: float | None,
        unread: bool,
        direction: Any,
        order: Any,
        limit: int,
    ) -> None:
        one = self.someone(where)
        times = sorted(entry.sent_at for entry in self.model.log(one.here.user))
        query = HistoryQuery(
            peer=peer,
            after=first,
            before=second,
            around=around,
            ids=tuple(ids) if ids else None,
            since=times[min(int(since * len(times)), len(times) - 1)] if times and since is not None else None,
            unread=unread,
            direction=direction,
            order=order,
            limit=limit,
        )
        frame = wire.History(ref=self.name(), **{name: getattr(query, name) for name in HistoryQuery.__struct_fields__})
        (answer,) = self.ask(one, frame)
        if isinstance(answer, wire.Error):
            assert (answer.code, answer.ref) == (ErrorCode.BAD_QUERY, frame.ref)
            with pytest.raises(BadQuery):
                check_combination(query)
            return
        assert isinstance(answer, wire.HistoryAnswer)
        messages, more = self.model.history(one.here.user, query)
        assert list(answer.messages) == messages
        assert answer.more == more
        assert answer.next == (messages[-1].seq if more else None)

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, peer=st.none() | users, said=st.lists(words, max_size=2), beginning=words, cut=st.integers(1, 6))
    def search(self, where: float, peer: str | None, said: list[str], beginning: str, cut: int) -> None:
        one = self.someone(where)
        terms = [*said, beginning[:cut]]
        (answer,) = self.ask(one, wire.Search(ref=self.name(), query=" ".join(terms), peer=peer, limit=200))
        assert isinstance(answer, wire.SearchAnswer)
        assert [hit.message for hit in answer.hits] == self.model.search(one.here.user, terms, peer)
        for hit in answer.hits:
            assert "".join(hit.snippet) == hit.message.text
            assert all(word in said or word.startswith(terms[-1]) for word in hit.snippet[1::2])
        assert not answer.more

    @precondition(lambda self: self.connected)
    @rule(where=anywhere, limit=st.sampled_from([1, 50]))
    def conversations(self, where: float, limit: int) -> None:
        one = self.someone(where)
        got: list[Conversation] = []
        before: int | None = None
        for _ in range(4):
            frame = wire.Conversations(ref=self.name(), before=before, limit=limit)
            (answer,) = self.ask(one, frame)
            assert isinstance(answer, wire.ConversationsAnswer)
            got += answer.conversations
            before = answer.next
            if not answer.more:
                break
        assert got == self.model.conversations(one.here.user)

    @precondition(lambda self: self.connected)
    @rule(where=anywhere)
    def devices(self, where: float) -> None:
        one = self.someone(where)
        devices, blocked = self.ask(one, wire.Devices(ref="d"), wire.Blocks(ref="b"))
        assert isinstance(devices, wire.DevicesAnswer)
        self.check_devices(one.here.user, devices.devices)
        assert blocked == wire.Blocked(ref="b", users=self.blocked(one.here.user))


def test_whatever_they_do_everybody_sees_what_they_must() -> None:
    """Else some order of events loses an entry, shows a wrong tick or count, or tells somebody what is not for them (I9)."""
    run_state_machine_as_test(Chatting)


def test_the_same_on_a_file() -> None:
    """Else the store that is used in earnest answers otherwise than the one that most tests use."""
    with tempfile.TemporaryDirectory() as folder:
        paths = iter(range(10**9))

        class OnFile(Chatting):
            def make_store(self) -> Store:
                return WatchedSqlite(Path(folder) / f"{next(paths)}.db", SETTINGS)

        default = hypothesis.settings()
        fewer = hypothesis.settings(default, max_examples=max(default.max_examples // 10, 5), stateful_step_count=30)
        run_state_machine_as_test(OnFile, settings=fewer)
