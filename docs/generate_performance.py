# ruff: noqa: INP001  (docs are no package)
"""Writes the tables of ``docs/performance.md``, and its plots, from what the benchmarks have kept in ``docs/performance``.

Run it after them::

    python docs/generate_performance.py            # tables and plots; the plots need matplotlib
    python docs/generate_performance.py --tables

The same files give the same tables; a test compares them.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).with_name("performance.md")
RESULTS: Final = PAGE.with_suffix("")

OURS, ECHO, ONE_COMMIT = "trio-chat", "echo", "one commit each"
NAMES: Final = {
    ECHO: "bare echo (trio-websocket)",
    ONE_COMMIT: "websockets + sqlite3, one commit each",
    "socketio": "python-socketio + aiosqlite",
    "mosquitto": "Mosquitto, QoS 1",
    "prosody": "Prosody",
    "ejabberd": "ejabberd",
}
COLUMNS: Final = {
    "rate": ("a second", "{:,.0f}"),
    "drained": ("drained/s", "{:,.0f}"),
    "settled": ("drained, acknowledged and told/s", "{:,.0f}"),
    "answered_p50": ("p50 ms", "{:,.2f}"),
    "answered_p99": ("p99 ms", "{:,.2f}"),
    "answered_p999": ("p99.9 ms", "{:,.2f}"),
    "calm_p99": ("p99 ms before", "{:,.2f}"),
    "cpu_per_1000": ("CPU s per 1,000", "{:.3f}"),
    "syncs_per_1000": ("syncs per 1,000", "{:,.1f}"),
    "kib_each": ("KiB each", "{:.1f}"),
    "idle_cpu": ("CPU while idle", "{:.1%}"),
    "pages": ("pages/s", "{:,.0f}"),
    "turned_away": ("turned away", "{:,.0f}"),
    "rss_mib": ("RSS MiB", "{:,.0f}"),
    "busy": ("load's CPU", "{:.0%}"),
}

Figures = dict[str, float]


class Result:
    """The runs of one benchmark."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self.kept = kept
        self.runs: Sequence[dict[str, Any]] = kept["runs"]

    def of(self, system: str, work: str) -> list[Figures]:
        """One case's figures, run by run."""
        return [run["figures"] for run in self.runs if (run["system"], run["work"]) == (system, work)]

    @property
    def cases(self) -> list[tuple[str, str]]:
        """Every system with every kind of work, in the order in which they were measured first."""
        return list(dict.fromkeys((run["system"], run["work"]) for run in self.runs))

    def ratio(self, work: str, system: str, other: str, figure: str = "rate") -> float | None:
        """The median of what one did by what the other did in the same round; None if one of them is not there."""
        pairs = list(zip(self.of(system, work), self.of(other, work), strict=False))
        return statistics.median(one[figure] / two[figure] for one, two in pairs) if pairs else None


def median(runs: Sequence[Figures]) -> Figures:
    """The median of every figure."""
    return {name: statistics.median(run[name] for run in runs if name in run) for name in runs[0]} if runs else {}


