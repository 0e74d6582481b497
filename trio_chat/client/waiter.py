"""Somebody waits for an answer."""

from __future__ import annotations

from typing import Any

import anyio
from msgspec import Struct

from ..errors import ChatError

__all__ = ["Waiter"]


class Waiter(Struct, eq=False):
    """Who waits for the fate of a command, or for the answer to a request: any number of tasks, or none any more."""

    done: anyio.Event
    answer: Any = None
    error: ChatError | None = None
    waiting: int = 0

    async def outcome(self) -> Any:
        self.waiting += 1
        try:
            await self.done.wait()
        finally:
            self.waiting -= 1
        if self.error is not None:
            raise self.error
        return self.answer
