"""What a load is told to do, and what it says it saw: the two sides of `generator.py`'s input and output."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

__all__ = ["Latency", "Outcome", "Spec", "latency"]


class Spec(Struct, frozen=True, kw_only=True):
    """What to do. Times are seconds; `server` are the processes to look at."""

    system: str
    port: int
    server: tuple[int, ...]
    workload: str = "live"
    pairs: int = 50
    window: int = 32
    """Messages that each sender keeps unanswered."""
    warm: float = 1.0
    seconds: float = 4.0
    messages: int = 20_000
    """For absent users, in all."""
    connections: int = 0
    """Others that are connected and do nothing, or, in a workload of their own, little."""
    known: bool = False
    """Whether the pairs are users of the databases that `database.py` makes."""


class Latency(Struct, frozen=True, kw_only=True):
    """How long it took, in milliseconds."""

    p50: float
    p99: float
    p999: float


class Outcome(Struct, frozen=True, kw_only=True):
    """What was seen: `count` of what is counted, in `seconds`; `total` is with what came before and after.

    `server_cpu` is the server's processor time, in seconds; `busy` the share of a core that the load took itself.
    """

    count: int
    total: int = 0
    seconds: float
    server_cpu: float
    busy: float
    rss_kib: int
    answered: Latency | None = None
    delivered: Latency | None = None
    more: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.count / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """The server's processor time for a thousand, in seconds."""
        return self.server_cpu / self.count * 1000 if self.count else 0.0


def latency(seconds: Sequence[float]) -> Latency | None:
    """The percentiles of these times; None if there are none."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p99, p999 = (ordered[int(share * (len(ordered) - 1))] * 1000 for share in (0.5, 0.99, 0.999))
    return Latency(p50=p50, p99=p99, p999=p999)
