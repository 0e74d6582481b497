"""Debian's Chromium without a screen, and pages for it under whatever host names: all of them lead to this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import trio

FLAGS = (
    "--headless",
    "--no-sandbox",  # as root it starts only without
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * 127.0.0.1",
)


@asynccontextmanager
async def browsing(url: str, profile: Path) -> AsyncIterator[None]:
    """A browser that shows `url`, for as long as the block lasts. `profile` is an empty folder for it."""
    program = shutil.which("chromium")
    assert program is not None, "there is no chromium: apt-get install chromium"
    process = await trio.lowlevel.open_process(
        [program, *FLAGS, f"--user-data-dir={profile}", url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it has many processes; they end together
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()


class Pages:
    """A web server that answers every request with the page that `page` makes for its host and path, and hears reports.

    A script reports by asking for ``/report?…`` of any host.
    """

    def __init__(self, page: Callable[[str, str], str]) -> None:
        self._page = page
        self._send, self._receive = trio.open_memory_channel[dict[str, str]](1000)
        self.port = 0

    async def report(self) -> dict[str, str]:
        """What a script reported next."""
        return await self._receive.receive()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _serve(self, stream: trio.SocketStream) -> None:
        head = b""
        with suppress(trio.BrokenResourceError):
            while b"\r\n\r\n" not in head:
                data = await stream.receive_some()
                if not data:
                    return
                head += data
            lines = head.decode().split("\r\n")
            target = lines[0].split(" ")[1]
            host = next(line[5:].strip() for line in lines if line.lower().startswith("host:"))
            body = b""
            if target.startswith("/report?"):
                self._send.send_nowait(dict(parse_qsl(urlsplit(target).query)))
            else:
                body = self._page(host, target).encode()
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
        await stream.aclose()
