"""What has gone wrong in other servers by taking long, which a clock shows; docs/reliability.md has the rest."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from trio_chat.errors import ConfigurationError
from trio_chat.session import ConnectionEnded
from trio_chat.transport.front import position
from trio_chat.transport.http import HEAD_BYTES, HttpError, accept, forwarded, read_request
from trio_chat.transport.origins import cors, origin_allowed

from .conftest import Record
from .peers import head

SECONDS = 0.1
"""Of processor time, for the longest head there may be: a hundred times what an honest one takes."""

NASTY: dict[str, Callable[[int], str]] = {
    "Sec-WebSocket-Protocol": lambda n: "a" + " " * n + "b",  # ws, CVE-2021-32640: "value".split(/ *, */)
    "Sec-WebSocket-Protocol, commas": lambda n: "," * n,
    "Sec-WebSocket-Extensions": lambda n: 'a;b="' + "\\" * n,  # websocket-extensions, CVE-2020-7662 and -7663
    "Sec-WebSocket-Key": lambda n: "A" * n,
    "Connection": lambda n: "Upgrade" + "," * n,
    "Upgrade": lambda n: " \t" * (n // 2) + "websocket",
    "Origin": lambda n: "http://" + "a." * (n // 2),
    "Origin, brackets": lambda n: "http://[" + ":" * n,
    "Host": lambda n: "a." * (n // 2),
    "Cookie": lambda n: "a=b;" * (n // 4),
    "Authorization": lambda n: "Bearer" + " " * n,
    "X-Forwarded-For": lambda n: "1.1.1.1," * (n // 8),
    "Forwarded": lambda n: 'for="[' * (n // 6),
    "X-Fold": lambda n: "a" + " " * n + "\r\n" + " " * 1,
}


class _Once(trio.abc.ReceiveStream):
    """A peer who says one thing."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data, self._data = self._data, b""
        await trio.lowlevel.checkpoint()
        return data

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _read(data: bytes) -> float:
    """Do all with it that the front door does; the processor time that took."""
    began = time.thread_time()
    try:
        request, _ = await read_request(_Once(data))  # type: ignore[arg-type]
        request = forwarded(request, ["unix"])  # one without an address: its peer is believed
        origin_allowed(request, frozenset({"https://chat.example"}))
        cors(request, frozenset({"https://chat.example"}))
        position(request)
        if request.upgrade:
            accept(request)
    except (HttpError, ConnectionEnded, ConfigurationError):
        pass
    return time.thread_time() - began


async def test_no_header_takes_long(record: Record) -> None:
    """If this fails, one request of 16 KiB keeps everybody waiting (ReDoS: ws CVE-2021-32640 and its kin)."""
    took: dict[str, float] = {}
    for where, value in NASTY.items():
        name = where.partition(",")[0]
        line = f"{name}: {value(HEAD_BYTES - 600)}"
        kept = [text for text in head("mallory").decode().split("\r\n") if not text.startswith(f"{name}:")]
        whole = "\r\n".join([kept[0], line, *kept[1:]]).encode()
        took[where] = min([await _read(whole) for _ in range(3)])
    worst = max(took, key=took.__getitem__)
    record("slow-headers", headers=len(took), worst=worst, worst_processor_ms=round(1000 * took[worst], 2))
    assert took[worst] < SECONDS, worst
