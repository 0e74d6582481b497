"""Finding messages by their words: one's own only, as they are now, whatever is typed."""

from __future__ import annotations

import secrets
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.core.batch import Batch
from trio_chat.retrieval import SearchHit, SearchQuery
from trio_chat.store import search as sqlite_search
from trio_chat.store.base import Store
from trio_chat.store.pages import OVERHEAD
from trio_chat.store.search import SLICE
from trio_chat.store.snippets import AROUND, BEFORE, shorten
from trio_chat.store.sqlite import SqliteStore
from trio_chat.store.words import words

from .asked import SIZE, Writer, all_hits
from .conftest import Backend, draft


async def hits(store: Store, user: str, query: str, **more: Any) -> list[SearchHit]:
    page = await store.search(user, SearchQuery(query=query, **more), size=SIZE)
    assert (page.next is not None) == page.more
    return list(page.hits)


async def found(store: Store, user: str, query: str, **more: Any) -> list[str]:
    return [hit.message.id for hit in await hits(store, user, query, **more)]


async def test_words_are_found_in_ones_own_messages(backend: Backend) -> None:
    """A search would find nothing, or something of others, or in the wrong order (I9)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1", "The quick brown fox")
        await writer.send("bob", "alice", "2", "jumps over the lazy dog")
        await writer.send("bob", "carol", "3", "the fox is mine")
        await writer.send("alice", "carol", "4", "Which fox?")
        await writer.send("alice", "alice", "5", "fox: remember")
        assert await found(store, "alice", "fox") == ["5", "4", "1"]
        assert await found(store, "alice", "FOX", peer="bob") == ["1"]
        assert await found(store, "alice", "fox", peer="alice") == ["5"]
        assert await found(store, "alice", "fox", peer="dave") == []
        assert await found(store, "alice", "fox", before=4) == ["4", "1"]
        assert await found(store, "alice", "fox", before=0) == []
        assert await found(store, "alice", "fox", before=1) == []
        assert await found(store, "bob", "the fox") == ["3", "1"]
        assert await found(store, "bob", "fox the") == ["3", "1"]
        assert await found(store, "bob", "mine alice") == []
        assert await found(store, "carol", "f") == ["4", "3"]
        assert await found(store, "carol", "f is") == []  # only the last one may be a beginning
        assert await found(store, "carol", "is f") == ["3"]
        assert await found(store, "dave", "fox") == []
        assert await found(store, "\ud800", "fox") == []


@pytest.mark.parametrize(
    "query",
    [
        '"', "'", '""', "*", "^", "(", ")", "-", "+", ":", "{}", "[", "\\", "%", "_", ";--", "\x00", "\ud800", "\U0001f600",
        "\u0301", "\u200b", "\xa0", "\n\t",
    ],
)  # fmt: skip
async def test_a_query_without_a_word_finds_nothing(backend: Backend, query: str) -> None:
    """It would raise, or find everything."""
    async with backend.open() as store:
        await Writer(store).send("alice", "bob", "1", f"text {query if query != chr(0xD800) else ''}")
        assert await hits(store, "alice", query) == []


@pytest.mark.parametrize(
    "query",
    [
        "text AND fox", "text OR missing", "NOT text", "text NOT fox", "NEAR(text fox)", "NEAR(text fox, 2)",
        "owners : u1s0",
        "u1s0", "text : fox", "{text owners} : fox", "- text : fox", "^fox", 'a "fox', "fox*", "(fox", "fox)", "fox + text",
        "c1", "rank", "fox'; DROP TABLE search", "text\x00fox", "fox \ud800 text",
    ],
)  # fmt: skip
async def test_nothing_that_is_typed_is_an_operator(backend: Backend, query: str) -> None:
    """A query could raise, leave out a condition, or look into the column that says whose a message is."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1", "text with a fox")
        await writer.send("alice", "bob", "2", "owners AND or Not near u1s0 c1 rank 2 missing drop table search fox text")
        asked = {word for word, _, _ in words(query)}
        there = {"1": "text with a fox", "2": "owners and or not near u1s0 c1 rank 2 missing drop table search fox text a"}
        expected = [id for id in ("2", "1") if asked <= {*there[id].split()}]
        if query != 'a "fox':
            assert await found(store, "alice", query) == expected
        else:
            assert await found(store, "alice", query) == ["1"]


