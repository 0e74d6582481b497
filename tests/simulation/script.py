"""What people do and what goes wrong, as a list that one seed writes. Any part of the list is a script, too."""

from __future__ import annotations

from random import Random
from typing import Final

from msgspec import Struct

from trio_chat.settings import Settings

PEOPLE: Final = ("alice", "bob", "carol")
DEVICES: Final = ("alice/phone", "alice/web", "bob/phone", "bob/tablet", "carol/phone")
FORGETFUL: Final = frozenset({"alice/web", "carol/phone"})
"""Devices whose client has no state file."""

ACTS: Final = {
    "send": 46, "edit": 6, "delete": 3, "read": 12, "typing": 5, "resend": 5, "conflict": 2, "twice": 2, "block": 1,
    "unblock": 2, "watch": 1, "ask": 4, "dial": 5, "hang up": 4, "restart": 4,
}  # fmt: skip
"""What people do: each of these counts as an operation. Acknowledging does not count."""
FAULTS: Final = {
    "cut": 18, "stall": 4, "crash": 4, "stop": 1, "refuse": 7, "slow disk": 5, "dead disk": 1, "no pages": 2,
    "wall clock": 3, "leap": 1, "hooks": 4, "retain": 3, "stranger": 3, "impostor": 2,
}  # fmt: skip


class Act(Struct, frozen=True):
    """At so many seconds somebody does something; what it is about is chosen by `pick` (0 to 1) and `number`."""

    at: float
    what: str
    who: str = ""
    pick: float = 0.0
    number: int = 0
    """Tells it from all others."""


class Script(Struct, frozen=True):
    """Everything that differs from seed to seed and is no chance of the moment."""

    seed: int
    settings: Settings
    memory_path: bool
    hooks: bool
    room: int
    """Bytes that may be under way to a client before the server has to wait."""
    acts: tuple[Act, ...]

    @property
    def operations(self) -> int:
        """What people do in it."""
        return sum(act.what in ACTS for act in self.acts)


def write(seed: int, operations: int = 42) -> Script:
    """The script of a seed."""
    chance = Random(f"script {seed}")
    seconds = operations * chance.uniform(0.3, 1.3)
    devices = list(DEVICES[: chance.randint(3, len(DEVICES))])
    acts: list[Act] = []
    whats, weights = list(ACTS), list(ACTS.values())
    while len(acts) < operations:
        at, who = chance.uniform(0, seconds), chance.choice(devices)
        what = chance.choices(whats, weights)[0]
        burst = chance.randint(4, 14) if what == "send" and chance.random() < 0.06 else 1
        acts += [Act(at, what, who, chance.random(), chance.getrandbits(48)) for _ in range(burst)]
    troubles, weights = list(FAULTS), list(FAULTS.values())
    for _ in range(chance.randint(0, operations // 4)):
        what, at = chance.choices(troubles, weights)[0], chance.uniform(0, seconds)
        acts.append(Act(at, what, chance.choice(devices), chance.random(), chance.getrandbits(48)))
    acts.sort(key=lambda act: act.at)
    return Script(
        seed,
        settings=Settings(
            window=chance.choice([2, 8, 256]),
            window_bytes=chance.choice([1200, 256 * 1024]),
            text_bytes=1000,
            server_frame_bytes=chance.choice([1024, 64 * 1024]),
            outbox_bytes=chance.choice([2000, 64 * 1024]),
            uncommitted=chance.choice([4, 256]),
            batch=chance.choice([1, 4, 512]),
            mailbox=chance.choice([40, 100_000]),
            waiting=chance.choice([12, 32_768]),
            devices=chance.choice([3, 32]),
            send_rate=chance.choice([None, 5.0]),
            send_burst=20,
            ping_interval=6.0,
            ping_timeout=3.0,
            write_timeout=4.0,
            hook_timeout=2.0,
            drain_timeout=4.0,
            retry_spread=2.0,
        ),
        memory_path=chance.random() < 0.8,
        hooks=chance.random() < 0.5,
        room=chance.choice([1500, 64 * 1024]),
        acts=tuple(acts),
    )
