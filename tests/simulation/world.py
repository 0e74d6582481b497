"""One run: a script is played to a chat, then all is well for a while, then everybody leaves."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

import msgspec
import trio
from msgspec.structs import replace

from trio_chat.chat import Chat, open_chat
from trio_chat.errors import Rejected
from trio_chat.policy import Hooks, Outgoing
from trio_chat.porch import Porch

from ..client.world import Memory
from .acts import perform
from .clock import WorldClock
from .disk import Store, Troubles, disk
from .history import Did, Ended, Failed, History, Started
from .network import Line
from .people import Device, Stranger
from .script import FORGETFUL, Script

PATIENCE: Final = 240.0
"""Seconds for everything to come to rest when nothing goes wrong any more."""
LOOKS: Final = 5
"""How often everything is found at rest, half a second apart, where what strangers have said may still be on its way."""
UNNOTICED: Final = 15.0
"""Seconds after which a server has found all lines dead of which it was not told."""
START: Final = 1_700_000_000_000


class Life:
    """One process of the server, from its start to its end."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.powered = True
        self.scope = trio.CancelScope()
        self.ending = trio.Event()
        self.lines: list[Line] = []
        self.porch: Porch | None = None
        self.chat: Chat
        self.connections: trio.Nursery

    def step(self) -> None:
        """Something is about to leave the process, or has reached the disk: here it may be that it ends."""
        world = self.world
        if world.fuse is not None and self.powered:
            world.fuse -= 1
            if world.fuse <= 0:
                world.fuse = None
                self.crash()

    def crash(self) -> None:
        """The power goes. What this process still does in memory has no consequences; its lines notice, or do not."""
        self.powered = False
        self.porch = None
        self.world.history.add(Did(self.world.now, "power", "goes"))
        chance = self.world.network
        for line in self.lines:
            line.cut(chance.random(), server_notices=0.0, client_notices=chance.choice([0.01, 0.5, 20.0]))
        self.scope.cancel()

    async def run(self) -> None:
        world = self.world
        with self.scope:
            async with (
                open_chat(
                    Store(world.disk, self),
                    settings=world.script.settings,
                    hooks=world.hooks(),
                    clock=world.wall_clock,
                    memory_path=world.script.memory_path,
                ) as self.chat,
                trio.open_nursery() as self.connections,
            ):
                self.porch = Porch(self.chat, None)
                world.history.add(Started(world.now, self.number))
                await self.ending.wait()
                self.porch = None
                await self.chat.drain()
        self.porch = None


