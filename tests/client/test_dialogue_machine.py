"""The client's decisions against a server, a line that breaks, a program that crashes, and a disk that lags."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_chat import wire
from trio_chat.client.inbox import key_of

from .world import USER, WINDOW, Line, Memory, Program, Server, welcome

MOSTLY = st.sampled_from(
    [None] * 6 + ["rate_limited", "overloaded", "mailbox_full", "not_allowed", "too_large", "id_conflict"]
)


class DialogueMachine(RuleBasedStateMachine):
    """Everything happens in any order. What must hold holds after every step, and at the end everything has arrived."""

    @initialize(own=st.booleans())
    def begin(self, own: bool) -> None:
        self.now = 0.0
        self.own = own
        self.numbers = 0
        self.server = Server()
        self.memory = Memory()
        self.program = Program(self.memory, own=own)
        self.line: Line | None = None
        self.calls: list[str] = []
        self.restored = self.crashed = self.gapped = self.refused = False

    def next_id(self, prefix: str) -> str:
        self.numbers += 1
        return f"{prefix}{self.numbers}"

    # The line.

    @precondition(lambda self: self.line is None)
    @rule()
    def connect(self) -> None:
        inbox = self.program.dialogue.inbox
        line = self.line = Line(self.server, inbox.log, inbox.position)
        effects = self.program.dialogue.begin(welcome(line.log, line.start, self.server.head))
        self.program.carry_out(effects)

    @precondition(lambda self: self.line is not None)
    @rule()
    def cut(self) -> None:
        self.line = None
        self.program.dialogue.end()

    @precondition(lambda self: self.line is not None)
    @rule()
    def client_writes(self) -> None:
        assert self.line is not None
        frames, effects = self.program.dialogue.next(self.now)
        self.program.carry_out(effects)
        for frame in frames:
            if isinstance(frame, wire.Ack):
                self.check_ack(frame.seq)
        self.line.to_server += frames
        if self.program.dialogue.inbox.starved:
            self.cut()

    @precondition(lambda self: self.line is not None and self.line.to_server)
    @rule(count=st.integers(1, 4), refuse=MOSTLY)
    def server_reads(self, count: int, refuse: str | None) -> None:
        assert self.line is not None
        for frame in self.line.to_server[:count]:
            self.refused |= refuse is not None and isinstance(frame, wire.Send)
            self.line.read(frame, refuse, self.now)
        del self.line.to_server[:count]

    @precondition(lambda self: self.line is not None)
    @rule(count=st.integers(1, 6))
    def server_writes(self, count: int) -> None:
        assert self.line is not None
        self.gapped |= self.line.sent < self.server.floor
        self.line.push(count)

    @precondition(lambda self: self.line is not None and self.line.to_client)
    @rule(count=st.integers(1, 4))
    def client_reads(self, count: int) -> None:
        assert self.line is not None
        for frame in self.line.to_client[:count]:
            self.program.carry_out(self.program.dialogue.receive(frame, self.now))
        del self.line.to_client[:count]

    @rule(seconds=st.sampled_from([0.5, 2.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # Others, and the server's fate.

    @rule(sender=st.sampled_from(["bob", "bob", USER]), kind=st.sampled_from(["message"] * 4 + ["edit", "novelty"]))
    def somebody_sends(self, sender: str, kind: str) -> None:
        self.server.append(self.next_id("o"), sender, kind)

    @precondition(lambda self: self.server.floor < self.server.head)
    @rule(data=st.data())
    def retention(self, data: st.DataObject) -> None:
        self.server.floor = data.draw(st.integers(self.server.floor, self.server.head), label="floor")

    @precondition(lambda self: self.line is None)
    @rule(data=st.data(), renamed=st.booleans())
    def restore(self, data: st.DataObject, renamed: bool) -> None:
        keep = data.draw(st.integers(self.server.floor, self.server.head), label="keep")
        if not renamed and keep == self.server.head:
            return
        self.restored = True
        # Without another name, only a shorter log shows that it is another history.
        self.server.restore(keep, renamed=renamed or self.program.dialogue.inbox.position <= keep)

    # The program.

    @rule(to=st.sampled_from(["bob", "eve"]))
    def send(self, to: str) -> None:
        id = self.next_id("s")
        self.calls.append(id)
        self.program.send(id, to)

    @rule()
    def take(self) -> None:
        self.program.take()

    @precondition(lambda self: self.program.given)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.program.given), label="held")
        self.program.finish(held)

    @rule()
    def iterate_anew(self) -> None:
        self.program.iterate_anew()

    @rule()
    def commit(self) -> None:
        self.program.commit()

    @rule()
    def crash(self) -> None:
        """Whatever is not written is gone; so are messages that were only about to be written."""
        self.crashed = True
        before = self.program
        self.line = None
        self.program = Program(self.memory, own=self.own)
        self.program.finished |= before.promised
        self.program.promised |= before.promised
        self.program.stored |= before.stored
        self.program.refused |= before.refused
        self.calls = [id for id in self.calls if id in self.memory.outbox or id in before.stored or id in before.refused]

    # What holds.

    def check_ack(self, seq: int) -> None:
        """A2: everything up to there is held, that is, was finished or is not for the program."""
        assert self.line is not None
        for message in self.server.entries[self.line.start : seq]:
            if self.line.log != self.server.log:
                continue
            wanted = message.kind == "message" and (self.own or message.sender != USER)
            assert not wanted or message.seq <= self.server.floor or key_of(message) in self.program.finished
        assert self.memory.position >= seq or self.memory.log != self.line.log, "acknowledged before it was written"

    @invariant()
    def at_most_a_window(self) -> None:
        assert self.program.dialogue.inbox.buffered <= WINDOW

    @invariant()
    def no_fault(self) -> None:
        assert self.program.fault is None

    def teardown(self) -> None:
        if not hasattr(self, "program"):
            return
        self.heal()
        program = self.program
        assert len(program.dialogue.outbox) == 0
        fates = program.stored.keys() | program.refused.keys()
        assert fates >= set(self.calls), "the fate of a message is not known"
        for message in self.server.entries[self.server.floor :]:
            if message.kind == "message" and (self.own or message.sender != USER):
                assert key_of(message) in program.finished or self.restored or self.crashed
        if not (self.restored or self.crashed or self.refused):
            order = [message.id for message in self.server.entries if message.id.startswith("s")]
            assert order == self.calls, "stored in another order than they were sent (S4)"
        assert self.server.cursor == self.server.head, "not everything is acknowledged"

    def heal(self) -> None:
        """From now on everything works: after a while nothing is left to do."""
        for _ in range(400):
            self.program.commit()
            if self.line is not None and self.quiet():
                return
            if self.line is None:
                self.connect()
            self.time_passes(100.0)
            self.client_writes()
            self.serve()
            while (held := self.program.take()) is not None:
                self.program.finish(held)
            for held in list(self.program.given):
                self.program.finish(held)
        raise AssertionError("it comes to no end")

    def serve(self) -> None:
        if self.line is not None:  # the client may have hung up to get at the rest of a backlog
            self.server_reads(1000, None)
            self.server_writes(1000)
            self.client_reads(1000)

    def quiet(self) -> bool:
        assert self.line is not None
        everything = self.server.cursor == self.server.head and not len(self.program.dialogue.outbox)
        return everything and not self.line.to_client and not self.line.to_server and not self.program.unwritten


TestDialogueMachine = DialogueMachine.TestCase
