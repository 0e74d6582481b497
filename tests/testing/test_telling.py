"""The push provider of the kit."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_chat import Push
from trio_chat.push.base import Gone, Misconfigured, RetryAfter, Sent, Target
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import ChatKit, RecordingProvider, open_test_chat

from ..support import no_task_left
from .test_kit import watched

pytest_plugins = ["trio_chat.testing.fixtures"]


@pytest.fixture
def chat_options() -> dict[str, Any]:
    """The chats of `chat_kit` tell who is away."""
    return {"push": True}


async def away_told_and_back(t: ChatKit) -> None:
    """The whole story: bob goes offline, is told, comes back, and has it; then nobody need be told any more."""
    alice, bob = await t.connect("alice"), await t.connect("bob", "phone")
    await t.register_push("bob", "phone")
    await t.register_push("bob", "tablet")
    await bob.leave()
    await alice.send("bob", "are you there?")
    await t.push.expect(user="bob", device="phone", peer="alice", unread=1, clear=False)
    await bob.reconnect()
    message = await bob.expect(sender="alice", text="are you there?")
    await bob.read(message)
    await t.push.expect(user="bob", device="tablet", clear=True, badge=0)


async def test_offline_push_reconnect_delivered_without_a_socket_or_a_thread(chat_clock: MockClock) -> None:
    """Else an application's most important test is slow, needs a network, or hangs on a virtual clock."""
    async with open_test_chat(push=True) as t:
        await away_told_and_back(t)  # whatever is imported only now is read from a file
    with watched() as made:
        async with no_task_left(), open_test_chat(push=True) as t:
            await away_told_and_back(t)
    assert made == []


async def test_an_attempt_is_expected_once_and_all_are_kept(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else two notifications look like one, or a second that should not have been goes unseen."""
    alice = await chat_kit.connect("alice")
    await chat_kit.register_push("bob", "phone")
    await chat_kit.register_push("bob", "tablet", target="somewhere")
    await alice.send("bob", "hi")
    tablet = await chat_kit.push.expect(device="tablet")
    assert tablet.target == Target(user="bob", device="tablet", provider="recording", kind="token", target="somewhere")
    await chat_kit.push.expect(user="bob")
    assert sorted(attempt.target.device for attempt in chat_kit.push.sent) == ["phone", "tablet"]
    assert {attempt.answer for attempt in chat_kit.push.sent} == {Sent()}
    with pytest.raises(AssertionError) as failure:
        await chat_kit.push.expect(device="phone", within=30)
    first, *told = str(failure.value).splitlines()
    assert [first, *sorted(told)] == [  # there is no order among devices
        "expected to be told to push device='phone', but was not within 30 s. It was told:",
        "    bob's phone of 1 unread from alice: 'alice', 'New message'; answered Sent(receipt='')",
        "    bob's tablet of 1 unread from alice: 'alice', 'New message'; answered Sent(receipt='')",
    ]
    await alice.send("bob", "and again")
    with pytest.raises(AttributeError, match="unraed"):
        await chat_kit.push.expect(unraed=2)


async def test_who_has_it_is_not_told(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else the kit tells more than the chat would, and a test of who is left alone cannot pass."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob", "phone")
    await chat_kit.register_push("bob", "phone")
    await alice.send("bob", "hi")
    await bob.expect(text="hi")
    await chat_kit.advance(60)
    assert chat_kit.push.sent == ()
    with pytest.raises(AssertionError, match=r"push anything, but was not within 60 s\. It was told: nothing"):
        await chat_kit.push.expect()


async def test_answers_are_as_a_test_wants_them(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else nobody can test what becomes of a phone that was thrown away, or of a provider that is down."""
    alice = await chat_kit.connect("alice")
    await chat_kit.register_push("bob")
    chat_kit.push.answer(RetryAfter(30, "busy"), Misconfigured("no key"), Gone("thrown away"))
    await alice.send("bob", "hi")
    busy = await chat_kit.push.expect(user="bob")
    began = trio.current_time()
    assert busy.answer == RetryAfter(30, "busy")
    again = await chat_kit.push.expect(user="bob")
    assert 30 <= trio.current_time() - began < 32
    assert (again.answer, again.notification.id) == (Misconfigured("no key"), busy.notification.id)
    assert (await chat_kit.push.expect(user="bob")).answer == Gone("thrown away")
    await chat_kit.advance(1)
    assert await chat_kit.chat.push_targets("bob") == ()
    await chat_kit.register_push("bob", target="a new phone")
    await alice.send("bob", "hi")
    assert (await chat_kit.push.expect(target="a new phone")).answer == Sent()


async def test_an_applications_own_rules_and_providers(chat_clock: MockClock) -> None:
    """Else an application tests rules that are not those it runs with."""
    ours = RecordingProvider("ours")
    rules = Push(providers=[ours], delay=1.0, include_text=True)
    async with open_test_chat(push=rules, store=MemoryStore()) as t:
        alice = await t.connect("alice")
        await t.register_push("bob", "phone")
        await t.chat.register_push("bob", "tablet", "ours", "token", "x")
        await alice.send("bob", "hi")
        await t.push.expect(device="phone", text="hi", within=3)
        await ours.expect(device="tablet", text="hi", within=3)
        assert await ours.check() == Sent()


async def test_a_chat_without_push_says_so(chat_clock: MockClock) -> None:
    """Else a test waits in vain for somebody to be told."""
    async with open_test_chat() as t:
        with pytest.raises(RuntimeError, match=r"push=True"):
            await t.register_push("bob", "phone")
