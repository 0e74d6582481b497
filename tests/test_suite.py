"""The suite itself: that tests run where they believe they run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import trio_chat


async def test_coroutine_tests_run_under_trio() -> None:
    """If this fails, every asynchronous test runs on another backend than its name says, or not at all."""
    assert trio.lowlevel.in_trio_run()


@settings(max_examples=2)
@given(number=st.integers())
async def test_property_tests_run_under_trio(number: int) -> None:
    """If this fails, hypothesis calls a coroutine function and throws the coroutine away: the test tests nothing."""
    assert isinstance(number, int)
    assert trio.lowlevel.in_trio_run()


async def test_the_virtual_clock_jumps(autojump_clock: trio.testing.MockClock) -> None:
    """If this fails, tests that wait for time really wait for it."""
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    before = trio.current_time()
    with trio.move_on_after(3600) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - before >= 3600


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_anyio_tests_run_on_the_backend_they_name(anyio_backend: str) -> None:
    """If this fails, what claims to work on both backends was only tried on one."""
    assert trio.lowlevel.in_trio_run() is (anyio_backend == "trio")
    if anyio_backend == "asyncio":
        assert asyncio.current_task()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})])
async def test_anyio_tests_can_have_the_virtual_clock(anyio_backend: tuple[str, object]) -> None:
    """If this fails, tests of the client that wait for time really wait for it."""
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)


def test_the_copy_under_test_is_the_one_it_should_be() -> None:
    """If this fails, the tests of the built wheel test the checkout, and what the wheel lacks stays unnoticed."""
    checkout = Path(__file__).parents[1] / "trio_chat" / "__init__.py"
    assert trio_chat.__file__ == os.environ.get("TRIO_CHAT_INSTALLED", str(checkout))  # set by nox
