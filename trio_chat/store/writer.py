"""The one connection that writes, and the transaction that carries out a batch. Synchronous: runs in the store's thread."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..core.batch import Batch, Results
from ..settings import Settings
from .devices import Openings, mark
from .drafts import Drafts, Pairs
from .faults import Health, translate
from .users import Users

__all__ = ["Writer"]


class Writer:
    """Owns the read-write connection and what is remembered of the rows it wrote."""

    def __init__(self, connection: sqlite3.Connection, path: Path, settings: Settings, health: Health) -> None:
        self.connection = connection
        self.path = path
        self.settings = settings
        self.health = health
        self.epoch, self.key = connection.execute("SELECT epoch, digest_key FROM store WHERE one = 1").fetchone()
        self.users = Users()
        self.pairs: Pairs = Pairs()
        self.version = -1

    def append(self, batch: Batch, now: int) -> Results:
        """`Store.append`, blocking."""
        self.health.require()
        committing = False
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._notice_others()
            results = self._carry_out(batch, now)
            committing = True
            self.connection.execute("COMMIT")
        except BaseException as error:
            self._undo()
            fault = translate(error, self.path, committing=committing)
            if fault is None:
                raise
            self.health.note(fault)
            raise fault from error
        self.users.settle()
        self.pairs.trim()
        return results

    def _notice_others(self) -> None:
        """Forget the rows if another process wrote to the file, e.g. an operator with a shell."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if version != self.version:
            self._forget()
            self.version = version

    def _carry_out(self, batch: Batch, now: int) -> Results:
        names = {one.user for one in batch.marks}
        names.update(one.user for one in batch.openings)
        for draft in batch.drafts:
            names.add(draft.sender)
            names.add(draft.recipient)
        self.users.load(self.connection, names)
        mark(self.connection, self.users, batch.marks, now)
        openings = Openings(self.connection, self.users, self.settings, self.epoch, now)
        opened = openings.carry_out(batch.openings)
        stored = []
        if batch.drafts:
            drafts = Drafts(self.connection, self.users, self.pairs, self.settings, self.key, now)
            stored = drafts.carry_out(batch.drafts)
            self.users.flush(self.connection)
            drafts.flush()
        else:
            self.users.flush(self.connection)
        openings.flush()
        return Results(tuple(opened), tuple(stored))

    def _forget(self) -> None:
        self.users.forget()
        self.pairs.kept.clear()

    def _undo(self) -> None:
        self._forget()
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.health.fail(f"a transaction could not be rolled back: {error}")
