"""The core against a model of logs and cursors, in random histories."""

from __future__ import annotations

from collections import Counter, defaultdict

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_chat import wire
from trio_chat.core import events
from trio_chat.core.batch import Batch, Draft, Stored
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .model import LOG
from .world import BAD, Client, World, replay

USERS = ("alice", "bob", "eve")
DEVICES = ("phone", "laptop", "watch")
users = st.sampled_from(USERS)
texts = st.sampled_from(["hi", "ho", "x" * 150, "é" * 400])
codes = st.sampled_from(list(ErrorCode))
fates = st.sampled_from(["stored"] * 6 + ["refused in part", "refused"])

# Limits so small that every one of them is met within a few steps.
TIGHT = Settings(
    text_bytes=600, window=3, window_bytes=600, uncommitted=3, uncommitted_bytes=1500, batch=2, waiting=5,
    waiting_bytes=3000, send_rate=None, bad_frames=3, ping_interval=4.0, ping_timeout=2.0, connections=2,
)  # fmt: skip
SLOW = Settings(
    window=2, window_bytes=100_000, uncommitted=1, batch=1, waiting=2, send_rate=0.5, send_burst=4, new_devices=3,
    bad_frames=3,
)  # fmt: skip
WIDE = Settings(window=50, send_burst=10)


