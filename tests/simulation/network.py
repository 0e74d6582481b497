"""Lines between clients and a server: they are slow, they break in the middle of things, and one end may not notice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trio_chat import wire
from trio_chat.errors import CloseCode
from trio_chat.model import Identity
from trio_chat.porch import Opening
from trio_chat.session import ConnectionEnded, Transport
from trio_chat.transport.front import Admitted

from .history import Closed, Dialled, Heard, Said, Told, Wrote

if TYPE_CHECKING:
    from .world import Life, World

NEVER: Final = 1e9


class Client(Protocol):
    """The end of a line that is no server."""

    def hear(self, line: Line, frame: wire.ServerFrame) -> None: ...
    def lost(self, line: Line, code: int | None) -> None: ...


class Line:
    """One connection. What is written arrives in order after a while, unless the line is cut in that direction before."""

    def __init__(self, world: World, client: Client, user: str, device: str, log: str | None, after: int | None) -> None:
        self.world = world
        self.client = client
        self.user, self.device = user, device
        self.log, self.after = log, after
        self.number = world.next_line()
        self.chance = world.network
        self.latency = self.chance.uniform(0.002, 0.08)
        self.life: Life | None = None
        self.alive: Callable[[], None] = lambda: None
        # To the server.
        self.up: deque[tuple[wire.ClientFrame | str, bytes]] = deque()
        self._up_at = 0.0
        self.up_cut = False
        self.arrived: list[bytes] = []
        self.arrival = trio.Event()
        self.ended = False
        """Whether the server knows that nothing more comes."""
        # To the client.
        self.down: deque[wire.ServerFrame] = deque()
        self._down_at = 0.0
        self.down_cut = False
        self.unread = 0
        """Bytes that the client has not taken yet."""
        self.stalled_until = 0.0
        self.room = trio.Event()
        self.gone = False
        """Whether the client knows that it is over."""
        world.history.add(Dialled(world.now, self.number, user, device, log, after))
        world.at(self.latency, self._knock)

    def _later(self, last: float) -> float:
        return max(last, self.world.now + self.latency * self.chance.uniform(0.5, 1.5))

    def _knock(self) -> None:
        life = self.world.life
        if life is None or life.porch is None or self.up_cut:
            self.lose(self.latency)
        else:
            self.life = life
            life.lines.append(self)
            life.connections.start_soon(life.porch.serve, Arrival(self))

    # The client's end.

    def say(self, frames: list[wire.ClientFrame | str]) -> None:
        """Write frames; text that is none is written as it is."""
        for frame in frames:
            self.world.history.add(Said(self.world.now, self.number, frame))
            if not self.up_cut:
                self.up.append((frame, frame.encode() if isinstance(frame, str) else wire.encode(frame)))
        if frames and not self.up_cut:
            self._up_at = self._later(self._up_at)
            count = len(frames)
            self.world.schedule(self._up_at, lambda: self._arrive(count))

    def _arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            frame, text = self.up.popleft()
            if not self.ended:
                self.world.history.add(Heard(self.world.now, self.number, frame))
                self.arrived.append(text)
        self.alive()
        self.arrival.set()

    def hang_up(self) -> None:
        """The client goes; what it has said still arrives."""
        self.gone = True
        if not self.up_cut:
            self._up_at = self._later(self._up_at)
            self.world.schedule(self._up_at, self.end)

    def abandon(self) -> None:
        """The client forgets about it without a word: the server does not notice."""
        self.gone = True
        self.cut(0.5, server_notices=NEVER, client_notices=NEVER)

    def pong(self) -> None:
        """A ping has arrived; it is answered by the client's machine, unless that does not read."""
        if not (self.up_cut or self.down_cut or self.gone) and self.world.now >= self.stalled_until:
            self.world.at(self.latency, self.alive)

    def lose(self, after: float, code: int | None = None) -> None:
        """The client notices after so many seconds that it is over."""
        if after < NEVER:
            self.world.at(after, lambda: self._lose(code))

    def _lose(self, code: int | None) -> None:
        if not self.gone:
            self.gone = True
            self.client.lost(self, code)

    def stall(self, seconds: float) -> None:
        """The client reads nothing for a while."""
        self.stalled_until = max(self.stalled_until, self.world.now + seconds)

    # What happens to it.

    def cut(self, keep: float, *, server_notices: float, client_notices: float) -> None:
        """From now on nothing gets through; of what is under way a part still arrives, in each direction."""
        for flight in (self.up, self.down):
            count = int(keep * (len(flight) + 1))
            while len(flight) > count:
                flight.pop()
        self.up_cut = self.down_cut = True
        if server_notices < NEVER:
            self.world.at(server_notices, self.end)
        self.lose(client_notices)

    # The server's end.

    def end(self) -> None:
        """The server notices that it is over."""
        self.ended = True
        self.arrival.set()
        self.room.set()

    def write(self, text: bytes, burst: int) -> None:
        frame = wire.decode_server(text)
        self.world.history.add(Wrote(self.world.now, self.number, frame, burst))
        self.unread += len(text)
        if not self.down_cut:
            self.down.append(frame)
            self._down_at = self._later(self._down_at)
            self.world.schedule(self._down_at, lambda: self._read(len(text)))

    def _read(self, size: int) -> None:
        world = self.world
        if world.now < self.stalled_until:
            world.schedule(self.stalled_until, lambda: self._read(size))
            return
        if not self.down:
            return
        frame = self.down.popleft()
        self.unread -= size
        self.room.set()
        if not self.gone:
            world.history.add(Told(world.now, self.number, frame))
            self.client.hear(self, frame)

    def close(self, code: CloseCode) -> None:
        """The server closes, after what it has written."""
        if not self.ended:
            self.world.history.add(Closed(self.world.now, self.number, int(code)))
            self.end()
        if not self.down_cut:
            self._down_at = self._later(self._down_at)
            self.world.schedule(max(self._down_at, self.stalled_until), lambda: self._lose(int(code)))


