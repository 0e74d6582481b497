"""Progress on a terminal, and silence in a pipe."""

from __future__ import annotations

import io

from trio_chat.operations import progress
from trio_chat.store.migration import Passing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_it_is() -> None:
    """Else whoever backs up a large file does not know whether to wait a second or an hour."""
    screen, times = Terminal(), iter([0.0, 0.0, 0.05, 4.0])
    with progress.shown("backing up", unit="pages", stream=screen, clock=lambda: next(times)) as advance:
        advance(0, 4000)
        advance(10, 4000)  # too soon after the last look
        advance(1000, 4000)
    assert screen.getvalue().split("\r")[1:] == [
        "backing up: 0 of 4,000 pages, 0 %\x1b[K",
        "backing up: 1,000 of 4,000 pages, 25 %, 12 s left\x1b[K",
        "\x1b[K",
    ]


def test_what_has_no_known_end_is_counted() -> None:
    """An export whose end nobody knows would show nothing, or fail."""
    screen = Terminal()
    with progress.shown("exporting\x1b[2J", stream=screen, clock=lambda: 0.0) as advance:
        advance(1_234_567)
    assert "exporting\\x1b[2J: 1,234,567\x1b[K" in screen.getvalue()


def test_a_pipe_is_told_nothing() -> None:
    """Else a cron job mails its owner a file full of carriage returns every night."""
    pipe = io.StringIO()
    with progress.shown("backing up", stream=pipe) as advance:
        advance(1, 2)
    report = progress.told(pipe)
    report(Passing("applying m0001: 1 s"))
    assert not pipe.getvalue()
    report("applying m0001: done in 1.5 s")  # which is no progress but what was done
    assert pipe.getvalue() == "applying m0001: done in 1.5 s\n"


def test_the_steps_of_a_migration_are_lines() -> None:
    """Whoever watches a migration would not see which step takes so long."""
    screen = Terminal()
    report = progress.told(screen)
    report(Passing("applying m0001: 1 s"))
    report("applying m0001: done in 1.5 s")
    assert screen.getvalue() == "\rapplying m0001: 1 s\x1b[K\rapplying m0001: done in 1.5 s\x1b[K\n"
