"""The lock that keeps a second server off a database file, and the marker of an unclean shutdown."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from ..errors import StoreLocked

__all__ = ["FileLock"]

OPEN, CLOSED = "open", "closed"


class FileLock:
    """Holds ``<database>.lock`` by flock from construction to `release`. The kernel lets go of it if the process dies.

    Not the database file itself: closing any descriptor of that one would drop SQLite's own locks on it. The file stays
    where it is when the lock is released, as removing it would let two processes hold two files of the same name. It says
    which process holds it and, after that has ended, whether it had closed the store: `unclean` is True if not.

    Raises:
        StoreLocked: a process holds it.
        OSError: the file cannot be opened.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self.file: int | None = None
        self.descriptor: int = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder, _ = self._read()
            os.close(self.descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise StoreLocked(
                f"another server, process {holder or 'unknown'}, serves this database: stop it first", holder
            ) from None
        _, state = self._read()
        self.unclean: bool = state == OPEN
        self._write(OPEN)

    def _read(self) -> tuple[int | None, str]:
        words = os.pread(self.descriptor, 64, 0).decode("ascii", "replace").split()
        if len(words) == 2 and words[0].isdecimal():
            return int(words[0]), words[1]
        return None, CLOSED

    def _write(self, state: str) -> None:
        # Always as long, so that it is overwritten in place and needs no space on a disk that has filled up meanwhile. If it
        # needs some and there is none: the lock holds without, and a full disk is no reason not to serve what is there.
        with contextlib.suppress(OSError):
            os.pwrite(self.descriptor, f"{os.getpid():>20} {state:<6}\n".encode(), 0)

    def hold_file(self) -> None:
        """Lock the database file too, now that it exists: it may have another name, by a hard link or a rename.

        By flock, of which SQLite's own locks know nothing; by a descriptor that is closed after SQLite's, see above.

        Raises:
            StoreLocked: a process serves it under another name, or its lock file was removed.
        """
        file = os.open(self.database, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise StoreLocked("another server serves this file, under whatever name: stop it first") from None
        self.file = file

    def release(self, *, clean: bool) -> None:
        """Let go, after everything else that has the database open. `clean` says that it was closed as it should be."""
        if clean:
            self._write(CLOSED)
        if self.file is not None:
            os.close(self.file)
        os.close(self.descriptor)
