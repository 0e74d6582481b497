"""Who is told of a message, when, how often, and what is made of a provider's answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.chat import Chat, open_chat
from trio_chat.errors import BadFrame, ConfigurationError, RowRefused, StoreBusy, StoreFull
from trio_chat.model import Message
from trio_chat.push.base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent, Target
from trio_chat.push.dispatcher import Backlog
from trio_chat.push.settings import Push
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server

from ..support import HeldStore, enter, entries


class Fake:
    """A provider that answers what it is told to, and remembers what it was asked for."""

    def __init__(
        self, name: str = "fake", answer: Callable[[Notification], Outcome] = lambda _: Sent(), takes: float = 0
    ) -> None:
        self.name = name
        self.answer = answer
        self.takes = takes
        self.asked: list[tuple[str, Notification]] = []
        self.at: list[float] = []
        self.most = self.now = 0
        self.begun = trio.Event()

    def check_target(self, kind: str, target: str) -> None:
        if kind != "token":
            raise ValueError("only tokens")

    async def send(self, target: Target, notification: Notification) -> Outcome:
        self.asked.append((target.device, notification))
        self.at.append(trio.current_time())
        self.begun.set()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self.takes)
        finally:
            self.now -= 1
        return self.answer(notification)

    async def check(self) -> Sent:
        return Sent()

    def told(self) -> list[tuple[str, int, int, bool]]:
        return [(device, one.unread, one.badge, one.clear) for device, one in self.asked]


def clock() -> int:
    return round(trio.current_time() * 1000)


@asynccontextmanager
async def chatting(fake: Fake, store: MemoryStore | None = None, **options: Any) -> AsyncIterator[Chat]:
    push = Push(providers=[fake], **options)
    async with open_chat(store or MemoryStore(), push=push, clock=clock) as chat:
        await chat.register_push("bob", "phone", "fake", "token", "secret")
        yield chat


async def burst(chat: Chat, count: int = 1, sender: str = "alice") -> None:
    for n in range(count):
        await chat.send(sender, "bob", f"text {n}")


async def test_a_burst_is_one_notification_and_reading_one_clear(autojump_clock: MockClock) -> None:
    """A phone would ring fifty times, show a wrong badge, or go on showing what was read at the desk."""
    fake = Fake()
    async with chatting(fake) as chat:
        await burst(chat, 50)
        await trio.sleep(60)
        assert fake.told() == [("phone", 50, 50, False)]
        first = fake.asked[0][1]
        assert (first.user, first.peer, first.title, first.body, first.text) == (
            "bob",
            "alice",
            "alice",
            "50 new messages",
            None,
        )
        assert len(first.collapse_key) <= 32
        assert 4.9 < fake.at[0] < 6.5
        await chat.mark_read("bob", "alice", 50)
        await trio.sleep(60)
        await chat.mark_read("bob", "alice", 50)
        await trio.sleep(60)
        assert fake.told()[1:] == [("phone", 0, 0, True)]
        assert fake.asked[1][1].collapse_key == first.collapse_key
        assert fake.asked[1][1].id != first.id
        figures = chat.statistics().push["fake"]
        assert (figures.sent, figures.cleared, figures.trying, figures.open) == (1, 1, 0, False)


async def test_read_at_the_desk_within_the_delay(autojump_clock: MockClock) -> None:
    """The phone would buzz while they read at the desk."""
    fake = Fake()
    async with chatting(fake) as chat:
        await burst(chat)
        await trio.sleep(2)
        await chat.mark_read("bob", "alice", 1)
        await trio.sleep(60)
        assert fake.asked == []
        assert chat.statistics().push["fake"].dropped == 1


async def test_a_device_that_has_acknowledged_is_silent(autojump_clock: MockClock) -> None:
    """The device in hand would ring for what it shows; or the other one would be silent for it."""
    fake = Fake()
    push = Push(providers=[fake])
    async with open_test_server(push=push, clock=clock) as server:
        await server.chat.register_push("bob", "phone", "fake", "token", "one")
        await server.chat.register_push("bob", "tablet", "fake", "token", "two")
        phone = await enter(server, "bob", "phone")
        await server.chat.send("alice", "bob", "hi")
        await entries(phone, 1)
        await phone.send(wire.Ack(seq=1))
        await trio.sleep(60)
        assert [device for device, _ in fake.asked] == ["tablet"]


async def test_mute_quiet_and_whose_devices(autojump_clock: MockClock) -> None:
    """Who asked for silence would be told; or who sends would be told of what they said."""
    fake = Fake()
    async with chatting(fake) as chat:
        await chat.mute("bob", "alice")
        await burst(chat)
        await burst(chat, sender="bob")
        await chat.send("bob", "alice", "mine")
        await trio.sleep(60)
        assert (await chat.push_preferences("bob")).muted == ("alice",)
        await chat.unmute("bob", "alice")
        await chat.set_quiet("bob", quiet=True)
        await burst(chat)
        await trio.sleep(60)
        assert fake.asked == []
        await chat.set_quiet("bob", quiet=False)
        await burst(chat)
        await trio.sleep(60)
        assert fake.told() == [("phone", 3, 3, False)]


async def test_what_was_deleted_is_not_announced(autojump_clock: MockClock) -> None:
    """What its sender took back would ring all the same."""
    fake = Fake()
    async with chatting(fake) as chat:
        sent = await chat.send("alice", "bob", "oops")
        await chat.delete("alice", "bob", sent.id)
        await trio.sleep(60)
        assert fake.asked == []
        assert (await chat.push_outbox("bob"))[0].answer == "read"


async def test_the_hooks_decide(autojump_clock: MockClock) -> None:
    """The application has no say; or a defect of it ends the server or silences everybody."""
    fake = Fake()
    asked: list[tuple[str | None, str]] = []

    async def should_push(message: Message, target: Target) -> bool:
        asked.append((message.text, target.device))
        if message.text == "broken":
            raise RuntimeError
        return message.text != "no"

    async def render(message: Message, unread: int) -> tuple[str, str]:
        if unread > 1:
            raise RuntimeError
        return "title", f"{message.text} {unread}"

    async with chatting(fake, should_push=should_push, render=render, include_text=True) as chat:
        for text in ("no", "broken"):
            await chat.send("alice", "bob", text)
            await trio.sleep(60)
        assert fake.asked == []
        await chat.send("carol", "bob", "yes")
        await trio.sleep(60)
        await chat.send("alice", "bob", "more")
        await trio.sleep(60)
        shown = [(one.title, one.body, one.text) for _, one in fake.asked]
        assert shown == [("title", "yes 1", "yes"), ("alice", "more", "more")]
        assert asked == [("no", "phone"), ("broken", "phone"), ("yes", "phone"), ("more", "phone")]


async def test_a_repeated_attempt_has_the_same_id_and_waits(autojump_clock: MockClock) -> None:
    """A provider that is busy would be hurried, told two things, or be told nothing more."""
    answers: list[Outcome] = [RetryAfter(33, "quota"), RetryAfter(None, "500"), Sent("r")]
    fake = Fake(answer=lambda _: answers.pop(0))
    async with chatting(fake) as chat:
        await burst(chat)
        await trio.sleep(20)
        (waiting,) = await chat.push_outbox()
        assert (waiting.answer, waiting.attempts) == ("quota", 1)
        await trio.sleep(600)
        assert len({one.id for _, one in fake.asked}) == 1
        first, second, third = fake.at
        assert 33 <= second - first < 36
        assert 10 <= third - second < 32
        assert (await chat.push_outbox("bob"))[0].answer == "sent r"
        figures = chat.statistics().push["fake"]
        assert (figures.retried, figures.alarms, figures.sent) == (2, 0, 1)


async def test_a_provider_that_is_down(autojump_clock: MockClock) -> None:
    """It would delay messages, be asked for ever or without rest, or end the server by what it raises."""

    def broken(_: Notification) -> Outcome:
        raise RuntimeError("boom")

    fake = Fake(answer=broken)
    async with chatting(fake, expiry=600.0) as chat:
        before = trio.current_time()
        await burst(chat, 3)
        for n in range(10):
            await burst(chat, sender=f"user{n}")
        assert trio.current_time() - before < 0.01
        await trio.sleep(20)
        assert chat.statistics().push["fake"].open
        await trio.sleep(3600)
        asked = len(fake.asked)
        assert 11 <= asked < 80
        assert await chat.push_outbox() == ()
        assert {one.answer for one in await chat.push_outbox("bob")} == {"expired"}
        await trio.sleep(3600)
        assert len(fake.asked) == asked


async def test_a_provider_that_hangs_or_answers_nonsense(autojump_clock: MockClock) -> None:
    """One attempt would take its place for ever."""
    fake = Fake(takes=1000)
    async with chatting(fake, concurrency=1) as chat:
        await burst(chat)
        await trio.sleep(16)
        assert (await chat.push_outbox())[0].answer == "no answer in time"
        fake.takes = 0
        fake.answer = lambda _: None  # type: ignore[assignment, return-value]
        await trio.sleep(30)
        assert (await chat.push_outbox())[0].answer == "the provider failed"


async def test_gone_forgets_the_target_unless_it_came_again(autojump_clock: MockClock) -> None:
    """A device that is gone would be tried for ever; one that has just come again would be forgotten."""
    fake = Fake(answer=lambda _: Gone("unregistered") if len(fake.asked) < 3 else Sent(), takes=1)
    async with chatting(fake) as chat:
        await burst(chat)
        await fake.begun.wait()
        await chat.register_push("bob", "phone", "fake", "token", "secret")
        await trio.sleep(60)
        assert len(fake.asked) == 2
        assert await chat.push_targets("bob") == ()
        assert chat.statistics().push["fake"].gone == 2


async def test_misconfigured_alarms_once_and_keeps_the_target(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key would cost all targets, fill the log, or go unnoticed."""
    good = False
    fake = Fake(answer=lambda _: Sent() if good else Misconfigured("bad key"))
    async with chatting(fake) as chat:
        await burst(chat)
        await trio.sleep(120)
        assert len(fake.asked) > 1
        figures = chat.statistics().push["fake"]
        assert (figures.misconfigured, figures.alarms, figures.retried) == ("bad key", len(fake.asked), 0)
        assert [record.getMessage() for record in caplog.records if "bad key" in record.getMessage()] == [
            "the push provider fake is not configured as it must be: bad key"
        ]
        good = True
        await trio.sleep(1000)
        assert chat.statistics().push["fake"].misconfigured is None
        assert len(await chat.push_targets("bob")) == 1


