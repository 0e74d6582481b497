"""What the kernel knows of processes: processor time, memory; and the cores they may use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["cpu_seconds", "family", "on_cores", "rss_kib"]

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and what descends from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """The processor time these have used, their threads included, in seconds."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * _TICK
    return total


def rss_kib(pids: Iterable[int]) -> int:
    """The resident memory of these, in KiB; what they share is counted for each."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            total += int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0
    return total


@contextmanager
def on_cores(*, server: bool, pinned: bool) -> Iterator[None]:
    """What is started in the block has one core for the server, or the others for the load, or all if not `pinned`."""
    every = os.sched_getaffinity(0)
    if not pinned or len(every) < 2:
        yield
        return
    first = {min(every)}
    os.sched_setaffinity(0, first if server else every - first)
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)