class World:
    """Everything there is. `now` is Trio's time; all that clients and lines do happens in callbacks of the virtual clock."""

    def __init__(self, script: Script, clock: WorldClock) -> None:
        self.script = script
        self.clock: WorldClock = clock
        self.history = History()
        self.network, self.people_chance, self.hook_chance, disk_chance = (
            Random(f"{what} {script.seed}") for what in ("network", "people", "hooks", "disk")
        )
        self.disk = disk(script.settings, script.seed)
        self.troubles: Troubles = Troubles(disk_chance)
        self.life: Life | None = None
        self.fuse: int | None = None
        self.down_for = 0.5
        self.over = False
        self.wall_offset = 0
        self.hook_mood = "well"
        self._lines = itertools.count(1)
        self._done = trio.Event()
        names = sorted({act.who for act in script.acts if act.who})
        self.devices = {name: Device(self, name, None if name in FORGETFUL else Memory()) for name in names}
        self.strangers: list[Stranger] = []

    # Time.

    @property
    def now(self) -> float:
        return self.clock.now

    def wall_clock(self) -> int:
        """Unix milliseconds, as the server's machine believes."""
        return START + int(self.now * 1000) + self.wall_offset

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Do this after so many seconds."""
        self.schedule(self.now + seconds, call)

    def schedule(self, time: float, call: Callable[[], None]) -> None:
        """Do this at a time."""
        self.clock.schedule(time, call)

    # The server.

    def next_line(self) -> int:
        return next(self._lines)

    def head(self, user: str) -> int:
        """The end of a user's log on the disk."""
        row = self.disk._contents.users.get(user)
        return 0 if row is None else row.head

    def hooks(self) -> Hooks | None:
        """The application's, which is in one mood or another."""
        return Hooks(before_send=self._before_send) if self.script.hooks else None

    async def _before_send(self, message: Outgoing) -> Outgoing:
        await trio.sleep(self.hook_chance.choice([0.0, 0.0, 0.03, 0.3]))
        if self.hook_mood == "well" or self.hook_chance.random() < 0.5:
            return message
        if self.hook_mood == "raises":
            raise ValueError("a bug of the application's")
        if self.hook_mood == "rejects":
            raise Rejected("not today")
        if self.hook_mood == "hangs":
            await trio.sleep_forever()
        return replace(message, text=message.text + " (seen)")

    async def serve(self) -> None:
        """One server after the other, until it is over."""
        for number in itertools.count(1):
            life = self.life = Life(self, number)
            try:
                await life.run()
                how = "drained" if life.powered else "crashed"
            except* Exception as failures:
                how = repr(failures.exceptions)
                self.history.add(Failed(self.now, f"server {number} ended by itself: {how}"))
            self.history.add(Ended(self.now, number, how))
            self.life = None
            if self.over:
                self._done.set()
                return
            await trio.sleep(self.down_for)

    # The run.

    async def play(self) -> None:
        """All of it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve)
            for act in self.script.acts:
                self.at(act.at, lambda act=act: perform(self, act))  # type: ignore[misc]
            for number, device in enumerate(self.devices.values()):
                self.at(0.1 * number, device.dial)
            played = trio.Event()
            self.schedule((self.script.acts[-1].at if self.script.acts else 0.0) + 0.5, played.set)
            await played.wait()  # not a sleep: a leap of the clock must not pass over what is still to be done
            await self._come_to_rest()
            self.over = True
            for device in self.devices.values():
                device.hang_up()
            await trio.sleep(UNNOTICED)
            if self.life is not None:
                if self.life.porch is not None:
                    self.history.remains = msgspec.structs.asdict(self.life.chat.registry.workload())
                self.life.ending.set()
            with trio.move_on_after(PATIENCE):
                await self._done.wait()
            left = [task.name for task in nursery.child_tasks]
            self.history.left_over = ", ".join(left)
            nursery.cancel_scope.cancel()
        self.clock.stop()
        self.history.logs = {user: self.disk.log(user) for user in self.disk._contents.users}

    async def _come_to_rest(self) -> None:
        self.fuse = None
        self.troubles.heal()
        self.hook_mood, self.wall_offset = "well", 0
        self.history.add(Did(self.now, "everything", "goes well from now on"))
        if self.life is not None and self.life.porch is not None and self.life.chat.failure is not None:
            self.life.ending.set()  # its disk is broken until it is started again
        for device in self.devices.values():
            device.come_back()
        with trio.move_on_after(PATIENCE):  # noqa: ASYNC912  (all may be at rest already)
            looks = 0
            while looks < (LOOKS if self.strangers else 1):
                quiet = all(device.at_rest for device in self.devices.values())
                looks = looks + 1 if quiet and all(stranger.line.gone for stranger in self.strangers) else 0
                if not looks or self.strangers:
                    await trio.sleep(0.5)
        self.history.unfinished = [name for name, device in self.devices.items() if not device.at_rest]


class _Listener(logging.Handler):
    """What the porch says of a connection that failed: of those there are to be none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in ("trio_chat.serve", "trio"):
            self.said.append(f"{record.getMessage()} {record.exc_info and record.exc_info[1]!r}")


@contextmanager
def _listening() -> Iterator[_Listener]:
    log, listener = logging.getLogger("trio_chat"), _Listener()
    level, propagate = log.level, log.propagate
    log.addHandler(listener)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield listener
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
        log.propagate = propagate


class Run:
    """What came of a script. `seconds` are simulated ones."""

    def __init__(self, script: Script, history: History, seconds: float) -> None:
        self.script = script
        self.history = history
        self.seconds = seconds


def run(script: Script) -> Run:
    """Play a script. The same script gives the same history, in any process."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio._core._run._r.seed(script.seed)
    clock = WorldClock()
    world: World | None = None

    async def main() -> float:
        nonlocal world
        world = World(script, clock)
        began = trio.current_time()
        await world.play()
        return trio.current_time() - began

    try:
        with _listening() as listener:
            seconds = trio.run(main, clock=clock)
    finally:
        trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = False  # type: ignore[misc]
    assert world is not None
    for said in listener.said:
        world.history.add(Failed(seconds, f"a connection failed: {said}"))
    return Run(script, world.history, seconds)
