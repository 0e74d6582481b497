"""Two clocks in step: Trio's, by which everybody waits, and the chat's, by which messages are dated."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import MockClock

from ..committer import unix_ms

__all__ = ["advance", "in_step"]


def in_step(start: int | None = None) -> Callable[[], int]:
    """A clock of Unix milliseconds that goes as Trio's clock does from now on.

    It begins with the true time, so that a token that was made a moment ago is good, or with `start`.
    """
    first, since = unix_ms() if start is None else start, trio.current_time()
    return lambda: first + round((trio.current_time() - since) * 1000)


async def advance(seconds: float) -> None:
    """Let `seconds` of virtual time go by, with everything that is due meanwhile, in its order.

    Raises:
        RuntimeError: the clock of this run is a real one.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock):
        raise RuntimeError(  # noqa: TRY004  (nobody gave it an argument of a wrong type)
            "time is advanced on a virtual clock: give the test the fixture chat_clock or autojump_clock"
        )
    # Not clock.jump(): from one deadline straight to the end, everything would be late that should have come in between.
    threshold, clock.autojump_threshold = clock.autojump_threshold, 0
    try:
        await trio.sleep(seconds)
    finally:
        clock.autojump_threshold = threshold
