"""A core, a store and clients, driven by hand: whatever is under way stays under way until the test lets it happen.

Every effect is carried out and checked on the way: what the core promises its driver, and what a client relies on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias, get_args

from msgspec.structs import replace

from trio_chat import wire
from trio_chat.core import effects, events
from trio_chat.core.batch import Batch, Draft, Page, PageRequest, Refused, Results, Stored
from trio_chat.core.connection import Request
from trio_chat.core.intake import Command
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode, InvalidFrame
from trio_chat.model import Message
from trio_chat.settings import Settings

from .model import ModelStore, accept

ForConnection: TypeAlias = (
    effects.Send
    | effects.Offer
    | effects.Tell
    | effects.Ask
    | effects.Load
    | effects.Ping
    | effects.Pause
    | effects.Resume
    | effects.Close
)
REQUESTS: Final = get_args(Request)
DRAFTS: Final = (wire.Send, wire.Edit, wire.Delete)
BAD = InvalidFrame(ErrorCode.BAD_FRAME, "not a frame")


class Marks:
    """What a client makes of what it is told of others: it keeps the highest of a mark, and the last of a presence."""

    def __init__(self) -> None:
        self.delivered: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        """How far the user has read the peer's messages on another device."""
        self.online: dict[str, tuple[bool, int | None]] = {}

    def take(self, frame: wire.ServerFrame) -> None:
        match frame:
            case wire.Receipt(peer=peer, delivered=delivered, read=read):
                self.delivered[peer] = max(self.delivered[peer], delivered)
                self.read[peer] = max(self.read[peer], read)
            case wire.ReadElsewhere(peer=peer, seq=seq):
                self.own[peer] = max(self.own[peer], seq)
            case wire.Presence(user=user, online=online, last_seen=last_seen):
                self.online[user] = (online, last_seen)
            case _:
                raise AssertionError(f"told {frame}")


