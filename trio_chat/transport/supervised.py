"""What a supervisor such as systemd hands over, and what it wants to hear.

Listening sockets that the supervisor holds live on while one server ends and the next begins: whoever connects meanwhile
waits in their backlog, and nobody is refused (sd_listen_fds(3)). And the supervisor is told when the server is ready, when
it ends, and that it still turns (sd_notify(3)). The protocols are environment variables and a datagram, so that needs no
library of systemd's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final

import trio

from ..errors import ConfigurationError

__all__ = ["Supervisor"]

_FIRST: Final = 3
"""The first of the descriptors that are handed over: those before it are the standard ones."""


class Supervisor:
    """Whoever started this process, if they know these protocols; else nobody, who hands over nothing and hears nothing.

    Takes the variables out of the environment, so that no child of this process believes that it is meant.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ, *, first: int = _FIRST) -> None:
        taken = {
            name: environ.pop(name, "")
            for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
        }
        me = str(os.getpid())
        count = taken["LISTEN_FDS"] if taken["LISTEN_PID"] == me else ""
        self._descriptors = range(first, first + (int(count) if count.isdecimal() else 0))
        self._address = taken["NOTIFY_SOCKET"]
        watched = taken["WATCHDOG_USEC"] if taken["WATCHDOG_PID"] in ("", me) else ""
        self.watchdog: float | None = int(watched) / 1e6 if watched.isdecimal() and int(watched) else None
        """Within how many seconds it wants to hear that the server turns; None if it does not care."""

    def listeners(self) -> list[trio.SocketListener]:
        """Listeners for the sockets that were handed over; [] if none were. They are the caller's to close.

        Raises:
            ConfigurationError: one of them is no listening stream socket.
        """
        listeners = []
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, False)  # noqa: FBT003
            try:
                held = socket.socket(fileno=descriptor)
            except OSError:
                raise ConfigurationError(f"descriptor {descriptor}, which was handed over, is no socket") from None
            if held.type != socket.SOCK_STREAM or not held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                held.close()
                raise ConfigurationError(f"descriptor {descriptor}, which was handed over, is no socket that listens")
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(held)))
        return listeners

    def tell(self, *states: str) -> None:
        """Say ``READY=1``, ``STOPPING=1`` and the like. A supervisor that is gone, or does not listen, misses it."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
            heard.sendto("\n".join(states).encode(), address)

    async def keep_telling(self, turns: Callable[[], bool]) -> None:
        """Say that the server turns, twice in the time of the watchdog, as long as `turns` says so; until cancelled.

        It says so from the event loop: one that is stuck says nothing, and that is how the supervisor notices.
        """
        if self.watchdog is None:
            await trio.sleep_forever()
        while True:
            if turns():
                self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog / 2)
