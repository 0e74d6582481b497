"""The load: a process of its own that is told on its input what to do, and prints what it saw; one JSON object each.

It uses one thread, epoll and raw sockets, says how busy it was itself, and ends with a failure if anything is lost.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from peers import PEERS, Broken, Heard, Peer
from processes import cpu_seconds, rss_kib

__all__ = ["Latency", "Line", "Lines", "Outcome", "Spec", "latency"]

_READ: Final = 256 * 1024
_OPENING: Final = 100
"""Connections that may be opening at once; servers refuse beyond some."""
_PATIENCE: Final = 30.0
"""Seconds in which what was sent has to arrive."""


class Spec(Struct, frozen=True, kw_only=True):
    """What to do. Times are seconds; `server` are the processes to look at."""

    system: str
    port: int
    server: tuple[int, ...]
    workload: str = "live"
    pairs: int = 50
    window: int = 32
    warm: float = 1.0
    seconds: float = 4.0
    messages: int = 20_000


class Latency(Struct, frozen=True, kw_only=True):
    """How long it took, in milliseconds."""

    p50: float
    p99: float
    p999: float


class Outcome(Struct, frozen=True, kw_only=True):
    """What was seen: `count` of what is counted, in `seconds`, and `total` beside the measured time as well.

    `busy` is the share of a core that the load took itself.
    """

    count: int
    total: int = 0
    seconds: float
    server_cpu: float
    busy: float
    rss_kib: int
    answered: Latency | None = None
    delivered: Latency | None = None
    more: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.count / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """The server's processor time for a thousand, in seconds."""
        return self.server_cpu / self.count * 1000 if self.count else 0.0


def latency(seconds: Sequence[float]) -> Latency | None:
    """The percentiles of these times."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p99, p999 = (ordered[int(share * (len(ordered) - 1))] * 1000 for share in (0.5, 0.99, 0.999))
    return Latency(p50=p50, p99=p99, p999=p999)


class Line:
    """One connection of the load.

    `since` are the times of what was sent here and is not answered, `coming` of what was sent to this one and is not here.
    """

    __slots__ = ("coming", "hear", "number", "peer", "since", "socket", "unsent")

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number
        self.socket = socket.socket()
        self.socket.settimeout(0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unsent = b""
        self.since: deque[float] = deque()
        self.coming: deque[float] = deque()
        self.hear: Callable[[Line, Heard], bytes] = _ignore


def _ignore(_line: Line, _heard: Heard) -> bytes:
    return b""


class Lines:
    """Many connections in one thread. `now` is the time at which what is being heard was read."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.now = 0.0
        self._poll = select.epoll()
        self._lines: dict[int, Line] = {}
        self._opening: set[Line] = set()

    def open(self, peers: Sequence[Peer], *, at_once: int = _OPENING) -> list[Line]:
        """Connect these, and wait until all may send."""
        lines = [Line(peer, number) for number, peer in enumerate(peers)]
        waiting = deque(lines)
        patience = time.perf_counter() + _PATIENCE + len(peers) / 100
        while waiting or self._opening:
            while waiting and len(self._opening) < at_once:
                self._connect(waiting.popleft())
            if time.perf_counter() > patience:
                raise Broken(f"{len(self._opening)} connections do not open")
            self.turn(1.0)
        return lines

    def _connect(self, line: Line) -> None:
        line.socket.connect_ex(("127.0.0.1", self.spec.port))
        self._lines[line.socket.fileno()] = line
        self._opening.add(line)
        line.unsent = line.peer.open()
        self._poll.register(line.socket, select.EPOLLIN | select.EPOLLOUT)

    def close(self, lines: Sequence[Line]) -> None:
        """Hang up."""
        for line in lines:
            del self._lines[line.socket.fileno()]
            line.socket.close()

    def deafen(self, line: Line) -> None:
        """Do not read this one from now on."""
        self._poll.unregister(line.socket)

    def write(self, line: Line, data: bytes) -> None:
        """Send, or keep what the socket does not take."""
        if line.unsent:
            line.unsent += data
            return
        try:
            sent = line.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            line.unsent = data[sent:]
            self._poll.modify(line.socket, select.EPOLLIN | select.EPOLLOUT)

    def turn(self, seconds: float) -> None:
        """Take what has come, waiting for something as long as that."""
        ready = self._poll.poll(seconds)
        self.now = time.perf_counter()
        for fd, happened in ready:
            line = self._lines.get(fd)
            if line is None:
                continue
            if happened & select.EPOLLOUT:
                unsent, line.unsent = line.unsent, b""
                self._poll.modify(line.socket, select.EPOLLIN)
                self.write(line, unsent)
            if happened & ~select.EPOLLOUT:
                self._read(line)

    def _read(self, line: Line) -> None:
        try:
            data = line.socket.recv(_READ)
        except BlockingIOError:
            return
        if not data:
            raise Broken(f"{line.peer.user} was hung up on")
        heard = line.peer.receive(data)
        if self._opening and line.peer.opened:
            self._opening.discard(line)
        if reply := heard.reply + line.hear(line, heard):
            self.write(line, reply)


