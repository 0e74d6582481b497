"""The connections of a load: raw sockets and one epoll, in one thread."""

from __future__ import annotations

import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from loads import Latency, Outcome, Spec
from peers import Broken, Heard, Peer, TurnedAway
from processes import cpu_seconds, rss_kib

__all__ = ["Gauge", "Line", "Lines", "Patience"]

_PATIENCE: Final = 30.0
"""Seconds in which something of what is waited for has to come."""

_READ: Final = 256 * 1024
_OPENING: Final = 100
"""Connections that may be opening at once; servers refuse beyond some."""
_AGAIN: Final = 0.1
"""Seconds until somebody who was turned away tries again, and up to as long once more."""


class Patience:
    """Ends the wait for what comes no nearer: a server may be slow, but must not lose anything."""

    def __init__(self) -> None:
        self._seen: object = None
        self._until = 0.0

    def last(self, seen: object, what: str) -> None:
        """Look how far it is; `what` is what is wrong if that has not changed for long."""
        now = time.perf_counter()
        if seen != self._seen:
            self._seen, self._until = seen, now + _PATIENCE
        elif now > self._until:
            raise Broken(what)


class Line:
    """One connection.

    `since` are the times of what was sent here and is not answered, `coming` of what was sent to this one and is not here.
    """

    __slots__ = ("coming", "hear", "peer", "since", "socket", "unsent")

    def __init__(self, peer: Peer, hear: Hear) -> None:
        self.peer = peer
        self.since: deque[float] = deque()
        self.coming: deque[float] = deque()
        self.hear = hear

    def connect(self, port: int) -> None:
        """Begin to; `unsent` is what to say first."""
        self.socket = socket.socket()
        self.socket.settimeout(0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        self.unsent = self.peer.open()


Hear: TypeAlias = Callable[[Line, Heard], bytes]
"""What a workload makes of what came: it gives what to send."""


def _ignore(_line: Line, _heard: Heard) -> bytes:
    return b""


class Lines:
    """Many connections.

    `now` is the time at which what is being heard was read, `turned_away` how often somebody had to come again.
    """

    def __init__(self, spec: Spec) -> None:
        self.now = 0.0
        self.turned_away = 0
        self._port = spec.port
        self._poll = select.epoll()
        self._lines: dict[int, Line] = {}
        self._opening: set[Line] = set()
        self._insisting = False
        self._again: list[tuple[float, Line]] = []

    def open(
        self, peers: Iterable[Peer], *, hear: Hear | None = None, at_once: int = _OPENING, insist: bool = False
    ) -> list[Line]:
        """Connect these, and wait until all may send. With `insist` whoever is turned away comes again."""
        lines = [Line(peer, hear or _ignore) for peer in peers]
        self._insisting = insist
        waiting = deque(lines)
        patience = Patience()
        while waiting or self._opening or self._again:
            while waiting and len(self._opening) < at_once:
                self._connect(waiting.popleft())
            if self._again and self._again[0][0] < time.perf_counter():
                self._connect(self._again.pop(0)[1])
            left = len(waiting) + len(self._opening) + len(self._again)
            patience.last(left, f"{left} connections do not open")
            self.turn(0.01)
        return lines

    def close(self, lines: Iterable[Line]) -> None:
        """Hang up, as somebody does whose network is gone."""
        for line in lines:
            self._lines.pop(line.socket.fileno(), None)
            line.socket.close()

    def deafen(self, lines: Iterable[Line]) -> None:
        """Read these no more."""
        for line in lines:
            self._poll.unregister(line.socket)
            del self._lines[line.socket.fileno()]

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
            try:
                if happened & select.EPOLLOUT:
                    unsent, line.unsent = line.unsent, b""
                    self._poll.modify(line.socket, select.EPOLLIN)
                    self.write(line, unsent)
                if happened & ~select.EPOLLOUT:
                    self._read(line)
            except (OSError, TurnedAway):
                if not (self._insisting and line in self._opening):
                    raise
                self._come_again(line)

    def run_until(self, end: float) -> None:
        """Take whatever comes until that time."""
        while (left := end - time.perf_counter()) > 0:
            self.turn(min(left, 0.1))

    def settle(self, quiet: float = 0.3) -> None:
        """Take what comes until nothing has come for so long."""
        while True:
            before = self.now
            self.turn(quiet)
            if self.now - before >= quiet:
                return

    def _connect(self, line: Line) -> None:
        line.connect(self._port)
        self._lines[line.socket.fileno()] = line
        self._opening.add(line)
        self._poll.register(line.socket, select.EPOLLIN | select.EPOLLOUT)

    def _come_again(self, line: Line) -> None:
        self.turned_away += 1
        self._opening.discard(line)
        self.close([line])
        line.peer = line.peer.again()
        self._again.append((self.now + _AGAIN * (1 + random.random()), line))  # noqa: S311
        self._again.sort(key=lambda entry: entry[0])

    def _read(self, line: Line) -> None:
        try:
            data = line.socket.recv(_READ)
        except BlockingIOError:
            return
        if not data:
            raise TurnedAway(f"{line.peer.user} was hung up on")
        heard = line.peer.receive(data)
        if self._opening and line.peer.opened:
            self._opening.discard(line)
        if reply := heard.reply + line.hear(line, heard):
            self.write(line, reply)


class Gauge:
    """Measures a stretch of time: the server's processor time, and one's own."""

    def __init__(self, spec: Spec) -> None:
        self._server: Sequence[int] = spec.server
        self.began = time.perf_counter()
        self._cpu, self._own = cpu_seconds(self._server), time.process_time()

    def outcome(
        self,
        count: int,
        *,
        answered: Latency | None = None,
        delivered: Latency | None = None,
        more: dict[str, float] | None = None,
    ) -> Outcome:
        """The end of it."""
        seconds = time.perf_counter() - self.began
        return Outcome(
            count=count,
            total=count,
            seconds=seconds,
            server_cpu=cpu_seconds(self._server) - self._cpu,
            busy=(time.process_time() - self._own) / seconds,
            rss_kib=rss_kib(self._server),
            answered=answered,
            delivered=delivered,
            more=more or {},
        )
