"""The two event loops, each on a virtual clock or on the real one."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest
from trio.testing import MockClock


class _Jumping(selectors.DefaultSelector):
    """Does not wait for time to pass, but lets it pass."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(timeout if timeout is None else 0)
        if timeout is not None and timeout > 0 and not events:
            self.now += timeout
        return list(events)


class VirtualLoop(asyncio.SelectorEventLoop):
    """What Trio's autojump clock is to Trio."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


@pytest.fixture(params=["trio", "asyncio"])
def virtual(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """For `anyio_backend`: no threads and no sockets, for time does not wait for them."""
    if request.param == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(params=["trio", "asyncio"])
def real(request: pytest.FixtureRequest) -> str:
    """For `anyio_backend`."""
    return str(request.param)
