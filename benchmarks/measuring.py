"""Running systems by turns, and what came of it: medians, tables, JSON."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from loads import Outcome, Spec
from msgspec import Struct
from processes import on_cores
from systems import SYSTEMS, counting_syncs, running

__all__ = ["Measured", "alternated", "conditions", "load", "measure", "save", "summary", "table"]

_GENERATOR: Final = Path(__file__).with_name("generator.py")
BUSY: Final = 0.9
"""A load that worked more than this share of its core may have been what was slow."""


class Measured(Struct, frozen=True, kw_only=True):
    """One run of one system. `syncs` is how often the server synced a file, None where that cannot be counted."""

    system: str
    workload: str
    pairs: int
    window: int
    pinned: bool
    outcome: Outcome
    syncs: int | None = None

    @property
    def figures(self) -> dict[str, float]:
        """What is compared, by name."""
        outcome = self.outcome
        figures = {"rate": outcome.rate, "cpu_per_1000": outcome.cpu_per_1000, "busy": outcome.busy}
        figures["rss_mib"] = outcome.rss_kib / 1024
        for name, taken in (("answered", outcome.answered), ("delivered", outcome.delivered)):
            if taken is not None:
                figures |= {f"{name}_p50": taken.p50, f"{name}_p99": taken.p99, f"{name}_p999": taken.p999}
        if self.syncs is not None and outcome.total:
            figures["syncs_per_1000"] = self.syncs / outcome.total * 1000
        return figures | outcome.more


def load(spec: Spec, *, pinned: bool) -> Outcome:
    """Have the load run against a server that is there."""
    with on_cores(server=False, pinned=pinned):
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(_GENERATOR)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    told, _ = process.communicate(msgspec.json.encode(spec))
    if process.returncode:
        raise RuntimeError(f"the load failed: {spec}")
    return msgspec.json.decode(told, type=Outcome)


def measure(system: str, *, pinned: bool = True, **wanted: Any) -> Measured:
    """Start the server, have the load run once, stop the server."""
    with running(system, pinned=pinned) as server, counting_syncs(server) as synced:
        spec = Spec(system=SYSTEMS[system].speaks or system, port=server.port, server=server.pids, **wanted)
        outcome = load(spec, pinned=pinned)
        syncs = synced()
    return Measured(
        system=system, workload=spec.workload, pairs=spec.pairs, window=spec.window, pinned=pinned, outcome=outcome,
        syncs=syncs,
    )  # fmt: skip


def alternated(
    systems: Sequence[str], runs: int, once: Callable[[str], Measured], tell: Callable[[str], None] = print
) -> list[Measured]:
    """Measure the systems by turns, A B A B, so that whatever else the machine does falls on all of them."""
    done = []
    for number in range(runs):
        for system in systems if number % 2 == 0 else list(reversed(systems)):
            done.append(once(system))
            tell(f"  {number + 1}/{runs} {system}: {line(done[-1].figures)}")
    return done


def summary(measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """The median of every figure, by system."""
    result: dict[str, dict[str, float]] = {}
    for system in dict.fromkeys(one.system for one in measured):
        of_this = [one.figures for one in measured if one.system == system]
        result[system] = {name: statistics.median(one[name] for one in of_this if name in one) for name in of_this[0]}
    return result


def ratios(measured: Sequence[Measured], system: str, against: str, figure: str = "rate") -> list[float]:
    """What `system` did by what the other did in the same round, for each round."""
    both = [[one.figures[figure] for one in measured if one.system == name] for name in (system, against)]
    return [ours / theirs for ours, theirs in zip(*both, strict=True)]


_COLUMNS: Final = {
    "rate": ("/s", "{:,.0f}"),
    "answered_p50": ("p50 ms", "{:.2f}"),
    "answered_p99": ("p99 ms", "{:.2f}"),
    "answered_p999": ("p99.9 ms", "{:.2f}"),
    "delivered_p50": ("delivered p50", "{:.2f}"),
    "delivered_p99": ("p99", "{:.2f}"),
    "cpu_per_1000": ("CPU s/1,000", "{:.3f}"),
    "syncs_per_1000": ("syncs/1,000", "{:.1f}"),
    "rss_mib": ("RSS MiB", "{:.0f}"),
    "busy": ("load's CPU", "{:.0%}"),
}


def line(figures: Mapping[str, float]) -> str:
    """The figures of one run in a line."""
    parts = [f"{title} {form.format(figures[name])}" for name, (title, form) in _COLUMNS.items() if name in figures]
    parts += [f"{name} {value:,.2f}" for name, value in figures.items() if name not in _COLUMNS]
    return "  ".join(parts) + ("  (the load was what was slow)" if figures.get("busy", 0) > BUSY else "")


def table(medians: Mapping[str, Mapping[str, float]]) -> str:
    """A table in Markdown, a row for each system or whatever the first keys are."""
    shown = [name for name in _COLUMNS if any(name in figures for figures in medians.values())]
    rows = [["", *(_COLUMNS[name][0] for name in shown)], ["---", *("---:" for _ in shown)]]
    for system, figures in medians.items():
        rows.append([system, *(_COLUMNS[name][1].format(figures[name]) if name in figures else "–" for name in shown)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def conditions() -> dict[str, Any]:
    """On what this was measured; ``load`` is how many others wanted the processor."""
    model = next(
        (row.partition(": ")[2] for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row), ""
    )
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def save(path: Path, name: str, measured: Sequence[Measured], **more: Any) -> None:
    """Write everything as JSON, the medians and every single run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"benchmark": name, "conditions": conditions(), **more, "runs": [msgspec.to_builtins(one) for one in measured]}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def names(text: str) -> list[str]:
    """The systems of a list with commas, those left out that are not installed here."""
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in SYSTEMS:
            raise SystemExit(f"there is no system {name!r}: {', '.join(SYSTEMS)}")
        if SYSTEMS[name].missing:
            print(f"{name} is not installed, and left out")
    return [name for name in wanted if not SYSTEMS[name].missing]
