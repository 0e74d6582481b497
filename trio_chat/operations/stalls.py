"""Noticing that one task holds up all others. Needs the extra ``stalls``: perpetuo, on Linux and macOS."""

from __future__ import annotations

import io
import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ..errors import ConfigurationError

__all__ = ["watched"]

_SECONDS = 0.2
"""A turn of the event loop that takes so long is worth a line: everybody waited for it."""


@contextmanager
def watched(*, json: bool) -> Iterator[None]:
    """Have a process beside this one write to standard error where this one is when a task runs for 0.2 s on end.

    It shows function names and lines and never the values of variables, for these hold messages and tokens. Must be entered
    inside of Trio's run.

    Raises:
        ConfigurationError: the extra is not installed, or the process could not be started.
    """
    try:
        import perpetuo  # noqa: PLC0415  (an extra)
    except ImportError:
        raise ConfigurationError("watching stalls needs perpetuo: pip install 'trio-chat[stalls]'") from None
    perpetuo.instrument_trio()
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{before}"  # it is started by its name
    try:
        with redirect_stdout(io.StringIO()):  # it prints an empty line where the kernel needs no permission to look on
            perpetuo.start_watcher(alert_interval=_SECONDS, print_locals=False, json_mode=json)
    except OSError as error:
        raise ConfigurationError(f"perpetuo could not be started: {error.strerror}") from None
    finally:
        os.environ["PATH"] = before
    try:
        yield
    finally:
        perpetuo.stop_watcher()
