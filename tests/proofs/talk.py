"""Clients that talk until they were told enough, or until the server is gone."""

from __future__ import annotations

import random

import trio

from .harness import until
from .ledger import Talker
from .warm import Forked


def make_few_talkers(numbers: random.Random) -> list[Talker]:
    """Two pairs that have little under way, so that there are many small commits."""
    names = (("a0", "b0"), ("b0", "a0"), ("a1", "b1"), ("b1", "a1"))
    return [Talker(*pair, random.Random(numbers.random()), in_flight=2, repeats=1) for pair in names]


async def talk(server: Forked, talkers: list[Talker], more: int) -> None:
    """Let them talk until the server has acknowledged so many more messages, or is gone."""
    enough = sum(len(talker.stored) for talker in talkers) + more
    for talker in talkers:
        talker.ended = trio.Event()
    async with trio.open_nursery() as nursery:
        for talker in talkers:
            nursery.start_soon(talker.talk, server.port)
        await until(
            lambda: sum(len(talker.stored) for talker in talkers) >= enough or all(t.ended.is_set() for t in talkers),
            "the clients do not get on",
        )
        nursery.cancel_scope.cancel()


async def ask_again(server: Forked, talker: Talker) -> None:
    """Let it send again what was not answered, and nothing else.

    What the server had written and not synchronised when it was killed is there now: it is only answered.
    """
    if talker.unanswered:
        talker.quiet = True
        talker.answered, talker.ended = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talker.talk, server.port)
            # Its answers may be the last that this server is to give.
            await until(lambda: talker.answered.is_set() or talker.ended.is_set(), "no answer")
            nursery.cancel_scope.cancel()
        talker.quiet = False
