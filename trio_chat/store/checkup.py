"""quick_check, which finds what a crash may have left behind."""

from __future__ import annotations

import sqlite3
import threading

from .faults import Health

__all__ = ["Checkup", "quick_check"]

AGAIN = 0.05
"""Seconds between two requests to stop: one that comes before the statement has begun is lost."""


def quick_check(connection: sqlite3.Connection) -> str | None:
    """What is wrong with the database's structure, or None. Takes about 1.4 s per GB.

    Raises:
        sqlite3.Error: it could not be checked, e.g. because it was interrupted.
    """
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if finding == "ok" else str(finding)


class Checkup:
    """Runs quick_check on a connection of its own while the store serves. A finding makes the store unwritable.

    A thread and not a task: it waits for nothing that Trio knows, and so needs no nursery; `stop` joins it. It owns
    `connection` and closes it.
    """

    def __init__(self, connection: sqlite3.Connection, health: Health) -> None:
        self.connection = connection
        self.health = health
        self.finished: bool = False
        self.thread: threading.Thread = threading.Thread(target=self._run, name="trio-chat quick_check", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            finding = quick_check(self.connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return
            finding = str(error)
        except sqlite3.Error as error:
            finding = str(error)
        if finding is not None:
            self.health.fail(f"quick_check found the database damaged: {finding}")
        self.finished = True

    def stop(self) -> bool:
        """End it, and say whether it had finished. Blocks until the thread is gone, which takes milliseconds."""
        while self.thread.is_alive():
            self.connection.interrupt()
            self.thread.join(AGAIN)
        self.connection.close()
        return self.finished
