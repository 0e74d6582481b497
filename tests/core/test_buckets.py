"""Token buckets, and whose they are."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from trio_chat.core.buckets import Allowances, Bucket
from trio_chat.settings import Settings


def test_a_burst_then_the_rate() -> None:
    """If this fails, the limits in the settings are not the limits in force."""
    bucket = Bucket(2.0, 3, 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == 0.5
    assert [bucket.take(1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]  # never more than its size


@given(
    rate=st.floats(0.001, 1000.0),
    size=st.integers(1, 50),
    start=st.floats(0.0, 1e7),
    pauses=st.lists(st.floats(0.0, 2.0), max_size=30),
)
def test_who_waits_as_told_gets_a_token(rate: float, size: int, start: float, pauses: list[float]) -> None:
    """If this fails, a client that obeys ``retry_after`` is refused again (and, being refused, for another second)."""
    now = start
    bucket = Bucket(rate, size, now)
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        if wait:
            now += wait
            assert bucket.take(now) == 0.0


@given(rate=st.floats(0.1, 100.0), size=st.integers(1, 20), steps=st.lists(st.floats(-5.0, 5.0), max_size=50))
def test_no_more_than_size_and_rate_allow(rate: float, size: int, steps: list[float]) -> None:
    """If this fails, a flood passes. A clock that steps back neither crashes nor stops it, and gives no tokens."""
    now, forward, taken = 100.0, 0.0, 0
    bucket = Bucket(rate, size, now)
    for step in [0.0] * size + steps:
        now += step
        forward += max(0.0, step)
        taken += bucket.take(now) == 0.0
    assert taken <= size + forward * rate + 1e-6


def test_a_clock_that_steps_back_takes_nothing_away() -> None:
    """If this fails, a user is locked out until the clock is where it was."""
    bucket = Bucket(1.0, 2, 100.0)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(40.0) == 0.0
    assert bucket.take(40.0) > 0.0
    assert bucket.take(41.0) == 0.0


def test_without_a_rate_there_is_no_limit() -> None:
    """If this fails, ``--rate-limit off`` still limits."""
    bucket = Bucket(None, 1, 0.0)
    assert all(bucket.take(0.0) == 0.0 for _ in range(1000))
    assert bucket.full(0.0)


def test_a_token_can_be_put_back() -> None:
    """If this fails, a device that only reconnects uses up what is meant for new ones; or the bucket overflows."""
    bucket = Bucket(1.0, 1, 0.0)
    assert bucket.take(0.0) == 0.0
    bucket.put_back()
    bucket.put_back()
    assert [bucket.take(0.0), bucket.take(0.0)] == [0.0, 1.0]


def test_buckets_outlive_a_reconnect() -> None:
    """If this fails, a reconnect is a way round the rate limit (C9)."""
    allowances = Allowances(Settings(send_burst=2))
    buckets = allowances.claim("alice", 0.0)
    assert not buckets.sends.take(0.0)
    assert not buckets.sends.take(0.0)
    allowances.give_back("alice", buckets, 0.0)
    assert allowances.claim("alice", 0.0) is buckets
    assert buckets.sends.take(0.0)


@pytest.mark.parametrize("kind", ["sends", "typing", "new_devices"])
def test_a_bucket_that_is_not_full_is_kept(kind: str) -> None:
    """If this fails, one of the limits is forgotten at a disconnect, or full buckets fill the memory of the departed."""
    allowances = Allowances(Settings())
    buckets = allowances.claim("alice", 0.0)
    allowances.give_back("alice", buckets, 0.0)
    assert allowances.claim("alice", 0.0) is not buckets
    getattr(buckets, kind).take(0.0)
    allowances.give_back("alice", buckets, 0.0)
    assert allowances.claim("alice", 0.0) is buckets


def test_the_memory_of_the_departed_is_bounded() -> None:
    """If this fails, every user who ever sent costs memory for ever (I6); who left first is forgotten first."""
    allowances = Allowances(Settings(connections=2))
    kept = {}
    for user in ("alice", "bob", "eve"):
        kept[user] = allowances.claim(user, 0.0)
        kept[user].sends.take(0.0)
    for user, buckets in kept.items():
        allowances.give_back(user, buckets, 0.0)
    assert allowances.claim("bob", 0.0) is kept["bob"]
    assert allowances.claim("eve", 0.0) is kept["eve"]
    assert allowances.claim("alice", 0.0) is not kept["alice"]


def test_without_a_rate_limit_every_bucket_is_off() -> None:
    """If this fails, a benchmark measures a limit (C9)."""
    buckets = Allowances(Settings(send_rate=None, send_burst=1, new_devices=1)).claim("alice", 0.0)
    for bucket in (buckets.sends, buckets.typing, buckets.new_devices):
        assert not any(bucket.take(0.0) for _ in range(100))


def test_more_than_one_token_at_a_time() -> None:
    """If this fails, a large text costs no more than a small one, or one that is told when to come back is refused again."""
    bucket = Bucket(10.0, 100, 0.0)
    assert bucket.take(0.0, 90) == 0.0
    assert bucket.take(0.0, 30) == 2.0
    assert bucket.take(2.0, 30) == 0.0
    assert bucket.take(2.0, 0) == 0.0
    assert bucket.take(12.0, 500) == 0.0, "it holds no more than 100"
    assert bucket.take(12.0, 500) == 10.0
