"""What the chat server's connections are made of, with an echo where the chat would be: ``python echo.py [--engine NAME]``.

The request is read and answered by the front door's functions, and what follows goes through the transport and the engine of
the real server, whose limits are only wider here: cases have messages of 16 MiB, in tens of thousands of parts. It prints
where it listens as the real one does, and ends with its input.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Final

import trio
from websockets.frames import Opcode

from trio_chat import Settings
from trio_chat.engine import Engine
from trio_chat.errors import CloseCode
from trio_chat.session import ConnectionEnded
from trio_chat.transport import websocket
from trio_chat.transport.http import HttpError, accept, read_request, require_upgrade

MESSAGE: Final = 32 * 1024 * 1024
LIMITS: Final = Settings(frame_bytes=MESSAGE, fragments=1_000_000, message_seconds=300.0)


class Binary(bytes):
    """A message that came as binary and is to go as binary."""

    __slots__ = ()


class EchoingEngine(Engine):
    """The engine, but for what the chat has no use for: it keeps what binary messages say, and sends some."""

    def _receive_message(self, opcode: Opcode, payload: bytes) -> None:
        super()._receive_message(opcode, payload)
        if opcode is Opcode.BINARY and self._messages and self._messages[-1] is None:
            self._messages[-1] = Binary(payload)

    def queue(self, text: bytes) -> None:
        self._write(Opcode.BINARY if isinstance(text, Binary) else Opcode.TEXT, text)


ENGINES: Final[dict[str, Callable[..., Engine]]] = {"injected": EchoingEngine}
"""By name; another engine that is to pass the same cases stands here beside it."""


async def echo(transport: websocket.WebSocketTransport) -> None:
    """Send back what comes until the end, as a session reads and writes."""
    while True:
        await transport.send([message for message in await transport.receive() if message is not None])


async def serve(stream: trio.SocketStream) -> None:
    """One connection."""
    try:
        async with stream:
            with trio.fail_after(5):
                request, trailing = await read_request(stream)
                require_upgrade(request)
                await stream.send_all(accept(request))
            transport = websocket.WebSocketTransport(stream, settings=LIMITS, trailing_data=trailing)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.run)
                try:
                    await echo(transport)
                except ConnectionEnded as end:
                    await transport.close(end.code or CloseCode.NORMAL, "")
                nursery.cancel_scope.cancel()
    except* (HttpError, ConnectionEnded, trio.BrokenResourceError, trio.TooSlowError):
        pass


async def main(engine: str) -> None:
    """Listen on a port that is free until the input ends."""
    websocket.Engine = ENGINES[engine]  # type: ignore[misc,assignment]
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        print(f"listening on http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)  # noqa: T201
        await trio.lowlevel.FdStream(0).receive_some(1)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=ENGINES, default="injected")
    trio.run(main, parser.parse_args().engine)