class Gauge:
    """Measures a stretch of time: the server's processor time, and one's own."""

    def __init__(self, spec: Spec) -> None:
        self._server = spec.server
        self.began = time.perf_counter()
        self._cpu, self._own = cpu_seconds(self._server), time.process_time()

    def outcome(self, count: int, **seen: Latency | dict[str, float] | None) -> Outcome:
        """The end of it."""
        seconds = time.perf_counter() - self.began
        rest: dict[str, object] = {
            "count": count,
            "seconds": seconds,
            "server_cpu": cpu_seconds(self._server) - self._cpu,
            "busy": (time.process_time() - self._own) / seconds,
            "rss_kib": rss_kib(self._server),
        }
        return msgspec.convert({**rest, **msgspec.to_builtins(seen)}, Outcome)


class Live:
    """Pairs of whom one writes to the other, with so many messages under way all the time."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.stopped = False
        self.sent = 0
        self.answered = array("d")
        self.delivered = array("d")

    def run(self) -> Outcome:
        """Open, warm up, measure, and wait for what is under way."""
        spec = self.lines.spec
        kind = PEERS[spec.system]
        peers = [kind(f"s{number:05}", f"r{number:05}") for number in range(spec.pairs)]
        if not kind.ALONE:
            peers += [kind(peer.to, peer.user) for peer in peers]
        opened = self.lines.open(peers)
        senders, recipients = opened[: spec.pairs], opened[spec.pairs :]
        partners = dict(zip(senders, recipients, strict=False))

        def answer(line: Line, heard: Heard) -> bytes:
            if not (count := heard.answered):
                return b""
            now, since = self.lines.now, line.since
            self.answered.extend([now - since.popleft() for _ in range(count)])
            if self.stopped:
                return b""
            self.sent += count
            since.extend([now] * count)
            if (partner := partners.get(line)) is not None:
                partner.coming.extend([now] * count)
            return line.peer.send(count)

        for line in senders:
            line.hear = answer
        for line in recipients:
            line.hear = self._take
        began = time.perf_counter()
        self.sent = spec.window * spec.pairs
        for line in senders:
            line.since.extend([began] * spec.window)
            if line in partners:
                partners[line].coming.extend([began] * spec.window)
            self.lines.write(line, line.peer.send(spec.window))
        self._until(began + spec.warm)
        self.answered, self.delivered = array("d"), array("d")
        gauge = Gauge(spec)
        self._until(gauge.began + spec.seconds)
        count = len(self.answered if kind.ALONE else self.delivered)
        outcome = gauge.outcome(count, answered=latency(self.answered), delivered=latency(self.delivered))
        self.stopped = True
        patience = time.perf_counter() + _PATIENCE
        while any(line.since or line.coming for line in opened):
            if time.perf_counter() > patience:
                raise Broken(f"{sum(len(line.coming) for line in opened)} messages do not arrive")
            self.lines.turn(1.0)
        return msgspec.structs.replace(outcome, total=self.sent)

    def _take(self, line: Line, heard: Heard) -> bytes:
        now, coming = self.lines.now, line.coming
        self.delivered.extend([now - coming.popleft() for _ in range(heard.delivered)])
        return b""

    def _until(self, end: float) -> None:
        while time.perf_counter() < end:
            self.lines.turn(0.1)


def main() -> None:
    """Do what the input says."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=Spec)
    gc.disable()
    outcome = Live(Lines(spec)).run()
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")


if __name__ == "__main__":
    main()