def results() -> dict[str, Result]:
    """What was kept, by the name of the file."""
    return {path.stem: Result(json.loads(path.read_text())) for path in sorted(RESULTS.glob("*.json"))}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table; in its first columns are words, in the others numbers."""
    lines = [head, ["---" if column < words else "---:" for column in range(len(head))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cases(result: Result, *, by_work: bool = True, beside: str | None = None) -> str:
    """A row for each case; with `beside`, how many times that system it is."""
    found = [(system, work, median(result.of(system, work))) for system, work in result.cases]
    shown = [name for name in COLUMNS if any(name in figures for _, _, figures in found)]
    head = [*(["work"] if by_work else []), "system", *(COLUMNS[name][0] for name in shown)]
    rows = []
    for system, work, figures in sorted(found, key=lambda case: [one[1] for one in result.cases].index(case[1])):
        row = [*([work.partition(", ")[2] or work] if by_work else []), NAMES.get(system, system)]
        row += [COLUMNS[name][1].format(figures[name]) if name in figures else "–" for name in shown]
        if beside is not None:
            ratio = result.ratio(work, system, beside)
            row.append("–" if ratio is None or system == beside else f"{ratio:.2f}")
        rows.append(row)
    if beside is not None:
        head.append(f"× {NAMES.get(beside, beside).partition(' (')[0]}")
    return markdown(head, rows, 2 if by_work else 1)


def _times(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} ×"


def targets(of: Mapping[str, Result]) -> str:
    """What was aimed at, and what came of it."""
    rows = []
    if live := of.get("live"):
        for window, least, aim in ((32, 1.3, 2.0), (1, 0.2, 0.3)):
            found = live.ratio(f"live, 50 pairs × {window}", OURS, ECHO)
            wanted = f"≥ {least} × the bare echo; better {aim} ×"
            rows.append((f"50 pairs, {window} in flight each", wanted, _times(found)))
    if pair := of.get("one-pair"):
        shares = [
            run["figures"]["answered_p50"] / (parts["sync_ms"] + parts["hops_ms"] + 0.4)
            for run, parts in zip(pair.runs, pair.kept["parts"], strict=True)
        ]
        wanted = "p50 ≤ 1.5 × (a sync + two hops + 0.4 ms)"
        rows.append(("one pair, one in flight", wanted, _times(statistics.median(shares))))
    if side := of.get("side-by-side"):
        found = side.ratio("live, 50 pairs × 32", OURS, ONE_COMMIT)
        rows.append(("50 pairs, 32 in flight each", "≥ 12 × one commit for each message", _times(found)))
    if offline := of.get("offline"):
        ours = next(median(offline.of(*case)) for case in offline.cases if case[0] == OURS)
        rows.append(("stored for absent users", "≥ 25,000/s", f"{ours['rate']:,.0f}/s"))
        rows.append(("drained and acknowledged", "≥ 40,000/s", f"{ours['settled']:,.0f}/s"))
    if idle := of.get("idle"):
        ours = median(idle.of(*[case for case in idle.cases if case[0] == OURS][-1]))
        rows.append(("an idle connection", "≤ 30 KiB", f"{ours['kib_each']:.1f} KiB"))
    return markdown(["work", "aim", "measured"], rows, 2)


def safe(result: Result) -> str:
    """What each system has on disk when it says that it has a message."""
    rows = [(NAMES.get(name, name), words) for name, words in result.kept["safe"].items()]
    return markdown(["system", "safe when it acknowledges"], rows, 2)


def conditions(of: Mapping[str, Result]) -> str:
    """Where it was measured."""
    first = next(iter(of.values())).kept["conditions"]
    loads = [result.kept["conditions"]["load"] for result in of.values()]
    cores = f"{first['processor'].strip()}, {first['cores']} cores, Linux {first['kernel'].partition('-')[0]}"
    rounds = max(len(result.of(*case)) for result in of.values() for case in result.cases)
    return (
        f"{cores}, Python {first['python']}. Medians of up to {rounds} rounds. When the benchmarks began, "
        f"{min(loads):.1f} to {max(loads):.1f} other programs wanted the processor."
    )


def sections(of: Mapping[str, Result]) -> dict[str, str]:
    """Every table by its name."""
    made = {"conditions": conditions(of), "targets": targets(of)}
    for name, result in of.items():
        made[name] = cases(result, beside=ECHO if name in ("live", "unpinned", "side-by-side") else None)
    if "side-by-side" in of:
        made["safe"] = safe(of["side-by-side"])
    return made


def page(before: str) -> str:
    """The page with its tables as they are to be."""
    made = sections(results())

    def replaced(match: re.Match[str]) -> str:
        table = made.get(match[1], "(not measured)")
        return f"<!-- generated: {match[1]} -->\n\n{table}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: ([\w-]+) -->\n.*?<!-- end -->", replaced, before, flags=re.DOTALL)


def plots(of: Mapping[str, Result]) -> None:
    """Draw what is easier seen than read."""
    import matplotlib as mpl  # noqa: PLC0415  (the tables do without)

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "trio-chat", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt  # noqa: PLC0415

    if live := of.get("live"):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        for window, one in zip((1, 32), axes, strict=True):
            for system, mark in ((OURS, "o-"), (ECHO, "s--")):
                works = [work for name, work in live.cases if name == system and work.endswith(f" × {window}")]
                pairs = [int(work.split()[1]) for work in works]
                one.plot(
                    pairs, [median(live.of(system, work))["rate"] for work in works], mark, label=NAMES.get(system, system)
                )
            one.set(xscale="log", xlabel="pairs", ylabel="messages or frames a second", title=f"{window} in flight each")
            one.set_ylim(bottom=0)
            one.legend()
        figure.savefig(RESULTS / "live.svg", metadata={"Date": None})
    growing = [(of.get("connections"), "others connected"), (of.get("stores"), "messages in the store")]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
    for (result, title), one in zip(growing, axes, strict=True):
        if result is not None:
            sizes = [_size(work) for _, work in result.cases]
            cost = [[figures["cpu_per_1000"] for figures in result.of(*case)] for case in result.cases]
            middle = [statistics.median(runs) for runs in cost]
            spread = [[m - min(runs) for m, runs in zip(middle, cost, strict=True)],
                      [max(runs) - m for m, runs in zip(middle, cost, strict=True)]]  # fmt: skip
            one.errorbar(sizes, middle, yerr=spread, fmt="o-", capsize=3)
        one.set_xscale("symlog", linthresh=10)
        one.set(xlabel=title, ylabel="processor seconds per 1,000 messages")
        one.set_ylim(bottom=0)
    figure.savefig(RESULTS / "growth.svg", metadata={"Date": None})


def _size(work: str) -> int:
    """How many connections or messages there are besides."""
    found = re.search(r"(\d+) (?:connections|messages)", work)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    if "--tables" not in sys.argv:
        plots(results())
