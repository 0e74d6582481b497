"""Logging what others can bring about as often as they like."""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from .core.buckets import Bucket

__all__ = ["SparingLog"]

_BURST: Final = 20
_RATE: Final = 2.0


class SparingLog:
    """Writes up to 20 lines at once and 2 a second for long, so that a flood of refusals is not a flood of log.

    What was left out is told with the next line that is written; the statistics count all of it.
    """

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)
        self._bucket = Bucket(_RATE, _BURST, trio.current_time())
        self._left_out = 0

    def __call__(self, level: int, message: str, *values: object, **fields: Any) -> None:
        """Log a line, or leave it out. `fields` go with it for whoever stores logs as data."""
        if not self._log.isEnabledFor(level):
            return
        if self._bucket.take(trio.current_time()):
            self._left_out += 1
            return
        if self._left_out:
            message, values = f"{message} (and %d more were refused since the last line)", (*values, self._left_out)
            fields["left_out"] = self._left_out
            self._left_out = 0
        self._log.log(level, message, *values, extra=fields, stacklevel=2)
