"""A server with what the command line does not offer: hooks that fail, limits of seconds, and a planted bug.

    python servers.py FILE [--message-seconds N] [--write-timeout N] [--authenticate hooks] [--plant BUG]

It says where it listens as the real one does. On SIGUSR1 it prints how many Trio tasks there are; on SIGTERM it drains.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import trio

from trio_chat import Identity, Refused, Request, Settings, SqliteStore, Store, authenticators, open_chat, serve_tcp
from trio_chat.core.batch import Batch, Results
from trio_chat.store import connection
from trio_chat.store.memory import MemoryStore

PLANTS: Final = ("acknowledge-before-commit", "synchronous-normal")
"""Promise 1 broken on purpose, in two ways."""

LATE: Final = 0.3
"""Seconds between the answer and the commit of the planted bug."""


async def hooks(request: Request) -> Identity:
    """An authenticator that fails in the way that the user's name says."""
    user = request.parameter("user") or ""
    failures: dict[str, Callable[[], object]] = {
        "raises": lambda: 1 // 0,
        "groups": lambda: _raise(ExceptionGroup("two", [ValueError("one"), ExceptionGroup("more", [OSError("two")])])),
        "refuses": lambda: _raise(Refused("no")),
        "forbids": lambda: _raise(Refused("no", status=403)),
        "teapot": lambda: _raise(Refused("no\r\nX-Injected: 1", status=418)),
        "stops": lambda: _raise(StopAsyncIteration()),
        "names": lambda: Identity("bad\x00name"),
    }
    junk: dict[str, Any] = {"none": None, "string": "alice", "tuple": ("alice", "phone"), "true": True}
    if user == "hangs":
        await trio.sleep_forever()
    if user == "nests":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("in a nursery")
    if user in failures:
        failures[user]()
    if user in junk:
        answer: Identity = junk[user]
        return answer
    return await authenticators.demo(request)


def _raise(error: BaseException) -> None:
    raise error


class AnswersFirst(MemoryStore):
    """The planted bug: says that messages are stored, and stores them a little later."""

    def __init__(self, durable: Store, nursery: trio.Nursery) -> None:
        super().__init__()
        self._durable = durable
        self._nursery = nursery
        self._later: list[tuple[Batch, int]] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._nursery.start_soon(self._commit)
        return self

    async def append(self, batch: Batch, now: int) -> Results:
        results = await super().append(batch, now)
        self._later.append((batch, now))
        return results

    async def _commit(self) -> None:
        while True:
            await trio.sleep(LATE)
            later, self._later = self._later, []
            for batch, now in later:
                await self._durable.append(batch, now)


def synchronise_seldom() -> None:
    """The planted bug: commits that reach the disk when it suits the disk, as with SQLite's ``synchronous=NORMAL``."""
    as_it_should_be = connection.write

    def write(path: Path) -> sqlite3.Connection:
        writer = as_it_should_be(path)
        writer.execute("PRAGMA synchronous = NORMAL")
        return writer

    connection.write = write


async def count_tasks() -> None:
    """Say how many tasks there are, whenever asked."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            print(trio.lowlevel.current_statistics().tasks_living, flush=True)  # noqa: T201  (that is the interface)


async def serve(store: Store, settings: Settings, authenticate: Any) -> None:
    """As ``trio-chat serve`` does."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_chat(store, settings=settings) as chat, trio.open_nursery() as nursery:
            listening = partial(serve_tcp, chat, 0, authenticate=authenticate)
            (listener,) = await nursery.start(listening)
            print(f"listening on http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)  # noqa: T201
            async for _ in signals:
                break
            await chat.drain()
            nursery.cancel_scope.cancel()


async def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("db", type=Path)
    parser.add_argument("--message-seconds", type=float, default=30.0)
    parser.add_argument("--write-timeout", type=float, default=10.0)
    parser.add_argument("--authenticate", choices=["demo", "hooks"], default="demo")
    parser.add_argument("--plant", choices=["nothing", *PLANTS], default="nothing")
    options = parser.parse_args()
    settings = Settings.of(
        send_rate=None, message_seconds=options.message_seconds, write_timeout=options.write_timeout, hook_timeout=2.0
    )
    authenticate = hooks if options.authenticate == "hooks" else authenticators.demo
    if options.plant == "synchronous-normal":
        synchronise_seldom()
    store = SqliteStore(options.db, settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_tasks)
        if options.plant != "acknowledge-before-commit":
            await serve(store, settings, authenticate)
        else:
            async with store:
                await serve(AnswersFirst(store, nursery), settings, authenticate)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
