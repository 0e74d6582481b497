"""People who come, do a little of everything at a human pace, and leave in any way there is, and what they were promised."""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import trio

from .ledger import entries, read_log, words
from .peers import BINARY, CLOSE, CONT, PING, TEXT, Gone, Peer, connect, frame, send, text

PACE = 0.6
"""Seconds between two doings of one person, on average."""
STAY = 8.0
"""Seconds of one visit, on average."""


class Wanderer:
    """One user with two devices, who writes to others. `stored` is what was acknowledged: ids, and to whom they went."""

    def __init__(self, user: str, others: list[str], numbers: random.Random) -> None:
        self.user = user
        self.stored: dict[str, str] = {}
        self.visits = 0
        self.heard: Counter[str] = Counter()
        """Types of frames, codes of errors, and close codes."""
        self.wrongs: list[str] = []
        self._others = others
        self._numbers = numbers
        self._under_way: dict[str, str] = {}
        self._last = 0
        self._pen = trio.Lock()

    async def wander(self, port: int) -> None:
        """Come and go until cancelled. Run twice it makes two devices, and now and then two of one device."""
        while True:
            try:
                await self._visit(port)
            except* Gone as ends:
                self.heard.update(str(end.code) for end in ends.exceptions if isinstance(end, Gone))
            await trio.sleep(self._numbers.expovariate(1) * PACE)

    async def _visit(self, port: int) -> None:
        numbers = self._numbers
        self.visits += 1
        peer = await connect(port, self.user, numbers.choice(["phone", "web"]))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, peer)
                left = trio.current_time() + numbers.expovariate(1 / STAY)
                while trio.current_time() < left:
                    await trio.sleep(numbers.expovariate(1) * PACE)
                    await self._say(peer, self._something())
                await self._leave(peer)
                await trio.sleep(1)  # for what the server says to that
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(peer.stream)

    async def _say(self, peer: Peer, data: bytes) -> None:
        async with self._pen:
            while True:
                try:
                    return await peer.write(data)
                except trio.BusyResourceError:  # it is answering a ping or a close, which takes no time
                    await trio.lowlevel.checkpoint()

    async def _leave(self, peer: Peer) -> None:
        match self._numbers.randrange(5):
            case 0:
                peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # an RST
            case 1:
                await self._say(peer, self._message()[:-20])
            case 2:
                await self._say(peer, frame(TEXT, b"{", fin=False))
            case 3:
                await self._say(peer, frame(CLOSE, struct.pack("!H", 1000)))
            case _:
                await self._say(peer, frame(3))  # there is no such opcode

    def _message(self) -> bytes:
        id, to = f"{self._numbers.getrandbits(128):032x}", self._numbers.choice(self._others)
        self._under_way[id] = to
        return send(to, id, words(id))

    def _something(self) -> bytes:
        numbers = self._numbers
        other = numbers.choice(self._others)
        again = numbers.choice(list(self._under_way.items())) if self._under_way else None
        doings: list[tuple[int, Callable[[], bytes]]] = [
            (50, self._message),
            (5, lambda: b"".join(self._message() for _ in range(30))),
            (5, lambda: send(again[1], again[0], words(again[0])) if again else frame(PING)),
            (5, lambda: _in_parts(self._message(), numbers)),
            (5, lambda: text({"type": "typing", "to": other, "typing": True})),
            (5, lambda: text({"type": "watch", "ref": "w", "users": self._others[:20]})),
            (3, lambda: text({"type": "history", "ref": "h", "peer": other, "limit": 20})),
            (3, lambda: text({"type": "conversations", "ref": "c"})),
            (2, lambda: text({"type": "search", "ref": "s", "query": "message"})),
            (3, lambda: text({"type": "devices", "ref": "d"})),
            (3, lambda: text({"type": "read", "peer": other, "seq": self._last})),
            (5, lambda: text({"type": "ping"}) + frame(PING, b"x")),
            (1, lambda: text({"type": "nothing"})),
            (1, lambda: frame(BINARY, b"\0" * 100)),
        ]
        (doing,) = numbers.choices([do for _, do in doings], [weight for weight, _ in doings])
        return doing()

    async def _listen(self, peer: Peer) -> None:
        while True:
            last = 0
            for heard in await peer.read():
                self.heard[heard["code"] if heard["type"] == "error" else heard["type"]] += 1
                last = self._hear(heard) or last
            if last:
                self._last = last
                await self._say(peer, text({"type": "ack", "seq": last}))

    def _hear(self, heard: dict[str, Any]) -> int:
        if heard["type"] == "stored":
            for item in heard["messages"]:
                if to := self._under_way.pop(item["id"], None):
                    self.stored[item["id"]] = to
        elif heard["type"] == "messages":
            found = entries(heard)
            self.wrongs += [f"{self.user} was given {entry}" for entry in found if entry.text != words(entry.id)]
            self.wrongs += [f"{self.user} saw {e}" for e in found if self.user not in (e.sender, e.recipient)]
            return found[-1].seq
        return 0


def _in_parts(whole: bytes, numbers: random.Random) -> bytes:
    """The message of a short frame again, in three frames with a ping between."""
    payload = whole[8:] if whole[1] & 0x7F == 126 else whole[6:]
    one, two = sorted(numbers.randrange(len(payload)) for _ in range(2))
    return (
        frame(TEXT, payload[:one], fin=False)
        + frame(CONT, payload[one:two], fin=False)
        + frame(PING)
        + frame(CONT, payload[two:])
    )


async def audited(port: int, wanderers: Iterable[Wanderer]) -> list[str]:
    """What is wrong with the users' logs, given what they were told. Nothing, one hopes."""
    everybody = list(wanderers)
    wrongs = [wrong for wanderer in everybody for wrong in wanderer.wrongs]
    logs = {wanderer.user: await read_log(port, wanderer.user) for wanderer in everybody}
    for user, log in logs.items():
        counts = Counter((entry.sender, entry.id) for entry in log)
        wrongs += [f"doubled: {which} is {times} times in {user}'s log" for which, times in counts.items() if times > 1]
        if [entry.seq for entry in log] != list(range(1, len(log) + 1)):
            wrongs.append(f"{user}'s log is not numbered 1, 2, 3 …")
    held = {user: {(entry.sender, entry.id) for entry in log} for user, log in logs.items()}
    for wanderer in everybody:
        for id, to in wanderer.stored.items():
            if (wanderer.user, id) not in held[to]:
                wrongs.append(f"lost: {id} was acknowledged to {wanderer.user} and is not in {to}'s log")
    return wrongs
