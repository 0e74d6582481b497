"""Runs cases of the Autobahn TestSuite against a server: ``python autobahn.py ADDRESS CASE…``, where a case may be ``7.*``.

The cases are the suite's own files, as the package kosoku carries them; it runs them on asyncio, so they have a process of
their own. For every case it prints one line of JSON, a `Verdict`.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec
from kosoku import FailureError, run_fuzzingclient


class Verdict(msgspec.Struct):
    """What the suite makes of one case; `close` is of the end of the connection, and `code` what the server sent."""

    case: str
    behaviour: str
    close: str
    code: int | None
    extensions: bool
    """Whether the server accepted an extension."""
    why: str


async def main(address: str, cases: list[str]) -> None:
    """Run them, and print."""
    try:
        results = await run_fuzzingclient(address, cases, concurrency=4)
    except FailureError as failure:
        results = failure.results
    for result in results:
        verdict = Verdict(
            result.case_id,
            result.behavior.value,
            result.behavior_close.value,
            result.remote_close_code,
            "sec-websocket-extensions" in result.http_response.lower(),
            f"{result.result} {result.result_close}",
        )
        print(msgspec.json.encode(verdict).decode())  # noqa: T201  (that is the interface)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
    sys.stdout.flush()
    os._exit(0)  # its threads may still be at work, and one that finds the interpreter gone aborts the process
