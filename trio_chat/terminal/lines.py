"""``trio-chat chat`` as a filter: lines in, messages out; messages in, lines out."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.abc

from ..client import ChatClient, RequestRefused
from .options import Access
from .outcome import FAILED, UNREACHABLE, Failure, say
from .pipes import lines_of_input, write_line
from .visible import visible
from .watch import Watch

__all__ = ["converse"]

_LOOK_AGAIN: Final = 0.05
_UNDER_WAY: Final = 64
"""Lines that are read and not yet stored: no more are read while there are so many."""


async def converse(access: Access, peer: str, wait: float) -> None:
    """Send each line of standard input to `peer` and print what comes from there, until all of the input is stored.

    Args:
        access: the way to the server.
        peer: the other one.
        wait: once the input has ended, seconds without anything being stored after which to give up.

    Raises:
        Failure: a line was refused, or is not stored.
    """
    async with access.open() as client, anyio.create_task_group() as tasks:
        watch = Watch(client)
        tasks.start_soon(watch.run)
        sender = _Sender(client, peer)
        async with anyio.create_task_group() as printing:
            printing.start_soon(_print, client, peer)
            await sender.run(wait)
            printing.cancel_scope.cancel()
        held = client.statistics()
        left = held.unwritten + held.pending
        await watch.leave()
    if left:
        kept = f"they are kept in {access.state}, for the next send or chat" if access.state else "they may be stored"
        raise Failure(f"{left} not known to be stored: {watch.unreachable()}; {kept}", UNREACHABLE)
    if sender.refused or watch.undelivered:
        raise Failure(f"{sender.refused + watch.undelivered} refused", FAILED)


async def _print(client: ChatClient, peer: str) -> None:
    async for message in client.messages(own=True):  # own ones, for the sake of those to oneself
        if message.recipient != client.user:
            continue
        if message.sender == peer:
            await write_line(visible(message.text or ""))
        else:  # this device will not be given it again
            say(f"{visible(message.sender)} writes: {visible(message.text or '')}")


class _Sender:
    """Sends lines in their order, some at a time."""

    def __init__(self, client: ChatClient, peer: str) -> None:
        self._client = client
        self._peer = peer
        self._room = anyio.Semaphore(_UNDER_WAY)
        self._patience = anyio.CancelScope()
        self._wait = 0.0
        self.refused = 0

    async def run(self, wait: float) -> None:
        """Send all lines of the input; for how long to go on after its end, see `converse`."""
        with self._patience:
            async with lines_of_input() as lines, anyio.create_task_group() as tasks:
                number = 0
                async for line in lines:
                    number += 1
                    if line:
                        await self._room.acquire()
                        await tasks.start(self._send, number, line)
                self._wait = wait
                self._progress()
            while self._client.statistics().pending:  # noqa: ASYNC110  (left by an earlier process: nobody tells)
                await anyio.sleep(_LOOK_AGAIN)

    async def _send(self, number: int, line: bytes, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()  # and only then others run: the order of the lines is that of the calls of `send`
        try:
            await self._client.send(self._peer, line.decode())
        except UnicodeDecodeError:
            self._refuse(number, "it is not UTF-8")
        except RequestRefused as error:
            self._refuse(number, str(error))
        self._room.release()
        self._progress()

    def _refuse(self, number: int, why: str) -> None:
        self.refused += 1
        say(visible(f"line {number} was refused: {why}"))

    def _progress(self) -> None:
        if self._wait:
            self._patience.deadline = anyio.current_time() + self._wait
