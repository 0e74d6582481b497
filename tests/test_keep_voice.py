"""What an application says about what is kept, and what a chat does about it by itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_chat import ChatClosed, ConfigurationError, Retained, Settings, open_chat, wire
from trio_chat.errors import StoreBusy
from trio_chat.keeping import DAY, Advance, Retention
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_chat

NOW = 100 * DAY


async def test_what_is_old_goes_when_it_is_said() -> None:
    """The application's own timer, or a button in its administration, would have nothing to call."""
    times = iter([NOW, NOW + 1, NOW + 2, NOW + DAY + 1])
    seen: list[tuple[int, int]] = []
    async with open_chat(MemoryStore(), clock=lambda: next(times)) as chat:
        for n in range(3):
            await chat.send("alice", "bob", f"{n}")
        done = await chat.retain(days=1, undelivered_days=0, advance=lambda *now: seen.append(now))
        assert done == Retained(users=2, entries=2, messages=1)
        assert seen == [(2, 2)]
        assert [message.text for message in (await chat.history("bob")).messages] == ["2", "1"]
        with pytest.raises(ConfigurationError, match="retention: "):
            await chat.retain(per_user=0)
        await chat.drain()
        with pytest.raises(ChatClosed):
            await chat.retain(days=1)


async def test_undelivered_messages_stay_as_the_settings_say() -> None:
    """A call that says nothing about them would throw them away."""
    settings = Settings(undelivered_days=2)
    times = iter([NOW, NOW + DAY, NOW + 3 * DAY])
    async with open_chat(MemoryStore(), settings=settings, clock=lambda: next(times)) as chat:
        await chat.send("alice", "bob", "hi")
        assert await chat.retain(days=0.5) == Retained()
        assert await chat.retain(days=0.5) == Retained(users=2, entries=2, messages=1)


async def test_a_device_that_is_behind_is_told_of_one_gap(autojump_clock: MockClock) -> None:
    """It would wait for ever for what is gone, or believe that it has everything (C7)."""
    async with open_test_chat() as kit:
        bob = await kit.connect("bob", "phone")
        await kit.chat.send("alice", "bob", "0")
        await bob.expect(text="0")
        await bob.leave()
        for n in range(1, 6):
            await kit.chat.send("alice", "bob", f"{n}")
        await kit.advance(1)
        assert (await kit.chat.retain(per_user=2, undelivered_days=0)).entries == 8
        await bob.reconnect()
        gap = await bob.expect_frame(wire.Gap)
        assert (bob.welcome.floor, gap.first, gap.last) == (4, 2, 4)
        assert [(await bob.expect(text=text)).seq for text in ("4", "5")] == [5, 6]
        await bob.expect_nothing()


class _Counting(MemoryStore):
    """Notes what it is to retain, and fails now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.retained: list[tuple[float, Retention]] = []
        self.keeping.retain = self._retain  # type: ignore[method-assign]

    async def _retain(self, retention: Retention, now: int, advance: Advance) -> Retained:
        await trio.lowlevel.checkpoint()
        self.retained.append((trio.current_time(), retention))
        if len(self.retained) == 2:
            raise StoreBusy("somebody else has it")
        return Retained(users=1, entries=len(self.retained) - 1, messages=0, bytes=0)


async def test_a_chat_retains_by_itself(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What the settings promise would only be done by who calls for it; or one failure would be the end of it."""
    caplog.set_level(logging.INFO, "trio_chat.keeping")
    store = _Counting()
    settings = Settings(retain_days=7, retain_per_user=1000, retain_bytes=10**9, undelivered_days=9, retain_every=60)
    began = trio.current_time()
    async with open_chat(store, settings=settings):
        await trio.sleep(130)
    wanted = Retention(days=7, per_user=1000, max_bytes=10**9, undelivered_days=9)
    assert store.retained == [(began, wanted), (began + 60, wanted), (began + 120, wanted)]
    assert [record.getMessage() for record in caplog.records] == [
        "what is too old was not removed: somebody else has it",
        "2 entries left the logs of 1 users, 0 messages were removed, 0 bytes given back",
    ]


async def test_two_at_once_take_turns() -> None:
    """One would sweep away what the other counts."""
    running = 0

    class Watched(_Counting):
        async def _retain(self, *arguments: Any) -> Retained:
            nonlocal running
            running += 1
            assert running == 1
            await trio.testing.wait_all_tasks_blocked()
            running -= 1
            return Retained()

    async with open_chat(Watched()) as chat, trio.open_nursery() as nursery:
        nursery.start_soon(chat.retain)
        nursery.start_soon(chat.retain)


async def test_without_a_setting_nothing_is_retained() -> None:
    """Every chat would lose its oldest messages."""
    store = _Counting()
    async with open_chat(store):
        await trio.testing.wait_all_tasks_blocked()
    assert store.retained == []
