"""Mutated frames and handshakes: in process against what takes them apart, and over sockets against a running server.

In process each piece is compared with a plain second reading of the same bytes. Blocks of input have a seed each; a failure
says which, and ``TRIO_CHAT_PROOF_SEED`` and ``TRIO_CHAT_PROOF_BLOCK`` together repeat that block alone.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from trio_chat import wire
from trio_chat.engine import Engine
from trio_chat.errors import InvalidFrame
from trio_chat.session import ConnectionEnded
from trio_chat.settings import Settings
from trio_chat.transport.front import position
from trio_chat.transport.http import HttpError, accept, read_request

from .conftest import Record
from .harness import Gauge, Server
from .mutations import cut, some_frame, some_json, some_request
from .peers import CLOSE, Frames, dial, head
from .rfc6455 import read
from .sieges import many, siege

SETTINGS = Settings()
BLOCK = 1_000
GROWTH = 10.0
"""MiB that a process may grow after the first tenth of a run."""


def blocks(seed: int, count: int) -> Iterator[tuple[int, random.Random]]:
    """So many blocks with the chance of each; or the one that is to be repeated."""
    alone = os.environ.get("TRIO_CHAT_PROOF_BLOCK")
    for block in range(count) if alone is None else [int(alone)]:
        yield block, random.Random(seed * 1_000_003 + block)


@contextmanager
def repeatable(seed: int, block: int, data: Callable[[], bytes]) -> Iterator[None]:
    """Say how to repeat what fails."""
    try:
        yield
    except Exception as failure:
        failure.add_note(f"TRIO_CHAT_PROOF_SEED={seed} TRIO_CHAT_PROOF_BLOCK={block}: {data()!r}")
        raise


class Flat:
    """That this process does not grow."""

    def __init__(self, blocks: int) -> None:
        self._warm = max(1, blocks // 10)
        self._process = psutil.Process()
        self.first = self.last = 0.0

    def look(self, block: int) -> None:
        """After a block."""
        self.last = self._process.memory_info().rss / 2**20
        if block <= self._warm:
            self.first = self.last


# Frames as JSON.


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


def _flaws(payload: bytes) -> list[str]:
    """Why a frame that was accepted should not have been, as far as a reader of JSON can tell without knowing the frames."""
    pairs: list[tuple[str, Any]] = []
    json.loads(payload.decode(), object_pairs_hook=pairs.extend, parse_constant=_refuse_constant)
    frame = dict(pairs)
    flaws = ["a field is repeated"] if len(frame) != len(pairs) else []
    if frame.get("type") not in wire.FEATURES:
        return [*flaws, "no type"]
    for key, value in frame.items():
        flaws += [f"{key} is null"] if value is None else []
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
                flaws.append(f"{key} has half a pair of surrogates")
            # A text may have all but NUL; what is searched for is the letters and digits in it, whatever is between them.
            if isinstance(text, str) and key != "query" and re.search(r"\0" if key == "text" else r"[\0-\x1f\x7f]", text):
                flaws.append(f"{key} has a control character")
        if isinstance(value, int | float) and not 0 <= value <= 2**53 - 1:
            flaws.append(f"{key} is out of range")
    return flaws


def test_frames_are_understood_or_refused(seed: int, scale: float, record: Record) -> None:
    """If this fails, some text ends a session with an exception, or says something else to us than to any other reader."""
    count = int(60 * scale)
    flat, refused, accepted = Flat(count), Counter[str](), Counter[str]()
    for block, chance in blocks(seed, count):
        payload = b""
        with repeatable(seed, block, lambda: payload):  # noqa: B023
            for _ in range(BLOCK):
                payload = some_json(chance)
                try:
                    frame = wire.decode(payload, text_bytes=SETTINGS.text_bytes)
                except InvalidFrame as error:
                    refused[error.code.value] += 1
                    continue
                accepted[type(frame).__name__] += 1
                assert not (flaws := _flaws(payload)), flaws
                assert wire.decode(wire.encode(frame), text_bytes=SETTINGS.text_bytes) == frame
        flat.look(block)
    frames = sum(refused.values()) + sum(accepted.values())
    record(
        "fuzz-json",
        frames=frames,
        accepted=sum(accepted.values()),
        kinds_accepted=len(accepted),
        rss_mib_first=round(flat.first, 1),
        rss_mib_last=round(flat.last, 1),
    )
    assert flat.last - flat.first <= GROWTH
    assert refused["bad_frame"] > frames / 10
    assert len(accepted) >= 13 or frames < 20 * BLOCK, "hardly anything got in: the mutations are too wild to find anything"


# Frames of RFC 6455.


def _engine_says(pieces: list[bytes]) -> tuple[list[bytes | None], int | None, int]:
    """The messages, the close code, and how many bytes the engine ever held."""
    engine = Engine(message_bytes=SETTINGS.frame_bytes, fragments=SETTINGS.fragments)
    messages: list[bytes | None] = []
    code, held = None, 0
    for piece in pieces:
        engine.receive_data(piece)
        messages += engine.take()
        held = max(held, len(engine._buffer) + len(engine._joined))
        for event in engine.events():
            if (closing := getattr(event, "code", None)) is not None:
                code = int(closing)
                sent = Frames().feed(engine.send(event))
                assert [opcode for opcode, _ in sent] == [CLOSE]
                assert int.from_bytes(sent[0][1][:2], "big") == code or (code == 1005 and not sent[0][1])
    return messages, code, held


def test_the_engine_reads_what_the_protocol_says(seed: int, scale: float, record: Record) -> None:
    """If this fails, a stream of frames is read in two ways, raises, or piles up; or how it is cut into reads matters."""
    each, count = 20, int(50 * scale)
    flat, codes, messages, frames = Flat(count), Counter[int | None](), 0, 0
    for block, chance in blocks(seed, count):
        stream = b""
        with repeatable(seed, block, lambda: stream):  # noqa: B023
            for _ in range(BLOCK // each):
                stream = b"".join(some_frame(chance) for _ in range(each))
                reading = read(stream, message_bytes=SETTINGS.frame_bytes, fragments=SETTINGS.fragments)
                said, code, held = _engine_says(cut(chance, stream))
                assert said == reading.messages
                assert code in reading.codes or (code is None and reading.may_go_on), (code, reading)
                assert held <= 2 * SETTINGS.frame_bytes + 200
                codes[code] += 1
                messages += len(said)
                frames += reading.frames
        flat.look(block)
    record(
        "fuzz-engine",
        frames=frames,
        streams=codes.total(),
        messages_read=messages,
        closed_for=", ".join(f"{code} {times}" for code, times in sorted(codes.items(), key=lambda item: item[0] or 0)),
        rss_mib_first=round(flat.first, 1),
        rss_mib_last=round(flat.last, 1),
    )
    assert flat.last - flat.first <= GROWTH
    assert {1002, 1007, 1009, None} <= codes.keys() or count < 50


# Handshakes.


class _Said(trio.abc.Stream):
    """A peer who says something and then nothing more, without ever keeping anybody waiting."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ASYNC910
        return next(self._pieces, b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...

    async def wait_send_all_might_not_block(self) -> None: ...

    async def aclose(self) -> None: ...


def _door_says(pieces: list[bytes]) -> str:
    """What becomes of a request, read without a loop: nothing in there waits."""
    reading = read_request(_Said(pieces))
    try:
        reading.send(None)
    except StopIteration as done:
        request, _ = done.value
    except HttpError as error:
        answer = error.response()
        assert answer.startswith(b"HTTP/1.1 4"), answer
        return str(error.status)
    except ConnectionEnded:
        return "ended"
    else:
        raise AssertionError("it waits")
    try:
        position(request)
    except HttpError as error:
        return f"{error.status} for the query"
    if not request.upgrade:
        return "plain"
    assert len(accept(request).split(b"\r\n")) in (6, 7), "nothing of the request's gets into the answer"
    return "101"


def test_requests_are_read_or_refused(seed: int, scale: float, record: Record) -> None:
    """If this fails, a request raises at the front door, is answered with more than one line too many, or hangs there."""
    count = max(1, int(2 * scale))
    flat, outcomes = Flat(count), Counter[str]()
    for block, chance in blocks(seed, count):
        request = b""
        with repeatable(seed, block, lambda: request):  # noqa: B023
            for _ in range(BLOCK):
                request = some_request(chance)
                whole = _door_says([request])
                outcomes[whole] += 1
                pieces = _door_says(cut(chance, request))
                # A head that is too long may be found out before or after what else is wrong with it.
                assert pieces == whole or "431" in (pieces, whole), (pieces, whole)
        flat.look(block)
    record(
        "fuzz-requests",
        handshakes=outcomes.total(),
        outcomes=", ".join(f"{outcome}: {times}" for outcome, times in sorted(outcomes.items())),
        rss_mib_first=round(flat.first, 1),
        rss_mib_last=round(flat.last, 1),
    )
    assert flat.last - flat.first <= GROWTH
    assert {"101", "400", "plain", "426"} & outcomes.keys() >= {"101", "400"}


# The running server.


async def _to_the_end(stream: trio.SocketStream) -> bytes:
    """Say that nothing more comes, and read all that the server still says: it is to end the connection by itself."""
    data = b""
    try:
        await stream.send_eof()
        while more := await stream.receive_some():
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def _watched(server: Server, count: int, attack: Callable[[int], Any]) -> tuple[float, float]:
    """Carry out the attacks. The server's memory after the first tenth, and at most after that."""
    gauge = Gauge(server)
    await many(count // 10, 20, attack)
    warm = server.rss
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gauge.watch)
        await many(count - count // 10, 20, lambda number: attack(number + count // 10))
        nursery.cancel_scope.cancel()
    return warm, gauge.peak


@pytest.mark.timed
async def test_handshakes_at_a_server(
    tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None], record: Record
) -> None:
    """If this fails, a request that nobody thought of ends the server, fails inside of it, or hangs."""
    statuses = Counter[str]()
    count = int(1_500 * scale)
    async with siege(tmp_path, figures, script=True) as server:

        async def attack(number: int) -> None:
            chance = random.Random(seed * 1_000_003 + number)
            stream = await dial(server.port)
            async with stream:
                await stream.send_all(some_request(chance) + (some_frame(chance) if chance.random() < 0.3 else b""))
                answer = await _to_the_end(stream)
            statuses[answer[9:12].decode() if answer.startswith(b"HTTP/1.1 ") else repr(answer[:20])] += 1

        warm, peak = await _watched(server, count, attack)
        assert "Traceback" not in server.log()
    record(
        "fuzz-server-handshakes",
        handshakes=count,
        statuses=", ".join(f"{status}: {times}" for status, times in sorted(statuses.items())),
        rss_mib_first=round(warm, 1),
        rss_mib_most=round(peak, 1),
    )
    assert set(statuses) <= {"101", "200", "204", "400", "401", "403", "404", "405", "426", "431", "b''"}
    assert peak - warm <= GROWTH


@pytest.mark.timed
async def test_frames_at_a_server(
    tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None], record: Record
) -> None:
    """If this fails, frames that nobody thought of end the server, fail inside of it, pile up or hang."""
    each, count = 20, int(1_500 * scale)
    ends = Counter[int]()
    async with siege(tmp_path, figures, script=True) as server:

        async def attack(number: int) -> None:
            chance = random.Random(seed * 1_000_003 + number)
            stream = await dial(server.port)
            async with stream:
                await stream.send_all(head("fuzz", f"d{number % 5}") + b"".join(some_frame(chance) for _ in range(each)))
                answer, _, said = (await _to_the_end(stream)).partition(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 "), number
            closes = [int.from_bytes(payload[:2], "big") for opcode, payload in Frames().feed(said) if opcode == CLOSE]
            ends[closes[0] if closes else 1006] += 1

        warm, peak = await _watched(server, count, attack)
        assert "Traceback" not in server.log()
    record(
        "fuzz-server-frames",
        frames=count * each,
        connections=count,
        closed_with=", ".join(f"{code}: {times}" for code, times in sorted(ends.items())),
        rss_mib_first=round(warm, 1),
        rss_mib_most=round(peak, 1),
    )
    assert peak - warm <= GROWTH
