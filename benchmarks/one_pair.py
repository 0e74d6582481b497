"""What a lone message waits for: the parts of its way, and the whole of it.

    python benchmarks/one_pair.py

One pair, one message at a time: from the sender's write to its ``stored``. Beside it, by turns: what no server that keeps
its word can do without, a write of 4 KiB that is synced to the same disk, and the way there and back between two processes.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from measuring import Case, Measured, conditions, measure, save
from processes import on_cores

PROCESSING_MS: Final = 0.4
"""What taking a message in, judging, storing and answering it may take beside the parts."""
LIMIT: Final = 1.5
TIMES: Final = 200


def sync_ms() -> float:
    """The median of a write that is synced, in milliseconds."""
    with tempfile.TemporaryFile() as file, on_cores(server=True, pinned=True):

        def write() -> None:
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())

        return _median_ms(write)


def hops_ms() -> float:
    """The median of a message to a process on the other core and its answer, in milliseconds: two hops."""
    ours, theirs = _tcp_pair()
    if (child := os.fork()) == 0:
        with on_cores(server=True, pinned=True):
            while data := theirs.recv(4096):
                theirs.send(data)
        os._exit(0)
    theirs.close()
    with ours, on_cores(server=False, pinned=True):

        def ask() -> None:
            ours.send(bytes(190))
            ours.recv(4096)

        median = _median_ms(ask)
        ours.shutdown(socket.SHUT_WR)
        os.waitpid(child, 0)
    return median


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for one in (ours, theirs):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def _median_ms(do: Callable[[], None]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def one_pair(runs: int, seconds: float) -> tuple[list[Measured], list[dict[str, float]]]:
    """The whole way and its parts, by turns; each line says how the one compares with the others."""
    whole, parts = [], []
    for number in range(runs):
        parts.append({"sync_ms": sync_ms(), "hops_ms": hops_ms()})
        whole.append(measure(Case(system="trio-chat", wanted={"pairs": 1, "window": 1, "seconds": seconds})))
        p50 = whole[-1].figures["answered_p50"]
        least = sum(parts[-1].values()) + PROCESSING_MS
        print(f"  {number + 1}/{runs} sync {parts[-1]['sync_ms']:.2f} + hops {parts[-1]['hops_ms']:.2f} + {PROCESSING_MS} = "
              f"{least:.2f} ms; p50 {p50:.2f} ms is {p50 / least:.2f} times that", flush=True)  # fmt: skip
    found = statistics.median(
        one.figures["answered_p50"] / (sum(those.values()) + PROCESSING_MS) for one, those in zip(whole, parts, strict=True)
    )
    print(f"one pair: p50 is {found:.2f} times the parts; {LIMIT} is aimed at")
    return whole, parts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every run there")
    options = parser.parse_args()
    before = conditions()
    whole, parts = one_pair(options.runs, options.seconds)
    if options.json is not None:
        save(options.json, "one pair", whole, before, parts=parts)


if __name__ == "__main__":
    main()
