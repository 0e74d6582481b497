"""A core, a store and clients, driven by hand: whatever is under way stays under way until the test lets it happen.

Every effect is carried out and checked on the way: what the core promises its driver, and what a client relies on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from trio_chat import wire
from trio_chat.core import effects, events
from trio_chat.core.batch import Batch, Draft, Page, PageRequest, Refused, Results
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode, InvalidFrame
from trio_chat.model import Message
from trio_chat.settings import Settings

from .model import ModelStore, accept

BAD = InvalidFrame(ErrorCode.BAD_FRAME, "not a frame")


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
        self.pings = 0
        self.paused = True
        self.closed: effects.Close | None = None
        self.gone = False
        self.draining = False
        self.awaiting: Counter[str] = Counter()
        """The sends that were not answered yet, by id."""
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
            if isinstance(frame, wire.Send):
                self.awaiting[frame.id] += 1
                self.spoken.append(frame.id)
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
        return bool(self.frames) and self.closed is None and not self.gone

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
        while self.held < self.last or self.held + 1 in self.named:
            self.held += 1

    def _entry(self, message: Message) -> None:
        assert not self.send_only
        assert self.user in (message.sender, message.recipient), "an entry of somebody else's log (I9)"
        assert message.seq <= self.world.reported[self.user], "an entry before its commit is known (I4)"
        assert message == self.world.store.logs[self.user][message.seq - 1]
        self._until(message.seq)
        self.last = message.seq
        self.entries.append(message)

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

    def __init__(self, settings: Settings | None = None, *, memory_path: bool = True) -> None:
        self.settings = settings or Settings()
        self.core = Core(self.settings, memory_path=memory_path)
        self.store = ModelStore()
        self.now = 1000.0
        self.clients: dict[int, Client] = {}
        self.batch: Batch | None = None
        self.results: Results | None = None
        self.loads: dict[int, PageRequest] = {}
        self.pages: dict[int, Page] = {}
        self.reported: Counter[str] = Counter()
        """The head of each log as far as the core was told of it."""
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
            assert batch.marks or batch.openings or batch.drafts
            self.batch = batch

    def _carry_out(self, effect: effects.Effect) -> None:
        client = self.clients[effect.connection]
        assert not client.gone, "an effect for a connection that is gone (I7)"
        assert client.closed is None, "an effect after Close (I7)"
        match effect:
            case effects.Send():
                client.take(effect.frame)
            case effects.Offer():
                client.offered.append(effect.frame)
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

    # What clients do.

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
        self.results = Results((refused,) * len(self.batch.openings), (refused,) * len(self.batch.drafts))

    def tell(self) -> None:
        """The core learns how the batch ended."""
        assert self.batch is not None
        assert self.results is not None
        for user in self.store.logs:
            self.reported[user] = self.store.head(user)
        results, self.batch, self.results = self.results, None, None
        self.handle(events.Committed(results))

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
        self.handle(events.Loaded(client, self.pages.pop(client)))

    def fail_load(self, client: int) -> None:
        """The page cannot be read."""
        del self.loads[client]
        self.pages.pop(client, None)
        self.handle(events.LoadFailed(client))

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        for _ in range(100_000):
            if self.batch is not None:
                self.commit()
            elif self.loads:
                self.arrive(next(iter(self.loads)))
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
