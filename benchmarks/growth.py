"""Whether a message costs the same however many are connected, and however many are stored.

    python benchmarks/growth.py --connections 10,100,1000,5000
    python benchmarks/growth.py --stores 0,10000,100000,1000000,10000000 --folder DIRECTORY

Live pairs, and the server's processor time for a thousand messages: beside so many connections that do nothing, and on
databases of so many messages, which `database.py` makes in the folder unless they are there (the largest takes 4 GB, and
half an hour); there the pairs are users of the database. The sizes take turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from database import generate
from measuring import Case, Measured, alternated, conditions, medians, save, table

PAIRS: Final = 50
WINDOW: Final = 32


def _wanted(seconds: float) -> dict[str, object]:
    return {"pairs": PAIRS, "window": WINDOW, "seconds": seconds, "warm": seconds / 2}


def by_connections(counts: list[int], seconds: float) -> list[Case]:
    """Beside so many others."""
    return [Case(system="trio-chat", wanted=_wanted(seconds) | {"connections": count}) for count in counts]


def by_store(sizes: list[int], folder: Path, seconds: float) -> list[Case]:
    """On so large a database; it is made if it is not there."""
    cases = []
    for size in sizes:
        path = folder / f"{size} messages.db"
        if size and not path.exists():
            print(f"making {path}")
            generate(path, messages=size)
        wanted = _wanted(seconds) | {"known": bool(size)}
        cases.append(Case(system="trio-chat", wanted=wanted, store=path if size else None))
    return cases


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def grown(cases: list[Case], runs: int) -> list[Measured]:
    """Measure the cases by turns, and print what a thousand messages cost in each."""
    measured = alternated(cases, runs)
    works = dict.fromkeys(one.work for one in measured)
    print(f"\n{table({work: medians(one for one in measured if one.work == work) for work in works})}\n")
    return measured


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=_numbers, default=[])
    parser.add_argument("--stores", type=_numbers, default=[])
    parser.add_argument("--folder", type=Path, default=Path(), help="where the databases are")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every run there")
    options = parser.parse_args()
    before = conditions()
    cases = by_connections(options.connections, options.seconds) + by_store(options.stores, options.folder, options.seconds)
    measured = grown(cases, options.runs)
    if options.json is not None:
        save(options.json, "growth", measured, before)


if __name__ == "__main__":
    main()
