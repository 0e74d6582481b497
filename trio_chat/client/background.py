"""Tasks that serve a block, on either event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc

__all__ = ["leaves", "open_background"]


@asynccontextmanager
async def open_background() -> AsyncIterator[anyio.abc.TaskGroup]:
    """Tasks for what serves the block: they are cancelled at the end, and what the block raises leaves as it is."""
    body: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except BaseException as error:
                body = error
                raise
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if body is None or not leaves(group) <= leaves(body):
            raise
    if body is not None:
        raise body


def leaves(error: BaseException) -> set[int]:
    """The exceptions in a group, however deep: a task group makes the groups anew, but not what is in them."""
    if isinstance(error, BaseExceptionGroup):
        return {leaf for inner in error.exceptions for leaf in leaves(inner)}
    return {id(error)}
