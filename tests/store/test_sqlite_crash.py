"""kill -9 at any moment: what was acknowledged is there, once, and no log has a hole."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch, PageRequest
from trio_chat.store.sqlite import SqliteStore

from .conftest import draft

pytestmark = pytest.mark.process  # it kills what it starts

WRITER = """
import itertools, sys, trio
from trio_chat.core.batch import Batch, Draft
from trio_chat.store.sqlite import SqliteStore

async def main():
    async with SqliteStore(sys.argv[1]) as store:
        for number in itertools.count(int(sys.argv[2])):
            ids = [f"{number}.{n}" for n in range(number % 5 + 1)]
            drafts = tuple(Draft(n, f"sender {n}", "bob", id, "x" * 500) for n, id in enumerate(ids))
            results = await store.append(Batch(drafts=drafts), 1000)
            for id, stored in zip(ids, results.drafts):
                print(id, stored.peer_seq, flush=True)

trio.run(main)
"""


async def all_of(store: SqliteStore, user: str) -> dict[int, str]:
    found: dict[int, str] = {}
    while True:
        (page,) = await store.pages([PageRequest(user, len(found), 1000, 10**9)])
        if not page.messages:
            return found
        for message in page.messages:
            assert message.seq == len(found) + 1
            found[message.seq] = message.id


def run_and_kill(path: Path, start: int, lines: int) -> dict[int, str]:
    """Have a process append until it has acknowledged so many messages, and kill it. What it acknowledged, by seq."""
    command = [sys.executable, "-c", WRITER, str(path), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.read().splitlines(keepends=True)  # what it had said before it died
    return {int(seq): id for line in said if line.endswith("\n") for id, seq in [line.split()]}


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_acknowledged_survives_sigkill(path: Path, seed: int) -> None:
    """An acknowledged message would be lost, doubled or renumbered by a crash (failures 1, promise 1)."""
    chance = random.Random(seed)
    acknowledged: dict[int, str] = {}
    for start in (0, 100_000):
        acknowledged |= run_and_kill(path, start, lines=chance.randrange(1, 400))
        async with SqliteStore(path, check=True) as store:
            logs = [await all_of(store, f"sender {n}") for n in range(5)]
            bobs = await all_of(store, "bob")
            assert acknowledged.items() <= bobs.items()
            assert len({*bobs.values()}) == len(bobs)
            assert sorted(bobs.values()) == sorted(id for log in logs for id in log.values())
            again = draft(f"sender {bobs[1].split('.')[1]}", "bob", bobs[1], "x" * 500)
            (stored,) = (await store.append(Batch(drafts=(again,)), 1000)).drafts
            assert (stored.peer_seq, stored.new) == (1, False)  # type: ignore[union-attr]
