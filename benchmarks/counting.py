"""How many instructions of the interpreter a message takes on its way through what does no I/O.

A clock says little on a machine that is shared, and not every machine lets one count what its processor does. The
interpreter's own instructions can be counted everywhere, and come out the same every time. They are not all equally dear,
and what C does is not among them: something to compare with a record of the same version of Python, no more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar

from peers import TEXT_BYTES, masked
from wsproto.events import TextMessage

from trio_chat import wire
from trio_chat.core.batch import Batch, Opened, Results, Stored
from trio_chat.core.effects import Effect, Send
from trio_chat.core.events import Committed, Connected, Received
from trio_chat.core.machine import Core
from trio_chat.engine import Engine
from trio_chat.errors import InvalidFrame
from trio_chat.settings import Settings

__all__ = ["counts"]

MESSAGES: Final = 320
_SENDER: Final = 1
_RECIPIENT: Final = 2

Value = TypeVar("Value")


class Tally:
    """Instructions by the part of the way that they belong to."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}
        self._count = 0

    def count(self, part: str, do: Callable[[], Value]) -> Value:
        """Do it, and count what it takes."""
        self._count = 0
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return do()
        finally:
            sys.settrace(before)
            self.of[part] = self.of.get(part, 0) + self._count

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        if event == "opcode":
            self._count += 1
        else:
            frame.f_trace_opcodes = True
        return self._trace


class _Path:
    """A sender and a recipient: bytes of the one in, bytes for both out. The store is not there, it only numbers."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.settings = Settings(send_rate=None)
        self.core = Core(self.settings)
        self.now = 0.0
        self.heads = {_SENDER: 0, _RECIPIENT: 0}
        self.sent = 0
        self.engines = {
            connection: Engine(message_bytes=self.settings.frame_bytes, fragments=self.settings.fragments)
            for connection in self.heads
        }
        for connection, user in ((_SENDER, "alice"), (_RECIPIENT, "bob")):
            self.core.handle(Connected(connection, user, "phone"), self.now)
        self.commit()

    def send(self, count: int) -> None:
        """So many messages in one read, and everything that follows from them."""
        frames = []
        for _ in range(count):
            self.sent += 1
            text = b'{"type":"send","id":"%032x","to":"bob","text":"%b"}' % (self.sent, b"x" * TEXT_BYTES)
            frames.append(masked(1, text))
        self.receive(_SENDER, b"".join(frames))
        self.write(self.commit())
        for connection, head in self.heads.items():
            self.receive(connection, masked(1, b'{"type":"ack","seq":%d}' % head))
        self.commit()

    def receive(self, connection: int, data: bytes) -> None:
        """Bytes from a client."""
        count, engine = self.tally.count, self.engines[connection]
        texts = count("engine", lambda: _texts(engine, data))
        frames = count("wire", lambda: _decoded(texts, self.settings))
        count("core", lambda: self.core.handle(Received(connection, frames), self.now))

    def commit(self) -> list[Effect]:
        """One transaction; what is to be done then."""
        self.now += 0.001
        batch = self.tally.count("core", lambda: self.core.next_batch(self.now))
        if batch is None:
            return []
        results = self._results(batch)
        return self.tally.count("core", lambda: self.core.handle(Committed(results), self.now))

    def write(self, effects: Iterable[Effect]) -> None:
        """What is to be sent, as bytes."""
        frames: dict[int, list[wire.ServerFrame]] = {connection: [] for connection in self.heads}
        for effect in effects:
            if isinstance(effect, Send):
                frames[effect.connection].append(effect.frame)
        for connection, those in frames.items():
            texts = self.tally.count("wire", partial(wire.pack, those, self.settings.server_frame_bytes))
            self.tally.count("engine", partial(_bytes, self.engines[connection], texts))

    def _results(self, batch: Batch) -> Results:
        stored = []
        for _ in batch.drafts:
            self.heads = {connection: head + 1 for connection, head in self.heads.items()}
            stored.append(Stored(self.heads[_SENDER], self.heads[_RECIPIENT], 1))
        opened = tuple(Opened("log", 0, 0, 0, new=True) for _ in batch.openings)
        return Results(openings=opened, drafts=tuple(stored), at=1)


def _texts(engine: Engine, data: bytes) -> Sequence[bytes | None]:
    engine.receive_data(data)
    list(engine.events())
    return engine.take()


def _decoded(texts: Iterable[bytes | None], settings: Settings) -> tuple[wire.ClientFrame | InvalidFrame, ...]:
    return tuple(wire.decode(text, text_bytes=settings.text_bytes) for text in texts)


def _bytes(engine: Engine, texts: Sequence[bytes]) -> bytes:
    for text in texts:
        engine.queue(text)
    return engine.send(TextMessage(data=""))


def counts() -> dict[str, float]:
    """Instructions for a message, its answer, its delivery and both acks, by part and by how many come at once."""
    found = {}
    for at_once in (1, 32):
        tally = Tally()
        path = _Path(tally)
        path.send(at_once)  # the first time, some things are looked up for all others
        tally.of.clear()
        for _ in range(MESSAGES // at_once):
            path.send(at_once)
        for part, count in tally.of.items():
            found[f"{part}, {at_once} at once"] = round(count / MESSAGES, 1)
        if path.heads[_RECIPIENT] != path.sent:
            raise RuntimeError(f"{path.heads} after {path.sent} messages")
    return found


if __name__ == "__main__":
    for name, count in counts().items():
        print(f"{name:20} {count:8.1f}")