async def test_words_of_any_script(backend: Backend) -> None:
    """Only English could be searched."""
    texts = [
        "Café zum Löwen",
        "Привет, мир",
        "مرحبا بالعالم",
        "שלום עולם",
        "你好，世界",
        "こんにちは 世界",
        "हिन्दी में",
        "year 2024",
        "x²",
    ]
    async with backend.open() as store:
        writer = Writer(store)
        for n, text in enumerate(texts):
            await writer.send("alice", "bob", str(n), text)
        for n, query in enumerate(["cafe lowen", "привет", "بالعالم", "שלום", "你好", "こん", "हिन्दी", "2024", "x"]):
            assert (query, (await found(store, "alice", query))[-1]) == (query, str(n))
        assert await found(store, "alice", "世界") == ["5", "4"]
        assert await found(store, "alice", "CAFÉ") == ["0"]


async def test_what_is_found_is_what_is_current(backend: Backend) -> None:
    """A text that was deleted or replaced would still be found, or its replacement would not (L5)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1", "apple")
        await writer.send("alice", "bob", "2", "apple pie")
        await writer.edit("alice", "bob", "3", "1", "banana")
        for user in ("alice", "bob"):
            assert await found(store, user, "apple") == ["2"]
            (hit,) = await hits(store, user, "banana")
            assert (hit.message.seq, hit.message.text, hit.message.edit_seq, hit.snippet) == (
                1, "banana", 3, ("", "banana", "")
            )  # fmt: skip
            assert await found(store, user, "p") == ["2"]
            assert await found(store, user, "b", before=3) == []
        await writer.edit("alice", "bob", "4", "1", "apple again")
        assert await found(store, "bob", "apple") == ["1", "2"]  # as of the edit
        page = await store.search("bob", SearchQuery(query="apple", limit=1), size=SIZE)
        assert (page.more, page.next) == (True, 4)
        await writer.delete("alice", "bob", "5", "1")
        for user in ("alice", "bob"):
            assert await found(store, user, "again") == []
            assert await found(store, user, "apple") == ["2"]


async def test_what_a_block_kept_away_is_found_by_its_sender_only(backend: Backend) -> None:
    """The blocked would notice it by searching, or the other would find what was kept away (B1)."""
    async with backend.open() as store:
        writer = Writer(store)
        await writer.send("eve", "alice", "1", "hello before")
        await writer.block("alice", "eve")
        await writer.send("eve", "alice", "2", "hello during")
        await writer.edit("eve", "alice", "3", "1", "hello edited")
        for more in ({}, {"peer": "alice"}):
            assert await found(store, "eve", "hello", **more) == ["1", "2"]
            assert await found(store, "eve", "edited", **more) == ["1"]
            assert await found(store, "eve", "before", **more) == []
        for more in ({}, {"peer": "eve"}):
            assert await found(store, "alice", "hello", **more) == ["1"]
            assert await found(store, "alice", "before", **more) == ["1"]
            assert await found(store, "alice", "edited", **more) == []


async def test_pages_of_hits(backend: Backend) -> None:
    """Going from page to page would miss hits, show some twice, or not end; or a page would not fit into a frame."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in range(7):
            await writer.send("alice", "bob", str(n), f"word {'x' * 100}")
            await writer.send("alice", "bob", f"other {n}", "something else")
        await writer.edit("alice", "bob", "edit", "2", "word")
        everything = ["2", "6", "5", "4", "3", "1", "0"]
        for limit in (1, 2, 3, 7, 100):
            got = await all_hits(store, "bob", SearchQuery(query="word", limit=limit))
            assert [hit.message.id for hit in got] == everything
        page = await store.search("bob", SearchQuery(query="word", before=13), size=2 * (105 + OVERHEAD))
        assert ([hit.message.id for hit in page.hits], page.more, page.next) == (["5", "4"], True, 9)
        got = await all_hits(store, "bob", SearchQuery(query="word"), size=0)
        assert [hit.message.id for hit in got] == everything


