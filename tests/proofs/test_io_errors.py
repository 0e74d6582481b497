"""A disk that fails at any call, is full, is read-only or is held by another: what clients are told, and what is left.

``disk.c`` makes a call of a server fail that changes its file: each one in turn, with EIO, with ENOSPC (once, and from then
on) and with EROFS, which is what a file system answers that was remounted read-only. What must come of it: the batch is
refused, nothing is acknowledged that is not safe, nor anything at all after it, and nothing more is written.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from trio_chat.core.batch import PageRequest
from trio_chat.settings import Settings
from trio_chat.store.faults import Health
from trio_chat.store.files import remove
from trio_chat.store.pages import read_pages
from trio_chat.store.sqlite import _OpenFile

from .conftest import Record
from .disk import CREATE, FROM_THEN_ON, ONCE, SYNC, TRUNCATE, UNLINK, WRITE
from .forks import Order
from .ledger import Entry, Talker, judge, words
from .peers import Gone, Peer, connect, dial, response_head, text
from .warm import Warm, warm

CALLS: Final = 1 << CREATE | 1 << WRITE | 1 << TRUNCATE | 1 << UNLINK | 1 << SYNC
GROWING: Final = 1 << CREATE | 1 << WRITE
KINDS: Final = {
    "EIO": (CALLS, ONCE, errno.EIO),
    "ENOSPC once": (CALLS, ONCE, errno.ENOSPC),
    "ENOSPC": (GROWING, FROM_THEN_ON, errno.ENOSPC),
    "EROFS": (CALLS, FROM_THEN_ON, errno.EROFS),
}
"""Which calls fail, whether they go on to, and with what."""
STRIDE: Final = {1: 40, 4: 1}
"""At which scale at each so-many-th call."""
MESSAGES: Final = 6
PAGES: Final = 30
"""The WAL is copied after so many pages: within the few messages of a run."""
PATIENCE: Final = 10.0


class Script:
    """Alice sends a few messages, one after the other, to Bob, who is there and reads his history at the end."""

    def __init__(self) -> None:
        self.alice = Talker("alice", "bob", random.Random(0))
        self.bob = Talker("bob", "alice", random.Random(0))
        self.answers: list[str] = []
        """What alice was answered: "stored", or the code of an error, or "gone"; two of them if the first was an error."""
        self.read: list[str] | None = None
        """What bob read; None if he could not even connect."""
        self.health = 0
        self._peer: Peer | None = None

    async def run(self, port: int, seed: str) -> None:
        """Talk to a server that may fail."""
        numbers = random.Random(seed)
        async with self._connected(port, "bob") as reader:
            for _ in range(MESSAGES):
                id = f"{numbers.getrandbits(128):032x}"
                for _ in range(2):
                    self.answers.append(await self._send(port, id))
                    if self.answers[-1] == "stored":
                        break
            if reader is not None:
                request = {"type": "history", "ref": "r", "peer": "alice", "order": "asc"}
                self.read = [message["id"] for message in (await asked(reader, request))["messages"]]
            if self._peer is not None:
                await trio.aclose_forcefully(self._peer.stream)
        self.health = await health(port)

    @staticmethod
    @asynccontextmanager
    async def _connected(port: int, user: str) -> AsyncIterator[Peer | None]:
        try:
            peer = await opened(port, user)
        except Gone:
            yield None
        else:
            async with peer.stream:
                yield peer

    async def _send(self, port: int, id: str) -> str:
        """Once on the connection that there is; after an error, which stops what follows on that one, on another one."""
        try:
            self._peer = self._peer or await opened(port, "alice")
            answer = await asked(self._peer, {"type": "send", "id": id, "to": "bob", "text": words(id)})
        except Gone:
            return "gone"
        if answer["type"] == "error":
            await trio.aclose_forcefully(self._peer.stream)
            self._peer = None
            return str(answer["code"])
        (item,) = answer["messages"]
        self.alice.stored[id] = item["seq"]
        return "stored"

    def check(self, db: Path) -> list[str]:
        """What is wrong at the next start, on a disk that is well again. Nothing, one hopes."""
        file = _OpenFile(db, Settings(), Health(), check=True)
        try:
            requests = [PageRequest(user, 0, 10**6, 10**9) for user in ("alice", "bob")]
            pages = file.read(lambda reader: read_pages(reader, requests))
        finally:
            file.close()
        logs = {
            request.user: [Entry(m.seq, m.id, m.sender, m.recipient, m.text or "") for m in page.messages]
            for request, page in zip(requests, pages, strict=True)
        }
        return judge([self.alice, self.bob], logs)


async def opened(port: int, user: str) -> Peer:
    """A connection that was told welcome; Gone if it was not."""
    peer = await connect(port, user)
    try:
        with trio.fail_after(PATIENCE):
            while not any(frame["type"] == "welcome" for frame in await peer.read()):
                pass
    except BaseException:
        await trio.aclose_forcefully(peer.stream)
        raise
    return peer


async def asked(peer: Peer, frame: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request or message."""
    await peer.write(text(frame))
    with trio.fail_after(PATIENCE):  # noqa: ASYNC912
        while True:
            for answer in await peer.read():
                if answer["type"] in ("stored", "error", frame["type"]):
                    return answer


