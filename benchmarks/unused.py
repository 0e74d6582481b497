"""What hooks and events cost a chat that uses neither.

    python benchmarks/unused.py [--messages 20000] [--pairs 5]

The registry, its core and a store in memory carry messages from senders to recipients, as they stand, and with every step
taken out that is there for hooks and events alone. The ratio of processor time, the median of alternated pairs, is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import trio

from trio_chat import Settings, open_chat, registry, wire
from trio_chat.chat import Chat
from trio_chat.core import effects, sending
from trio_chat.core.events import Connected, Disconnected, Received
from trio_chat.core.intake import Pending
from trio_chat.core.sending import Sending
from trio_chat.errors import ErrorCode
from trio_chat.registry import Registry
from trio_chat.store.memory import MemoryStore

AT_ONCE = 32
PEOPLE = 20


class Port:
    """The end of a session: counts what is stored, and acknowledges what it is sent."""

    def __init__(self, chat: Chat, connection: int, user: str) -> None:
        self.chat = chat
        self.connection = connection
        self.user = user
        self.stored = 0
        self.progress = trio.Event()

    def send(self, frame: wire.ServerFrame) -> None:
        match frame:
            case wire.Stored(messages=items):
                self.stored += len(items)
                self.progress.set()
            case wire.Messages(messages=messages):
                self.chat.registry.put(Received(self.connection, (wire.Ack(seq=messages[-1].seq),)))
            case wire.Welcome():
                self.progress.set()

    def close(self, *_: object) -> None:
        self.chat.registry.put(Disconnected(self.connection))
        self.chat.registry.leave(self.connection)

    def nothing(self, *_: object) -> None:
        """For what a session does with its transport."""

    offer = tell = ping = pause = resume = taken = nothing


async def carry(messages: int) -> float:
    """Seconds of processor time for so many messages."""
    settings = Settings(send_rate=None, mailbox=10**9, mailbox_bytes=2**40)
    async with open_chat(MemoryStore(settings), settings=settings) as chat:
        ports = []
        for number in range(2 * PEOPLE):
            port = Port(chat, chat.next_connection(), f"user{number}")
            chat.registry.join(port, Connected(port.connection, port.user, "phone"))
            await port.progress.wait()
            ports.append(port)
        began = time.process_time()
        for round in range(messages // (PEOPLE * AT_ONCE)):
            for sender, recipient in zip(ports[::2], ports[1::2], strict=True):
                frames = tuple(wire.Send(id=f"{round}-{n}", to=recipient.user, text="x" * 100) for n in range(AT_ONCE))
                chat.registry.put(Received(sender.connection, frames))
            for sender in ports[::2]:
                while sender.stored < (round + 1) * AT_ONCE:
                    sender.progress = trio.Event()
                    await sender.progress.wait()
        return time.process_time() - began


# What stands in place of the code's own, without the steps for hooks and events.


def draft(self: Any, connection: Any, draft: Any, now: float) -> None:
    """`Sending._draft`."""
    if self._refusals.in_force(connection, draft.id, now):
        return
    buckets = connection.user.buckets
    wait = buckets.sends.take(now)
    if not wait and (wait := buckets.texts.take(now, len((draft.text or "").encode()))):
        buckets.sends.put_back()
    if wait:
        self._refusals.draft(connection, draft.id, ErrorCode.RATE_LIMITED, now, wait)
    elif self._intake.full:
        self._refusals.draft(connection, draft.id, ErrorCode.OVERLOADED, now)
    else:
        size = sending._size(draft)
        connection.take_on(size)
        self._intake.add_draft(Pending(draft, size, connection))


def perform(self: Any, wanted: list[Any]) -> None:
    """`Registry._perform`."""
    for effect in wanted:
        if isinstance(effect, effects.Fulfil):
            self._fulfil(effect)
        elif (session := self._sessions.get(effect.connection)) is None:
            pass
        elif isinstance(effect, effects.Load):
            self._loader.submit(effect.connection, effect.request)
        elif isinstance(effect, effects.Ask):
            self._questions.submit(effect)
        else:
            registry._carry_out(effect, session)


_made = Registry.__init__


def made(self: Any, *arguments: Any, **options: Any) -> None:
    """`Registry.__init__`."""
    _made(self, *arguments, **options)
    self._committer._onlookers = ()


def without() -> ExitStack:
    """The code without these steps, for as long as the stack is open."""
    stack = ExitStack()
    for owner, name, patch in ((Sending, "_draft", draft), (Registry, "_perform", perform), (Registry, "__init__", made)):
        stack.enter_context(mock.patch.object(owner, name, patch))
    return stack


def measured(messages: int, around: Callable[[], ExitStack]) -> float:
    """The processor time of `messages` messages, in seconds."""
    with around():
        return trio.run(carry, messages)


def main() -> None:
    """Measure, and print the ratios and their median."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    measured(options.messages // 4, ExitStack)
    ratios = []
    for number in range(options.pairs):
        order = [ExitStack, without] if number % 2 else [without, ExitStack]
        seconds = {around: measured(options.messages, around) for around in order}
        ratios.append(seconds[ExitStack] / seconds[without])
        each = {
            name: seconds[around] / options.messages * 1e6 for name, around in (("with", ExitStack), ("without", without))
        }
        print(f"with {each['with']:.1f} µs a message, without {each['without']:.1f}: ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
