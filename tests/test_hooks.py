"""Running a hook of the application: what it may do wrong, and who hears of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from trio_chat.errors import Refused
from trio_chat.hooks import HookFailed, HookTookTooLong, run_hook

Hook = Callable[[str], Awaitable[int]]


def raising(error: BaseException) -> Hook:
    async def hook(argument: str) -> int:
        await trio.lowlevel.checkpoint()
        raise error

    return hook


async def sleeps_forever() -> int:
    await trio.sleep_forever()


async def hangs(argument: str) -> int:
    return await sleeps_forever()


async def swallows_its_deadline(argument: str) -> int:
    with trio.CancelScope(shield=True):
        await trio.sleep(20)
    return 1


async def fails_when_cancelled(argument: str) -> int:
    async with trio.open_nursery() as nursery:

        async def fails() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("planted")

        nursery.start_soon(fails)
        await trio.sleep_forever()


async def answers(argument: str) -> int:
    await trio.sleep(1)
    return len(argument)


async def junk(argument: str) -> int:
    return "1"  # type: ignore[return-value]


def not_async(argument: str) -> int:
    return 1


async def run(hook: Hook) -> int:
    return await run_hook("the test", hook, "secret", seconds=5, returns=int, answers=(Refused,))


async def test_its_answer_is_given(autojump_clock: MockClock) -> None:
    """Else no hook decides anything."""
    assert await run(answers) == 6
    for group in (raising(Refused("no")), raising(Refused("no", status=403))):
        with pytest.raises(Refused, match="no"):
            await run(group)


FAILURES: dict[str, Hook] = {
    "raises": raising(ValueError("planted")),
    "raises a group": raising(ExceptionGroup("planted", [ValueError(), ExceptionGroup("more", [OSError()])])),
    "refuses in a group": raising(ExceptionGroup("planted", [Refused("no")])),
    "asyncio's cancellation": raising(asyncio.CancelledError()),
    "generator exit": raising(GeneratorExit()),
    "fails when cancelled": fails_when_cancelled,
    "junk": junk,
    "not async": not_async,  # type: ignore[dict-item]
}


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
async def test_whatever_else_it_does_is_a_failure(
    hook: Hook, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a bug in a hook ends a connection, the registry or the server, or counts as an answer (failures 28)."""
    with pytest.raises(HookFailed) as failed:
        await run(hook)
    assert not isinstance(failed.value, HookTookTooLong)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the test ")
    assert "secret" not in record.getMessage()


async def test_one_that_hangs_is_cancelled(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Else a lost connection to a database holds a client for ever, and nobody is told why."""
    with pytest.raises(HookTookTooLong):
        await run(hangs)
    assert trio.current_time() == 5
    assert [record.getMessage() for record in caplog.records] == ["the test took longer than 5 s"]


async def test_one_that_answers_in_spite_of_its_deadline_is_heard(autojump_clock: MockClock) -> None:
    """Else work that was done, and cannot be undone, is reported as not done."""
    assert await run(swallows_its_deadline) == 1


@pytest.mark.parametrize("hook", [hangs, fails_when_cancelled])
async def test_cancelling_is_not_a_failure_of_the_hook(hook: Hook, autojump_clock: MockClock) -> None:
    """Else a shutdown is taken for an answer, and goes on to the next hook."""
    with trio.move_on_after(1) as scope:
        await run(hook)
        raise AssertionError("went on")
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_what_is_to_end_the_process_does() -> None:
    """Else Ctrl-C at the wrong moment is logged as a failure of the application's."""
    with pytest.raises(KeyboardInterrupt):
        await run(raising(KeyboardInterrupt()))
