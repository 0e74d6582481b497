"""Writes what has to last to the state file: in a thread, and what became due meanwhile together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from os import PathLike
from typing import Final

import anyio
import anyio.to_thread

from ..errors import StateFailed
from .records import Record
from .state import Contents, StateFile

__all__ = ["Journal", "open_journal"]

_LAST: Final = 5.0
"""Seconds for what is left to be written at the end."""


class Journal:
    """The state file of a client. `run` has to run; records are written in the order of `write`."""

    def __init__(self, file: StateFile, limiter: anyio.CapacityLimiter) -> None:
        self._file = file
        self._limiter = limiter
        self._records: list[Record] = []
        self._then: list[Callable[[], None]] = []
        self._due = anyio.Event()
        self._idle = anyio.Event()
        self._idle.set()
        self._failed = False

    def write(self, records: Sequence[Record], then: Callable[[], None] | None = None) -> None:
        """Have `records` written, and `then` called when they, and all before them, are on the disk."""
        if self._failed:
            return
        self._records += records
        if then is not None:
            self._then.append(then)
        if self._records or self._then:
            if self._idle.is_set():
                self._idle = anyio.Event()
            self._due.set()

    async def flushed(self) -> None:
        """Wait until everything is written."""
        await self._idle.wait()

    async def run(self) -> StateFailed:
        """Write until that fails; says why. When cancelled, what is left is written first, within seconds."""
        try:
            while True:
                await self._due.wait()
                await self._commit()
        except StateFailed as error:
            self._failed = True
            self._idle.set()
            return error

    async def finish(self) -> None:
        """Write what is left, unless it has failed already."""
        if not self._failed and not self._idle.is_set():
            with suppress(StateFailed):
                await self._commit()

    async def _commit(self) -> None:
        self._due = anyio.Event()
        records, self._records = self._records, []
        then, self._then = self._then, []
        # What has begun is not given up: a half of what the program was told would be in the file.
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _LAST):  # noqa: ASYNC912
            if records:
                await anyio.to_thread.run_sync(self._file.apply, records, limiter=self._limiter)
            for call in then:
                call()
            if not self._records and not self._then:
                self._idle.set()


@asynccontextmanager
async def open_journal(path: str | PathLike[str]) -> AsyncIterator[tuple[Journal, Contents]]:
    """The journal over the file at `path`, and what that held. The file is closed when the block is left.

    Raises:
        StateUnusable: the file cannot be used.
    """
    file, limiter = StateFile(path), anyio.CapacityLimiter(1)
    contents = await anyio.to_thread.run_sync(file.open, limiter=limiter)
    journal = Journal(file, limiter)
    try:
        yield journal, contents
    finally:
        await journal.finish()  # noqa: ASYNC102  (shielded in there)
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _LAST):
            await anyio.to_thread.run_sync(file.close, limiter=limiter)
