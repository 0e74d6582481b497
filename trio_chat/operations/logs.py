"""The logs of the command line: lines to read, or an object a line for what collects logs.

What is logged never holds a message's text, a token or a query. See docs/operate.md for the fields.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any, Final

from ..terminal.visible import visible
from .output import encoded

__all__ = ["FORMATS", "configure"]

FORMATS: Final = ("console", "json")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_CHATTY: Final = ("httpx2", "httpcore2")
"""Libraries that log each address they ask, at a level where nobody expects secrets; an address may hold some."""


class _Console(logging.Formatter):
    """A line to read; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        return visible(super().formatMessage(record))


class _Json(logging.Formatter):
    """An object in one line: time, level, logger and message, what goes with it, and a traceback as one string."""

    def format(self, record: logging.LogRecord) -> str:
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return encoded(line)


def configure(format: str) -> None:
    """Log to standard error in this format, one of `FORMATS`, unless logging is configured already."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if format == "json" else _Console())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