async def test_so_many_at_a_time_and_none_twice(autojump_clock: MockClock) -> None:
    """Ten thousand jobs would be ten thousand requests at once; or one would be begun again while it is under way."""
    fake = Fake(takes=0.5)
    async with chatting(fake, concurrency=4) as chat:
        for n in range(40):
            await burst(chat, sender=f"user{n}")
        await trio.sleep(60)
        assert fake.most == 4
        assert sorted(one.peer for _, one in fake.asked) == sorted(f"user{n}" for n in range(40))


async def test_one_provider_does_not_wait_for_another(autojump_clock: MockClock) -> None:
    """One that is down would silence all."""
    slow, quick = Fake("slow", takes=1000), Fake("quick")
    async with open_chat(MemoryStore(), push=Push(providers=[slow, quick]), clock=clock) as chat:
        await chat.register_push("bob", "phone", "slow", "token", "1")
        await chat.register_push("bob", "desk", "quick", "token", "2")
        await burst(chat)
        await trio.sleep(7)
        assert len(quick.asked) == len(slow.asked) == 1


async def test_what_waits_is_sent_after_a_restart(autojump_clock: MockClock) -> None:
    """Who was away while the server restarted would never be told; or be told twice of what was noted."""
    store, fake = MemoryStore(), Fake()
    async with chatting(fake, store) as chat:
        await burst(chat)
    assert fake.asked == []
    async with open_chat(store, push=Push(providers=[fake]), clock=clock):
        await trio.sleep(60)
        assert len(fake.asked) == 1
    async with open_chat(store, push=Push(providers=[fake]), clock=clock):
        await trio.sleep(60)
        assert len(fake.asked) == 1


