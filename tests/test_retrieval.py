"""What may be asked: the ranges, the combinations, and which end of the log a page begins at."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.errors import BadQuery
from trio_chat.model import MAX_SEQ, USER_LENGTH
from trio_chat.retrieval import PAGE, ConversationsQuery, HistoryQuery, SearchQuery, check, check_combination

AnyQuery = HistoryQuery | SearchQuery | ConversationsQuery


@pytest.mark.parametrize(
    "query",
    [
        HistoryQuery(),
        HistoryQuery(peer="x" * USER_LENGTH, before=MAX_SEQ, after=0, since=0, until=MAX_SEQ, direction="out", limit=PAGE),
        HistoryQuery(around=0, peer="bob", limit=1),
        HistoryQuery(ids=tuple(f"id{n}" for n in range(PAGE)), peer="bob", order="asc", since=5),
        HistoryQuery(unread=True, direction="in", order="desc"),
        SearchQuery(query="😀" * 256),
        ConversationsQuery(before=5, limit=1),
    ],
)
def test_what_may_be_asked(query: AnyQuery) -> None:
    """Else the application is refused what the documentation offers it."""
    assert check(query) == query


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (HistoryQuery(limit=0), "Expected `int` >= 1"),
        (HistoryQuery(limit=PAGE + 1), "Expected `int` <= 200"),
        (HistoryQuery(limit=True), "got `bool`"),
        (HistoryQuery(before=-1), ">= 0"),
        (HistoryQuery(since=MAX_SEQ + 1), "<= 9007199254740991"),
        (HistoryQuery(after=1.5), "got `float`"),  # type: ignore[arg-type]
        (HistoryQuery(peer=""), "length >= 1"),
        (HistoryQuery(peer="x" * (USER_LENGTH + 1)), "length <= 128"),
        (HistoryQuery(peer="b\x00b"), "without control characters"),
        (HistoryQuery(peer="b\ud800"), "half a surrogate pair"),
        (HistoryQuery(peer=object()), "got `object`"),  # type: ignore[arg-type]
        (HistoryQuery(peer=b"bob"), "got `bytes`"),  # type: ignore[arg-type]
        (HistoryQuery(ids=(uuid4(),)), "got `uuid`"),  # type: ignore[arg-type]
        (HistoryQuery(ids=()), "length >= 1"),
        (HistoryQuery(ids=("a",) * (PAGE + 1)), "length <= 200"),
        (HistoryQuery(ids=("a\ud800",)), "half a surrogate pair"),
        (HistoryQuery(direction="both"), "Invalid enum value"),  # type: ignore[arg-type]
        (SearchQuery(query=""), "length >= 1"),
        (SearchQuery(query="x" * 257), "length <= 256"),
        (SearchQuery(query="\udfff"), "half a surrogate pair"),
        (ConversationsQuery(limit=201), "<= 200"),
    ],
)
def test_what_is_out_of_range(query: AnyQuery, why: str) -> None:
    """Else an application's slip of the pen reaches the store, and is an error of SQLite's, or another question."""
    with pytest.raises(BadQuery, match=why) as refused:
        check(query)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) <= 200


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (HistoryQuery(around=5, before=9), "around excludes"),
        (HistoryQuery(around=5, after=1), "around excludes"),
        (HistoryQuery(around=5, order="desc"), "around excludes"),
        (HistoryQuery(ids=("a",), around=5), "ids excludes"),
        (HistoryQuery(ids=("a",), unread=True), "ids excludes"),
        (HistoryQuery(unread=True, direction="out"), "never unread"),
        (HistoryQuery(before=5, after=5), "before is not above after"),
        (HistoryQuery(before=4, after=5), "before is not above after"),
        (HistoryQuery(since=5, until=5), "until is not later"),
    ],
)
def test_what_excludes_itself(query: HistoryQuery, why: str) -> None:
    """Else a question that has no answer is answered by an empty page, and its author looks for the fault elsewhere."""
    for checked in (check, check_combination):
        with pytest.raises(BadQuery, match=why):
            checked(query)


def test_a_list_will_do_for_a_tuple() -> None:
    """Else `chat.history(user, ids=[…])`, which everybody writes, is answered differently from the same in a tuple."""
    assert check(HistoryQuery(ids=["a", "b"])) == HistoryQuery(ids=("a", "b"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "ascending"),
    [
        (HistoryQuery(), False),
        (HistoryQuery(before=9), False),
        (HistoryQuery(before=9, after=2), False),
        (HistoryQuery(unread=True), False),
        (HistoryQuery(after=2), True),
        (HistoryQuery(around=2), True),
        (HistoryQuery(after=2, order="desc"), False),
        (HistoryQuery(before=2, order="asc"), True),
    ],
)
def test_which_comes_first(query: HistoryQuery, ascending: bool) -> None:
    """Else a client that goes on from where it stands is given the other end of what it lacks."""
    assert query.ascending is ascending


@given(
    st.builds(
        HistoryQuery,
        before=st.none() | st.integers(-1, 5),
        after=st.none() | st.integers(-1, 5),
        around=st.none() | st.integers(0, 5),
        ids=st.none() | st.just(("a",)),
        unread=st.booleans(),
        direction=st.sampled_from([None, "in", "out"]),
        limit=st.integers(0, 3),
    )
)
def test_what_is_checked_once_is_good_for_ever(query: HistoryQuery) -> None:
    """Else the check changes what is asked, or says another thing of its own result."""
    try:
        checked = check(query)
    except BadQuery:
        return
    assert checked == query == check(checked)
    assert msgspec.convert(msgspec.structs.asdict(checked), HistoryQuery) == query
