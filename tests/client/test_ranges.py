"""The set of numbers that mostly lie side by side, against Python's own set."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from trio_chat.client.ranges import Ranges

numbers = st.integers(0, 20)
STEPS = st.one_of(
    st.tuples(st.just("add"), numbers, numbers),
    st.tuples(st.sampled_from(["forget", "pop_through", "discard"]), numbers, st.just(0)),
)


@given(first=st.sets(numbers), steps=st.lists(STEPS, max_size=12))
def test_it_holds_what_a_set_holds(first: set[int], steps: list[tuple[str, int, int]]) -> None:
    """Else something is taken for acknowledged that is not, or never is."""
    ranges, model = Ranges(first), set(first)
    for what, number, other in steps:
        if what == "add":
            low, high = sorted((number, other))
            ranges.add(low, high)
            model |= set(range(low, high + 1))
        elif what == "discard":
            ranges.discard(number)
            model.discard(number)
        elif what == "forget":
            ranges.forget(number)
            model = {member for member in model if member > number}
        else:
            expected = number
            while expected + 1 in model:
                expected += 1
            assert ranges.pop_through(number) == expected
            model = {member for member in model if member > expected}
        assert {member for low, high in ranges for member in range(low, high + 1)} == model
        assert all((member in ranges) is (member in model) for member in range(25))
        assert len(ranges) == sum(member - 1 not in model for member in model)
    ranges.clear()
    assert len(ranges) == 0