async def test_an_attempt_under_way_may_end_when_the_chat_does(autojump_clock: MockClock) -> None:
    """What was sent would be sent again after each restart; or a provider that hangs would hold up the end."""
    store, fake = MemoryStore(), Fake(takes=0.5)
    async with chatting(fake, store) as chat:
        await burst(chat)
        await fake.begun.wait()
    async with open_chat(store, push=Push(providers=[fake]), clock=clock) as chat:
        await trio.sleep(60)
        assert len(fake.asked) == 1
        fake.takes, fake.begun = 1000, trio.Event()
        await burst(chat)
        await fake.begun.wait()
        began = trio.current_time()
    assert trio.current_time() - began < 3


async def test_a_note_that_cannot_be_written_is_kept(autojump_clock: MockClock) -> None:
    """What was sent would be sent again and again while the disk is full."""
    store, fake = MemoryStore(), Fake(takes=1)
    async with chatting(fake, store) as chat:
        await burst(chat)
        await fake.begun.wait()
        store.fail_next(StoreBusy("busy"), StoreFull("full"), StoreFull("full"))
        await trio.sleep(60)
        assert len(fake.asked) == 1
        assert await chat.push_outbox() == ()


async def test_a_note_that_can_never_be_written(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What was sent would be sent again and again; or the server would try for ever to note it."""
    store, fake = MemoryStore(), Fake(takes=1)
    async with chatting(fake, store) as chat:
        for refusals in (1, 2):
            fake.begun = trio.Event()
            await burst(chat, sender=f"user{refusals}")
            await fake.begun.wait()
            # Each time the batch is refused, and then the row.
            store.fail_next(*[RowRefused("no") for _ in range(2 * refusals)])
            await trio.sleep(60)
            assert len(fake.asked) == refusals
        answers = {one.peer: one.answer for one in await chat.push_outbox("bob")}
        assert answers == {"user1": "it could not be kept", "user2": ""}
        assert "not tried again before a restart" in caplog.text
        await burst(chat, sender="carol")
        await trio.sleep(60)
        assert [one.peer for _, one in fake.asked] == ["user1", "user2", "carol"]
    async with open_chat(store, push=Push(providers=[fake]), clock=clock):
        await trio.sleep(60)
        assert [one.peer for _, one in fake.asked[3:]] == ["user2"]


async def test_an_outbox_that_cannot_be_read(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails once would end the server, or nobody would be told of anything any more."""
    store, fake = MemoryStore(), Fake()
    failing = {"due": 1, "next": 1, "length": 1}

    def flaky(name: str) -> Any:
        real = getattr(store.outbox, name)

        async def call(*values: Any) -> Any:
            if failing[name]:
                failing[name] -= 1
                raise StoreBusy(f"{name} failed")
            return await real(*values)

        return call

    for name in failing:
        monkeypatch.setattr(store.outbox, name, flaky(name))
    async with chatting(fake, store) as chat:
        await burst(chat)
        await trio.sleep(60)
        assert len(fake.asked) == 1
        assert failing == {"due": 0, "next": 0, "length": 0}
        for name in failing:
            assert f"{name} failed" in caplog.text


async def test_how_much_waits(autojump_clock: MockClock) -> None:
    """An operator would not see that nobody has been told for an hour."""
    answer: list[Outcome] = [RetryAfter(100, "busy")]
    fake = Fake(answer=lambda _: answer[0])
    async with chatting(fake) as chat:
        assert chat.statistics().outbox == Backlog(0, 0.0)
        await burst(chat)
        await burst(chat, sender="carol")
        await trio.sleep(60)
        waits = chat.statistics().outbox
        assert waits.length == 2
        assert 59 < waits.age < 62
        answer[0] = Sent()
        await trio.sleep(120)
        assert chat.statistics().outbox == Backlog(0, 0.0)
    async with open_chat(MemoryStore()) as chat:
        assert chat.statistics().outbox == Backlog(0, 0.0)


@pytest.mark.parametrize(
    "answer",
    [RetryAfter(float("nan"), "x"), RetryAfter(float("inf"), "x"), RetryAfter("5", "x"), Sent(None), Gone(5), object()],  # type: ignore[arg-type]
    ids=repr,
)
async def test_a_provider_that_breaks_the_rules(autojump_clock: MockClock, answer: Outcome) -> None:
    """A defect of the application's provider would end the server."""
    fake = Fake(answer=lambda _: answer)
    async with chatting(fake) as chat:
        await burst(chat)
        await trio.sleep(7)
        (waiting,) = await chat.push_outbox()
        assert (waiting.answer, waiting.attempts) == ("the provider failed", 1)


class Hosts(Fake):
    """A provider that asks another host for each device."""

    def host(self, target: Target) -> str:
        return target.device


async def test_a_hostile_host_hurts_itself_alone(autojump_clock: MockClock) -> None:
    """One endpoint of eve's that answers 503 would silence everybody's browsers."""
    fake = Hosts()
    push = Push(providers=[fake])

    async def send(target: Target, notification: Notification) -> Outcome:
        fake.asked.append((target.device, notification))
        return RetryAfter(None, "503") if target.device == "evil" else Sent()

    fake.send = send  # type: ignore[method-assign]
    async with open_chat(MemoryStore(), push=push, clock=clock) as chat:
        await chat.register_push("eve", "evil", "fake", "token", "1")
        await chat.register_push("bob", "good", "fake", "token", "2")
        for n in range(20):
            await chat.send(f"user{n}", "eve", "hi")
        await trio.sleep(7)
        figures = chat.statistics().push["fake"]
        assert (figures.open, figures.resting) == (False, 1)
        assert "503" in {one.answer for one in await chat.push_outbox("eve")}
        await chat.send("alice", "bob", "hi")
        await trio.sleep(7)
        assert [device for device, _ in fake.asked if device == "good"] == ["good"]
        before = len(fake.asked)
        await chat.send("another", "eve", "hi")
        await trio.sleep(15)
        assert len(fake.asked) == before, "it is left alone"
        (waiting,) = [one for one in await chat.push_outbox("eve") if one.peer == "another"]
        assert (waiting.attempts, waiting.answer) == (0, "its push service is left alone for a while")
        await trio.sleep(4500)
        tried = len(fake.asked) - before
        assert 3 < tried < 300, "one at a time finds out whether it is back"
        assert await chat.push_outbox() == ()


@pytest.mark.parametrize("step", ["should_push", "render", "send", "commit"])
async def test_the_end_in_each_step(autojump_clock: MockClock, step: str) -> None:
    """A chat that ends while an attempt is at some step would hang, or lose the job."""
    reached = trio.Event()

    async def stay(where: str) -> None:
        if where == step:
            reached.set()
            await trio.sleep_forever()

    async def should_push(message: Message, target: Target) -> bool:
        await stay("should_push")
        return True

    async def render(message: Message, unread: int) -> tuple[str, str]:
        await stay("render")
        return "title", "body"

    fake = Fake()
    if step == "send":
        fake.takes = float("inf")
        reached = fake.begun
    store = HeldStore()
    with trio.fail_after(30), trio.CancelScope() as scope:
        async with chatting(fake, store, should_push=should_push, render=render) as chat:
            await burst(chat)
            if step == "commit":
                await trio.sleep(4)
                store.hold()
                await fake.begun.wait()
                await wait_all_tasks_blocked()
                store.release()
            else:
                await reached.wait()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    again = Fake()
    async with open_chat(store, push=Push(providers=[again]), clock=clock):
        await trio.sleep(60)
        assert len(again.asked) <= 1
        assert len(again.asked) == 1 or step == "commit"


async def test_what_cannot_be_a_target_is_refused(autojump_clock: MockClock) -> None:
    """What no provider can use would be tried for ever."""
    async with chatting(Fake()) as chat:
        for provider, kind, target in (
            ("none", "token", "t"), ("fake", "fid", "t"), ("fake", "token", ""), ("fake", "token", "\ud800"),
            ("fake", "token", "a\0"), ("fake", "token", "x" * 5000),
        ):  # fmt: skip
            with pytest.raises(BadFrame):
                await chat.register_push("bob", "phone", provider, kind, target)
        with pytest.raises(BadFrame):
            await chat.mute("", "bob")
        store = chat._store
        assert isinstance(store, MemoryStore)
        store.fail_next(StoreBusy("busy"))
        with pytest.raises(StoreBusy):
            await chat.mute("bob", "alice")
        await chat.unregister_push("bob", device="phone")
        assert await chat.push_targets("bob") == ()
    async with open_chat(MemoryStore()) as chat:
        with pytest.raises(ConfigurationError):
            await chat.mute("bob", "alice")
        assert chat.statistics().push == {}


async def test_revoking_forgets_targets(autojump_clock: MockClock) -> None:
    """Who was thrown out would go on hearing of messages."""
    fake = Fake()
    async with chatting(fake) as chat:
        await burst(chat)
        chat.revoke("bob", "phone")
        await trio.sleep(60)
        assert fake.asked == []
        assert await chat.push_targets("bob") == ()


@pytest.mark.parametrize(
    "options",
    [{"delay": -1}, {"concurrency": 0}, {"timeout": 0}, {"expiry": 0}, {"hook_timeout": 0}, {"providers": [Fake(), Fake()]}],
)
async def test_settings_are_checked(options: dict[str, Any]) -> None:
    """A slip of the pen would be found out in the night."""
    with pytest.raises(ConfigurationError):
        async with open_chat(MemoryStore(), push=Push(**{"providers": [Fake()], **options})):
            pytest.fail("the block was entered")