class Wire(Transport):
    """What the session makes of a line."""

    def __init__(self, line: Line, alive: Callable[[], None]) -> None:
        self._line = line
        line.alive = alive
        self._alive = alive

    async def run(self) -> None:
        await trio.sleep_forever()

    async def receive(self) -> list[bytes | None]:
        line = self._line
        while not line.arrived and not line.ended:
            line.arrival = trio.Event()
            await line.arrival.wait()
        if not line.arrived:
            raise ConnectionEnded("the client is gone")
        await trio.lowlevel.checkpoint_if_cancelled()
        texts, line.arrived = line.arrived, []
        return [*texts]

    async def send(self, texts: list[bytes]) -> None:
        line, world = self._line, self._line.world
        burst = sum(map(len, texts))
        for text in texts:
            while line.unread >= world.script.room and not line.ended:
                line.room = trio.Event()
                with trio.move_on_after(world.script.settings.write_timeout) as scope:
                    await line.room.wait()
                if scope.cancelled_caught:
                    line.end()
            self._step()
            line.write(text, burst)
            self._alive()
        await trio.lowlevel.checkpoint()

    def _step(self) -> None:
        line = self._line
        if line.life is None or line.ended:
            raise ConnectionEnded("the line is broken")
        line.life.step()
        if not line.life.powered:
            raise ConnectionEnded("the power is off")

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint()
        self._step()
        self._line.world.at(self._line.latency, self._line.pong)

    async def close(self, code: CloseCode, reason: str) -> None:
        line = self._line
        if line.life is not None and line.life.powered:
            line.close(code)
        await trio.lowlevel.checkpoint()


class Arrival(Opening):
    """A line that has reached the server."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def client(self) -> str | None:
        return None

    async def admit(self, places: ExitStack) -> Admitted | None:
        await trio.lowlevel.checkpoint()
        line = self._line
        assert line.life is not None
        chat = line.life.chat
        if chat.failure is not None or chat.draining.is_set():
            line.lose(line.latency)
            return None
        return Admitted(Identity(line.user, line.device), b"", line.log, line.after, False, None)

    async def turn_away(self, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self._line.lose(self._line.latency)

    def transport(self, admitted: Admitted, alive: Callable[[], None]) -> Transport:
        return Wire(self._line, alive)

    async def aclose(self) -> None:
        line = self._line
        if line.life is not None and line.life.powered:
            line.end()
            line.lose(2 * line.latency + 0.2)
        await trio.lowlevel.checkpoint()
