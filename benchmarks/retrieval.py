"""How fast a large store answers, and what that costs those who send meanwhile.

``python benchmarks/retrieval.py chat.db`` measures on a database that `database.py` made (it is made if it is not there):

1. every kind of query inside the store, in milliseconds: p50, p99 and the slowest, and how much of it the processor worked,
   which says more on a machine that has other things to do;
2. the latency of ``stored`` for 1,000 messages a second through `SqliteStore.append`, in batches as the committer makes them
   (one transaction at a time, with all that came meanwhile), with so many queries a second beside it, of every kind, and
   without: the median of the ratios of alternated pairs. ``--asked 0`` has a query always under way, as fast as one is
   answered after the other: on two cores that measures who gets the second one.

The second part writes to the file. ``--json`` prints one object for a program to read.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import trio
from database import EPOCH, MESSAGES, USERS, generate

from trio_chat.core.batch import Batch, Draft
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchQuery, check
from trio_chat.store.sqlite import SqliteStore

SIZE: Final = 64 * 1024
RATE: Final = 1000
ASKED: Final = 20
"""Queries a second: one for fifty messages, each of which may be a page of 200."""
BATCH: Final = 512

Ask = Callable[[SqliteStore], Awaitable[object]]


class Questions:
    """Makes questions of every kind, each time with other values."""

    def __init__(self, users: int, heads: dict[str, int]) -> None:
        self.chance = random.Random(2)  # noqa: S311  (the same every time)
        self.users = users
        self.heads = heads
        self.last = EPOCH + 188_000 * 1000

    def somebody(self) -> str:
        """Mostly the one with a fifth of everything."""
        return self.chance.choice(["alice", "alice", "bob", "mallory", f"user-{self.chance.randint(8, self.users)}"])

    def peer(self) -> str:
        return self.chance.choice(["bob", "mallory", "eve", f"user-{self.chance.randint(8, self.users)}"])

    def seq(self, user: str) -> int:
        return self.chance.randint(1, max(self.heads.get(user, 0), 1))

    def time(self) -> int:
        return self.chance.randint(EPOCH, self.last)

    def history(self, *names: str, user: str | None = None, **values: Any) -> Ask:
        """A history with the values that are named, chosen at random, and those that are given."""
        user = user or self.somebody()
        chosen: dict[str, Any] = {"limit": self.chance.choice([20, 50, 200]), **values}
        for name in names:
            values_of: dict[str, Callable[[], Any]] = {
                "peer": self.peer,
                "before": lambda: self.seq(user),
                "after": lambda: self.seq(user),
                "around": lambda: self.seq(user),
                "since": self.time,
                "until": self.time,
                "direction": lambda: self.chance.choice(["in", "out"]),
                "order": lambda: self.chance.choice(["asc", "desc"]),
                "ids": lambda: tuple(f"{self.chance.randint(1, MESSAGES):032x}" for _ in range(20)),
            }
            chosen[name] = values_of[name]()
        if chosen.get("until", 2**50) <= chosen.get("since", -1):
            chosen["since"], chosen["until"] = chosen["until"], chosen["since"] + 1
        if chosen.get("before", 2**50) <= chosen.get("after", -1):
            chosen["before"], chosen["after"] = chosen["after"] + 1, chosen["before"] - 1
        query = check(HistoryQuery(**chosen))
        return lambda store: store.history(user, query, size=SIZE)

    def search(self, text: str, *, user: str | None = None, peer: str | None = None, deep: bool = False) -> Ask:
        """A search, from anywhere in the log if `deep`."""
        user = user or self.somebody()
        query = check(SearchQuery(query=text, peer=peer, before=self.seq(user) if deep else None))
        return lambda store: store.search(user, query, size=SIZE)

    def conversations(self, user: str | None = None, limit: int = 50, *, deep: bool = False) -> Ask:
        """A list of conversations."""
        user = user or self.somebody()
        query = ConversationsQuery(limit=limit, before=self.seq(user) if deep else None)
        return lambda store: store.conversations(user, query, size=SIZE)

    def word(self) -> str:
        return self.chance.choice(["ba", "mo", "gu ha", "京", "fudi", "semonu", "the ra", "cedi li", "zy é"])

    def kinds(self) -> dict[str, Callable[[], Ask]]:
        """Every kind of question by its name, those that are hard to answer last."""
        return {
            "history": lambda: self.history("order"),
            "history: before": lambda: self.history("before", "order"),
            "history: after": lambda: self.history("after"),
            "history: before, after": lambda: self.history("before", "after"),
            "history: around": lambda: self.history("around"),
            "history: since, until": lambda: self.history("since", "until", "order"),
            "history: direction": lambda: self.history("direction", "before", "order"),
            "history: direction, since": lambda: self.history("direction", "since", "order"),
            "history: unread": lambda: self.history("order", unread=True),
            "history: unread, before": lambda: self.history("before", "order", unread=True),
            "history: peer": lambda: self.history("peer", "order"),
            "history: peer, before": lambda: self.history("peer", "before", "order"),
            "history: peer, after": lambda: self.history("peer", "after"),
            "history: peer, around": lambda: self.history("peer", "around"),
            "history: peer, since, until": lambda: self.history("peer", "since", "until", "order"),
            "history: peer, direction, before": lambda: self.history("peer", "direction", "before"),
            "history: peer, unread": lambda: self.history("peer", unread=True),
            "history: peer, ids": lambda: self.history("peer", "ids"),
            "history: ids, out": lambda: self.history("ids", direction="out"),
            "history: one id": lambda: self.history(ids=(f"{self.chance.randint(1, MESSAGES):032x}",)),
            "search": lambda: self.search(self.word()),
            "search: before": lambda: self.search(self.word(), deep=True),
            "search: peer": lambda: self.search(self.word(), user="alice", peer=self.peer()),
            "conversations": self.conversations,
            "conversations: 200": lambda: self.conversations(limit=200),
            "conversations: before": lambda: self.conversations(deep=True),
            "devices, blocked, standings": self.remembered,
            # What is there to be hard.
            "one ancient unread of 200,000": lambda: self.history(user="alice", unread=True),
            "the only one of 100,000 not by oneself": lambda: self.history(user="alice", peer="bob", direction="in"),
            "after 100,000 of others": lambda: self.history("order", user="bob", direction="out"),
            "all were kept away by a block": lambda: self.history("before", user="alice", peer="eve"),
            "among thousands edited and deleted": lambda: self.history("before", user="alice", peer="mallory"),
            "a peer one never talked with": lambda: self.history("before", user="user-77", peer="alice"),
            "a word in every message": lambda: self.search("the", user="alice", deep=True),
            "a word only others use": lambda: self.search("zebra", user="alice"),
            "the beginning of one": lambda: self.search("zebr", user="alice"),
            "a common word and one only others use": lambda: self.search("the zebra", user="alice", deep=True),
            "one letter": lambda: self.search("t", user="alice"),
            "a common word with a rare peer": lambda: self.search("the", user="alice", peer="user-1999"),
            "twelve common words": lambda: self.search("ba ce di fu gu ha li mo nu ra se ti", user="alice"),
        }

    def remembered(self) -> Ask:
        async def ask(store: SqliteStore) -> None:
            user = self.somebody()
            await store.devices(user)
            await store.blocked(user)
            await store.standings(user, [self.peer() for _ in range(50)])

        return ask


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not below `share` of all."""
    return sorted(values)[max(int(len(values) * share + 0.999) - 1, 0)]