class CoreMachine(RuleBasedStateMachine):
    """Clients, store and time do what they like, in any order. What must hold holds after every step."""

    @initialize(limits=st.sampled_from([TIGHT, SLOW, WIDE]), memory_path=st.booleans(), stock=st.integers(0, 12))
    def begin(self, limits: Settings, memory_path: bool, stock: int) -> None:
        self.limits = limits
        self.memory_path = memory_path
        self.world = World(limits, memory_path=memory_path)
        self.cursors: defaultdict[tuple[str, str], int] = defaultdict(int)  # the furthest each device said it has
        self.sent_ids: list[tuple[str, str, str, str]] = []
        self.draining = False
        pairs = [("alice", "bob"), ("bob", "alice"), ("eve", "alice"), ("bob", "eve")]
        drafts = [Draft(0, *pairs[number % 4], f"old {number}", "x" * 10 * number) for number in range(stock)]
        self.world.store.append(Batch(drafts=tuple(drafts)), 0)
        for user in USERS:
            self.world.connect(user, DEVICES[0], log=LOG, after=0)
            self.cursors[user, DEVICES[0]] = 0
        self.world.commit()

    # Who there is.

    def clients(self) -> list[Client]:
        return [client for client in self.world.clients.values() if not client.gone]

    def speakers(self) -> list[Client]:
        return [client for client in self.clients() if client.open]

    def one_of(self, data: st.DataObject, clients: list[Client]) -> Client:
        return data.draw(st.sampled_from(clients), label="client")

    # Clients.

    @precondition(lambda self: len(self.clients()) < 9)
    @rule(
        user=users,
        device=st.sampled_from(DEVICES),
        after=st.sampled_from([None, 0, 0, 1, 3, 4, 6, 12]),
        send_only=st.sampled_from([False, False, True]),
    )
    def connect(self, user: str, device: str, after: int | None, send_only: bool) -> None:
        known = "another log" if after == 4 else LOG
        send_only = send_only and after is None
        client = self.world.connect(user, device, log=known, after=after, send_only=send_only)
        if known == LOG and after is not None:
            self.cursors[user, device] = max(self.cursors[user, device], after)
        if self.draining:
            assert client.code is not None

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), to=users, text=texts, count=st.integers(1, 4))
    def send(self, data: st.DataObject, to: str, text: str, count: int) -> None:
        client = self.one_of(data, self.speakers())
        frames = [client.message(f"{text} {n}", to) for n in range(count)]
        self.sent_ids += [(client.user, frame.id, frame.to, frame.text) for frame in frames]
        client.say(*frames)

    @precondition(lambda self: self.speakers() and self.sent_ids)
    @rule(data=st.data(), twice=st.booleans(), other=st.booleans())
    def send_again(self, data: st.DataObject, twice: bool, other: bool) -> None:
        user, id, to, text = data.draw(st.sampled_from(self.sent_ids[-12:]))
        clients = [client for client in self.speakers() if client.user == user]
        if clients:
            frame = wire.Send(id=id, to=to, text="something else" if other else text)
            self.one_of(data, clients).say(*[frame] * (1 + twice))

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), back=st.integers(0, 3))
    def ack(self, data: st.DataObject, back: int) -> None:
        client = self.one_of(data, self.speakers())
        self.acknowledge(client, max(client.held - back, 0))

    def acknowledge(self, client: Client, seq: int) -> None:
        before = len(client.errors)
        client.ack(seq)
        assert len(client.errors) == before, "an ack of what the client holds was refused (A1, A2)"
        if not client.send_only:
            key = (client.user, client.device)
            self.cursors[key] = max(self.cursors[key], seq)

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), further=st.integers(1, 5))
    def ack_too_much(self, data: st.DataObject, further: int) -> None:
        client = self.one_of(data, self.speakers())
        before = len(client.errors)
        client.ack(client.held + further)
        assert client.errors[before:] == ([] if client.send_only else [ErrorCode.CURSOR_AHEAD])

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), to=users, bad=st.booleans())
    def small_talk(self, data: st.DataObject, to: str, bad: bool) -> None:
        self.one_of(data, self.speakers()).say(wire.Typing(to=to, typing=True), wire.Ping(), *[BAD] * bad)

    @precondition(lambda self: len(self.clients()) > 3)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        self.one_of(data, self.clients()).leave()

    @precondition(lambda self: any(client.closed for client in self.clients()))
    @rule()
    def hang_up(self) -> None:
        for client in self.clients():
            if client.closed:
                client.leave()

    # The store.

    @precondition(lambda self: self.world.batch is not None and self.world.results is None)
    @rule(fate=fates, code=codes, every=st.integers(1, 3))
    def append(self, fate: str, code: ErrorCode, every: int) -> None:
        batch = self.world.batch
        assert batch is not None
        if fate == "refused":
            self.refuse_batch(code)
        else:
            refused = batch.drafts[::every] if fate == "refused in part" else ()
            self.world.append(lambda draft: code if draft in refused else None)

    def refuse_batch(self, code: ErrorCode) -> None:
        heads = {name: user.head for name, user in self.world.core._users.items()}
        entries = {client.id: len(client.entries) for client in self.clients()}
        self.world.refuse_batch(code)
        self.world.tell()
        assert {name: user.head for name, user in self.world.core._users.items()}.items() <= heads.items()  # I8
        assert all(len(self.world.clients[id].entries) == count for id, count in entries.items())

    @precondition(lambda self: self.world.results is not None)
    @rule()
    def commit_is_told(self) -> None:
        batch, results = self.world.batch, self.world.results
        assert batch is not None
        assert results is not None
        alive = {client.id for client in self.speakers()}
        stored = Counter[int](
            draft.source
            for draft, result in zip(batch.drafts, results.drafts, strict=True)
            if isinstance(result, Stored) and draft.source in alive
        )
        before = {id: len(self.world.clients[id].stored) for id in stored}
        self.world.tell()
        assert all(len(self.world.clients[id].stored) == before[id] + count for id, count in stored.items())

    @precondition(lambda self: self.world.loads)
    @rule(data=st.data())
    def page_is_read(self, data: st.DataObject) -> None:
        self.world.read(data.draw(st.sampled_from(sorted(self.world.loads))))

    @precondition(lambda self: self.world.loads)
    @rule(data=st.data())
    def page_arrives(self, data: st.DataObject) -> None:
        self.world.arrive(data.draw(st.sampled_from(sorted(self.world.loads))))

    @precondition(lambda self: self.world.loads and self.world.batch is not None and self.world.results is None)
    @rule(data=st.data())
    def page_overtakes_the_news_of_a_commit(self, data: st.DataObject) -> None:
        self.world.append()
        self.page_arrives(data)

    @precondition(lambda self: self.world.loads and self.world.now > 1003)
    @rule(data=st.data())
    def page_fails(self, data: st.DataObject) -> None:
        self.world.fail_load(data.draw(st.sampled_from(sorted(self.world.loads))))

    @rule(user=users, keep=st.integers(0, 5))
    def retain(self, user: str, keep: int) -> None:
        floor = self.world.reported[user] - keep
        if floor > self.world.store.floors.get(user, 0):
            self.world.retain(user, floor)

    @rule(blocker=users, blocked=st.just("eve"))
    def block(self, blocker: str, blocked: str) -> None:
        self.world.store.blocks ^= {(blocker, blocked)}

    # Time and the application.

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]), everyone_lives=st.booleans())
    def time_passes(self, seconds: float, everyone_lives: bool) -> None:
        self.world.now += seconds
        self.world.handle(events.Tick(frozenset(client.id for client in self.clients() if everyone_lives)))

    @precondition(lambda self: len(self.speakers()) > 6)
    @rule(user=users, device=st.none() | st.sampled_from(DEVICES))
    def revoke(self, user: str, device: str | None) -> None:
        self.world.handle(events.Revoked(user, device))
        for client in self.clients():
            if client.user == user and device in (None, client.device):
                assert client.code is not None

    @precondition(lambda self: len(self.speakers()) > 5)
    @rule(data=st.data())
    def drain_some(self, data: st.DataObject) -> None:
        self.world.drain(*data.draw(st.lists(st.sampled_from(self.clients()), min_size=1, max_size=3)))

    @precondition(lambda self: len(self.sent_ids) > 25 and not self.draining)
    @rule()
    def drain(self) -> None:
        self.draining = True
        self.world.drain()

    # What always holds.

    @invariant()
    def holds(self) -> None:
        world, core = self.world, self.world.core
        present = [client for client in self.clients() if client.closed is None]
        assert set(core._connections) == {client.id for client in present}
        assert set(core._users) == {client.user for client in present}  # I6
        for user in core._users.values():
            assert user.head <= world.reported[user.name]
            assert set(user.connections) == {client.id for client in present if client.user == user.name}
            devices = [client.device for client in present if client.user == user.name and not client.send_only]
            assert sorted(user.devices) == sorted(devices)  # one connection for each device (C3)
        intake = core._intake
        assert len(intake._drafts) <= self.limits.waiting
        assert intake._bytes == sum(pending.size for pending in intake._drafts)
        assert set(intake._openings) <= set(core._connections)
        assert len(core._allowances._departed) <= self.limits.connections
        drafts: Counter[int] = Counter(pending.connection.id for pending in intake._drafts)
        if intake._in_flight is not None:
            assert world.batch is not None
            drafts.update(pending.connection.id for pending in intake._in_flight.drafts)
        for client in present:
            connection = core._connections[client.id]
            assert client.awaiting.total() == connection.unanswered == drafts[client.id]  # S3
            if not client.open or client.send_only:
                assert not client.entries
                continue
            assert connection.acked <= connection.sent <= max(connection.user.head, world.store.floors.get(client.user, 0))
            assert client.last <= connection.sent <= client.held
            assert connection.acked == max(client.acked, client.start)
            unacked = [entry for entry in client.entries if entry.seq > connection.acked]
            assert len(unacked) <= self.limits.window
            assert len(unacked) <= 1 or sum(map(wire.encoded_size, unacked)) <= self.limits.window_bytes
            assert len(connection.named) <= self.limits.window
            assert connection.loading == (client.id in world.loads)
        for key, cursor in world.store.cursors.items():
            assert cursor <= world.store.delivered.get(key[0], 0) <= world.store.head(key[0])  # I2
            assert cursor <= max(self.cursors[key], world.store.begun[key])  # moved by acks only

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.now += 1.0  # a page that failed is asked for again by the heartbeat; apart from that, acks alone must do
        world.handle(events.Tick(frozenset(client.id for client in self.clients())))
        world.settle()
        while behind := [client for client in self.speakers() if not client.send_only and client.acked < client.held]:
            for client in behind:
                self.acknowledge(client, client.held)
            world.settle()
            self.holds()
        for client in self.speakers():
            assert client.awaiting.total() == 0, "a send was not answered (S3)"
            # Everything after its start, each once: by entries in order, by `stored`, or told as gone.
            assert client.send_only or client.held == world.store.head(client.user), "a device is not served"
        world.drain()
        world.settle()
        assert all(client.closed for client in world.clients.values() if not client.gone)
        assert world.core.idle
        assert world.core.connections == 0
        for client in self.clients():
            if not client.send_only and client.frames and client.code == CloseCode.GOING_AWAY:
                cursor = world.store.cursors.get((client.user, client.device), 0)
                assert cursor >= client.acked, "an ack was lost (A3)"
        replay(world, Core(self.limits, memory_path=self.memory_path))


TestCore = CoreMachine.TestCase
