"""Multi-row statements: one step of SQLite's for many rows.

The connection gives the interpreter's lock away and takes it back at every step. With a busy main thread that costs up to
5 ms each time, so rows are not written and read one by one: they go in as one VALUES clause and come out as one JSON text.
(Reading a page of 50 beside a busy thread: 244 ms row by row, 10 ms so.)
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias

import msgspec

__all__ = ["SIZES", "look_up", "results", "snapshot", "write"]

Row: TypeAlias = tuple[object, ...]

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""How many rows a statement takes. Few different texts, so that the connection finds them prepared; the largest stays far
below the 32,766 values a statement may have. What is left over is filled up with rows of NULLs, which every template must
pass over: they equal nothing, so a join or a WHERE does."""


@functools.cache
def _statement(template: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return template.replace("{rows}", ",".join([row] * count))


def results(
    connection: sqlite3.Connection, template: str, rows: Sequence[Row], largest: int = SIZES[-1]
) -> Iterator[sqlite3.Cursor]:
    """Carry out a statement whose ``{rows}`` become the placeholders, `largest` rows at a time."""
    for start in range(0, len(rows), largest):
        some = rows[start : start + largest]
        size = next(size for size in SIZES if size >= len(some))
        width = len(some[0])
        values = [*chain.from_iterable(some), *[None] * (width * (size - len(some)))]
        yield connection.execute(_statement(template, width, size), values)


def write(connection: sqlite3.Connection, template: str, rows: Sequence[Row]) -> None:
    """Carry out an INSERT, UPDATE or DELETE for all rows."""
    for _ in results(connection, template, rows):
        pass


def look_up(connection: sqlite3.Connection, template: str, rows: Sequence[Row]) -> list[list[Any]]:
    """What a query finds for the rows, in any order; the query gives one JSON array of arrays."""
    found: list[list[Any]] = []
    for cursor in results(connection, template, rows):
        found += msgspec.json.decode(cursor.fetchone()[0])
    return found


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read in the block is of one moment; between two statements a log may be retained, for example."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")
