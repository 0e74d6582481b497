"""What the metrics tell of push."""

from __future__ import annotations

import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from trio_chat.chat import Chat
from trio_chat.operations.metrics import Exposition
from trio_chat.push.base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent

from ..push.test_dispatcher import Fake, burst, chatting


def scraped(chat: Chat) -> dict[tuple[str, ...], float]:
    """What is told of push, by name and labels, without what is 0."""
    return {
        (
            sample.name.removeprefix("trio_chat_push_"),
            *(sample.labels[label] for label in ("provider", "answer") if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(Exposition(chat).text().decode())
        for sample in family.samples
        if "_push_" in sample.name and sample.value
    }


async def test_what_waits_and_what_was_answered(autojump_clock: MockClock) -> None:
    """Nobody would be told of messages for a day, and no panel would show it."""
    answers: list[Outcome] = [RetryAfter(33, "quota"), Sent("r"), Gone("unregistered")]
    fake = Fake(answer=lambda _: answers.pop(0))
    async with chatting(fake) as chat:
        await burst(chat)
        await trio.sleep(20)
        waiting = scraped(chat)
        assert 15 <= waiting.pop(("outbox_age_seconds",)) <= 20
        assert waiting == {("outbox_jobs",): 1, ("attempts_total", "fake", "later"): 1}
        await trio.sleep(60)
        told = {("attempts_total", "fake", "later"): 1.0, ("attempts_total", "fake", "sent"): 1.0}
        assert scraped(chat) == told
        await burst(chat)
        await trio.sleep(60)
        assert await chat.push_targets("bob") == ()
        assert scraped(chat) == told | {("attempts_total", "fake", "gone"): 1}


async def test_a_provider_in_trouble(autojump_clock: MockClock) -> None:
    """A key that was withdrawn, or a provider that is down, would raise no alarm."""
    good = False

    def answer(_: Notification) -> Outcome:
        return Sent() if good else Misconfigured("bad key")

    async with chatting(Fake(answer=answer), expiry=3600.0) as chat:
        for n in range(5):
            await burst(chat, sender=f"user{n}")
        await trio.sleep(20)
        troubled = scraped(chat)
        assert (troubled["misconfigured", "fake"], troubled["breaker_open", "fake"], troubled["outbox_jobs",]) == (1, 1, 5)
        assert troubled["attempts_total", "fake", "misconfigured"] == 5
        good = True
        await trio.sleep(1200)
        mended = scraped(chat)
        assert {name for name, *_ in mended} == {"attempts_total"}
        assert mended["attempts_total", "fake", "sent"] == 5