async def test_what_is_no_longer_held_is_not_found(backend: Backend) -> None:
    """A search would bring back what retention has removed from this log (L4)."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in range(4):
            await writer.send("alice", "bob", str(n), "word")
        backend.retain("bob", 2)
        assert await found(store, "bob", "word") == ["3", "2"]
        assert await found(store, "alice", "word") == ["3", "2", "1", "0"]
        assert await found(store, "bob", "word", before=3) == []


async def test_an_edit_of_what_is_no_longer_held_is_passed_over(backend: Backend) -> None:
    """The edit is in the log still, its message is not: a search would fail, or say for ever that there is more (L4)."""
    async with backend.open() as store:
        writer = Writer(store)
        for n in range(1, 7):
            await writer.send("alice", "bob", str(n), f"word {n}")  # 1 to 6
        await writer.edit("alice", "bob", "e4", "4", "word four")  # 7
        for n in (1, 2, 3, 5):
            await writer.edit("alice", "bob", f"e{n}", str(n), f"word again {n}")  # 8 to 11
        await writer.send("alice", "bob", "7", "word 7")  # 12
        backend.retain("bob", 3)
        assert await found(store, "alice", "word", limit=200) == ["7", "5", "3", "2", "1", "4", "6"]
        for limit in (1, 2, 3, 4, 5, 20):
            query = SearchQuery(query="word", limit=limit)
            for size in (0, SIZE):
                hits = await all_hits(store, "bob", query, size)
                assert [hit.message.id for hit in hits] == ["7", "5", "4", "6"]
                assert [hit.snippet[:2] for hit in hits] == [("", "word")] * 4
            page = await store.search("bob", SearchQuery(query="again", limit=limit), size=SIZE)
            assert ([hit.message.id for hit in page.hits], page.more, page.next) == (["5"], False, None)
        backend.retain("bob", 6)
        page = await store.search("bob", SearchQuery(query="again"), size=SIZE)
        assert (page.hits, page.more, page.next) == ((), False, None)


async def test_a_hit_that_the_index_gets_wrong_is_missed(path: Path) -> None:
    """A page would end for good where the index holds a text that is no longer current, or show that text."""
    async with SqliteStore(path) as store:
        writer = Writer(store)
        for n in range(1, 6):
            await writer.send("alice", "bob", str(n), "word")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE messages SET text = NULL WHERE id IN (3, 4)")
    async with SqliteStore(path) as store:
        page = await store.search("bob", SearchQuery(query="word", limit=2), size=SIZE)
        assert ([hit.message.id for hit in page.hits], page.more, page.next) == (["5"], True, 4)
        page = await store.search("bob", SearchQuery(query="word", limit=1, before=4), size=SIZE)
        assert ([hit.message.id for hit in page.hits], page.more, page.next) == ([], True, 3)
        assert [hit.message.id for hit in await all_hits(store, "bob", SearchQuery(query="word", limit=2))] == [
            "5",
            "2",
            "1",
        ]


async def test_a_snippet_shows_the_matches(backend: Backend) -> None:
    """Nobody would see why something was found; or a text could put marks of its own into the page (HTML, controls)."""
    async with backend.open() as store:
        writer = Writer(store)
        text = "<b>Foo</b> \x02foo\x03 [foo] \ue000foobar\ue001 <mark>bar</mark> 👩‍👩‍👧foo e\u0301foo"
        await writer.send("alice", "bob", "1", text)
        (hit,) = await hits(store, "bob", "bar foo")
        assert "".join(hit.snippet) == text
        assert hit.snippet[1::2] == ("Foo", "foo", "foo", "foobar", "bar", "foo") or hit.snippet[1::2] == (
            "Foo", "foo", "foo", "bar", "foo"
        )  # fmt: skip


async def test_a_mark_cannot_be_forged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who knows how matches are marked inside could have anything shown as one: so it is another mark each time."""
    marks: list[str] = []
    token_hex = secrets.token_hex

    def remembered(size: int) -> str:
        marks.append(token_hex(size))
        return marks[-1]

    monkeypatch.setattr(secrets, "token_hex", remembered)
    async with SqliteStore(path) as store:
        writer = Writer(store)
        await writer.send("alice", "bob", "1", "word")
        await hits(store, "bob", "word")
        mark = marks[-1]
        await writer.send("alice", "bob", "2", f"a {mark}forged{mark} word")
        (newer, older) = await hits(store, "bob", "word")
    assert newer.snippet == (f"a {mark}forged{mark} ", "word", "")
    assert older.snippet == ("", "word", "")
    assert marks[-1] != mark
    assert len(mark) == 32


