"""Finding messages by their words. Synchronous: runs in a reader's thread.

The index knows whose a text is and of which conversation (migrations/m0002), so looking for words goes through a user's own
messages, newest first, and no others. What can still take long is bounded:

- a common word of others that the user never wrote is compared with all of the user's messages: so a page covers some slices
  of the log at a time (`WORK`), and says where to go on;
- the beginning of a word stands for all words that begin so, of all users, which are put together before anything is found:
  if that is a lot (`PREFIX_PAGES`) the last word is taken as a whole one.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Final

import msgspec

from ..retrieval import SearchHit, SearchPage, SearchQuery
from .entries import Found, current, newest_edit
from .rows import snapshot
from .scope import Scope, find
from .snippets import shorten
from .words import words

__all__ = ["PREFIX_PAGES", "SLICE", "WORK", "read_search"]

SLICE: Final = 4096
"""Entries of a log that have a token in common (migrations/m0002)."""

NEWEST: Final = 2
"""Slices that are looked through first: a word that is common in a log is found there, and each slice costs a little."""

WORK: Final = 100_000
"""How many entries of the log a page covers, divided by how many lists of messages are compared (measured: 50 ns each)."""

PREFIX_PAGES: Final = 128
"""How many pages of the index the words with the same beginning may fill (measured: 27 µs each)."""

NO_HITS: Final = SearchPage(hits=(), more=False, next=None)

# How many pages of the index hold words from `start` to `end`. FTS5 keeps, for each of its segments, on which page which
# word is the first (search_idx: the word after a '0', and twice the number of the page); the last page is that of the
# highest number (search_data: 37 bits are the number and what it is of). What begins on a page is only known of its first
# word, so the count is too high just before a common word.
PAGES = """
    WITH RECURSIVE segments (id) AS (
        SELECT min(segid) FROM search_idx
        UNION ALL
        SELECT (SELECT min(segid) FROM search_idx WHERE segid > s.id) FROM segments AS s WHERE s.id NOTNULL
    )
    SELECT coalesce(sum(
        coalesce(
            (SELECT pgno / 2 FROM search_idx WHERE segid = s.id AND term >= :end ORDER BY term LIMIT 1),
            (SELECT max(id) & 0x7fffffff FROM search_data WHERE id BETWEEN s.id << 37 AND (s.id << 37) + 0x7fffffff))
        - coalesce((SELECT pgno / 2 FROM search_idx WHERE segid = s.id AND term <= :start ORDER BY term DESC LIMIT 1), 1)
    ), 0) FROM segments AS s WHERE s.id NOTNULL"""

# A hit is a message or its newest edit. The edit may still be in the log when the message no longer is.
HITS = """
    SELECT json_group_array(rowid) FROM (
        SELECT rowid FROM search
        WHERE search MATCH :match
            AND rowid >= (SELECT message FROM log WHERE user = :asker AND seq = :first)
            AND rowid <= (SELECT message FROM log WHERE user = :asker AND seq = :last)
            AND (
                SELECT CASE m.sender WHEN :asker THEN m.seq ELSE m.peer_seq END
                FROM messages AS h CROSS JOIN messages AS m ON m.id = CASE h.kind WHEN 1 THEN h.target ELSE h.id END
                WHERE h.id = search.rowid
            ) > :floor
        ORDER BY rowid DESC LIMIT :count)"""

# That a hit is the newest edit for the asker, the index has said already; all the same it is asked here, so that what the
# index may get wrong one day is missed, and not shown. What is counted is what can be shown.
MESSAGES = current(
    f"""
    SELECT m.id, h.id
    FROM json_each(:hits) AS j
        CROSS JOIN messages AS h ON h.id = j.value
        CROSS JOIN messages AS m ON m.id = CASE h.kind WHEN 1 THEN h.target ELSE h.id END
        CROSS JOIN log AS l ON l.user = :asker AND l.message = m.id
            AND l.seq = CASE m.sender WHEN :asker THEN m.seq ELSE m.peer_seq END
    WHERE h.id = max(m.id, {newest_edit("m")}) AND m.text NOTNULL""",
    "DESC",
)

# Where in the log of the asker the last hit is that was looked at, shown or not: the next page goes on there.
PLACE = "SELECT CASE sender WHEN :asker THEN seq ELSE peer_seq END FROM messages WHERE id = :last_hit"

# The rows of a range are those hits again, among others that were passed over. (The LIMIT keeps SQLite from taking the
# subquery apart: highlight() works only where the index is read. The plus keeps it from looking the words up for each row.)
SNIPPETS = """
    SELECT json_group_array(json_array(id, pieces)) FROM (
        SELECT rowid AS id, highlight(search, 1, :mark, :mark) AS pieces FROM search
        WHERE search MATCH :match AND rowid BETWEEN :oldest AND :newest
            AND +rowid IN (SELECT value FROM json_each(:shown))
        ORDER BY rowid DESC LIMIT :count)"""

_found = msgspec.json.Decoder(Found)
_hits = msgspec.json.Decoder(list[int])
_snippets = msgspec.json.Decoder(list[tuple[int, str]])


def read_search(connection: sqlite3.Connection, user: str, query: SearchQuery, size: int) -> SearchPage:
    """`Store.search`, blocking.

    Raises:
        sqlite3.Error: it could not be read.
    """
    asked = [query.query[start:end] for _, start, end in words(query.query)]
    if not asked:
        return NO_HITS
    with snapshot(connection):  # what is found is highlighted as it was found
        scope = find(connection, user, peer=query.peer)
        return NO_HITS if scope is None else _search(connection, scope, query, asked, size)


def _search(connection: sqlite3.Connection, scope: Scope, query: SearchQuery, asked: list[str], size: int) -> SearchPage:
    lists = [f'text : "{word}"' for word in [*dict.fromkeys(asked[:-1]), asked[-1]]]
    if _is_short(connection, asked[-1]):
        lists[-1] += " *"
    if scope.conversation is not None:
        lists.append(f'owners : "c{scope.conversation}"')
    last = scope.head if query.before is None else min(scope.head, query.before - 1)
    newest = last // SLICE
    oldest = max(scope.floor // SLICE, newest + 1 - max(WORK // SLICE // (len(lists) + 1), 1))
    first = max(scope.floor + 1, oldest * SLICE)
    if first > last:
        return NO_HITS
    values: dict[str, object] = {"asker": scope.user, "floor": scope.floor, "first": first, "last": last, "size": size}
    hits: list[int] = []
    for some in (range(max(newest + 1 - NEWEST, oldest), newest + 1), range(oldest, newest + 1 - NEWEST)):
        if some and len(hits) <= query.limit:
            values |= {"match": _match(scope, some, lists), "count": query.limit + 1 - len(hits)}
            hits += _hits.decode(connection.execute(HITS, values).fetchone()[0])
    values["hits"] = msgspec.json.encode(hits[: query.limit]).decode()
    found, count = _found.decode(connection.execute(MESSAGES, values).fetchone()[0])
    page = [(id, message, message.edit_seq or message.seq) for id, message in found]
    pieces = {}
    if page:
        slices = range(page[-1][2] // SLICE, page[0][2] // SLICE + 1)
        values |= {"match": _match(scope, slices, lists), "newest": page[0][0], "oldest": page[-1][0], "count": len(page)}
        values["shown"] = msgspec.json.encode([id for id, _, _ in page]).decode()
        pieces = _highlighted(connection, values)
    next: int | None = None
    if count > len(page):  # it ends at its size
        next = page[-1][2]
    elif len(hits) > query.limit:
        (next,) = connection.execute(PLACE, {"asker": scope.user, "last_hit": hits[query.limit - 1]}).fetchone()
    elif first > scope.floor + 1:
        next = first
    return SearchPage(
        hits=tuple(SearchHit(message=message, snippet=shorten(pieces[id])) for id, message, _ in page),
        more=next is not None,
        next=next,
    )


def _match(scope: Scope, slices: range, lists: list[str]) -> str:
    """What has to hold for a hit in these slices of the log, in FTS5's language."""
    owners = " OR ".join(f'"u{scope.user}s{slice}"' for slice in slices)
    return " AND ".join([f"owners : ({owners})", *lists])


def _is_short(connection: sqlite3.Connection, beginning: str) -> bool:
    """Whether few enough messages hold a word that begins so."""
    pages = 0
    # Which of its accents the index leaves out is not known here for certain.
    for form in {beginning.lower(), *(word for word, _, _ in words(beginning))}:
        start = b"0" + form.encode()
        pages += connection.execute(PAGES, {"start": start, "end": start + b"\xff"}).fetchone()[0]
    return pages <= PREFIX_PAGES


def _highlighted(connection: sqlite3.Connection, values: dict[str, object]) -> dict[int, list[str]]:
    """The texts of these hits in pieces: every second one, from the second, matches."""
    mark = secrets.token_hex(16)  # nobody can have written what is chosen now
    rows = _snippets.decode(connection.execute(SNIPPETS, {**values, "mark": mark}).fetchone()[0])
    return {id: text.split(mark) for id, text in rows}
