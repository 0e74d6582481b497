"""What a Python developer would write: websockets on asyncio, and SQLite with one commit for each message.

``python one_commit.py PORT DATABASE``. ``ws://…/alice`` is alice's. It keeps what it acknowledges, as trio-chat does; what
is left out is everything else: resending, several devices, limits, blocking, history.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time

from websockets.asyncio.server import ServerConnection, serve

SCHEMA = """
    CREATE TABLE messages (
        n INTEGER PRIMARY KEY, id TEXT, sender TEXT, recipient TEXT, text TEXT, sent_at REAL, delivered INTEGER DEFAULT 0);
    CREATE INDEX waiting ON messages (recipient, n) WHERE NOT delivered"""


class Server:
    """Everybody who is connected, and the database."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.executescript(SCHEMA)
        self.online: dict[str, ServerConnection] = {}

    async def connected(self, connection: ServerConnection) -> None:
        """Deliver what waits, then take what comes."""
        assert connection.request is not None
        user = connection.request.path.lstrip("/")
        self.online[user] = connection
        waiting = "SELECT n, id, sender, text FROM messages WHERE recipient = ? AND NOT delivered ORDER BY n"
        try:
            for row in self.database.execute(waiting, (user,)).fetchall():
                await connection.send(self.entry(*row))
            async for text in connection:
                await self.received(user, connection, json.loads(text))
        finally:
            if self.online.get(user) is connection:
                del self.online[user]

    async def received(self, user: str, connection: ServerConnection, frame: dict[str, str]) -> None:
        """One message, or one acknowledgement of all up to one."""
        if frame["type"] == "ack":
            with self.database:
                update = "UPDATE messages SET delivered = 1 WHERE recipient = ? AND n <= ? AND NOT delivered"
                self.database.execute(update, (user, frame["n"]))
            return
        row = (frame["id"], user, frame["to"], frame["text"], time.time())
        with self.database:
            insert = "INSERT INTO messages (id, sender, recipient, text, sent_at) VALUES (?, ?, ?, ?, ?)"
            n = self.database.execute(insert, row).lastrowid
        await connection.send(json.dumps({"type": "stored", "id": frame["id"], "n": n}))
        if (recipient := self.online.get(frame["to"])) is not None:
            await recipient.send(self.entry(n, frame["id"], user, frame["text"]))

    @staticmethod
    def entry(n: int | None, id: str, sender: str, text: str) -> str:
        """A message as its recipient gets it."""
        return json.dumps({"type": "message", "n": n, "id": id, "from": sender, "text": text})


async def main() -> None:
    """Serve for ever."""
    server = Server(sys.argv[2])
    async with serve(server.connected, "127.0.0.1", int(sys.argv[1]), compression=None) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
