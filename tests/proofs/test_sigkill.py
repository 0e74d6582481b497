"""Promises 1, 3 and 4 under ``kill -9``: what was acknowledged is there, once, in its place."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from .harness import Server, serving
from .ledger import Entry, Talker, audit, judge, make_talkers, words

ROUNDS = 6  # at scale 1; 20 and more at scale 4
LONGEST = 1.2
"""Seconds of talk before the kill, at most."""
RESTART = 2.0
"""Seconds from the start of the process until it listens, as the median; at scale 1 twice as many, for a busy machine."""


async def talk_and_kill(server: Server, talkers: list[Talker], seconds: float) -> None:
    """Let everybody talk for so long, kill the server, and wait until everybody has noticed."""
    async with trio.open_nursery() as nursery:
        for talker in talkers:
            await nursery.start(talker.talk, server.port)
        await trio.sleep(seconds)
        await server.kill()


@pytest.mark.timed
async def test_what_was_acknowledged_survives_sigkill(
    tmp_path: Path, seed: int, scale: float, figures: Callable[[str], None]
) -> None:
    """If this fails, a crash loses, doubles or renumbers a message that somebody was told is safe."""
    numbers = random.Random(seed)
    talkers = make_talkers(numbers)
    logs: dict[str, list[Entry]] = {}
    restarts = []
    resent = 0
    rounds = max(2, round(ROUNDS * scale)) if scale < 4 else max(20, round(5 * scale))
    for number in range(rounds):
        async with serving(tmp_path / "chat.db") as server:
            restarts.append(server.starting)
            # Before anybody sends again: that would hide a loss.
            await audit(server.port, talkers, logs)
            assert not judge(talkers, logs), f"after kill {number}, seed {seed}"
            resent += sum(len(talker.unanswered) for talker in talkers)
            await talk_and_kill(server, talkers, numbers.uniform(0.01, LONGEST))
            assert all(talker.stored for talker in talkers) or number < rounds - 1
    async with serving(tmp_path / "chat.db") as server:
        # What was not answered is sent again, and nothing else.
        async with trio.open_nursery() as nursery:
            for talker in talkers:
                talker.quiet = True
                await nursery.start(talker.talk, server.port)
            with trio.fail_after(20):  # noqa: ASYNC912
                for talker in talkers:
                    await talker.answered.wait()
            nursery.cancel_scope.cancel()
        whole: dict[str, list[Entry]] = {}
        await audit(server.port, talkers, whole)
        wrongs = judge(talkers, whole)
    acknowledged = sum(len(talker.stored) for talker in talkers)
    figures(f"{rounds} kills, {acknowledged} messages acknowledged, {len(wrongs)} wrongs, {resent} sent again unanswered")
    figures(f"restart to listening: {max(restarts):.2f} s at most")
    assert not wrongs, f"seed {seed}"
    for user, log in logs.items():
        assert whole[user][: len(log)] == log, f"an earlier part of {user}'s log has changed"
    assert statistics.median(restarts) < (RESTART if scale >= 4 else 2 * RESTART)


async def test_a_server_that_answers_before_it_commits_is_found_out(
    tmp_path: Path, seed: int, figures: Callable[[str], None]
) -> None:
    """If this fails, the proof above proves nothing: it would not notice a loss."""
    numbers = random.Random(seed)
    talkers = make_talkers(numbers)
    logs: dict[str, list[Entry]] = {}
    async with serving(tmp_path / "chat.db", "--plant", "acknowledge-before-commit", script=True) as server:
        await talk_and_kill(server, talkers, numbers.uniform(0.4, LONGEST))
    async with serving(tmp_path / "chat.db") as server:
        await audit(server.port, talkers, logs)
    wrongs = judge(talkers, logs)
    lost = [wrong for wrong in wrongs if wrong.startswith("lost:")]
    figures(f"planted bug: {len(lost)} losses reported (ten per user at most), e.g. {lost[:1]}")
    assert lost


def test_the_judge_sees_every_kind_of_wrong() -> None:
    """If this fails, a log may be wrong in a way that no proof notices."""

    def entry(seq: int, id: str) -> Entry:
        return Entry(seq, id, "a", "b", words(id))

    talker = Talker("a", "b", random.Random(0))
    talker.stored = {"x": 1, "y": 2}
    talker.given = {1: entry(1, "x"), 2: entry(2, "y")}
    good = [entry(1, "x"), entry(2, "y")]
    silent = Talker("b", "a", random.Random(0))
    assert judge([talker, silent], {"a": good, "b": good}) == []
    for wrong in (
        {"a": good, "b": good[:1]},  # lost to the recipient
        {"a": good[:1], "b": good},  # lost to the sender
        {"a": good[:1], "b": good[:1]},  # lost
        {"a": [*good, entry(3, "y")], "b": good},  # doubled
        {"a": good, "b": [*good, entry(3, "x")]},
        {"a": good, "b": [entry(1, "x"), entry(3, "y")]},  # a hole
        {"a": [entry(1, "y"), entry(2, "x")], "b": good},  # renumbered
        {"a": good, "b": [entry(1, "x"), good[1]._replace(text="?")]},  # changed
        {"a": good, "b": [*good, entry(3, "z")]},  # half stored
    ):
        assert judge([talker, silent], wrong), wrong
    talker._answered("x", 7)
    assert judge([talker, silent], {"a": good, "b": good}), "answered twice, and differently"
