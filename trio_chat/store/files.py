"""Files beside a database: what a copy that is being made needs of the file system."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["remove", "sync"]


def remove(database: Path) -> None:
    """Remove a database, with its journal: SQLite would roll that one back into the next file of this name."""
    for suffix in ("-journal", "-wal", "-shm", ""):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when the file is on the disk; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
