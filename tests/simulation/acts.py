"""What the words of a script mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from trio_chat import wire
from trio_chat.errors import StoreUnavailable

from .disk import drop
from .history import Did
from .network import NEVER
from .people import Device, Stranger
from .script import ACTS, PEOPLE, Act

if TYPE_CHECKING:
    from collections.abc import Callable

    from .world import World

MOODS: Final = ("raises", "rejects", "hangs", "changes")
BAD: Final[tuple[wire.ClientFrame | str, ...]] = (
    "{", '{"type":"nothing"}', "[" * 200, '{"type":"send","id":"x","to":"alice"}', '"', wire.Ack(seq=10**9),
    wire.Read(peer="alice", seq=10**9), wire.Delete(id="d", to="alice", target="nothing"),
    wire.Typing(to="bob", typing=True),
)  # fmt: skip


def perform(world: World, act: Act) -> None:
    """Do what a line of the script says, if it can be done."""
    device = world.devices[act.who]
    if act.what in ACTS:
        world.history.add(Did(world.now, act.who, act.what))
        _person(device, act)
        device.pump()
    else:
        world.history.add(Did(world.now, "trouble", f"{act.what} {act.who} {act.pick:.3f}"))
        _TROUBLES[act.what](world, device, act)


def _peer(device: Device, act: Act) -> str:
    """Mostly somebody else; now and then oneself, or somebody who is never there."""
    if act.number % 29 == 0:
        return device.user
    others = [name for name in (*PEOPLE, "dave") if name != device.user]
    return others[int(act.pick * 97) % (len(others) - (act.number % 13 != 0))]


def _person(device: Device, act: Act) -> None:  # noqa: C901  (one line for each word)
    peer, id = _peer(device, act), f"{act.number:012x}"
    past = device.known[int(act.pick * len(device.known))] if device.known else None
    text = f"{id} " + "x" * (act.number % 7 == 0) * (act.number % 600)
    match act.what:
        case "send":
            reply_to = past.id if past is not None and act.number % 11 == 0 else None
            device.command(wire.Send(id=id, to=past.to if reply_to and past else peer, text=text, reply_to=reply_to))
        case "edit" if past is not None:
            device.command(wire.Edit(id=id, to=past.to, target=past.id, text=text))
        case "delete" if past is not None:
            device.command(wire.Delete(id=id, to=past.to, target=past.id))
        case "resend" if device.sent:
            device.command(device.sent[int(act.pick * len(device.sent))])
        case "conflict" if past is not None:
            device.command(replace(past, text=f"{id} is not what it was"))
        case "twice":
            for other in device.world.devices.values():
                if other.user == device.user:
                    other.command(wire.Send(id=id, to=peer, text=text))
                    other.pump()
        case "read" if device.seen:
            device.dialogue.mark_read(*sorted(device.seen.items())[int(act.pick * len(device.seen))])
        case "typing":
            device.dialogue.typing(peer, on=act.number % 2 == 0)
        case "block" | "unblock" if peer != device.user:
            kind = wire.Block if act.what == "block" else wire.Unblock
            device.dialogue.requests.add(kind(ref=id, user=peer))
        case "watch":
            device.dialogue.watch(tuple(name for name in PEOPLE if name != device.user))
        case "ask":
            asked = (wire.Conversations(ref=id), wire.Devices(ref=id), wire.Blocks(ref=id))
            device.dialogue.requests.add(asked[act.number % 3])
        case "dial":
            device.dial()
        case "hang up":
            device.hang_up()
            device.world.at(act.pick * 10.0, device.come_back)
        case "restart":
            device.restart()
        case _:
            pass  # there is nothing yet that it could be about


def _cut(world: World, device: Device, act: Act) -> None:
    if device.line is not None:
        notices = (0.0, 0.05, 1.0, NEVER)
        server, client = notices[act.number % 4], notices[act.number // 4 % 4]
        device.line.cut(act.pick, server_notices=server, client_notices=client)


def _stall(world: World, device: Device, act: Act) -> None:
    if device.line is not None:
        device.line.stall(1.0 + act.pick * 12.0)


def _crash(world: World, device: Device, act: Act) -> None:
    world.fuse, world.down_for = 1 + act.number % 25, 0.05 + act.pick * 3.0


def _stop(world: World, device: Device, act: Act) -> None:
    if world.life is not None:
        world.life.ending.set()


def _dead_disk(world: World, device: Device, act: Act) -> None:
    world.troubles.refusals.append(StoreUnavailable("the disk is broken"))

    def replaced() -> None:
        if world.life is not None and world.life.porch is not None and world.life.chat.failure is not None:
            world.life.ending.set()

    world.at(1.0 + 4.0 * act.pick, replaced)


def _slow_disk(world: World, device: Device, act: Act) -> None:
    world.troubles.slow_until = world.now + 8.0 * act.pick


def _no_pages(world: World, device: Device, act: Act) -> None:
    world.troubles.pages_fail_until = world.now + 5.0 * act.pick


def _wall_clock(world: World, device: Device, act: Act) -> None:
    world.wall_offset = int((act.pick - 0.5) * 10_000_000)


def _leap(world: World, device: Device, act: Act) -> None:
    world.clock.jump(5.0 * act.pick + 5.0 * (act.number % 5))


def _refuse(world: World, device: Device, act: Act) -> None:
    world.troubles.refuse(act.pick, act.number)


def _hooks(world: World, device: Device, act: Act) -> None:
    world.hook_mood = MOODS[act.number % len(MOODS)]

    def well() -> None:
        world.hook_mood = "well"

    world.at(6.0 * act.pick, well)


def _retain(world: World, device: Device, act: Act) -> None:
    if (dropped := drop(world.disk, device.user, act.pick)) is not None:
        world.history.add(replace(dropped, at=world.now))


def _stranger(world: World, device: Device, act: Act) -> None:
    said = [BAD[(act.number >> shift) % len(BAD)] for shift in range(act.number % 40)]
    spoken = [wire.Send(id=f"{act.number:012x}{one}", to=device.user, text="buy!") for one in range(act.number % 5)]
    Stranger(world, f"eve/{act.number % 3}", [*spoken, *said, wire.Ping()], reads=act.pick < 0.6, stays=8.0 * act.pick)


def _impostor(world: World, device: Device, act: Act) -> None:
    Stranger(world, device.name, (), stays=3.0 * act.pick)


_TROUBLES: Final[dict[str, Callable[[World, Device, Act], None]]] = {
    "cut": _cut,
    "stall": _stall,
    "crash": _crash,
    "stop": _stop,
    "refuse": _refuse,
    "slow disk": _slow_disk,
    "dead disk": _dead_disk,
    "no pages": _no_pages,
    "wall clock": _wall_clock,
    "leap": _leap,
    "hooks": _hooks,
    "retain": _retain,
    "stranger": _stranger,
    "impostor": _impostor,
}
