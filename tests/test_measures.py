"""Counting in classes."""

from __future__ import annotations

from trio_chat.measures import Measure


def test_values_fall_into_their_classes() -> None:
    """A dashboard would show a fast disk as a slow one, or the other way round."""
    measure = Measure((1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 1.5, 4.0, 9.0):
        measure.observe(value)
    seen = measure.distribution()
    assert seen.counts == (2, 1, 1, 1)
    assert (seen.count, seen.sum, seen.max) == (5, 16.0, 9.0)
    assert seen.mean == 3.2


def test_quantiles_are_told_from_above() -> None:
    """Else who asks for the 99th percentile is told a better one than it was."""
    measure = Measure((1.0, 2.0, 4.0))
    assert measure.distribution().quantile(0.5) == 0.0
    assert measure.distribution().mean == 0.0
    for value in (0.5, 1.5, 1.6, 3.0):
        measure.observe(value)
    seen = measure.distribution()
    assert [seen.quantile(share) for share in (0.25, 0.5, 0.75, 0.99)] == [1.0, 2.0, 2.0, 3.0]
    measure.observe(100.0)
    assert measure.distribution().quantile(1.0) == 100.0
