"""What a Python developer would write with a framework: python-socketio on uvicorn, and aiosqlite.

``python socketio_aiosqlite.py PORT DATABASE``. It keeps what it acknowledges: the handler of an event returns, which is the
acknowledgement, after ``commit``. As all handlers share a connection, one of their commits often commits for several.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
import socketio
import uvicorn
from one_commit import SCHEMA

WAITING = "SELECT n, sender, text FROM messages WHERE recipient = ? AND NOT delivered ORDER BY n"


class Server:
    """Everybody who is connected, and the database."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.database: aiosqlite.Connection
        self.online: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.io = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], logger=False, engineio_logger=False)
        for handler in (self.connect, self.disconnect, self.message, self.ack):
            self.io.on(handler.__name__, handler)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The database."""
        async with aiosqlite.connect(self.path) as self.database:
            await self.database.execute("PRAGMA journal_mode = WAL")
            await self.database.execute("PRAGMA synchronous = FULL")
            await self.database.executescript(SCHEMA)
            yield

    async def connect(self, sid: str, _environ: dict[str, Any], auth: dict[str, str]) -> None:
        """Deliver what waits."""
        user = self.users[sid] = auth["user"]
        self.online[user] = sid
        for n, sender, text in await self.database.execute_fetchall(WAITING, (user,)):
            await self.io.emit("message", {"n": n, "from": sender, "text": text}, to=sid)

    async def disconnect(self, sid: str, _reason: str) -> None:
        """Somebody left."""
        user = self.users.pop(sid)
        if self.online.get(user) == sid:
            del self.online[user]

    async def message(self, sid: str, frame: dict[str, str]) -> dict[str, int | None]:
        """One message."""
        user = self.users[sid]
        insert = "INSERT INTO messages (sender, recipient, text) VALUES (?, ?, ?)"
        n = (await self.database.execute(insert, (user, frame["to"], frame["text"]))).lastrowid
        await self.database.commit()
        if (recipient := self.online.get(frame["to"])) is not None:
            await self.io.emit("message", {"n": n, "from": user, "text": frame["text"]}, to=recipient)
        return {"n": n}

    async def ack(self, sid: str, n: int) -> None:
        """All up to this one are there."""
        update = "UPDATE messages SET delivered = 1 WHERE recipient = ? AND n <= ? AND NOT delivered"
        await self.database.execute(update, (self.users[sid], n))
        await self.database.commit()


async def main() -> None:
    """Serve until a signal."""
    server = Server(sys.argv[2])
    app = socketio.ASGIApp(server.io)
    config = uvicorn.Config(app, port=int(sys.argv[1]), log_level="warning", ws_per_message_deflate=False)
    async with server.opened():
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
