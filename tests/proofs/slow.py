"""Clients that take in as little as the system lets them."""

from __future__ import annotations

import socket

import trio

from .peers import head, response_head


async def deaf(port: int, user: str) -> trio.SocketStream:
    """A connection whose handshake is done, with the smallest buffer there is for what the server says.

    Raises:
        Gone: the server closed instead of answering.
        trio.BrokenResourceError: it did so even earlier.
    """
    sock = trio.socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await sock.connect(("127.0.0.1", port))
        stream = trio.SocketStream(sock)
        await stream.send_all(head(user))
        await response_head(stream)
    except BaseException:
        sock.close()
        raise
    return stream
