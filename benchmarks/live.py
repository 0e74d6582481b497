"""Pairs of users of whom one writes and the other reads, everybody connected.

    python benchmarks/live.py --pairs 50 --window 32
    python benchmarks/live.py --pairs 1,10,50,200 --window 1,32 --systems trio-chat,echo --json live.json

Every sender keeps `window` messages unanswered, every recipient acknowledges what it gets. The systems take turns; the
medians of all runs are printed, and the ratio to the bare echo in the same round.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from measuring import Case, Measured, alternated, conditions, names, ratios, save, summary, table
from systems import add_checkout

ECHO = "echo"


def live(systems: list[str], *, pairs: int, window: int, runs: int, seconds: float, pinned: bool) -> list[Measured]:
    """Measure, printing each run and the medians."""
    print(f"live: {pairs} pairs, {window} in flight each, {'server on one core' if pinned else 'all cores for all'}")
    wanted = {"pairs": pairs, "window": window, "seconds": seconds, "warm": seconds / 4}
    measured = alternated([Case(system=system, wanted=wanted, pinned=pinned) for system in systems], runs)
    print(f"\n{table(summary(measured))}\n")
    for system in systems:
        if ECHO in systems and system != ECHO:
            found = ratios(measured, system, ECHO)
            shown = ", ".join(f"{ratio:.2f}" for ratio in found)
            print(f"{system} is {statistics.median(found):.2f} times the bare echo ({shown})\n")
    return measured


def numbers(text: str) -> list[int]:
    """A list with commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=numbers, default=[1, 10, 50, 200])
    parser.add_argument("--window", type=numbers, default=[1, 32])
    parser.add_argument("--systems", type=names, default="trio-chat,echo")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--unpinned", action="store_true", help="let server and load use all cores")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measure that one, too, as the system `other`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every run there")
    options = parser.parse_args()
    if options.against is not None:
        add_checkout("other", options.against)
        options.systems.append("other")
    measured, before = [], conditions()
    for pairs in options.pairs:
        for window in options.window:
            measured += live(
                options.systems,
                pairs=pairs,
                window=window,
                runs=options.runs,
                seconds=options.seconds,
                pinned=not options.unpinned,
            )
            if options.against is not None:
                found = ratios(measured[-len(options.systems) * options.runs :], "trio-chat", "other")
                print(f"trio-chat is {statistics.median(found):.2f} times the other checkout\n")
    if options.json is not None:
        save(options.json, "live", measured, before)


if __name__ == "__main__":
    main()
