"""Devices: the client's real decisions, with a loop, a state file and a program that are simulated. And strangers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from trio_chat import wire
from trio_chat.client.dialogue import Answered, Dialogue, Effect, Fault, Notice, Refusal, Write
from trio_chat.client.inbox import Held, Inbox, Remembered
from trio_chat.client.outbox import Command
from trio_chat.client.records import Pending, Position, Record
from trio_chat.client.values import Stored
from trio_chat.errors import CloseCode

from ..client.world import Memory
from .history import Did, Failed, Finished, Given, Lost, Settled
from .network import Line

if TYPE_CHECKING:
    from .world import World

BACKOFF: Final = 0.05
PATIENCE: Final = 10.0
LOOK: Final = 3.0
"""Seconds between two looks at whether the server is still there."""


class Device:
    """A client that is connected whenever it can be, and its program, which takes its time over each message.

    Args:
        world: where it lives.
        name: user and device, with a slash between them.
        memory: what its state file holds; None if it has none.
    """

    def __init__(self, world: World, name: str, memory: Memory | None) -> None:
        self.world = world
        self.name = name
        self.user, self.device = name.split("/")
        self.memory = memory
        self.chance = world.people_chance
        self.line: Line | None = None
        self.online = False
        """Whether it wants to be connected."""
        self.attempt = 0
        self.heard = 0.0
        self.probed = False
        self.receipts: dict[str, tuple[int, int]] = {}
        self.sent: list[Command] = []
        """What the program has had sent, whatever became of it."""
        self.known: list[wire.Send] = []
        """Of that, the messages that are known to be stored."""
        self.asked = 0
        self.seen: dict[str, int] = {}
        """The newest message of each peer."""
        self._wake_at = 0.0
        self._pumping = False
        self._start()

    def _start(self) -> None:
        self.run = object()
        """Stands for the process: what an earlier one had in hand is nothing to a later one."""
        self.unwritten: list[tuple[Record | None, Callable[[], None] | None]] = []
        if self.memory is None:
            self.dialogue = Dialogue(Inbox(None, 0, (), Remembered((), limit=1000)), None)
        else:
            self.dialogue = self.memory.dialogue()
        self._write(self.dialogue.inbox.choose(own=True, changes=True))

    # Its connection.

    def dial(self) -> None:
        """Open a connection. One that is there is forgotten about, which the server is not told."""
        self.online = True
        if self.line is not None:
            self.dialogue.end()
            self.line.abandon()
        inbox = self.dialogue.inbox
        after = None if inbox.log is None else inbox.position
        line = self.line = Line(self.world, self, self.user, self.device, inbox.log, after)
        self.heard, self.probed = self.world.now, False
        self.world.at(PATIENCE, lambda: self._look(line))

    def _look(self, line: Line) -> None:
        """Is the server still there?"""
        if line is not self.line:
            return
        silence = self.world.now - self.heard
        if silence >= PATIENCE and (self.dialogue.welcome is None or self.probed):
            line.abandon()
            self.lost(line, None)
            return
        if silence >= PATIENCE / 2 and self.dialogue.welcome is not None and not self.probed:
            self.probed = True
            line.say([wire.Ping()])
        self.world.at(LOOK, lambda: self._look(line))

    def hear(self, line: Line, frame: wire.ServerFrame) -> None:
        """A frame has arrived."""
        if line is not self.line:
            return
        self.heard, self.probed = self.world.now, False
        if isinstance(frame, wire.Welcome):
            self.attempt = 0
            self._carry_out(self.dialogue.begin(frame))
        elif self.dialogue.welcome is None:
            self.world.history.add(Failed(self.world.now, f"{self.name}: {frame} came before the welcome"))
        else:
            self._carry_out(self.dialogue.receive(frame, self.world.now))
        self.pump()

    def lost(self, line: Line, code: int | None) -> None:
        """The connection is no more."""
        if line is not self.line:
            return
        self.world.history.add(Lost(self.world.now, line.number, code))
        self.line = None
        self.dialogue.end()
        self.attempt += 1
        pause = self.chance.random() * min(8.0, BACKOFF * 2.0 ** min(self.attempt, 12))
        if code == CloseCode.REPLACED:
            pause += 3.0  # the real one would leave it at that; this one's user looks at it again
        self.world.at(pause, self._again)

    def _again(self) -> None:
        if self.online and self.line is None:
            self.dial()

    def hang_up(self) -> None:
        """Leave, and stay away."""
        self.online = False
        if self.line is not None:
            self.dialogue.end()
            self.line.hang_up()
            self.line = None

    def come_back(self) -> None:
        """Be connected again, if it is not."""
        self.online = not self.world.over
        self._again()

    def restart(self) -> None:
        """The process ends without warning, and a new one knows what is in the state file."""
        if self.line is not None:
            self.line.hang_up()
            self.line = None
        self._start()
        self.dial()

    def pump(self) -> None:
        """Say what is to be said, and give the program what there is, once all that happens now has happened."""
        if not self._pumping:
            self._pumping = True
            self.world.at(0.0, self._pump)

    def _pump(self) -> None:
        self._pumping = False
        line, now = self.line, self.world.now
        while (held := self.dialogue.inbox.take()) is not None:
            self._give(held)
        if line is None:
            return
        frames, effects = self.dialogue.next(now)
        self._carry_out(effects)
        line.say([*frames])
        if self.dialogue.inbox.starved:
            line.hang_up()
            self.line = None
            self.dialogue.end()
            self.dial()
        elif (deadline := self.dialogue.deadline()) is not None and not now <= self._wake_at <= deadline:
            self._wake_at = deadline
            self.world.schedule(max(deadline, now), self._woken)

    def _woken(self) -> None:
        self._wake_at = 0.0
        self.pump()

    # Its program.

    def _give(self, held: Held) -> None:
        message, run = held.message, self.run
        self.world.history.add(Given(self.world.now, self.name, message))
        if message.sender != self.user:
            self.seen[message.sender] = message.seq
        think = self.chance.choice([0.0, 0.0, 0.02, 0.5, 2.0])
        self.world.at(think, lambda: self._finish(held) if run is self.run else None)

    def _finish(self, held: Held) -> None:
        key = (held.message.sender, held.message.id)
        self._write(self.dialogue.inbox.finish(held))
        done = Finished(self.world.now, self.name, key)
        if self.memory is None:
            self.world.history.add(done)
        else:
            self._then(lambda: self.world.history.add(done))
        self.pump()

    def command(self, command: Command) -> None:
        """Have it sent until its fate is known. One that is under way is not sent twice."""
        outbox = self.dialogue.outbox
        under_way = {record.id for record, _ in self.unwritten if isinstance(record, Pending)}
        if outbox.get(command.id) is not None or command.id in under_way:
            return
        self.sent.append(command)

        def put() -> None:
            outbox.add(command)
            self.pump()

        if self.memory is None:
            put()
        else:
            self._then(put, Pending(command.id, wire.encode(command)))

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        add, now = self.world.history.add, self.world.now
        for effect in effects:
            match effect:
                case Write(record):
                    self._write([record])
                case Stored(id, seq, _):
                    add(Settled(now, self.name, id, "stored", seq))
                    self.known += [one for one in self.sent if one.id == id and isinstance(one, wire.Send)]
                case Refusal(command, error):
                    add(Settled(now, self.name, command.id, f"{error.fate}: {error.code}"))
                case Fault(error):
                    add(Failed(now, f"{self.name}: {error}"))
                case Answered() | Notice():
                    pass

    # Its state file.

    def _write(self, records: Sequence[Record]) -> None:
        for record in records:
            if self.memory is not None:
                self._then(None, record)
            elif isinstance(record, Position):
                self.dialogue.inbox.committed(record.log, record.position)

    def _then(self, call: Callable[[], None] | None, record: Record | None = None) -> None:
        """Write a record, and do this when it is written."""
        if not self.unwritten:
            run = self.run
            self.world.at(self.chance.choice([0.0, 0.005, 0.05]), lambda: self._flush() if run is self.run else None)
        self.unwritten.append((record, call))

    def _flush(self) -> None:
        assert self.memory is not None
        unwritten, self.unwritten = self.unwritten, []
        self.memory.apply([record for record, _ in unwritten if record is not None])
        for record, call in unwritten:
            if isinstance(record, Position):
                self.dialogue.inbox.committed(record.log, record.position)
            if call is not None:
                call()
        self.pump()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way, and everything that there is was given to the program.

        What is for somebody who never comes may wait for ever: that mailbox may be full.
        """
        inbox, welcome = self.dialogue.inbox, self.dialogue.welcome
        there = {device.user for device in self.world.devices.values()}
        waiting = [item for item in self.dialogue.outbox._items.values() if item.recipient in there]
        quiet = welcome is not None and not self.unwritten and not waiting and not inbox.buffered
        return quiet and inbox.position == self.world.head(self.user)


class Stranger:
    """A peer without manners. It says whatever it likes, and never acknowledges anything.

    Args:
        world: where it lives.
        name: user and device; those of an innocent device make it an impostor, which replaces that.
        said: what it says once it was let in, frames and worse.
        reads: False if it never takes anything off the line.
    """

    def __init__(
        self, world: World, name: str, said: Sequence[wire.ClientFrame | str], *, reads: bool = True, stays: float = 2.0
    ) -> None:
        self.world = world
        self._said = list(said)
        world.history.add(Did(world.now, name, "is a stranger that will say bad things" if said else "is an impostor"))
        user, device = name.split("/")
        self.line = Line(world, self, user, device, None, None)
        world.strangers.append(self)
        if not reads:
            self.line.stall(stays)
            world.at(0.3, self._talk)  # without waiting to be welcome
        world.at(stays, self.line.hang_up)

    def hear(self, line: Line, frame: wire.ServerFrame) -> None:
        if isinstance(frame, wire.Welcome):
            self._talk()

    def _talk(self) -> None:
        if not self.line.gone:
            self.line.say(self._said)
            self._said = []

    def lost(self, line: Line, code: int | None) -> None:
        self.world.history.add(Lost(self.world.now, line.number, code))