async def test_a_snippet_of_a_long_text_is_short(backend: Backend) -> None:
    """Twenty hits in long texts would be a page of a megabyte of snippets."""
    async with backend.open() as store:
        await Writer(store).send("alice", "bob", "1", f"{'before ' * 500}match {'after ' * 500}")
        (hit,) = await hits(store, "bob", "match")
        assert hit.snippet[1] == "match"
        assert hit.snippet[0].startswith("before ")
        assert len(hit.snippet[0]) <= BEFORE
        assert hit.snippet[2].endswith("after")
        assert AROUND - 30 <= len("".join(hit.snippet)) <= AROUND


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([""], ("",)),
        (["x" * 500], ("x" * 500,)),
        (["short ", "match", ""], ("short ", "match", "")),
        (["", "m" * 500, ""], ("", "m" * AROUND)),
        (["x" * 500, "match", "y" * 500], ("x" * BEFORE, "match", "y" * (AROUND - BEFORE - 5))),
        (["x" * 500, "match", ""], ("x" * BEFORE, "match")),
        (["x" * 500, "match", " ", "match", "y" * 500], ("x" * BEFORE, "match", " ", "match", "y" * (AROUND - BEFORE - 11))),
        ([f"{'x' * 400} {'y' * 55}", "match", ""], ("y" * 55, "match")),
        (["", "m" * 190, f"{' ' * 4}{'y' * 400}"], ("", "m" * 190, " " * 3)),
        (["e\u0301" * 300, "match", ""], ("e\u0301" * (BEFORE // 2), "match")),
        (["x" + "e\u0301" * 300, "match", ""], ("e\u0301" * (BEFORE // 2), "match")),
        (["", "match", "👩‍👩‍👧" * 100], ("", "match", "👩‍👩‍👧" * 39)),
        (["", "match", "👍🏽" * 200], ("", "match", "👍🏽" * 97)),
        (["", "match", "🇩🇪" * 200], ("", "match", "🇩🇪" * 97)),
        (["🇩🇪" * 200, "match", ""], ("🇩🇪" * 30, "match")),
        (["🇩🇪" * 200 + "x", "match", ""], ("🇩🇪" * 29 + "x", "match")),
        (["", "m", "\u0301" * 500], ("", "m", "\u0301" * (AROUND - 1))),
        (["\u0301" * 500, "m", ""], ("", "m")),
    ],
)  # fmt: skip
def test_where_a_text_is_cut(pieces: list[str], expected: tuple[str, ...]) -> None:
    """A snippet would begin with half an emoji or with an accent without its letter, or would not end."""
    assert shorten(pieces) == expected


@given(st.lists(st.text(st.sampled_from("ab \n\u0301\u200d👍🏽🇩🇪"), max_size=150), min_size=3, max_size=9))
def test_a_cut_text_is_a_part_of_the_text(pieces: list[str]) -> None:
    """A snippet would show what was not said, mark what does not match, or be longer than it may be."""
    if not len(pieces) % 2:
        pieces = pieces[1:]
    cut = shorten(pieces)
    assert len("".join(cut)) <= AROUND
    assert "".join(cut) in "".join(pieces)
    for shown, piece in zip(cut, pieces, strict=False):
        assert shown in piece
    if pieces[1] and not unicodedata.combining(pieces[1][0]):
        assert cut[1][:1] == pieces[1][:1]


async def test_a_page_of_a_long_log_covers_a_part_of_it(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that others use often would be looked for in all of a long log; or what is far back would not be found."""
    monkeypatch.setattr(sqlite_search, "WORK", 3 * SLICE)  # one slice for a word, three for none
    async with backend.open() as store:
        batch = 512
        texts = {5: "rare needle", SLICE - 1: "needle edge", SLICE: "needle edge", 2 * SLICE + 5: "common needle"}
        for start in range(0, 2 * SLICE + 2 * batch, batch):
            drafts = tuple(
                draft("alice", "bob", str(n), texts.get(n, f"common {n}")) for n in range(start + 1, start + batch + 1)
            )
            await store.append(Batch(drafts=drafts), 1000)
        query = SearchQuery(query="needle", limit=3)
        assert [hit.message.seq for hit in await all_hits(store, "bob", query)] == [2 * SLICE + 5, SLICE, SLICE - 1, 5]
        query = SearchQuery(query="common 4", limit=200)
        by_word = [hit.message.seq for hit in await all_hits(store, "bob", query)]
        numbers = [n for n in range(2 * SLICE + 2 * batch, 0, -1) if str(n).startswith("4") and n not in texts]
        assert by_word == numbers
        assert await all_hits(store, "bob", SearchQuery(query="missing")) == []
        if isinstance(store, SqliteStore):
            page = await store.search("bob", SearchQuery(query="rare"), size=SIZE)
            assert (page.hits, page.more, page.next) == ((), True, 2 * SLICE)
        monkeypatch.setattr(sqlite_search, "WORK", 9 * SLICE)
        assert await found(store, "bob", "needle edge") == [str(SLICE), str(SLICE - 1)]
        assert await found(store, "bob", "needle", limit=200) == [str(2 * SLICE + 5), str(SLICE), str(SLICE - 1), "5"]
        backend.retain("bob", SLICE)
        assert [hit.message.seq for hit in await all_hits(store, "bob", SearchQuery(query="needle"))] == [2 * SLICE + 5]


async def test_a_beginning_that_too_many_words_have_is_taken_as_a_word(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single letter would have FTS5 put together all messages of all users before it finds the first."""
    async with SqliteStore(path) as store:
        writer = Writer(store)
        for n in range(20):
            await writer.send("alice", "bob", str(n), f"word{n} wor")
        assert len(await found(store, "bob", "wor", limit=50)) == 20
        assert len(await found(store, "bob", "word1", limit=50)) == 11
        monkeypatch.setattr(sqlite_search, "PREFIX_PAGES", -1)
        assert len(await found(store, "bob", "wor", limit=50)) == 20
        assert await found(store, "bob", "word1") == ["1"]
        assert await found(store, "bob", "wo") == []


def test_how_many_pages_of_the_index_words_with_a_beginning_fill(path: Path) -> None:
    """The estimate would be wrong, and with it what is too much: it reads tables that FTS5 keeps for itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE VIRTUAL TABLE search USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")

        def pages(beginning: str) -> int:
            start = b"0" + beginning.encode()
            (count,) = database.execute(sqlite_search.PAGES, {"start": start, "end": start + b"\xff"}).fetchone()
            return int(count)

        assert pages("a") == 0
        for _ in range(4):  # a segment each
            rows = [(f"apple {'banana' if n % 10 == 0 else ''} cherry{n} zoo",) for n in range(20_000)]
            database.execute("BEGIN")
            database.executemany("INSERT INTO search VALUES (?)", rows)
            database.execute("COMMIT")
        (size,) = database.execute("SELECT sum(length(block)) FROM search_data").fetchone()
        total = size / 4050
        assert pages("") == pytest.approx(total, rel=0.15)
        assert 4 * 10 < pages("a") < pages("c") < total
        assert pages("apple") == pytest.approx(pages("zoo"), rel=0.3)
        assert 1 <= pages("b") < pages("a") / 5