class Client:
    """The other end of a connection: says things, and checks and keeps what it is told."""

    def __init__(self, world: World, event: events.Connected) -> None:
        self.world = world
        self.id = event.connection
        self.user = event.user
        self.device = event.device
        self.send_only = event.send_only
        self.frames: list[wire.ServerFrame] = []
        self.offered: list[wire.ServerFrame] = []
        self.told: list[wire.ServerFrame] = []
        """What it was told of others, when it reads at once."""
        self.marks = Marks()
        self.slow: dict[tuple[str, str], wire.ServerFrame] = {}
        """The same, as it waits for a client that reads now and then."""
        self.slow_marks = Marks()
        self.last_of_key: dict[tuple[str, str], wire.ServerFrame] = {}
        self.pings = 0
        self.paused = True
        self.closed: effects.Close | None = None
        self.welcomed = False
        self.gone = False
        self.draining = False
        self.awaiting: Counter[str] = Counter()
        """The sends, edits and deletions that were not answered yet, by id."""
        self.asking: list[str] = []
        """The references of the requests that were not answered yet, in order."""
        self.has_read: Counter[str] = Counter()
        """The highest read mark it gave, by peer."""
        self.watching: set[str] = set()
        """Whom the last ``watch`` that was answered names."""
        self.spoken: list[str] = []
        """The ids of all sends, in order."""
        self.stopped: list[tuple[int, int]] = []
        """For each refusal: the places in `spoken` behind it that were spoken before it was told (S4)."""
        self.entries: list[Message] = []
        """What came in ``messages`` frames."""
        self.named: set[int] = set()
        """What ``stored`` items named."""
        self.start = 0
        self.last = 0
        """The last position of the log that was sent or told to be gone."""
        self.held = 0
        """Everything up to here is held (A2)."""
        self.acked = 0

    # What it says.

    def say(self, *frames: wire.ClientFrame | InvalidFrame) -> None:
        """Send frames; the server reads them at once."""
        for frame in frames:
            if isinstance(frame, DRAFTS):
                self.awaiting[frame.id] += 1
                self.spoken.append(frame.id)
            elif isinstance(frame, REQUESTS) or (isinstance(frame, InvalidFrame) and frame.ref is not None):
                self.asking.append(str(frame.ref))
            elif isinstance(frame, wire.Read):
                self.has_read[frame.peer] = max(self.has_read[frame.peer], frame.seq)
        self.world.handle(events.Received(self.id, frames))

    def send(self, text: str, to: str, id: str | None = None) -> str:
        """Send a message and return its id."""
        frame = self.message(text, to, id)
        self.say(frame)
        return frame.id

    def message(self, text: str, to: str, id: str | None = None) -> wire.Send:
        """A message that is yet to be sent."""
        return wire.Send(id=id or self.world.new_id(), to=to, text=text)

    def ack(self, seq: int | None = None) -> None:
        """Acknowledge `seq`, or all that is held."""
        seq = self.held if seq is None else seq
        if seq <= self.held:
            self.acked = max(self.acked, seq)
        self.say(wire.Ack(seq=seq))

    def ask(self, kind: type[Any], /, **fields: Any) -> str:
        """Make a request and return its reference."""
        ref = self.world.new_id()
        self.say(kind(ref=ref, **fields))
        return ref

    def listen(self) -> None:
        """Read what waits of others: it must say as much as all that ever waited."""
        for frame in self.slow.values():
            self.slow_marks.take(frame)
        self.slow.clear()
        assert vars(self.slow_marks) == vars(self.marks), "a frame that was replaced said more than the next of its key"

    def leave(self) -> None:
        """Hang up, or find that the server did."""
        self.gone = True
        self.world.handle(events.Disconnected(self.id))

    # What it was told.

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.entries]

    @property
    def texts(self) -> list[str | None]:
        return [entry.text for entry in self.entries]

    @property
    def welcome(self) -> wire.Welcome:
        welcome: wire.Welcome = self.all(wire.Welcome)[0]
        return welcome

    @property
    def stored(self) -> list[wire.StoredItem]:
        return [item for frame in self.all(wire.Stored) for item in frame.messages]

    @property
    def errors(self) -> list[str]:
        return [error.code for error in self.all(wire.Error)]

    @property
    def code(self) -> CloseCode | None:
        """With what the server closed, if it did."""
        return self.closed.code if self.closed else None

    @property
    def state(self) -> str:
        """What the server does with the connection: ``reading``, ``paused`` or ``closed``."""
        if self.closed is not None:
            return "closed"
        return "paused" if self.paused else "reading"

    @property
    def open(self) -> bool:
        """Whether the client may speak and be spoken to."""
        return self.welcomed and self.closed is None and not self.gone

    def all(self, kind: type[Any]) -> list[Any]:
        """The frames of a kind."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self.frames.clear()
        self.entries.clear()

    def take(self, frame: wire.ServerFrame) -> None:
        """A frame arrives."""
        self.frames.append(frame)
        match frame:
            case wire.Welcome():
                assert (frame.user, frame.device) == (self.user, self.device)
                assert not self.welcomed
                self.welcomed = True
                self.start = self.last = self.held = frame.cursor
            case wire.Messages():
                assert frame.messages, "a frame without entries"
                assert frame.head <= self.world.reported[self.user]
                for message in frame.messages:
                    self._entry(message)
            case wire.Gap():
                self._until(frame.first)
                assert frame.last <= self.world.store.floors[self.user], "a gap where there is none"
                self.last = frame.last
                self.held = max(self.held, frame.last)
            case wire.Stored():
                for item in frame.messages:
                    self._answer(item.id)
                    place = self._place(item.id)
                    assert not any(first < place < last for first, last in self.stopped), "stored behind a refusal (S4)"
                    entry = self.world.store.logs[self.user][item.seq - 1]
                    assert (entry.id, entry.sender, entry.sent_at) == (item.id, self.user, item.sent_at)
                    assert item.seq <= self.world.reported[self.user], "stored before its commit is known (I4)"
                    self.named.add(item.seq)
            case wire.Error(id=str(id)):
                self._answer(id)
                place = self._place(id)
                if place >= 0 and ErrorCode(frame.code).retryable:
                    self.stopped.append((place, len(self.spoken)))
            case wire.Error(ref=str(ref)):
                assert (frame.retry_after is not None) == ErrorCode(frame.code).retryable
                self.asking.remove(ref)
            case (
                wire.HistoryAnswer(ref=ref)
                | wire.SearchAnswer(ref=ref)
                | wire.ConversationsAnswer(ref=ref)
                | wire.DevicesAnswer(ref=ref)
                | wire.Blocked(ref=ref)
                | wire.PushAnswer(ref=ref)
            ):
                assert self.asking[0] == ref, "answered out of turn"
                self.asking.remove(ref)
        while self.held < self.last or self.held + 1 in self.named:
            self.held += 1

    def _entry(self, message: Message) -> None:
        assert not self.send_only
        assert self.user in (message.sender, message.recipient), "an entry of somebody else's log (I9)"
        assert message.seq <= self.world.reported[self.user], "an entry before its commit is known (I4)"
        entry = self.world.store.logs[self.user][message.seq - 1]
        if self.world.arriving and entry.text is None:  # a page may have been read before the text was deleted
            message = replace(message, text=None)
        assert message == entry
        self._until(message.seq)
        self.last = message.seq
        self.entries.append(message)

    def hear(self, key: tuple[str, str], frame: wire.ServerFrame) -> None:
        """The client is told something of others, or by another device."""
        world, name = self.world, key[1]
        match frame:
            case wire.Receipt(peer=peer, delivered=delivered, read=read):
                assert not self.send_only
                assert peer == name
                assert 0 <= read <= delivered <= world.reported[self.user]
                assert world.store.logs[self.user][delivered - 1].recipient == peer, "a receipt for something else (I9)"
                before = self.last_of_key.get(key, wire.Receipt(peer=peer))
                assert isinstance(before, wire.Receipt)
                assert (before.delivered, before.read) <= (delivered, read), "a receipt went back (R2)"
            case wire.ReadElsewhere(peer=peer, seq=seq):
                assert not self.send_only
                assert seq <= world.store.reads[self.user, peer], "a read mark that is not committed (I4)"
            case wire.Presence(user=user, online=online, last_seen=last_seen):
                assert not (online and last_seen is not None)
                if (parted := world.parted.pop((self.id, user), None)) is not None:
                    at, since = parted
                    assert not online, "sees somebody come whom a block hides (B1)"
                    assert last_seen == at, "the block is not when they were last seen"
                    assert world.now - since >= world.settings.presence_delay, "told at once, as no departure is"
                elif user != self.user and (online or last_seen is not None):
                    assert world.store.acquainted(self.user, user, world.reported_blocks), "none of this user's business"
                if online:
                    assert world.present(user), "a ghost"
                assert world.answering or online != self.marks.online[user][0], "told what it was told"
        self.told.append(frame)
        self.marks.take(frame)
        self.slow[key] = self.last_of_key[key] = frame

    def _until(self, seq: int) -> None:
        assert seq > self.last, "again, or out of order (I3)"
        assert self.named.issuperset(range(self.last + 1, seq)), "something was left out (C4)"

    def _place(self, id: str) -> int:
        """Which send this is; -1 if it cannot be told, the id having been sent twice."""
        return self.spoken.index(id) if self.spoken.count(id) == 1 else -1

    def _answer(self, id: str) -> None:
        assert self.awaiting[id] > 0, "an answer too many (S3)"
        self.awaiting[id] -= 1


class World:
    """Time, a core over a model store, and clients. After each event the core is asked for a batch, as its driver does."""

    def __init__(
        self, settings: Settings | None = None, *, memory_path: bool = True, judged: bool = False, push: bool = False
    ) -> None:
        self.settings = settings or Settings()
        self.core = Core(self.settings, memory_path=memory_path, judged=judged, push=push)
        self.judges: list[effects.Judge] = []
        """The drafts that the application is asked about, in the order in which it was asked."""
        self.unjudged: set[int] = set()
        """Of these, the ones that nobody waits for any more; the application may just be looking at one."""
        self.store = ModelStore()
        self.now = 1000.0
        self.clients: dict[int, Client] = {}
        self.batch: Batch | None = None
        self.results: Results | None = None
        self.loads: dict[int, PageRequest] = {}
        self.pages: dict[int, Page] = {}
        self.arriving = False
        self.answering = False
        self.parted: dict[tuple[int, str], tuple[int, float]] = {}
        """Who is yet to be told that somebody is away whom a block has parted from them; when it did, by both clocks."""
        self.asks: dict[int, effects.Ask] = {}
        self.fulfilled: dict[int, Stored | Refused | tuple[str, ...] | None] = {}
        self.tickets = 0
        self.reported: Counter[str] = Counter()
        """The head of each log as far as the core was told of it."""
        self.reported_blocks: set[tuple[str, str]] = set()
        self.tape: list[tuple[events.Event | None, float, object]] = []
        """Everything the core was told or asked (None: for a batch), when, and what it said."""
        self._ids = 0

    def new_id(self) -> str:
        """An id for a message."""
        self._ids += 1
        return f"m{self._ids}"

    # Events and effects.

    def handle(self, event: events.Event) -> None:
        """Tell the core, do what it wants, and take its next batch if it may have one in flight."""
        wanted = self.core.handle(event, self.now)
        self.tape.append((event, self.now, wanted))
        for effect in wanted:
            self._carry_out(effect)
        batch = self.core.next_batch(self.now)
        self.tape.append((None, self.now, batch))
        if batch is not None:
            assert self.batch is None, "a second batch in flight (L2)"
            assert any((batch.marks, batch.openings, batch.drafts, batch.reads, batch.blocks, batch.removals))
            self.batch = batch

    def _carry_out(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Fulfil):
            assert 0 < effect.ticket <= self.tickets
            assert effect.ticket not in self.fulfilled, "a request of the application's that is answered twice"
            self.fulfilled[effect.ticket] = effect.result
        elif isinstance(effect, effects.Judge):
            self.judges.append(effect)
        elif isinstance(effect, effects.Unjudge):
            self.unjudged |= set(effect.serials)
        else:
            self._carry_out_for(effect)

    def _carry_out_for(self, effect: ForConnection) -> None:
        client = self.clients[effect.connection]
        assert not client.gone, "an effect for a connection that is gone (I7)"
        assert client.closed is None, "an effect after Close (I7)"
        match effect:
            case effects.Send():
                client.take(effect.frame)
            case effects.Offer():
                assert isinstance(effect.frame, wire.TypingFrom)
                assert not client.send_only
                assert not self.core_parts(client.user, effect.frame.sender), "heard of somebody who is blocked (B1)"
                client.offered.append(effect.frame)
            case effects.Tell():
                assert client.welcomed, "told something before its welcome"
                client.hear(effect.key, effect.frame)
            case effects.Ask():
                assert effect.user == client.user, "a question on behalf of somebody else (I9)"
                assert client.asking[0] == effect.question.ref, "asked out of turn"
                assert client.id not in self.asks, "a second question in flight"
                self.asks[client.id] = effect
            case effects.Load():
                assert client.id not in self.loads, "a second page asked for"
                assert effect.request.limit > 0
                assert effect.request.size > 0
                self.loads[client.id] = effect.request
            case effects.Ping():
                client.pings += 1
            case effects.Pause():
                assert not client.paused
                client.paused = True
            case effects.Resume():
                assert client.paused
                assert not client.draining, "read again while it is to be closed (D1)"
                client.paused = False
            case effects.Close():
                client.closed = effect
                if effect.code is CloseCode.GOING_AWAY:
                    assert client.awaiting.total() == 0, "closed before the answers went out (D1)"
                    assert client.asking == []

    def present(self, user: str) -> list[Client]:
        """The connections by which the user is there."""
        return [client for client in self.clients.values() if client.user == user and client.open and not client.send_only]

    def core_parts(self, one: str, other: str) -> bool:
        """Whether the core was told that one of the two blocks the other."""
        return not self.reported_blocks.isdisjoint({(one, other), (other, one)})

    # What clients and the application do.

    def request(self, command: Command) -> int:
        """The application wants something committed. Returns the ticket."""
        self.tickets += 1
        self.handle(events.Requested(self.tickets, command))
        return self.tickets

    def connect(
        self, user: str, device: str = "phone", *, log: str | None = None, after: int | None = None, send_only: bool = False
    ) -> Client:
        """A client connects; it is not welcome yet."""
        event = events.Connected(len(self.clients) + 1, user, device, log=log, after=after, send_only=send_only)
        self.clients[event.connection] = client = Client(self, event)
        self.handle(event)
        return client

    def join(
        self, user: str, device: str = "phone", *, log: str | None = None, after: int | None = None, send_only: bool = False
    ) -> Client:
        """A client connects and is welcomed."""
        client = self.connect(user, device, log=log, after=after, send_only=send_only)
        self.settle()
        return client

    def judge(self, verdict: Draft | events.Rejection | None = None, index: int = 0) -> None:
        """The application says what it makes of a draft: nothing, or something else, or it does not want it."""
        asked = self.judges.pop(index)
        assert asked.draft.source not in {judge.draft.source for judge in self.judges[:index]}, "judged out of turn"
        self.handle(events.Judged(asked.serial, asked.draft if verdict is None else verdict))

    # What the store does.

    def append(self, refuse: Callable[[Draft], ErrorCode | None] = accept) -> None:
        """The batch in flight becomes durable. The core does not know yet."""
        assert self.batch is not None
        assert self.results is None
        self.results = self.store.append(self.batch, int(self.now * 1000), refuse)

    def refuse_batch(self, code: ErrorCode) -> None:
        """The batch in flight fails as a whole."""
        assert self.batch is not None
        refused = Refused(code)
        self.results = Results(
            openings=(refused,) * len(self.batch.openings),
            drafts=(refused,) * len(self.batch.drafts),
            blocks=(refused,) * len(self.batch.blocks),
            removals=(refused,) * len(self.batch.removals),
            reads=(refused,) * len(self.batch.reads),
            at=int(self.now * 1000),
        )

    def tell(self) -> None:
        """The core learns how the batch ended."""
        assert self.batch is not None
        assert self.results is not None
        for user in self.store.logs:
            self.reported[user] = self.store.head(user)
        self.reported_blocks = set(self.store.blocks)
        results, batch, self.batch, self.results = self.results, self.batch, None, None
        for change, result in zip(batch.blocks, results.blocks, strict=True):
            if change.blocked and not isinstance(result, Refused):
                self._part(change.user, change.peer, results.at)
        self.handle(events.Committed(results))

    def _part(self, one: str, other: str, at: int) -> None:
        for client in self.clients.values():
            name = {one: other, other: one}.get(client.user)
            if client.open and name in client.watching and client.marks.online[name][0]:
                self.parted.setdefault((client.id, name), (at, self.now))

    def commit(self, refuse: Callable[[Draft], ErrorCode | None] = accept) -> None:
        """The batch in flight becomes durable, and the core learns it."""
        if self.results is None:
            self.append(refuse)
        self.tell()

    def read(self, client: int) -> None:
        """The page that was asked for is read, and has not arrived."""
        self.pages[client] = self.store.page(self.loads[client])

    def arrive(self, client: int) -> None:
        """The page arrives as it was when it was read."""
        if client not in self.pages:
            self.read(client)
        del self.loads[client]
        self.arriving = True
        self.handle(events.Loaded(client, self.pages.pop(client)))
        self.arriving = False

    def fail_load(self, client: int) -> None:
        """The page cannot be read."""
        del self.loads[client]
        self.pages.pop(client, None)
        self.handle(events.LoadFailed(client))

    def answer(self, client: int, code: ErrorCode | None = None) -> None:
        """The store answers the question, or says why it cannot."""
        ask = self.asks[client]
        if code is None:
            self.answer_with(client, self._read(ask.user, ask.question))
        else:
            self.answer_with(client, events.Answered(client, code))

    def answer_with(self, client: int, event: events.Answered | events.Stood) -> None:
        """This is the answer."""
        ask, asker = self.asks.pop(client), self.clients[client]
        before = len(asker.told)
        there = asker.open
        if isinstance(event, events.Stood) and there:
            assert isinstance(ask.question, wire.Watch)
            assert asker.asking.pop(0) == ask.question.ref
            asker.watching = set(ask.question.users)
            self.parted = {key: block for key, block in self.parted.items() if key[0] != client}
        self.answering = True
        self.handle(event)
        self.answering = False
        if isinstance(event, events.Stood) and there:
            told = [frame.user for frame in asker.told[before:] if isinstance(frame, wire.Presence)]
            assert sorted(told) == sorted(asker.watching), "not each who is watched was told of, once"

    def read_standing(self, client: int) -> events.Stood:
        """What the answer to a ``watch`` would be now."""
        answer = self._read(self.asks[client].user, self.asks[client].question)
        assert isinstance(answer, events.Stood)
        return answer

    def _read(self, user: str, question: effects.Question) -> events.Answered | events.Stood:
        client, ref, store = next(id for id, ask in self.asks.items() if ask.question is question), question.ref, self.store
        frame: wire.ServerFrame
        match question:
            case wire.Watch(users=users):
                return events.Stood(client, store.standings(user, users))
            case wire.History():
                frame = wire.HistoryAnswer(ref=ref, messages=tuple(store.logs.get(user, ())), more=False, next=None)
            case wire.Search():
                frame = wire.SearchAnswer(ref=ref, hits=(), more=False, next=None)
            case wire.Conversations():
                frame = wire.ConversationsAnswer(ref=ref, conversations=(), more=False, next=None)
            case wire.Devices():
                frame = wire.DevicesAnswer(ref=ref, devices=store.devices(user))
            case wire.Blocks():
                frame = wire.Blocked(ref=ref, users=store.blocked(user))
            case _:
                frame = wire.PushAnswer(ref=ref, providers=(), targets=(), muted=(), quiet=False)
        return events.Answered(client, frame)

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        for _ in range(100_000):
            if self.batch is not None:
                self.commit()
            elif self.loads:
                self.arrive(next(iter(self.loads)))
            elif self.asks:
                self.answer(next(iter(self.asks)))
            else:
                return
        raise AssertionError("it never ends")

    def wait(self, seconds: float, *, alive: tuple[Client, ...] = ()) -> None:
        """Let time pass; the core is woken when it asked for it. `alive` are heard from all the while."""
        end = self.now + seconds
        while (due := self.core.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.handle(events.Tick(frozenset(client.id for client in alive)))
            self.settle()
        self.now = end

    def retain(self, user: str, floor: int) -> None:
        """Retention drops the user's entries up to `floor`."""
        self.store.floors[user] = floor

    def drain(self, *clients: Client, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Shut down, as far as these clients are concerned, or altogether."""
        self.handle(events.Drain(frozenset(client.id for client in clients) if clients else None, code))
        for client in clients or self.clients.values():
            client.draining = True


def replay(world: World, core: Core) -> None:
    """Tell `core` everything that the world's core was told; it must answer the same."""
    for event, now, said in world.tape:
        assert (core.next_batch(now) if event is None else core.handle(event, now)) == said
