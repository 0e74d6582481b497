"""Taking a database file from one schema to another, step by step, and back. Synchronous; nobody may be serving the file.

Each step is one transaction together with the record of it: a kill at any moment leaves the schema before it or after it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from ..errors import ConfigurationError
from . import connection, schema
from .files import remove, sync
from .lock import FileLock

__all__ = ["Passing", "Report", "create", "down", "migrate", "status", "up"]

Report: TypeAlias = Callable[[str], None]
"""Takes a line about what is going on, about once a second while something takes long."""


class Passing(str):
    """A line that says how far it is: of interest to who is watching, and to nobody later."""

    __slots__ = ()


_BACKUP_PAGES: Final = 4096
_INSTRUCTIONS: Final = 2_000_000  # between two looks at the clock: some tens of milliseconds
_EVERY: Final = 1.0
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,60}")

_TEMPLATE: Final = '''"""What this step changes, and why."""

from __future__ import annotations

from sqlite_utils import Database


def up(db: Database) -> None:
    """Change the schema. Runs inside a transaction that is not this function's to end."""


def down(db: Database) -> None:
    """Undo it, keeping what the older schema can hold."""
'''


def status(path: Path, steps: schema.Schema | None = None) -> list[tuple[str, bool]]:
    """The steps this code knows, in order, and whether the file has them. Changes nothing; works beside a server.

    Raises:
        ConfigurationError: the file is not a chat's database, or its schema is newer than this code.
    """
    known = steps or schema.bundled()
    path = path.resolve()
    with _told_plainly(path):
        looking = connection.look(path) if connection.size_of(path) else None
        if looking is None:
            return [(step.name, False) for step in known.steps]
        with contextlib.closing(looking):
            pending = known.check(schema.wrap(looking))
    return [(step.name, step.name not in pending) for step in known.steps]


def up(path: Path, report: Report, steps: schema.Schema | None = None) -> list[str]:
    """Apply the steps that the file lacks and return their names; a file that lacks none is left as it is.

    If the file holds anything, a copy of it is made first, beside it.

    Raises:
        ConfigurationError: as `status`; or another process holds the file.
    """
    known = steps or schema.bundled()
    path = path.resolve()
    with _opened(path, known) as writer:
        return migrate(writer, path, known, report)


def migrate(writer: sqlite3.Connection, path: Path, known: schema.Schema, report: Report) -> list[str]:
    """`up` on a connection whose file is locked already and was checked."""
    database = schema.wrap(writer)
    names = known.check(database)
    if names and known.applied(database):
        _back_up(writer, path, report)
    writer.execute("PRAGMA foreign_keys = OFF")  # each step is checked as a whole instead
    for name in names:
        with _watched(writer, f"applying {name}", report):
            known.apply(database, name)
    writer.execute("PRAGMA foreign_keys = ON")
    return names


def down(path: Path, report: Report, to: str | None = None, steps: schema.Schema | None = None) -> list[str]:
    """Undo the newest step, or all steps after `to`, and return their names, newest first. A copy of the file is made first.

    Raises:
        ConfigurationError: as `up`; or the file does not have the step `to`, or none at all.
    """
    known = steps or schema.bundled()
    path = path.resolve()
    if not connection.size_of(path):
        raise ConfigurationError(f"{path}: there is no step to undo")
    with _opened(path, known) as writer:
        database = schema.wrap(writer)
        applied = known.applied(database)
        if not applied:
            raise ConfigurationError(f"{path}: there is no step to undo")
        if to is not None and to not in applied:
            raise ConfigurationError(f"{path} does not have the step {to}; trio-chat migrate status lists those it has")
        names = applied[:-2:-1] if to is None else applied[: applied.index(to) : -1]
        if names:
            _back_up(writer, path, report)
        writer.execute("PRAGMA foreign_keys = OFF")
        for name in names:
            with _watched(writer, f"undoing {name}", report):
                known.undo(database, name)
        return names


def create(name: str, folder: Path | None = None) -> Path:
    """Write an empty step with the next number into `folder`, and return its file.

    Raises:
        ConfigurationError: the name is not lower-case letters, digits and underscores, or the file cannot be written.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"{name!r} is no name for a step: use lower-case letters, digits and underscores")
    folder = folder or schema.folder()
    numbers = [int(file.name[1:5]) for file in folder.glob("m[0-9][0-9][0-9][0-9]_*.py")]
    file = folder / f"m{max(numbers, default=0) + 1:04}_{name}.py"
    try:
        with file.open("x", encoding="utf-8") as step:
            step.write(_TEMPLATE)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    return file


@contextlib.contextmanager
def _told_plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {error}; nothing of the step under way was kept") from error


@contextlib.contextmanager
def _opened(path: Path, known: schema.Schema) -> Iterator[sqlite3.Connection]:
    """The file, locked against servers, checked before anything is written."""
    with _told_plainly(path):
        lock = FileLock(path)
        unclean = lock.unclean
        try:
            if connection.size_of(path) and (looking := connection.look(path)) is not None:
                with contextlib.closing(looking):
                    known.check(schema.wrap(looking))
            connection.create(path)
            lock.hold_file()
            with contextlib.closing(connection.write(path)) as writer:
                yield writer
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            lock.release(clean=not unclean)


def _back_up(writer: sqlite3.Connection, path: Path, report: Report) -> Path:
    """A copy of the file as it is now, beside it; complete and on disk, or not there under its name."""
    name = f"{path.name}.before-migration-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    copy = next(copy for copy in map(path.with_name, names) if not copy.exists())
    # One name for all of them: what a kill left behind goes before the next one, which may need its space.
    partial = path.with_name(f"{path.name}.before-migration.partial")
    remove(partial)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    ticker = _Ticker(report)
    try:
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as target:
            writer.backup(
                target,
                pages=_BACKUP_PAGES,
                progress=lambda _, left, total: ticker(f"copying to {copy.name}: {100 * (total - left) // max(total, 1)} %"),
            )
        sync(partial)
        partial.rename(copy)
    except BaseException:
        remove(partial)
        raise
    sync(copy.parent)  # the name, too, is on disk then
    report(f"copied the database to {copy.name}")
    return copy


class _Ticker:
    """Passes on a line a second at most."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._began = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, line: str) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            self._report(Passing(line))


@contextlib.contextmanager
def _watched(writer: sqlite3.Connection, what: str, report: Report) -> Iterator[None]:
    """Say what is being done, for how long, and when it is done."""
    ticker = _Ticker(report)

    def tick() -> int:
        ticker(f"{what}: {ticker.seconds:.0f} s")
        return 0

    writer.set_progress_handler(tick, _INSTRUCTIONS)
    try:
        yield
    finally:
        writer.set_progress_handler(None, 0)
    report(f"{what}: done in {ticker.seconds:.1f} s")
