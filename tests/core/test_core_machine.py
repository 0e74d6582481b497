"""The core against a model of logs and cursors, in random histories."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeAlias

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_chat import wire
from trio_chat.core import events
from trio_chat.core.batch import Batch, BlockChange, Draft, Progress, ReadMark, Refused, Removal, Stored
from trio_chat.core.intake import Command, Pending
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .model import LOG
from .world import BAD, Client, World, replay

USERS = ("alice", "bob", "eve")
DEVICES = ("phone", "laptop", "watch")
users = st.sampled_from(USERS)
Spoken: TypeAlias = wire.Send | wire.Edit | wire.Delete
texts = st.sampled_from(["hi", "ho", "x" * 150, "é" * 400])
codes = st.sampled_from(list(ErrorCode))
fates = st.sampled_from(["stored"] * 6 + ["refused in part", "refused"])

# Limits so small that every one of them is met within a few steps.
TIGHT = Settings(
    text_bytes=600, window=3, window_bytes=600, uncommitted=3, uncommitted_bytes=1500, batch=2, waiting=5,
    waiting_bytes=3000, send_rate=None, bad_frames=3, ping_interval=4.0, ping_timeout=2.0, connections=2, queries=2,
)  # fmt: skip
SLOW = Settings(
    window=2, window_bytes=100_000, uncommitted=1, batch=1, waiting=2, send_rate=0.5, send_burst=4, new_devices=3,
    bad_frames=3, request_rate=1.0, request_burst=6, queries=1, byte_rate=100, byte_burst=1500, refusals=4,
)  # fmt: skip
WIDE = Settings(window=50, send_burst=10)


QUESTIONS: list[dict[str, Any]] = [
    {"kind": wire.History, "ids": ("m1", "m2")},
    {"kind": wire.Search, "query": "hi"},
    {"kind": wire.Conversations},
    {"kind": wire.Devices},
    {"kind": wire.Blocks},
]


def without_kind(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "kind"}


class CoreMachine(RuleBasedStateMachine):
    """Clients, store and time do what they like, in any order. What must hold holds after every step."""

    @initialize(
        limits=st.sampled_from([TIGHT, SLOW, WIDE]),
        memory_path=st.booleans(),
        judged=st.booleans(),
        stock=st.integers(0, 12),
        watching=st.booleans(),
    )
    def begin(self, limits: Settings, memory_path: bool, judged: bool, stock: int, watching: bool) -> None:
        self.limits = limits
        self.memory_path = memory_path
        self.judged = judged
        self.world = World(limits, memory_path=memory_path, judged=judged)
        self.cursors: defaultdict[tuple[str, str], int] = defaultdict(int)  # the furthest each device said it has
        self.spoken: list[tuple[str, Spoken]] = []  # what was sent, and by whom
        self.last_present: defaultdict[str, float] = defaultdict(float)
        self.stale: dict[int, events.Stood] = {}  # standings that were read and have not arrived
        self.draining = False
        pairs = [("alice", "bob"), ("bob", "alice"), ("eve", "alice"), ("bob", "eve")]
        drafts = [Draft(0, *pairs[number % 4], f"old {number}", "x" * 10 * number) for number in range(stock)]
        self.world.store.append(Batch(drafts=tuple(drafts)), 0)
        for user in USERS:
            self.world.connect(user, DEVICES[0], log=LOG, after=0)
            self.cursors[user, DEVICES[0]] = 0
        self.world.commit()
        if watching:
            for client in self.speakers():
                client.ask(wire.Watch, users=USERS)
            self.settle()

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
        self.speak(client, *[client.message(f"{text} {n}", to) for n in range(count)])

    def speak(self, client: Client, *frames: Spoken) -> None:
        self.spoken += [(client.user, frame) for frame in frames]
        client.say(*frames)

    @precondition(lambda self: self.speakers() and self.spoken)
    @rule(data=st.data(), what=st.sampled_from(["reply", "edit", "edit", "delete", "edit and delete", "all at once"]))
    def speak_of_a_message(self, data: st.DataObject, what: str) -> None:
        """Reply to one, or edit or delete one; it may be somebody else's, or gone, or no message at all."""
        author, message = data.draw(st.sampled_from(self.spoken[-8:]), label="message")
        authors = [client for client in self.speakers() if client.user == author]
        client = self.one_of(data, authors or self.speakers())
        to = message.to if client.user == author else author
        new_id, target = self.world.new_id, message.id
        if what == "all at once":
            target = new_id()
            self.speak(client, wire.Send(id=target, to=to, text="soon gone"))
        frames: list[Spoken] = []
        if what in ("reply", "all at once"):
            frames.append(wire.Send(id=new_id(), to=to, text="indeed", reply_to=target))
        if what in ("edit", "edit and delete", "all at once"):
            frames.append(wire.Edit(id=new_id(), to=to, target=target, text="better"))
        if what in ("delete", "edit and delete", "all at once"):
            frames.append(wire.Delete(id=new_id(), to=to, target=target))
        self.speak(client, *frames)

    @precondition(lambda self: self.speakers() and self.spoken)
    @rule(data=st.data(), twice=st.booleans(), other=st.booleans())
    def send_again(self, data: st.DataObject, twice: bool, other: bool) -> None:
        user, frame = data.draw(st.sampled_from(self.spoken[-12:]))
        clients = [client for client in self.speakers() if client.user == user]
        if clients:
            again = wire.Send(id=frame.id, to=frame.to, text="something else") if other else frame
            self.one_of(data, clients).say(*[again] * (1 + twice))

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

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), peer=users, back=st.integers(-2, 3))
    def read(self, data: st.DataObject, peer: str, back: int) -> None:
        client = self.one_of(data, self.speakers())
        before = len(client.errors)
        seq = max(self.world.reported[client.user] - back, 0)
        ahead = seq > self.world.reported[client.user]
        if ahead:
            self.world.handle(events.Received(client.id, (wire.Read(peer=peer, seq=seq),)))
        else:
            client.say(wire.Read(peer=peer, seq=seq))
        allowed: list[list[str]] = [[ErrorCode.CURSOR_AHEAD]] if ahead else [[], [ErrorCode.OVERLOADED]]
        assert client.errors[before:] in allowed

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), kinds=st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=4), last=st.booleans())
    def ask(self, data: st.DataObject, kinds: list[dict[str, Any]], last: bool) -> None:
        client = self.one_of(data, self.speakers()[-1:] if last else self.speakers())
        client.say(*[fields["kind"](ref=self.world.new_id(), **without_kind(fields)) for fields in kinds])

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), followed=st.lists(users, max_size=4))
    def watch(self, data: st.DataObject, followed: list[str]) -> None:
        self.one_of(data, self.speakers()).ask(wire.Watch, users=tuple(followed))

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), peer=users, kind=st.sampled_from([wire.Block, wire.Unblock]))
    def block(self, data: st.DataObject, peer: str, kind: type[wire.Block | wire.Unblock]) -> None:
        self.one_of(data, self.speakers()).ask(kind, user=peer)

    @precondition(lambda self: len(self.speakers()) > 2)
    @rule(data=st.data(), device=st.sampled_from(DEVICES))
    def remove_device(self, data: st.DataObject, device: str) -> None:
        self.one_of(data, self.speakers()).ask(wire.RemoveDevice, device=device)

    @precondition(lambda self: self.speakers())
    @rule(data=st.data())
    def listen(self, data: st.DataObject) -> None:
        self.one_of(data, self.speakers()).listen()

    @rule(
        user=users, peer=users, seq=st.integers(1, 5), what=st.sampled_from(["draft", "read", "block", "unblock", "removal"])
    )
    def application_requests(self, user: str, peer: str, seq: int, what: str) -> None:
        commands: dict[str, Command] = {
            "draft": Draft(1, user, peer, self.world.new_id(), "of the house"),
            "read": ReadMark(user, peer, min(seq, self.world.reported[user])),
            "block": BlockChange(user, peer, blocked=True),
            "unblock": BlockChange(user, peer, blocked=False),
            "removal": Removal(user, DEVICES[seq % 3]),
        }
        ticket = self.world.request(commands[what])
        if self.draining:
            assert self.world.fulfilled[ticket] == Refused(ErrorCode.OVERLOADED)

    @precondition(lambda self: len(self.clients()) > 3)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        self.one_of(data, self.clients()).leave()

    @precondition(lambda self: self.speakers())
    @rule(data=st.data(), settled=st.booleans())
    def reconnect(self, data: st.DataObject, settled: bool) -> None:
        client = self.one_of(data, self.speakers())
        client.leave()
        again = self.world.connect(client.user, client.device, send_only=client.send_only)
        if settled:
            self.settle()
            if again.open and not client.send_only:
                again.ask(wire.Watch, users=tuple(sorted(client.watching)))

    @precondition(lambda self: any(client.closed for client in self.clients()))
    @rule()
    def hang_up(self) -> None:
        for client in self.clients():
            if client.closed:
                client.leave()

    @precondition(lambda self: self.world.judges)
    @rule(data=st.data(), code=st.sampled_from([None, None, None, None, *ErrorCode]))
    def hook_answers(self, data: st.DataObject, code: ErrorCode | None) -> None:
        """The application says what it makes of somebody's next draft."""
        sources = [judge.draft.source for judge in self.world.judges]
        index = sources.index(data.draw(st.sampled_from(sorted(set(sources))), label="source"))
        self.world.judge(None if code is None else events.Rejection(code), index)

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
        core = self.world.core
        state = {name: (user.head, user.blocked, dict(user.reads)) for name, user in core._users.items()}
        told = {client.id: (len(client.entries), len(client.told)) for client in self.clients()}
        self.world.refuse_batch(code)
        self.world.tell()
        after = {name: (user.head, user.blocked, dict(user.reads)) for name, user in core._users.items()}
        assert all(state[name] == known for name, known in after.items())  # I8
        assert all((len(client.entries), len(client.told)) == told[client.id] for client in self.clients())

    @precondition(lambda self: self.world.results is not None)
    @rule()
    def commit_is_told(self) -> None:
        batch, results = self.world.batch, self.world.results
        assert batch is not None
        assert results is not None
        reads = {name: dict(user.reads) for name, user in self.world.core._users.items()}
        before = {client.id: len(client.stored) for client in self.speakers()}
        self.world.tell()
        stored = Counter[int](
            draft.source
            for draft, result in zip(batch.drafts, results.drafts, strict=True)
            if isinstance(result, Stored) and draft.source > 0
        )
        for id, count in stored.items():
            client = self.world.clients[id]
            assert not client.open or len(client.stored) == before[id] + count
        self.others_were_told(results.progress)
        for mark in batch.reads:
            if mark.seq > reads.get(mark.user, {}).get(mark.peer, 0):
                for client in self.world.present(mark.user):
                    assert mark.seq <= max(client.marks.own[mark.peer], client.has_read[mark.peer]), (
                        "not told of a read (R3)"
                    )

    def others_were_told(self, progress: Iterable[Progress]) -> None:
        for step in progress:
            for client in self.world.present(step.user):
                if not self.world.core_parts(step.user, step.peer):
                    assert client.marks.delivered[step.peer] >= max(step.delivered, step.read), "no receipt (R2)"
                    assert client.marks.read[step.peer] >= step.read

    @precondition(lambda self: self.world.asks)
    @rule(data=st.data(), code=st.sampled_from([None, None, None, *ErrorCode]))
    def question_is_answered(self, data: st.DataObject, code: ErrorCode | None) -> None:
        id = data.draw(st.sampled_from(sorted(self.world.asks)))
        stale = self.stale.pop(id, None)
        if stale is not None and code is None:
            self.world.answer_with(id, stale)
        else:
            self.world.answer(id, code)

    @precondition(lambda self: any(isinstance(ask.question, wire.Watch) for ask in self.world.asks.values()))
    @rule(data=st.data())
    def standing_is_read(self, data: st.DataObject) -> None:
        watches = [id for id, ask in self.world.asks.items() if isinstance(ask.question, wire.Watch)]
        id = data.draw(st.sampled_from(watches))
        self.stale[id] = self.world.read_standing(id)

    @precondition(lambda self: any(isinstance(ask.question, wire.Watch) for ask in self.world.asks.values()))
    @rule(data=st.data(), undone=st.booleans())
    def block_overtakes_an_answer(self, data: st.DataObject, undone: bool) -> None:
        self.standing_is_read(data)
        for id in self.stale:
            client = self.world.clients[id]
            for user in data.draw(st.sets(users)) - {client.user}:
                for blocked in (True, False)[: 1 + undone]:
                    self.world.request(BlockChange(user, client.user, blocked=blocked))

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

    # Time and the application.

    @rule()
    def settle(self) -> None:
        self.stale.clear()
        while self.world.judges:
            self.world.judge()
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

    @precondition(lambda self: len(self.spoken) > 25 and not self.draining)
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
            if user.present:
                assert user.blocked == {peer for name, peer in world.reported_blocks if name == user.name}
            assert all(seq <= world.store.reads[user.name, peer] for peer, seq in user.reads.items())  # I8
        intake = core._intake
        waiting: Iterable[Pending[Command]] = chain(intake._drafts, intake._blocks, intake._removals, intake._reads.values())
        commands = list(waiting)
        assert len(commands) <= self.limits.waiting
        held = list(self.world.core._sending._judging._waiting.values())
        assert len(commands) + len(held) <= self.limits.waiting
        assert intake._held == len(held)
        assert intake._bytes == sum(pending.size for pending in chain(commands, held))
        assert set(intake._openings) <= set(core._connections)
        assert len(core._allowances._departed) <= self.limits.connections
        if intake._in_flight is not None:
            assert world.batch is not None
            commands += chain(intake._in_flight.drafts, intake._in_flight.reads)
        owed: defaultdict[int, list[int]] = defaultdict(list)
        for pending in chain(commands, held):
            if isinstance(pending.command, Draft | ReadMark):
                owed[pending.source].append(pending.size)
        for client in present:
            connection = core._connections[client.id]
            requests = [*([connection.request] if connection.request else []), *connection.waiting]
            assert [asked.request.ref for asked in requests] == client.asking  # each is answered once, in order
            assert len(connection.waiting) <= self.limits.queries
            sizes = owed[client.id] + [asked.size for asked in requests]
            assert (connection.unanswered, connection.unanswered_bytes) == (len(sizes), sum(sizes))
            assert client.awaiting.total() <= len(owed[client.id])  # S3
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
        self.nobody_is_a_ghost(present)
        for key, cursor in world.store.cursors.items():
            assert cursor <= world.store.delivered.get(key[0], 0) <= world.store.head(key[0])  # I2
            assert cursor <= max(self.cursors[key], world.store.begun[key])  # moved by acks only

    def nobody_is_a_ghost(self, present: list[Client]) -> None:
        world, presence = self.world, self.world.core._presence
        for name in USERS:
            if world.present(name):
                self.last_present[name] = world.now
        index = {(name, id) for name, watchers in presence._watchers.items() for id in watchers}
        connections = [world.core._connections[client.id] for client in present]
        assert index == {(name, connection.id) for connection in connections for name in connection.watched}
        assert set(presence._leaving) <= set(presence._watchers)
        assert set(presence._parting) == {(connection.id, name) for connection in connections for name in connection.parting}
        for client in present:
            watched = world.core._connections[client.id].watched
            assert set(watched) <= client.watching
            assert len(watched) <= wire.WATCHED
            for name in client.watching:
                online = client.marks.online[name][0]
                if parted := world.parted.get((client.id, name)):
                    assert online
                    assert name not in watched
                    assert world.now - parted[1] < self.limits.presence_delay, "sees somebody for ever whom a block hides"
                else:
                    assert online == watched.get(name, False)
                if name in watched:
                    assert not world.core_parts(client.user, name)
                    left = world.now - self.last_present[name]
                    assert online if world.present(name) else not online or left < self.limits.presence_delay

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.now += 1.0  # a page that failed is asked for again by the heartbeat; apart from that, acks alone must do
        world.handle(events.Tick(frozenset(client.id for client in self.clients())))
        self.settle()
        while behind := [client for client in self.speakers() if not client.send_only and client.acked < client.held]:
            for client in behind:
                self.acknowledge(client, client.held)
            world.settle()
            self.holds()
        for client in self.speakers():
            assert client.awaiting.total() == 0, "a send was not answered (S3)"
            assert client.asking == [], "a request was not answered"
            client.listen()
            # Everything after its start, each once: by entries in order, by `stored`, or told as gone.
            assert client.send_only or client.held == world.store.head(client.user), "a device is not served"
        world.drain()
        world.settle()
        assert all(client.closed for client in world.clients.values() if not client.gone)
        assert world.core.idle
        assert set(world.fulfilled) == set(range(1, world.tickets + 1)), "a request of the application's was not answered"
        assert world.core.connections == 0
        for client in self.clients():
            key = client.user, client.device
            if client.frames and client.code == CloseCode.GOING_AWAY and key not in world.store.removed:
                assert client.send_only or world.store.cursors[key] >= client.acked, "an ack was lost (A3)"
        replay(world, Core(self.limits, memory_path=self.memory_path, judged=self.judged))


TestCore = CoreMachine.TestCase
