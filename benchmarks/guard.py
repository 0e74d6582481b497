"""Whether trio-chat has become slower: in less than a minute, on any machine.

    python benchmarks/guard.py            # fails if something is 25 % worse than in record.json
    python benchmarks/guard.py --update   # writes the record anew: look at the difference before you commit it

Two things are compared with the record, as they hardly depend on the machine: the ratio of live pairs to a bare echo in the
same run, and how many instructions of the interpreter a message takes (`counting.py`), which depend on Python's version
alone. A ratio that is worse is measured again, for a machine with other things to do has bad moments.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any, Final

from counting import counts
from measuring import Case, alternated, ratios

RECORD: Final = Path(__file__).with_name("record.json")
TOLERANCE: Final = 0.25
PAIRS: Final = 50
WINDOWS: Final = (32, 1)
SECONDS: Final = 1.5
ROUNDS: Final = 3


def measured_ratio(window: int) -> list[float]:
    """Live pairs by the bare echo, in each of some rounds."""
    wanted = {"pairs": PAIRS, "window": window, "seconds": SECONDS, "warm": SECONDS / 3}
    cases = [Case(system=system, wanted=wanted) for system in ("trio-chat", "echo")]
    return ratios(alternated(cases, ROUNDS), "trio-chat", "echo")


def ratio_faults(record: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """The ratios to the bare echo, and what is wrong with them."""
    found, faults = {}, []
    for window in WINDOWS:
        name = f"live, {PAIRS} pairs, {window} in flight"
        least = record.get(name, 0.0) * (1 - TOLERANCE)
        seen = measured_ratio(window)
        if statistics.median(seen) < least:
            seen += measured_ratio(window)
        found[name] = round(statistics.median(seen), 3)
        print(f"{name}: {found[name]:.2f} of the bare echo; the record is {record.get(name, 0.0):.2f}")
        if found[name] < least:
            faults.append(f"{name}: {found[name]:.2f} of the bare echo is less than {least:.2f}")
    return found, faults


def count_faults(record: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """The instructions for a message, and what is wrong with them."""
    found, faults = counts(), []
    for name, count in found.items():
        recorded = record.get(name)
        print(f"{name}: {count:.0f} instructions a message; the record is {recorded}")
        if recorded is None:
            faults.append(f"{name}: there is no record of it for this Python; guard.py --update makes one")
        elif count > recorded * (1 + TOLERANCE):
            faults.append(f"{name}: {count:.0f} instructions a message are more than {recorded * (1 + TOLERANCE):.0f}")
    return found, faults


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the record anew")
    parser.add_argument("--only-count", action="store_true", help="leave the ratios alone")
    options = parser.parse_args()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"ratios": {}, "instructions": {}}
    counted, faults = count_faults(record["instructions"].get(python, {}))
    record["instructions"][python] = counted
    if not options.only_count:
        record["ratios"], more = ratio_faults(record["ratios"])
        faults += more
    if options.update:
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    elif faults:
        raise SystemExit("slower than the record:\n" + "\n".join(faults))


if __name__ == "__main__":
    main()
