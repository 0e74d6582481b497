"""A crowd in the backlog."""

from __future__ import annotations

from contextlib import ExitStack

import trio
import trio.testing

from trio_chat.admission import Admission
from trio_chat.settings import Settings
from trio_chat.transport.patient import PatientListener


async def test_a_crowd_waits_for_its_turn() -> None:
    """Else a new server refuses everybody in the backlog but the first 200, and a restart has thrown them out."""
    admission = Admission(Settings(half_open=10))
    (listening,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listening.socket.getsockname()
    async with PatientListener(listening, admission) as listener, trio.open_nursery() as nursery:
        accepted = trio.Event()

        async def accept() -> None:
            async with await listener.accept():
                accepted.set()

        crowd = [await trio.open_tcp_stream(*address) for _ in range(2)]
        with ExitStack() as busy:
            busy.enter_context(admission.handshake())
            busy.enter_context(admission.handshake())
            await accept()  # two are under way and eight places are left
            accepted = trio.Event()
            third = busy.enter_context(ExitStack())
            third.enter_context(admission.handshake())
            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            assert not accepted.is_set()
            third.close()
            with trio.fail_after(5):
                await accepted.wait()
        for one in crowd:
            await one.aclose()


async def test_few_places_are_no_standstill() -> None:
    """With fewer places than are left free, nobody would ever be accepted."""
    admission = Admission(Settings(half_open=1))
    with trio.fail_after(5):
        await admission.wait_for_handshakes(8)
