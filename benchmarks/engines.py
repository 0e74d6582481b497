"""What it takes to get messages out of bytes and into bytes: our engine, and the two libraries as they come.

    python benchmarks/engines.py

Microseconds of processor time for a message of a client, and for one to a client, one at a time and 32 at once; the median
of rounds in which they take turns. The libraries do less here than the engine: neither bounds fragments or control frames,
and nobody looks whether the text that websockets hands over is UTF-8.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from peers import TEXT_BYTES, masked
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from trio_chat.engine import Engine
from trio_chat.settings import Settings

MESSAGES: Final = 3_200
TEXT: Final = b'{"type":"send","id":"%032x","to":"bob","text":"%b"}' % (7, b"x" * TEXT_BYTES)

Receive = Callable[[bytes], int]
"""Takes a read; how many messages were in it."""
Send = Callable[[Sequence[bytes]], bytes]


def ours() -> tuple[Receive, Send]:
    """`trio_chat.engine`, which has frames taken apart by websockets."""
    settings = Settings()
    engine = Engine(message_bytes=settings.frame_bytes, fragments=settings.fragments)
    empty = TextMessage(data="")

    def receive(data: bytes) -> int:
        engine.receive_data(data)
        list(engine.events())
        return len(engine.take())

    def send(texts: Sequence[bytes]) -> bytes:
        for text in texts:
            engine.queue(text)
        return engine.send(empty)

    return receive, send


def wsproto() -> tuple[Receive, Send]:
    """The `Connection` of wsproto."""
    connection = Connection(ConnectionType.SERVER)

    def receive(data: bytes) -> int:
        connection.receive_data(data)
        return sum(isinstance(event, TextMessage) and event.message_finished for event in connection.events())

    def send(texts: Sequence[bytes]) -> bytes:
        return b"".join([connection.send(TextMessage(data=text.decode())) for text in texts])

    return receive, send


def websockets() -> tuple[Receive, Send]:
    """The `ServerProtocol` of websockets."""
    protocol = ServerProtocol(state=State.OPEN, max_size=64 * 1024)

    def receive(data: bytes) -> int:
        protocol.receive_data(data)
        return sum(isinstance(event, Frame) and event.opcode is Opcode.TEXT for event in protocol.events_received())

    def send(texts: Sequence[bytes]) -> bytes:
        for text in texts:
            protocol.send_text(text)
        return b"".join(protocol.data_to_send())

    return receive, send


ENGINES: Final = {"trio_chat.engine": ours, "wsproto": wsproto, "websockets": websockets}


def measured(make: Callable[[], tuple[Receive, Send]], at_once: int) -> tuple[float, float]:
    """Microseconds for a message in, and for one out."""
    receive, send = make()
    data, texts = masked(1, TEXT) * at_once, [TEXT] * at_once
    turns = MESSAGES // at_once
    began = time.process_time()
    for _ in range(turns):
        if receive(data) != at_once:
            raise RuntimeError("messages are missing")
    halfway = time.process_time()
    for _ in range(turns):
        send(texts)
    ended = time.process_time()
    return (halfway - began) / MESSAGES * 1e6, (ended - halfway) / MESSAGES * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for at_once in (1, 32):
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ENGINES}
        for _ in range(options.rounds):
            for name, make in ENGINES.items():
                taken[name].append(measured(make, at_once))
        for name, pairs in taken.items():
            came, went = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            print(f"{at_once:2} at once  {name:17}  in {came:6.2f} µs  out {went:6.2f} µs")


if __name__ == "__main__":
    main()
