"""Running systems by turns, and what came of it: medians, tables, JSON."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from loads import Outcome, Spec
from msgspec import Struct
from processes import on_cores
from systems import SYSTEMS, counting_syncs, running

__all__ = ["Case", "Measured", "alternated", "conditions", "load", "measure", "names", "ratios", "save", "summary", "table"]

_GENERATOR: Final = Path(__file__).with_name("generator.py")
BUSY: Final = 0.9
"""A load that worked more than this share of its core may have been what was slow."""


class Case(Struct, frozen=True, kw_only=True):
    """One system at one kind of work: `wanted` are the fields of a `Spec`. `store` is a database that is there already."""

    system: str
    wanted: dict[str, Any]
    pinned: bool = True
    store: Path | None = None

    @property
    def work(self) -> str:
        """In words."""
        wanted = {"workload": "live", "pairs": 50, "window": 32, **self.wanted}
        words = [wanted["workload"]]
        words += [f"{wanted['pairs']} pairs × {wanted['window']}"] if wanted["workload"] != "idle" else []
        words += [f"{wanted['connections']} connections"] if wanted.get("connections") else []
        words += [] if self.pinned else ["on all cores"]
        words += [self.store.name] if self.store is not None else []
        return ", ".join(words)


class Measured(Struct, frozen=True, kw_only=True):
    """One run of one case. `syncs` is how often the server synced a file, None where that cannot be counted."""

    system: str
    work: str
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
    """Have the load run against a server that is there.

    Raises:
        RuntimeError: it failed; it has said why.
    """
    with on_cores(server=False, pinned=pinned):
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(_GENERATOR)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    told, _ = process.communicate(msgspec.json.encode(spec))
    if process.returncode:
        raise RuntimeError(f"the load failed: {spec}")
    return msgspec.json.decode(told, type=Outcome)


def measure(case: Case) -> Measured:
    """Start the server, have the load run once, stop the server."""
    with running(case.system, pinned=case.pinned, store=case.store) as server, counting_syncs(server) as synced:
        speaks = SYSTEMS[case.system].speaks or case.system
        outcome = load(Spec(system=speaks, port=server.port, server=server.pids, **case.wanted), pinned=case.pinned)
        syncs = synced()
    return Measured(system=case.system, work=case.work, outcome=outcome, syncs=syncs)


def alternated(
    cases: Sequence[Case], runs: int, keep: Callable[[Sequence[Measured]], None] = lambda _: None
) -> list[Measured]:
    """Measure the cases by turns, A B B A A B, so that whatever else the machine does falls on all of them.

    After each round `keep` is given all runs so far, for this takes long.
    """
    done: list[Measured] = []
    for number in range(runs):
        for case in cases if number % 2 == 0 else reversed(cases):
            done.append(measure(case))
            print(f"  {number + 1}/{runs} {case.system}, {case.work}: {line(done[-1].figures)}", flush=True)
        keep(done)
    return done


def medians(measured: Iterable[Measured]) -> dict[str, float]:
    """The median of every figure."""
    figures = [one.figures for one in measured]
    return {name: statistics.median(one[name] for one in figures if name in one) for name in figures[0]}


def summary(measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """The medians of each system, by its name."""
    systems = dict.fromkeys(one.system for one in measured)
    return {system: medians(one for one in measured if one.system == system) for system in systems}


def ratios(measured: Sequence[Measured], system: str, against: str, figure: str = "rate") -> list[float]:
    """What `system` did by what the other did in the same round, for each round."""
    both = [[one.figures[figure] for one in measured if one.system == name] for name in (system, against)]
    return [ours / theirs for ours, theirs in zip(*both, strict=True)]


_COLUMNS: Final = {
    "rate": ("/s", "{:,.0f}"),
    "drained": ("drained/s", "{:,.0f}"),
    "settled": ("drained and acknowledged/s", "{:,.0f}"),
    "answered_p50": ("p50 ms", "{:,.2f}"),
    "answered_p99": ("p99 ms", "{:,.2f}"),
    "answered_p999": ("p99.9 ms", "{:,.2f}"),
    "delivered_p50": ("delivered p50", "{:,.2f}"),
    "delivered_p99": ("delivered p99", "{:,.2f}"),
    "delivered_p999": ("delivered p99.9", "{:,.2f}"),
    "cpu_per_1000": ("CPU s/1,000", "{:.3f}"),
    "syncs_per_1000": ("syncs/1,000", "{:,.1f}"),
    "rss_mib": ("RSS MiB", "{:,.0f}"),
    "kib_each": ("KiB each", "{:.1f}"),
    "idle_cpu": ("CPU when idle", "{:.1%}"),
    "turned_away": ("turned away", "{:,.0f}"),
    "calm_p99": ("p99 ms before", "{:,.2f}"),
    "pages": ("pages/s", "{:,.0f}"),
    "to_the_slow": ("to the slow", "{:,.0f}"),
    "busy": ("load's CPU", "{:.0%}"),
}


def line(figures: Mapping[str, float]) -> str:
    """The figures of one run in a line."""
    parts = [f"{title} {form.format(figures[name])}" for name, (title, form) in _COLUMNS.items() if name in figures]
    return "  ".join(parts) + ("  (the load was what was slow)" if figures.get("busy", 0) > BUSY else "")


def table(rows: Mapping[str, Mapping[str, float]], *, leave_out: Iterable[str] = (), first: str = "") -> str:
    """A table in Markdown, a row for each key, a column for each figure that any of them has."""
    shown = [name for name in _COLUMNS if name not in leave_out and any(name in figures for figures in rows.values())]
    lines = [[first, *(_COLUMNS[name][0] for name in shown)], ["---", *("---:" for _ in shown)]]
    for title, figures in rows.items():
        lines.append([title, *(_COLUMNS[name][1].format(figures[name]) if name in figures else "–" for name in shown)])
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def conditions() -> dict[str, Any]:
    """On what this is measured; ``load`` is how many others want the processor."""
    rows = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": next((row.partition(": ")[2] for row in rows if "model name" in row), ""),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def save(path: Path, name: str, measured: Sequence[Measured], before: Mapping[str, Any], **more: Any) -> None:
    """Write every run as JSON, one a line; `before` are the `conditions` when they began."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safe = {system: SYSTEMS[system].safe for system in dict.fromkeys(one.system for one in measured)}
    head = msgspec.json.encode({"benchmark": name, "conditions": before, "safe": safe, **more}).decode()
    rows = [{"system": one.system, "work": one.work, "figures": _rounded(one.figures)} for one in measured]
    runs = ",\n".join(msgspec.json.encode(row).decode() for row in rows)
    path.write_text(f'{head[:-1]},"runs":[\n{runs}\n]}}\n')


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Four digits are more than can be measured."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def names(text: str) -> list[str]:
    """The systems of a list with commas, those left out that are not installed here."""
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in SYSTEMS:
            raise SystemExit(f"there is no system {name!r}: {', '.join(SYSTEMS)}")
        if SYSTEMS[name].missing:
            print(f"{name} is not installed, and left out")
    return [name for name in wanted if not SYSTEMS[name].missing]
