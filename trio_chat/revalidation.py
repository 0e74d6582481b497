"""Asking the application again, while a connection lasts, whether it may go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import trio

from .core.batch import ConnectionId
from .errors import CloseCode, Refused
from .hooks import HookFailed, run_hook
from .model import Identity
from .settings import Settings

__all__ = ["Revalidate", "keep_asking"]

Revalidate: TypeAlias = Callable[[Identity], Awaitable[None]]
"""Returns None if the connection of this identity may go on, or raises `Refused`."""

_GOLDEN: Final = 0.6180339887498949
"""Its multiples, modulo 1, spread evenly however many there are: the phases of connections that came at the same moment."""


class _Closable(Protocol):
    connection: ConnectionId

    def close(self, code: CloseCode, reason: str) -> None: ...


async def keep_asking(
    revalidate: Revalidate, identity: Identity, session: _Closable, settings: Settings, limiter: trio.CapacityLimiter
) -> None:
    """Ask `revalidate` about a connection at the settings' interval, and close it when the answer is no.

    A hook that fails or takes too long is asked again at the next turn. But a connection that could not be vouched for
    within ``settings.revalidate_grace`` seconds, because the hook failed or was not reached, is closed with 1011: its client
    comes back and is authenticated anew, or waits until that works again.

    Returns when the session was told to close; run it beside the session and cancel it afterwards.
    """
    interval = settings.revalidate_interval
    vouched = trio.current_time()
    due = vouched + session.connection * _GOLDEN % 1 * interval
    while True:
        with trio.move_on_at(vouched + settings.revalidate_grace) as grace:
            await trio.sleep_until(due)
            async with limiter:
                asked = trio.current_time()
                try:
                    await run_hook(
                        "revalidate",
                        revalidate,
                        identity,
                        seconds=settings.hook_timeout,
                        returns=type(None),
                        answers=(Refused,),
                    )
                    vouched = asked
                except Refused:
                    session.close(CloseCode.UNAUTHORIZED, "no longer authorised")
                    return
                except HookFailed:
                    pass  # logged; the connection stays until the next turn, or until its grace is over
        if grace.cancelled_caught:
            session.close(CloseCode.INTERNAL, "")
            return
        due = max(due + interval, trio.current_time())