async def health(port: int) -> int:
    """The status that ``/healthz`` answers."""
    async with await dial(port) as stream:
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer, _ = await response_head(stream)
    return int(answer.split()[1])


async def prepare(forks: Warm, db: Path) -> None:
    """A file that knows both devices, and has its WAL: that a server was killed on it makes the next one recover it."""
    async with forks.serving(Order(db=str(db))) as server:
        script = Script()
        await script.run(server.port, "before")
        assert script.answers == ["stored"] * MESSAGES
        await server.kill()


def lay_out(source: Path | None, db: Path) -> None:
    """Copies of the prepared files, or nothing at all."""
    remove(db)
    for suffix in (".lock", ".log"):
        Path(f"{db}{suffix}").unlink(missing_ok=True)
    for suffix in ("", "-wal", ".lock") if source is not None else ():
        shutil.copy(f"{source}{suffix}", f"{db}{suffix}")


class Failing:
    """Runs servers on a disk that fails at a call."""

    def __init__(self, forks: Warm, folder: Path, seed: int) -> None:
        self.forks = forks
        self.db = folder / "chat.db"
        self.calls = folder / "calls"
        self.seed = seed
        self.outcomes = Counter[str]()

    async def fail(self, source: Path | None, kind: str, when: int) -> bool:
        """Have one fail at this call; on a copy of `source`, or on a new file. Says whether there was such a call."""
        lay_out(source, self.db)
        ops, how, error = KINDS[kind]
        script = Script()
        order = Order(db=str(self.db), pages=PAGES, fault=(ops, when, how, error), calls=str(self.calls))
        async with self.forks.serving(order) as server:
            if server.status is None:
                await script.run(server.port, f"{self.seed} {kind} {when}")
                server.terminate()
            status = await server.wait()
            log = server.log()
        where = f"{kind} at call {when} of {source}: {script.answers}\n{log}"
        calls, writes, syncs = msgspec.json.decode(self.calls.read_bytes())
        assert "Traceback" not in log, where
        if not server.port:
            assert status == 1, where
            assert log.splitlines()[-1].startswith((f"Error: {self.db}: ", "Error: ")), where
            self.outcomes["refused to start"] += 1
        else:
            assert status == 0, where
            self._judge(kind, script, writes, syncs, where)
        assert not script.check(self.db), where
        return bool(calls >= when)

    def _judge(self, kind: str, script: Script, writes: int, syncs: int, where: str) -> None:
        """What failures.md demands of a server that was up."""
        answers = script.answers
        # What is stored can be read, whatever the disk does (3).
        stored = [*script.alice.stored]
        assert script.read is None or script.read[len(script.read) - len(stored) :] == stored, where
        failed = [answer for answer in answers if answer != "stored"]
        if not failed:
            self.outcomes["nobody noticed"] += 1
        elif "store_full" in failed:
            # A full disk: refused while it is full, and stored when it is not any more (3).
            assert kind.startswith("ENOSPC"), where
            assert set(failed) == {"store_full"}, where
            assert len(failed) == 1 or kind == "ENOSPC", where
            assert kind == "ENOSPC once" or "stored" not in answers[answers.index("store_full") :], where
            self.outcomes["store_full"] += 1
        else:
            # Broken: refused until a restart, unhealthy, and the disk is left alone (R2, 4).
            first = answers.index(failed[0])
            assert failed[0] == "store_unavailable" or script.read is None or first == 0, where
            assert set(answers[first:]) <= {"store_unavailable", "gone"}, where
            assert script.health == 503, where
            assert (writes, syncs) == (0, 0), where
            self.outcomes["store_unavailable"] += 1


@pytest.mark.parametrize("file", ["in use", "new"])
async def test_a_disk_that_fails_at_each_call(
    file: str, tmp_path: Path, memory: Path, seed: int, scale: float, record: Record
) -> None:
    """If this fails, there is a call whose failure loses a message, hangs or ends the server, or misleads a client."""
    stride = STRIDE[4 if scale >= 4 else 1]
    async with warm(tmp_path) as forks:
        source = tmp_path / "source.db" if file == "in use" else None
        if source is not None:
            await prepare(forks, source)
        failing = Failing(forks, memory, seed)
        runs = 0
        for number, kind in enumerate(KINDS):
            when = 1 + (random.Random(seed).randrange(stride) + number * stride // len(KINDS)) % stride
            while await failing.fail(source, kind, when):
                runs += 1
                when += stride * (1 if file == "in use" else 4)
    record(f"io-errors-{file.replace(' ', '-')}", calls_that_failed=runs, **failing.outcomes, lost=0)
