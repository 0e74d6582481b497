"""All that `docs/performance.md` shows: measures it, and keeps every run as JSON in `docs/performance`.

    python benchmarks/suite.py                      # everything: an hour and a half on a machine with nothing else to do
    python benchmarks/suite.py live offline         # some of it
    python benchmarks/suite.py --runs 1 --seconds 1 # to see whether it works

The page is made from the files by ``python docs/generate_performance.py``. Growth with the size of the store is left out: it
needs a large database, see `growth.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from growth import by_connections
from measuring import Case, Measured, alternated, conditions, medians, names, save, table
from one_pair import one_pair
from systems import SYSTEMS

RESULTS: Final = Path(__file__).parent.parent / "docs" / "performance"
BOTH: Final = ("trio-chat", "echo")
KEEPING: Final = tuple(name for name, system in SYSTEMS.items() if name != "echo" and not system.missing)
ALL: Final = (*KEEPING, "echo")
NOT_IDLE: Final = {"ejabberd"}
"""Its handshake asks a program of ours whether it may let somebody in, which would be what is measured."""


def _cases(systems: tuple[str, ...], *works: dict[str, Any], pinned: bool = True) -> list[Case]:
    return [Case(system=system, wanted=wanted, pinned=pinned) for wanted in works for system in systems]


def _live(seconds: float) -> list[Case]:
    return _cases(BOTH, *({"pairs": pairs, "window": window, "seconds": seconds}
                          for pairs in (1, 10, 50, 200) for window in (1, 32)))  # fmt: skip


def _unpinned(seconds: float) -> list[Case]:
    return _cases(BOTH, *({"window": window, "seconds": seconds} for window in (1, 32)), pinned=False)


def _side_by_side(seconds: float) -> list[Case]:
    return _cases(ALL, *({"window": window, "seconds": seconds} for window in (1, 32)))


def _offline(seconds: float) -> list[Case]:
    return _cases(KEEPING, {"workload": "offline", "pairs": 100, "messages": int(5000 * seconds)})


def _idle(seconds: float) -> list[Case]:
    many = [int(1250 * seconds), int(2500 * seconds)]
    systems = tuple(system for system in ALL if system not in NOT_IDLE)
    return _cases(systems, *({"workload": "idle", "connections": count, "seconds": 8 * seconds} for count in many))


def _storm(seconds: float) -> list[Case]:
    work = {"workload": "storm", "pairs": 1, "window": 1, "connections": int(500 * seconds), "seconds": seconds}
    return _cases(("trio-chat",), work)


def _history(seconds: float) -> list[Case]:
    asking = ({"workload": "history", "window": 8, "connections": count, "seconds": seconds} for count in (0, 10))
    return _cases(("trio-chat",), *asking)


def _fan_in(seconds: float) -> list[Case]:
    many = ({"workload": "fan-in", "pairs": 200, "window": window, "seconds": seconds} for window in (1, 32))
    return _cases(KEEPING, *many)


def _slow_crowd(seconds: float) -> list[Case]:
    slow = ({"workload": "slow crowd", "window": 8, "connections": count, "seconds": seconds} for count in (0, 50))
    return _cases(("trio-chat",), *slow)


def _growth(seconds: float) -> list[Case]:
    return by_connections([10, 100, 1000, int(1250 * seconds)], seconds)


BENCHMARKS: Final[dict[str, Callable[[float], list[Case]]]] = {
    "live": _live,
    "unpinned": _unpinned,
    "side by side": _side_by_side,
    "offline": _offline,
    "idle": _idle,
    "storm": _storm,
    "history": _history,
    "fan-in": _fan_in,
    "slow crowd": _slow_crowd,
    "connections": _growth,
}


def run(name: str, runs: int, seconds: float, folder: Path, systems: list[str]) -> None:
    """Measure one of them, print the medians, and keep the runs."""
    before = conditions()
    print(f"{name}:")
    measured: list[Measured]
    if name == "one pair":
        measured, parts = one_pair(runs, seconds)
        save(folder / "one-pair.json", name, measured, before, parts=parts)
        return
    kept = folder / f"{name.replace(' ', '-')}.json"
    cases = [case for case in BENCHMARKS[name](seconds) if case.system in systems]
    measured = alternated(cases, runs, lambda so_far: save(kept, name, so_far, before))
    rows = dict.fromkeys((one.work, one.system) for one in measured)
    of = {row: medians(one for one in measured if (one.work, one.system) == row) for row in rows}
    print(f"\n{table({f'{work}: {system}': figures for (work, system), figures in of.items()})}\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    everything = [*BENCHMARKS, "one pair"]
    parser.add_argument("names", nargs="*", help=", ".join(everything))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each run; fewer connect and wait if it is less than 4"
    )
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the files go")
    parser.add_argument("--systems", type=names, default=",".join(ALL), help="only these, of those that are measured")
    options = parser.parse_args()
    if unknown := set(options.names) - set(everything):
        parser.error(f"there is no {' or '.join(sorted(unknown))}: {', '.join(everything)}")
    for name in options.names or everything:
        run(name, options.runs, options.seconds, options.folder, options.systems)


if __name__ == "__main__":
    main()
