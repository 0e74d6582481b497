"""What happened, as it can be seen from outside: on the wires, on the disk, and by the people."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import TypeAlias, Union

import msgspec
from msgspec import Struct

from trio_chat import wire
from trio_chat.core.batch import Batch, Results
from trio_chat.model import Message


class Started(Struct, frozen=True, tag=True):
    """A server is up."""

    at: float
    life: int


class Ended(Struct, frozen=True, tag=True):
    """A server is gone: `how` is ``crashed``, ``drained``, or the exception that it ended with."""

    at: float
    life: int
    how: str


class Committed(Struct, frozen=True, tag=True):
    """A transaction is on the disk."""

    at: float
    life: int
    batch: Batch
    results: Results


class Declined(Struct, frozen=True, tag=True):
    """The disk took nothing of a transaction."""

    at: float
    life: int
    why: str


class Dropped(Struct, frozen=True, tag=True):
    """Entries of a log up to `floor` are no longer held."""

    at: float
    user: str
    floor: int


class Dialled(Struct, frozen=True, tag=True):
    """A client opens a connection, and says up to where it has everything."""

    at: float
    line: int
    user: str
    device: str
    log: str | None
    after: int | None


class Said(Struct, frozen=True, tag=True):
    """A client wrote a frame."""

    at: float
    line: int
    frame: wire.ClientFrame | str


class Heard(Struct, frozen=True, tag=True):
    """The frame has reached the server."""

    at: float
    line: int
    frame: wire.ClientFrame | str


class Wrote(Struct, frozen=True, tag=True):
    """The server wrote a frame: from here on it is out of its hands. `burst` is how many bytes it wrote at once."""

    at: float
    line: int
    frame: wire.ServerFrame
    burst: int


class Told(Struct, frozen=True, tag=True):
    """The frame has reached the client."""

    at: float
    line: int
    frame: wire.ServerFrame


class Closed(Struct, frozen=True, tag=True):
    """The server closed a connection with this code."""

    at: float
    line: int
    code: int


class Lost(Struct, frozen=True, tag=True):
    """A client's connection is no more, as far as the client knows."""

    at: float
    line: int
    code: int | None


class Given(Struct, frozen=True, tag=True):
    """The program of a device was given a message."""

    at: float
    device: str
    message: Message


class Finished(Struct, frozen=True, tag=True):
    """The program is done with it, and knows that this is in the state file, if there is one. `key` is sender and id."""

    at: float
    device: str
    key: tuple[str, str]


class Settled(Struct, frozen=True, tag=True):
    """The program was told what became of a command: `fate` is ``stored``, or what the refusal says."""

    at: float
    device: str
    id: str
    fate: str
    seq: int = 0


class Did(Struct, frozen=True, tag=True):
    """Somebody did something, or something went wrong."""

    at: float
    who: str
    what: str


class Failed(Struct, frozen=True, tag=True):
    """Something went wrong that must not."""

    at: float
    what: str


Event: TypeAlias = Union[
    Started, Ended, Committed, Declined, Dropped, Dialled, Said, Heard, Wrote, Told, Closed, Lost, Given, Finished, Settled,
    Did, Failed,
]  # fmt: skip

_encode = msgspec.json.Encoder(order="deterministic").encode


class History:
    """The events, in the order in which they happened, and how it all stood in the end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.add = self.events.append
        self.logs: dict[str, list[Message]] = {}
        """What the disk holds in the end, by user."""
        self.unfinished: list[str] = []
        """What had not come to rest when everything had been well for minutes."""
        self.remains: dict[str, float] = {}
        """What the server still had in hand when everybody was gone."""
        self.left_over = ""
        """What outlived its block."""

    def digest(self) -> str:
        """Tells this history from any other."""
        digest = blake2b(digest_size=16)
        for event in self.events:
            digest.update(_encode(event))
        digest.update(_encode(self.logs))
        return digest.hexdigest()

    def lines(self, last: int | None = None) -> Iterator[str]:
        """The history for a reader, one line for each event; only the `last` events if that is given."""
        whose = {event.line: f"{event.user}/{event.device}" for event in self.events if isinstance(event, Dialled)}
        begin = 0 if last is None else max(0, len(self.events) - last)
        for number, event in enumerate(self.events[begin:], begin):
            yield f"{number:6} {event.at:9.3f}  {_words(event, whose)}"


def _words(event: Event, whose: dict[int, str]) -> str:  # noqa: C901  (one line each)
    match event:
        case Started(life=life):
            return f"server {life} is up"
        case Ended(life=life, how=how):
            return f"server {life} has ended: {how}"
        case Committed(batch=batch, results=results):
            parts = [(name, getattr(batch, name), getattr(results, name, ())) for name in batch.__struct_fields__]
            told = "; ".join(f"{name} {_brief(rows)} => {_brief(got)}" for name, rows, got in parts if rows)
            return f"disk: committed {told}"
        case Declined(why=why):
            return f"disk: nothing committed, {why}"
        case Dropped(user=user, floor=floor):
            return f"disk: {user}'s log up to {floor} is no longer held"
        case Dialled(line=line, log=log, after=after):
            return f"{whose[line]} #{line} dials, log {log}, after {after}"
        case Said(line=line, frame=frame):
            return f"{whose[line]} #{line} says  {_brief(frame)}"
        case Heard(line=line, frame=frame):
            return f"{whose[line]} #{line} .. the server has read {_brief(frame)}"
        case Wrote(line=line, frame=frame):
            return f"{whose[line]} #{line} .. the server writes {_brief(frame)}"
        case Told(line=line, frame=frame):
            return f"{whose[line]} #{line} hears {_brief(frame)}"
        case Closed(line=line, code=code):
            return f"{whose[line]} #{line} .. the server closes with {code}"
        case Lost(line=line, code=code):
            return f"{whose[line]} #{line} is lost, {code}"
        case Given(device=device, message=message):
            return f"{device} program is given {_brief(message)}"
        case Finished(device=device, key=key):
            return f"{device} program is done with {key}"
        case Settled(device=device, id=id, fate=fate, seq=seq):
            return f"{device} program: {id} is {fate} {seq or ''}"
        case Did(who=who, what=what):
            return f"-- {who} {what}"
        case Failed(what=what):
            return f"!! {what}"


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
