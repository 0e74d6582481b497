"""What the loads do: who is connected, who writes to whom, and what of it is measured."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Final

import msgspec
from lines import Gauge, Line, Lines, Patience
from loads import Outcome, Spec, latency
from peers import Asker, Heard
from processes import rss_kib
from rival_peers import PEERS

__all__ = ["WORKLOADS"]


class Traffic:
    """Senders, each of whom keeps `window` messages unanswered.

    Args:
        lines: all connections.
        senders: connections of it.
        recipients: who gets what each of them sends, if somebody is there; one for all, or one for each.
        window: for each sender.
        quota: messages each sender sends; without it they go on until `stop`.
    """

    def __init__(
        self, lines: Lines, senders: Sequence[Line], recipients: Sequence[Line], window: int, quota: int | None = None
    ) -> None:
        self.lines = lines
        self.senders = senders
        self.sent = self.answered = self.delivered = 0
        self.answers, self.deliveries = array("d"), array("d")
        self._window = window
        self._left = dict.fromkeys(senders, quota) if quota is not None else None
        self._stopped = False
        self._to = bool(recipients)
        # Only what one sender sends to one recipient arrives in the order in which it was sent.
        self._partners = dict(zip(senders, recipients, strict=True)) if len(recipients) == len(senders) else {}
        for line in senders:
            line.hear = self._answer
        for line in recipients:
            line.hear = self._take

    def start(self) -> None:
        """Have everybody begin."""
        now = time.perf_counter()
        for line in self.senders:
            self.lines.write(line, self._more(line, self._window, now))

    def measure(self, spec: Spec) -> Outcome:
        """What happens in so many seconds; what is counted is what reached its recipient, if there is one."""
        self.answers, self.deliveries = array("d"), array("d")
        before = self.delivered if self._to else self.answered
        gauge = Gauge(spec)
        self.lines.run_until(gauge.began + spec.seconds)
        count = (self.delivered if self._to else self.answered) - before
        return gauge.outcome(count, answered=latency(self.answers), delivered=latency(self.deliveries))

    def stop(self) -> None:
        """Send nothing more, and wait until everything is answered and delivered."""
        self._stopped = True
        self.finish()

    def finish(self) -> None:
        """Wait until everything is answered and delivered."""
        patience = Patience()
        while self._under_way:
            so_far = f"of {self.sent} messages {self.answered} were answered, {self.delivered} delivered"
            patience.last((self.answered, self.delivered), so_far)
            self.lines.turn(1.0)

    @property
    def _under_way(self) -> bool:
        left = self._left is not None and any(self._left.values())
        return left or self.answered < self.sent or (self._to and self.delivered < self.sent)

    def _more(self, line: Line, count: int, now: float) -> bytes:
        if self._left is not None:
            count = min(count, self._left[line])
            self._left[line] -= count
        if not count:
            return b""
        self.sent += count
        line.since.extend([now] * count)
        if (partner := self._partners.get(line)) is not None:
            partner.coming.extend([now] * count)
        return line.peer.send(count)

    def _answer(self, line: Line, heard: Heard) -> bytes:
        if not (count := heard.answered):
            return b""
        now, since = self.lines.now, line.since
        self.answered += count
        self.answers.extend([now - since.popleft() for _ in range(count)])
        return b"" if self._stopped else self._more(line, count, now)

    def _take(self, line: Line, heard: Heard) -> bytes:
        if count := heard.delivered:
            self.delivered += count
            if coming := line.coming:
                now = self.lines.now
                self.deliveries.extend([now - coming.popleft() for _ in range(count)])
        return b""


def _names(spec: Spec, count: int) -> tuple[list[str], list[str]]:
    """Who writes, and to whom."""
    if spec.known:
        return [f"user-{100 + 2 * number}" for number in range(count)], [
            f"user-{101 + 2 * number}" for number in range(count)
        ]
    return [f"s{number:05}" for number in range(count)], [f"r{number:05}" for number in range(count)]


def _pairs(spec: Spec, lines: Lines) -> tuple[list[Line], list[Line]]:
    """Connect everybody; take what the recipients have missed."""
    make = PEERS[spec.system]
    senders, recipients = _names(spec, spec.pairs)
    writing = [make(sender, recipient) for sender, recipient in zip(senders, recipients, strict=True)]
    reading = [] if make.ALONE else [make(recipient, sender) for sender, recipient in zip(senders, recipients, strict=True)]
    opened = lines.open(reading + writing)
    patience = Patience()
    while behind := sum(line.peer.behind for line in opened):
        patience.last(behind, "what was missed does not arrive")
        lines.turn(1.0)
    return opened[len(reading) :], opened[: len(reading)]


def _run(traffic: Traffic, spec: Spec) -> Outcome:
    traffic.start()
    traffic.lines.run_until(time.perf_counter() + spec.warm)
    outcome = traffic.measure(spec)
    traffic.stop()
    return msgspec.structs.replace(outcome, total=traffic.sent)


def live(spec: Spec) -> Outcome:
    """Pairs of whom one writes and the other reads; with `connections`, others are there who do nothing."""
    lines = Lines(spec)
    make = PEERS[spec.system]
    lines.open(make(f"idle{number:05}", "nobody") for number in range(spec.connections))
    senders, recipients = _pairs(spec, lines)
    return _run(Traffic(lines, senders, recipients, spec.window), spec)


def fan_in(spec: Spec) -> Outcome:
    """Everybody writes to one."""
    lines = Lines(spec)
    make = PEERS[spec.system]
    (recipient,) = lines.open([make("everybodys", "nobody")])
    senders = lines.open(make(f"s{number:05}", "everybodys") for number in range(spec.pairs))
    return _run(Traffic(lines, senders, [recipient], spec.window), spec)


def offline(spec: Spec) -> Outcome:
    """Messages are stored for users who are away; then all of them connect, and take and acknowledge what they missed.

    What is counted is what was stored. `drained` are messages a second from the first connect to the last delivery;
    `settled` to the moment when the last of the senders heard that all was delivered, where it hears of it.
    """
    lines = Lines(spec)
    make = PEERS[spec.system]
    names, away = _names(spec, spec.pairs)
    readers = [make(name, "nobody") for name in away]
    lines.close(lines.open(readers))  # each was here once
    lines.settle()
    senders = lines.open(make(name, other) for name, other in zip(names, away, strict=True))
    quota = spec.messages // spec.pairs
    traffic = Traffic(lines, senders, [], spec.window, quota)
    gauge = Gauge(spec)
    traffic.start()
    traffic.finish()
    outcome = gauge.outcome(traffic.sent, answered=latency(traffic.answers))

    arrived = 0
    last = began = time.perf_counter()

    def count(_line: Line, heard: Heard) -> bytes:
        nonlocal arrived, last
        if heard.delivered:
            arrived, last = arrived + heard.delivered, lines.now
        return b""

    lines.open([reader.again() for reader in readers], hear=count)
    patience = Patience()
    told = make.TELLS
    while arrived < traffic.sent or (told and any(line.peer.told < quota for line in senders)):
        patience.last((arrived, sum(line.peer.told for line in senders)), f"{arrived} of {traffic.sent} were delivered")
        lines.turn(1.0)
    outcome.more["drained"] = traffic.sent / (last - began)
    if told:
        outcome.more["settled"] = traffic.sent / (lines.now - began)
    return outcome


def idle(spec: Spec) -> Outcome:
    """Many connect, one after the other but not alone, and then do nothing. What is counted is the handshakes.

    `kib_each` is what the server's memory grew by for each, `idle_cpu` the share of a core that they cost it.
    """
    lines = Lines(spec)
    make = PEERS[spec.system]
    lines.open([make("first", "nobody")])  # what is loaded for the first is not the others' fault
    lines.settle()
    before = rss_kib(spec.server)
    gauge = Gauge(spec)
    lines.open(make(f"idle{number:05}", "nobody") for number in range(spec.connections))
    outcome = gauge.outcome(spec.connections)
    lines.settle()
    outcome.more["kib_each"] = (rss_kib(spec.server) - before) / spec.connections
    quiet = Gauge(spec)
    lines.run_until(quiet.began + spec.seconds)
    rest = quiet.outcome(1)
    outcome.more["idle_cpu"] = rest.server_cpu / rest.seconds
    return outcome


def storm(spec: Spec) -> Outcome:
    """Many are cut off at once, and all come back at once, while the pairs go on. What is counted is those who are back.

    The latencies are those of the pairs meanwhile; `calm_p99` is from before. Who is turned away tries again.
    """
    lines = Lines(spec)
    make = PEERS[spec.system]
    everybody = lines.open(make(f"idle{number:05}", "nobody") for number in range(spec.connections))
    senders, recipients = _pairs(spec, lines)
    traffic = Traffic(lines, senders, recipients, spec.window)
    traffic.start()
    calm = traffic.measure(spec)
    lines.close(everybody)
    traffic.answers = array("d")
    gauge = Gauge(spec)
    lines.open((line.peer.again() for line in everybody), at_once=spec.connections, insist=True)
    more = {"turned_away": float(lines.turned_away), "calm_p99": calm.answered.p99 if calm.answered else 0.0}
    outcome = gauge.outcome(spec.connections, answered=latency(traffic.answers), more=more)
    traffic.stop()
    return outcome


def crowd(spec: Spec) -> Outcome:
    """Pairs, and beside them as many slow ones as `connections`, who are written to as well.

    Of the slow, half take what comes and acknowledge nothing; the others do not even read.
    """
    lines = Lines(spec)
    make = PEERS[spec.system]
    senders, recipients = _pairs(spec, lines)
    slow = lines.open(make(f"slow{number:05}", "nobody") for number in range(spec.connections))
    for line in slow:
        line.peer.acknowledging = False
    lines.deafen(slow[::2])
    theirs = Traffic(lines, lines.open(make(f"t{n:05}", f"slow{n:05}") for n in range(spec.connections)), [], 1)
    theirs.start()
    outcome = _run(Traffic(lines, senders, recipients, spec.window), spec)
    theirs.stop()
    outcome.more["to_the_slow"] = float(theirs.sent)
    return outcome


def history(spec: Spec) -> Outcome:
    """Pairs, and as many as `connections` who each ask for one page of their history after the other.

    `pages` is how many of these were answered a second.
    """
    lines = Lines(spec)
    senders, recipients = _pairs(spec, lines)
    traffic = Traffic(lines, senders, recipients, spec.window)
    answered = 0

    def ask(line: Line, heard: Heard) -> bytes:
        nonlocal answered
        answered += heard.answered
        return line.peer.ask() if heard.answered else b""

    traffic.start()
    lines.run_until(time.perf_counter() + spec.warm)
    owners = [name for name, _ in zip(cycle(line.peer.user for line in recipients), range(spec.connections), strict=False)]
    asking = lines.open((Asker(owner, "nobody") for owner in owners), hear=ask)
    for line in asking:
        lines.write(line, line.peer.ask())
    before = answered
    outcome = traffic.measure(spec)
    outcome.more["pages"] = (answered - before) / outcome.seconds
    lines.close(asking)
    traffic.stop()
    return msgspec.structs.replace(outcome, total=traffic.sent)


WORKLOADS: Final[dict[str, Callable[[Spec], Outcome]]] = {
    "live": live,
    "fan-in": fan_in,
    "offline": offline,
    "idle": idle,
    "storm": storm,
    "slow crowd": crowd,
    "history": history,
}
