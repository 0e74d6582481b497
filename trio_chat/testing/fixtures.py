"""Fixtures for pytest, for who asks for them: ``pytest_plugins = ["trio_chat.testing.fixtures"]`` in the root conftest.

They are the same under pytest-trio and under AnyIO's plugin on the trio backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trio.testing import MockClock

from .kit import ChatKit, open_test_chat

__all__ = ["chat_clock", "chat_kit", "chat_options"]


@pytest.fixture
def chat_clock() -> MockClock:
    """A virtual clock that jumps to the next deadline when nobody has anything to do.

    pytest-trio takes it for the clock of each test that names it; for AnyIO's plugin, the fixture `anyio_backend` has to
    name it.
    """
    return MockClock(autojump_threshold=0)


@pytest.fixture
def chat_options() -> dict[str, Any]:
    """The arguments of `open_test_chat` for `chat_kit`: none. To be overridden where others are wanted."""
    return {}


@pytest.fixture
async def chat_kit(chat_options: dict[str, Any]) -> AsyncIterator[ChatKit]:  # noqa: ASYNC900  (the plugins close it)
    """`open_test_chat` around the test."""
    async with open_test_chat(**chat_options) as kit:
        yield kit
