"""The ceiling: trio-websocket sending back whatever comes. ``python bare_echo.py PORT``."""

from __future__ import annotations

import sys

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    """One connection."""
    websocket = await request.accept()
    try:
        while True:
            await websocket.send_message(await websocket.get_message())
    except ConnectionClosed:
        pass


if __name__ == "__main__":
    trio.run(serve_websocket, echo, "127.0.0.1", int(sys.argv[1]), None)
