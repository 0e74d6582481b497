"""A process with a chat and a provider that notes what it was asked for in a file, to be killed in the middle.

``python push_server.py DATABASE SENT commit|hang|work``: with ``commit`` it stores a message and says so, with ``hang`` the
provider never returns, with ``work`` it runs until its outbox is empty.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from trio_chat import Push, open_chat
from trio_chat.push.base import Notification, Sent, Target


class Recorder:
    """Writes down each notification before it answers."""

    name = "recorder"

    def __init__(self, path: Path, *, hang: bool) -> None:
        self.path = path
        self.hang = hang

    def check_target(self, kind: str, target: str) -> None:
        """All are welcome."""

    async def send(self, target: Target, notification: Notification) -> Sent:
        """One line for each attempt."""
        with self.path.open("a") as file:  # noqa: ASYNC230  (a line)
            print(notification.peer, notification.id, target.device, file=file)
        if self.hang:
            sys.stdout.write("sent\n")
            sys.stdout.flush()
            await trio.sleep_forever()
        return Sent()

    async def check(self) -> Sent:
        """Always well."""
        return Sent()


async def main(database: str, sent: str, what: str) -> None:
    """Do as told."""
    recorder = Recorder(Path(sent), hang=what == "hang")
    delay = 60.0 if what == "commit" else 0.0
    async with open_chat(database, push=Push(providers=[recorder], delay=delay, timeout=60)) as chat:
        if what == "commit":
            await chat.register_push("bob", "phone", "recorder", "token", "secret")
            await chat.send("alice", "bob", "hello")
            sys.stdout.write("stored\n")
            sys.stdout.flush()
            await trio.sleep_forever()
        while await chat.push_outbox():  # noqa: ASYNC110  (nothing tells of an empty outbox)
            await trio.sleep(0.05)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
