"""What clients remember of what they were told, and how a server's logs are judged by it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from .peers import NOTHING, Gone, Peer, connect, connected, send, text


class Entry(NamedTuple):
    """An entry of a user's log, as a device was given it."""

    seq: int
    id: str
    sender: str
    recipient: str
    text: str


def words(id: str) -> str:
    """The text that goes with an id: about a hundred bytes, so that another message's text is noticed."""
    return f"{id} is what I am called, and that is my message"


def entries(frame: Mapping[str, Any]) -> list[Entry]:
    """The entries of a ``messages`` frame."""
    return [Entry(e["seq"], e["id"], e["from"], e["to"], e["text"]) for e in frame["messages"]]


class Talker:
    """Writes to a peer as fast as answers come, acknowledges what it gets, and keeps its ledger whatever happens.

    It connects again and again (`talk`), sometimes from the position that it remembers and sometimes from the one that the
    server does; what was not answered it sends again with the same id, and some of what was.
    """

    def __init__(self, user: str, peer: str, numbers: random.Random, *, in_flight: int = 32, repeats: int = 4) -> None:
        self.user = user
        self.peer = peer
        self.stored: dict[str, int] = {}
        """What was acknowledged to this client: ids and their places in its own log."""
        self.given: dict[int, Entry] = {}
        """The entries that this client was given."""
        self.unanswered: dict[str, None] = {}
        """The ids that were sent and not answered, in order."""
        self.wrongs: list[str] = []
        self.end: Gone | None = None
        """How the last connection ended; then `ended` is set."""
        self.ended = trio.Event()
        self.quiet = False
        """Set it, and nothing new is sent; `answered` is set then when everything is answered."""
        self.answered = trio.Event()
        self._numbers = numbers
        self._in_flight = in_flight
        self._repeats = repeats
        self._log = ""
        self._position = 0
        """Up to where it was given everything, and `_beyond` it on this connection."""
        self._beyond: set[int] = set()

    async def talk(self, port: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC128  (_talk does)
        """Connect, and talk until the connection is over. Started when the server has said welcome."""
        try:
            remembers = self._log and self._numbers.random() < 0.5
            peer = await connect(
                port, self.user, query={"log": self._log, "after": self._position} if remembers else NOTHING
            )
            async with peer.stream:
                await self._talk(peer, task_status)
        except Gone as end:
            self.end = end
            self.ended.set()

    async def _talk(self, peer: Peer, task_status: trio.TaskStatus[None]) -> None:
        frames = await peer.read()
        while not frames:
            frames = await peer.read()
        self._welcomed(frames[0])
        started = False
        repeated = set(self._numbers.sample(sorted(self.stored), min(self._repeats, len(self.stored))))
        await self._say(peer, b"".join(send(self.peer, id, words(id)) for id in [*repeated, *self.unanswered]))
        while True:
            for frame in frames:
                self._hear(frame)
            await self._say(peer, self._acknowledge() + self._new())
            if not started:
                task_status.started()
                started = True
            frames = await peer.read()

    async def _say(self, peer: Peer, data: bytes) -> None:
        with suppress(Gone):  # what the server said before it went is still to be read
            await peer.write(data)

    def _new(self) -> bytes:
        fresh = []
        while len(self.unanswered) < self._in_flight and not self.quiet:
            id = f"{self._numbers.getrandbits(128):032x}"
            self.unanswered[id] = None
            fresh.append(send(self.peer, id, words(id)))
        return b"".join(fresh)

    def _acknowledge(self) -> bytes:
        before = self._position
        while self._position + 1 in self._beyond:
            self._position += 1
            self._beyond.remove(self._position)
        return text({"type": "ack", "seq": self._position}) if self._position > before else b""

    def _welcomed(self, welcome: dict[str, Any]) -> None:
        if self._log not in ("", welcome["log"]):
            self.wrongs.append(f"{self.user}: the log {self._log} is now called {welcome['log']}")
        if max(self.given, default=0) > welcome["head"]:
            self.wrongs.append(f"{self.user} was given {max(self.given)} entries, and the log ends at {welcome['head']}")
        if welcome["cursor"] > self._position:
            self.wrongs.append(f"{self.user} has {self._position} entries, and the server believes {welcome['cursor']}")
        self._log, self._position = welcome["log"], welcome["cursor"]
        self._beyond.clear()

    def _hear(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "stored":
                for item in frame["messages"]:
                    self._answered(item["id"], item["seq"])
            case "messages":
                for entry in entries(frame):
                    self._keep(entry)
            case "welcome" | "receipt":
                pass
            case _:
                self.wrongs.append(f"{self.user} was told {frame}")

    def _answered(self, id: str, seq: int) -> None:
        if self.stored.setdefault(id, seq) != seq:
            self.wrongs.append(f"{self.user}: {id} was stored at {self.stored[id]} and then at {seq}")
        self.unanswered.pop(id, None)
        if self.quiet and not self.unanswered:
            self.answered.set()
        self._keep(Entry(seq, id, self.user, self.peer, words(id)))

    def _keep(self, entry: Entry) -> None:
        if self.given.setdefault(entry.seq, entry) != entry:
            self.wrongs.append(f"{self.user}: place {entry.seq} held {self.given[entry.seq]} and then {entry}")
        if entry.seq > self._position:
            self._beyond.add(entry.seq)


def make_talkers(numbers: random.Random, pairs: int = 8) -> list[Talker]:
    """Pairs that write to each other."""
    names = [(f"a{pair}", f"b{pair}") for pair in range(pairs)]
    return [Talker(user, peer, random.Random(numbers.random())) for a, b in names for user, peer in ((a, b), (b, a))]


async def audit(port: int, talkers: Iterable[Talker], logs: dict[str, list[Entry]]) -> None:
    """Add to the `logs` what is new in them."""

    async def add(user: str) -> None:
        logs[user] += await read_log(port, user, len(logs[user]))

    async with trio.open_nursery() as nursery:
        for talker in talkers:
            logs.setdefault(talker.user, [])
            nursery.start_soon(add, talker.user)


async def read_log(port: int, user: str, after: int = 0) -> list[Entry]:
    """The user's log from `after` on, as a device gets it that says it has everything up to there."""
    log: list[Entry] = []
    with trio.fail_after(60):
        async with connected(port, user, "auditor") as first:
            (welcome, *_) = await first.read()
        async with connected(port, user, "auditor", {"log": welcome["log"], "after": after}) as peer:
            (welcome, *frames) = await peer.read()
            while True:
                for frame in frames:
                    assert frame["type"] in ("messages", "receipt"), frame
                    log += entries(frame) if frame["type"] == "messages" else []
                if after + len(log) >= welcome["head"]:
                    return log
                if log:
                    await peer.write(text({"type": "ack", "seq": log[-1].seq}))
                frames = await peer.read()


def judge(talkers: Iterable[Talker], logs: Mapping[str, Sequence[Entry]]) -> list[str]:
    """What is wrong with the `logs` (by user), given what the clients were told. Nothing, one hopes."""
    wrongs: list[str] = []
    counts = {user: Counter((entry.sender, entry.id) for entry in log) for user, log in logs.items()}
    for user, log in logs.items():
        if [entry.seq for entry in log] != list(range(1, len(log) + 1)):
            wrongs.append(f"{user}'s log is not numbered 1, 2, 3 …")
        wrongs += [f"doubled: {id} is {times} times in {user}'s log" for (_, id), times in counts[user].items() if times > 1]
        wrongs += [f"changed: {entry} in {user}'s log" for entry in log if entry.text != words(entry.id)]
    for talker in talkers:
        wrongs += talker.wrongs
        key = talker.user
        lost = [id for id in talker.stored if not counts[talker.peer][(key, id)]]
        wrongs += [f"lost: {id} was acknowledged to {talker.user} and is not in {talker.peer}'s log" for id in lost[:10]]
        own = {entry.seq: entry for entry in logs[talker.user]}
        moved = [entry for seq, entry in talker.given.items() if own.get(seq) != entry]
        wrongs += [f"lost or moved: {talker.user} was given {entry}" for entry in moved[:10]]
        halves = set(counts[talker.user]) ^ set(counts[talker.peer])
        wrongs += [f"half stored: {half} is in the log of one only" for half in sorted(halves)[:10]]
    return wrongs
