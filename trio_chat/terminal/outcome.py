"""How a command ends: its exit code, and one sentence on standard error if something was wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from typing import Any, Final, Literal, TypeVar

import anyio
import click

from ..errors import ConfigurationError, ConnectionClosed
from .visible import visible

__all__ = ["FAILED", "UNREACHABLE", "USAGE", "Failure", "first", "run", "say"]

_Error = TypeVar("_Error", bound=BaseException)

FAILED: Final = 1
"""Refused, or it failed: trying again without changing anything is of no use."""
USAGE: Final = 2
UNREACHABLE: Final = 3
"""The server was not reached, or went away: trying again later may do."""
_INTERRUPTED: Final = 130


class Failure(click.ClickException):
    """One sentence on standard error and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self._exit_code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click declares it once for all failures
        return self._exit_code


def say(line: str) -> None:
    """Tell whoever runs the command, beside its output."""
    click.echo(line, err=True)


def run(work: Coroutine[Any, Any, None], backend: Literal["trio", "asyncio"] = "trio") -> None:
    """Run a command to its end.

    Raises:
        Failure: it failed, for a reason that is expected.
        SystemExit: it was interrupted.
    """

    async def main() -> None:
        await work

    failure: click.ClickException | None = None
    interrupted = False
    try:
        anyio.run(main, backend=backend)
    except* click.ClickException as group:
        failure = first(group)
    except* (ConfigurationError, ConnectionClosed) as group:
        failure = Failure(visible(str(first(group))), FAILED)
    except* KeyboardInterrupt:
        interrupted = True  # what is raised in here would end up in a group
    except* BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if interrupted:
        sys.exit(_INTERRUPTED)
    if failure is not None:
        raise failure


def first(group: BaseExceptionGroup[_Error]) -> _Error:
    """One of the exceptions in a group, however deep."""
    error: _Error | BaseExceptionGroup[_Error] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
