"""Multi-row statements: one step of SQLite's for many rows.

The connection gives the interpreter's lock away and takes it back at every step. With a busy main thread that costs up to
5 ms each time, so rows are not written and read one by one: they go in as one VALUES clause and come out as one JSON text.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import msgspec

__all__ = ["SIZES", "look_up", "write"]

Row: TypeAlias = tuple[object, ...]

SIZES = (256, 64, 16, 4, 1)
"""How many rows a statement takes. Few different texts, so that the connection finds them prepared; the largest stays far
below the 32,766 values a statement may have."""


@functools.cache
def _statement(template: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return template.replace("{rows}", ",".join([row] * count))


def write(connection: sqlite3.Connection, template: str, rows: Sequence[Row]) -> None:
    """Carry out a statement for all rows; its ``{rows}`` becomes the placeholders."""
    done, left = 0, len(rows)
    for size in SIZES:
        while left >= size:
            statement = _statement(template, len(rows[done]), size)
            connection.execute(statement, list(chain.from_iterable(rows[done : done + size])))
            done += size
            left -= size


def look_up(connection: sqlite3.Connection, template: str, rows: Sequence[Row]) -> list[list[Any]]:
    """What a query finds for the rows, in any order; the query gives one JSON array of arrays."""
    found: list[list[Any]] = []
    for start in range(0, len(rows), SIZES[0]):
        some = rows[start : start + SIZES[0]]
        size = next(size for size in reversed(SIZES) if size >= len(some))
        width = len(some[0])
        # Filled up with rows of NULLs, which equal nothing and so find nothing.
        values = [*chain.from_iterable(some), *[None] * (width * (size - len(some)))]
        (answer,) = connection.execute(_statement(template, width, size), values).fetchone()
        found += msgspec.json.decode(answer)
    return found
