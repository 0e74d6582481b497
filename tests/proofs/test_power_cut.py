"""Promise 1 under power cuts: whatever the disk had not synchronised is lost, and what was acknowledged is there.

Real servers talk to real clients, and are killed now and then; ``disk.c`` writes down in one order what they do to their
file and what they send. Then the power is cut after each event of that record, many times: of what was not synchronised by
then the disk keeps everything, nothing, or some sectors. Each time the file is opened as a start of the server opens it.

``TRIO_CHAT_PROOF_RECORD`` names a record to be looked at instead of a fresh one, and ``TRIO_CHAT_PROOF_CUT=EVENT:NUMBER``
the one cut to be made: a failure says both.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from .conftest import Record
from .disk import KILL_BEFORE, SEND, SUFFIXES, SYNC, Cut, Platter, read_record, told
from .forks import Order
from .history import History, longest, write_files
from .ledger import Entry, Talker, audit, judge
from .talk import ask_again, make_few_talkers, talk
from .warm import Warm, warm

CUTS: Final = {1: 700, 2: 25_000, 4: 110_000}
"""How many at which scale."""
WHOLE_STARTS: Final = 40
"""Each so-many-th cut is looked at by a whole start of the store, and not only by opening its file."""
PAGES: Final = 100
"""The WAL is copied after so many pages, so that the record holds several copies."""
KILLS: Final = 6
"""How many servers are killed while the record is written."""
PATIENCE: Final = 400
"""How many cuts are tried at an event before it has no other outcome."""


async def run(forks: Warm, db: Path, record: Path, talkers: list[Talker], numbers: random.Random) -> None:
    """Servers, one after the other, some of which are killed as they begin to synchronise."""
    orders = [Order(db=str(db), record=str(record), pages=PAGES)]
    for _ in range(KILLS):
        when = numbers.randint(8, 24)
        orders.append(
            Order(db=str(db), record=str(record), pages=PAGES, fault=(1 << SYNC, when, KILL_BEFORE, errno.EIO)),
        )
    orders.append(Order(db=str(db), record=str(record), pages=PAGES))
    for number, order in enumerate(orders):
        async with forks.serving(order) as server:
            for talker in talkers if number else ():
                await ask_again(server, talker)
            await talk(server, talkers, 60 if not order.fault[0] else 10_000)
            server.terminate()
            status = await server.wait()
        assert status == (-9 if order.fault[0] else 0), server.log()


async def write_record(record: Path, db: Path, seed: int) -> tuple[dict[int, bytes], set[str]]:
    """Write down what servers do; the files that are there at the end, and what clients believe to be stored."""
    numbers = random.Random(seed)
    talkers, logs = make_few_talkers(numbers), dict[str, list[Entry]]()
    async with warm(record.parent) as forks:
        await run(forks, db, record, talkers, numbers)
        paths = {name: Path(f"{db}{suffix}") for name, suffix in SUFFIXES.items()}
        contents = {name: path.read_bytes() for name, path in paths.items() if path.exists()}
        async with forks.serving(Order(db=str(db))) as server:
            await audit(server.port, talkers, logs)
    assert not judge(talkers, logs), f"seed {seed}"
    return contents, {id for talker in talkers for id in talker.stored}


class Proof:
    """A record, and the power cuts in it."""

    def __init__(self, record: Path, memory: Path) -> None:
        self.events = read_record(record)
        self.path = memory / "cut" / "chat.db"
        self.path.parent.mkdir()
        self.wrongs: list[str] = []
        """What somebody was told that is not so even without a power cut."""
        platter = Platter()
        for event in self.events:
            platter.follow(event)
        self.end = platter.leave(platter.everything())
        write_files(self.path, self.end)
        self.history = History(self.path)
        frames = [*told(self.events)]
        self.needs = longest([(index, self.history.least(frame, self.wrongs)) for index, frame in frames])
        self.served = min((index for index, _ in frames), default=len(self.events))
        """From this event on the file has its schema."""
        self.made = Counter[str]()

    def followed(self) -> Iterator[tuple[int, Platter, int]]:
        """After each event the disk, and how many messages have to be there."""
        needs, platter, least = [*self.needs], Platter(), 0
        for index, event in enumerate(self.events):
            platter.follow(event)
            while needs and needs[0][0] <= index:
                least = needs.pop(0)[1]
            yield index, platter, least

    def cuts(self, seed: int, count: int) -> Iterator[tuple[str, Platter, Cut, int]]:
        """About so many power cuts, each with its name and how many messages have to be there.

        They are spread over the record; but whenever something is sent to a client, what is uncertain is lost at least once.
        No two of them leave the same files, unless somebody was told of more messages in between.
        """
        seen = set[tuple[int, int, Cut]]()
        owed = 0.0
        for index, platter, least in self.followed():
            owed += max(0, count - len(seen)) / (len(self.events) - index)
            if self.events[index].op == SEND:
                owed = max(owed, 1)
            begun = len(seen)
            for number in range(PATIENCE):
                if len(seen) - begun >= owed:
                    break
                cut = choose(platter, seed, index, number)
                if (platter.generation, least, cut) not in seen:
                    seen.add((platter.generation, least, cut))
                    yield f"{index}:{number}", platter, cut, least
            owed = max(0, owed - (len(seen) - begun))

    def one(self, seed: int, name: str) -> Iterator[tuple[str, Platter, Cut, int]]:
        """The power cut of this name."""
        wanted, number = map(int, name.split(":"))
        for index, platter, least in self.followed():
            if index == wanted:
                yield name, platter, choose(platter, seed, index, number), least

    def look(self, name: str, platter: Platter, cut: Cut, least: int) -> str | None:
        """What is wrong after this cut."""
        write_files(self.path, platter.leave(cut))
        index = int(name.partition(":")[0])
        whole = index < self.served or sum(self.made.values()) % WHOLE_STARTS == 0
        self.made["whole" if whole else "opened"] += 1
        return (self.history.start if whole else self.history.check)(self.path, least)


def choose(platter: Platter, seed: int, index: int, number: int) -> Cut:
    """One cut after this event: the first loses everything that it may, the second nothing."""
    if number < 2:
        return (platter.nothing, platter.everything)[number]()
    return platter.choose(random.Random(f"{seed} {index} {number}"))


def look_at_all(proof: Proof, seed: int, count: int) -> tuple[int, dict[str, str]]:
    """Make the cuts; how many there were, and what was wrong. Ends after a few wrongs: they are all alike."""
    wanted = os.environ.get("TRIO_CHAT_PROOF_CUT")
    number, wrongs = 0, {}
    for name, platter, cut, least in proof.one(seed, wanted) if wanted else proof.cuts(seed, count):
        number += 1
        if wrong := proof.look(name, platter, cut, least):
            wrongs[name] = wrong
            if len(wrongs) == 10:
                break
    return number, wrongs


async def test_what_was_acknowledged_survives_a_power_cut(
    tmp_path: Path, memory: Path, seed: int, scale: float, record: Record
) -> None:
    """If this fails, a power failure loses, doubles or renumbers a message that somebody was told is safe."""
    given = os.environ.get("TRIO_CHAT_PROOF_RECORD")
    written = Path(given or tmp_path / "record")
    if given:
        proof = Proof(written, memory)
    else:
        contents, acknowledged = await write_record(written, memory / "chat.db", seed)
        proof = Proof(written, memory)
        assert proof.end == contents, "the record is not complete: it leads to other files than those that are there"
        assert acknowledged <= {row.id for row in proof.history.rows[: proof.needs[-1][1]]}, (
            "more was told than was written down"
        )
    assert not proof.wrongs
    began = time.perf_counter()
    wanted = CUTS[max(each for each in CUTS if each <= max(1, scale))]
    count, wrongs = await trio.to_thread.run_sync(look_at_all, proof, seed, wanted)
    seconds = time.perf_counter() - began
    record(
        "power-cut",
        events=len(proof.events),
        messages=len(proof.history.rows),
        told=proof.needs[-1][1],
        cuts=count,
        whole_starts=proof.made["whole"],
        wrong=len(wrongs),
        milliseconds_each=round(1000 * seconds / max(1, count), 2),
    )
    again = f"TRIO_CHAT_PROOF_RECORD={written} TRIO_CHAT_PROOF_SEED={seed} TRIO_CHAT_PROOF_CUT={next(iter(wrongs), '')}"
    assert not wrongs, again


@pytest.mark.parametrize("plant", ["acknowledge-before-commit", "synchronous-normal"])
async def test_a_server_that_acknowledges_too_early_is_found_out(
    plant: str, tmp_path: Path, memory: Path, seed: int, record: Record
) -> None:
    """If this fails, the proof above proves nothing: it would not notice a loss."""
    talkers = make_few_talkers(random.Random(seed))
    db, written = memory / "chat.db", tmp_path / "record"
    async with warm(tmp_path) as forks, forks.serving(Order(db=str(db), record=str(written), plant=plant)) as server:
        await talk(server, talkers, 200)
        await trio.sleep(0.5)  # the one that commits later does so
        await server.kill()
    proof = Proof(written, memory)
    count, wrongs = await trio.to_thread.run_sync(look_at_all, proof, seed, 1500)
    lost = [wrong for wrong in [*proof.wrongs, *wrongs.values()] if wrong.startswith("lost:")]
    record(f"power-cut-control-{plant}", cuts=count, losses_found=len(lost))
    assert lost