async def measure(store: SqliteStore, questions: Questions, rounds: int) -> dict[str, dict[str, float]]:
    """Ask questions of all kinds in turn, so that none finds what it needs in memory because it was just asked."""
    kinds = questions.kinds()
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, make in kinds.items():
            ask = make()
            began, used = time.perf_counter(), time.process_time()
            await ask(store)
            taken[kind].append(((time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000))
    result = {}
    for kind, pairs in taken.items():
        times, processor = ([pair[side] for pair in pairs] for side in (0, 1))
        result[kind] = {
            "p50": statistics.median(times),
            "p99": percentile(times, 0.99),
            "max": max(times),
            "cpu_p50": statistics.median(processor),
            "cpu_p99": percentile(processor, 0.99),
        }
    return result


class Senders:
    """So many messages a second between random users, committed in batches."""

    def __init__(self, store: SqliteStore, users: int) -> None:
        self.store = store
        self.users = users
        self.chance = random.Random(time.time_ns())  # noqa: S311
        self.count = 0
        self.waiting: list[tuple[float, Draft]] = []
        self.latencies: list[float] = []
        self.run_id = f"{time.time_ns():x}"

    async def run(self, seconds: float) -> list[float]:
        """Send for so long; how long each message took to be stored, in milliseconds."""
        self.latencies = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit)
            await self._send(seconds)
            while self.waiting:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        return self.latencies

    async def _send(self, seconds: float) -> None:
        began = trio.current_time()
        sent = 0
        while trio.current_time() < began + seconds:
            due = int((trio.current_time() - began) * RATE)
            for _ in range(due - sent):
                self.count += 1
                sender, recipient = self.chance.sample(range(8, self.users + 1), 2)
                draft = Draft(
                    1, f"user-{sender}", f"user-{recipient}", f"{self.run_id}-{self.count}", "the message of a test"
                )
                self.waiting.append((time.perf_counter(), draft))
            sent = due
            await trio.sleep(0.001)

    async def _commit(self) -> None:
        while True:
            batch = self.waiting[:BATCH]
            if not batch:
                await trio.sleep(0.0005)
                continue
            with trio.CancelScope(shield=True):
                await self.store.append(Batch(drafts=tuple(draft for _, draft in batch)), time.time_ns() // 1_000_000)
            del self.waiting[: len(batch)]
            now = time.perf_counter()
            self.latencies += [(now - came) * 1000 for came, _ in batch]


async def beside(
    store: SqliteStore, questions: Questions, users: int, *, pairs: int, seconds: float, rate: float
) -> dict[str, Any]:
    """Send with and without queries, by turns: so many a second, or one after the other if `rate` is 0."""
    senders = Senders(store, users)
    kinds = list(questions.kinds().values())
    asked = 0

    async def load() -> None:
        nonlocal asked
        due = trio.current_time()
        while True:
            await questions.chance.choice(kinds)()(store)
            asked += 1
            if rate:
                due += questions.chance.expovariate(rate)
                await trio.sleep_until(due)

    await senders.run(seconds)  # warm
    results = []
    for _ in range(pairs):
        without = await senders.run(seconds)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load)
            with_queries = await senders.run(seconds)
            nursery.cancel_scope.cancel()
        results.append((without, with_queries))
    summary: dict[str, Any] = {"queries_per_second": asked / (pairs * seconds)}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        both = [(percentile(one, share), percentile(other, share)) for one, other in results]
        summary[name] = {
            "without_ms": statistics.median(one for one, _ in both),
            "with_ms": statistics.median(other for _, other in both),
            "ratio": statistics.median(other / one for one, other in both),
        }
    return summary


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    async with SqliteStore(arguments.path) as store:
        heads = {}
        for user in ["alice", "bob", "mallory", *(f"user-{n}" for n in range(8, arguments.users + 1))]:
            page = await store.history(user, HistoryQuery(limit=1), size=SIZE)
            heads[user] = page.messages[0].seq if page.messages else 0
        questions = Questions(arguments.users, heads)
        result: dict[str, Any] = {"queries": await measure(store, questions, arguments.rounds)}
        if arguments.pairs:
            result["stored"] = await beside(
                store,
                questions,
                arguments.users,
                pairs=arguments.pairs,
                seconds=arguments.seconds,
                rate=arguments.asked,
            )
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("path", type=Path)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--rounds", type=int, default=200, help="questions of each kind")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--asked", type=float, default=ASKED, help="queries a second; 0: one after the other")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each half of a pair")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.path.exists():
        generate(arguments.path, messages=arguments.messages, users=arguments.users)
    sys.setswitchinterval(0.0005)  # as the command line of the server does
    result = trio.run(run, arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    for kind, times in result["queries"].items():
        taken = "p50 {p50:6.2f}  p99 {p99:6.2f}  max {max:6.2f} ms".format(**times)
        print(f"{kind:40} {taken};  processor: p50 {times['cpu_p50']:5.2f}  p99 {times['cpu_p99']:5.2f} ms")
    if stored := result.get("stored"):
        print(f"\nstored, {RATE} messages/s, beside {stored['queries_per_second']:.0f} queries/s:")
        for name in ("p50", "p99"):
            print("{} {without_ms:.2f} ms, with queries {with_ms:.2f} ms: {ratio:.2f} times".format(name, **stored[name]))


if __name__ == "__main__":
    main()
