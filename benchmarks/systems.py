"""The servers that are measured: started on a port of their own, with an empty store, and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from processes import family, on_cores

__all__ = ["SYSTEMS", "Server", "System", "add_checkout", "counting_syncs", "running"]

_RIVALS: Final = Path(__file__).parent / "rivals"
_STARTING: Final = 30.0
"""Seconds for a server to listen."""
_STOPPING: Final = 20.0
_DATABASE: Final = "chat.db"


class Server(Struct, frozen=True):
    """A server that runs."""

    port: int
    pids: tuple[int, ...]
    folder: Path


class System(Struct, frozen=True, kw_only=True):
    """How a server is started, and what it has safely on disk when it says that it has a message."""

    command: Callable[[int, Path], list[str]]
    safe: str
    needs: str | None = None
    """A program that has to be there."""
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    speaks: str | None = None
    """As which system the load talks with it, if not by its own name."""

    @property
    def missing(self) -> bool:
        """Whether it is not installed here."""
        return self.needs is not None and shutil.which(self.needs, path=f"{os.environ['PATH']}:/usr/sbin") is None


def _trio_chat(port: int, folder: Path) -> list[str]:
    options = ["--db", str((folder / _DATABASE).resolve()), "--port", str(port), "--demo", "--rate-limit", "off"]
    return [sys.executable, "-m", "trio_chat", "serve", *options]


def _rival(name: str) -> Callable[[int, Path], list[str]]:
    return lambda port, folder: [sys.executable, str(_RIVALS / name), str(port), str(folder / "messages.db")]


def _mosquitto(port: int, folder: Path) -> list[str]:
    (folder / "mosquitto.conf").write_text(
        f"""listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
user root
"""
    )
    return ["mosquitto", "-c", str(folder / "mosquitto.conf")]


def _prosody(port: int, folder: Path) -> list[str]:
    (folder / "prosody.cfg.lua").write_text(
        f"""
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}"
log = {{ warn = "{folder}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
modules_enabled = {{ "saslauth", "offline", "smacks" }}
modules_disabled = {{ "s2s", "tls" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "insecure"
insecure_open_authentication = "Yes please, I know what I'm doing!"
limits = {{ }}
VirtualHost "localhost"
"""
    )
    return ["prosody", "-F", "--config", str(folder / "prosody.cfg.lua")]


_EJABBERD: Final = next(Path("/usr/lib").glob("*/ejabberd-*"), Path("/usr/lib"))
_EVERYBODY: Final = """
import struct, sys
while head := sys.stdin.buffer.read(2):
    sys.stdin.buffer.read(struct.unpack(">H", head)[0])
    sys.stdout.buffer.write(b"\\0\\2\\0\\1")
    sys.stdout.buffer.flush()
"""
"""Lets everybody in: ejabberd's protocol for an authentication program."""


def _ejabberd(port: int, folder: Path) -> list[str]:
    (folder / "everybody.py").write_text(_EVERYBODY)
    (folder / "ejabberd.yml").write_text(
        f"""
hosts: [localhost]
loglevel: error
listen:
  - {{port: {port}, ip: 127.0.0.1, module: ejabberd_c2s, shaper: none, backlog: 1024}}
auth_method: external
extauth_program: "{sys.executable} {folder}/everybody.py"
shaper_rules: {{max_user_offline_messages: [{{1000000: all}}]}}
modules:
  mod_offline: {{}}
  mod_stream_mgmt: {{max_ack_queue: 1000000}}
"""
    )
    # Without `ejabberdctl`, which insists on a user and a place of its own, and without a name, which needs another daemon.
    paths = ["-ejabberd", "config", f'"{folder}/ejabberd.yml"', "log_path", f'"{folder}/ejabberd.log"']
    return ["erl", "-noinput", "-mnesia", "dir", f'"{folder}"', *paths, "-s", "ejabberd"]


SYSTEMS: Final[dict[str, System]] = {
    "trio-chat": System(command=_trio_chat, safe="the message, synced"),
    "echo": System(command=_rival("bare_echo.py"), safe="nothing: it has no store"),
    "one commit each": System(command=_rival("one_commit.py"), safe="the message, synced"),
    "socketio": System(command=_rival("socketio_aiosqlite.py"), safe="the message, synced"),
    "mosquitto": System(
        command=_mosquitto, needs="mosquitto", safe="nothing: sessions are in memory, saved every half hour"
    ),
    "prosody": System(
        command=_prosody, needs="prosody", safe="a message for somebody absent, in a file that is not synced; live nothing"
    ),
    "ejabberd": System(
        command=_ejabberd,
        environment={"ERL_LIBS": str(_EJABBERD.parent), "ERL_FLAGS": "+K true +P 250000"},
        needs="ejabberdctl",
        safe="nothing at once: mnesia writes a message for somebody absent some seconds later",
    ),
}


def add_checkout(name: str, checkout: Path) -> None:
    """Another version of trio-chat, from a checkout."""
    environment = {"PYTHONPATH": str(checkout.resolve())}
    SYSTEMS[name] = System(command=_trio_chat, safe="the message, synced", environment=environment, speaks="trio-chat")


@contextmanager
def running(name: str, *, pinned: bool = True, store: Path | None = None) -> Iterator[Server]:
    """The server, until the end of the block. It has an empty folder, which is removed afterwards.

    With `store`, trio-chat serves that database, and what happens is written to it.
    """
    system = SYSTEMS[name]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        folder = Path(made)
        if store is not None:
            (folder / _DATABASE).symlink_to(store.resolve())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (folder / "log").open("wb") as log, on_cores(server=True, pinned=pinned):
            process = subprocess.Popen(  # noqa: S603
                system.command(port, folder), stdout=log, stderr=log, cwd=folder, start_new_session=True,
                env=os.environ | system.environment,
            )  # fmt: skip
        try:
            _wait(process, port, folder / "log")
            yield Server(port, tuple(family(process.pid)), folder)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    patience = time.monotonic() + _STARTING
    while True:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > patience:
            raise RuntimeError(f"the server does not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOPPING)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def counting_syncs(server: Server) -> Iterator[Callable[[], int | None]]:
    """Counts how often the server asks for its files to be synced, while the block lasts; ask at its end.

    `perf` looks on from the kernel, which costs the server next to nothing. Where it may not, the count is None.
    """
    calls = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync,syscalls:sys_enter_msync"
    command = ["perf", "stat", "-x,", "-e", calls, "-p", ",".join(map(str, server.pids))]
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # noqa: S603
    except FileNotFoundError:
        yield lambda: None
        return

    def counted() -> int | None:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, told = process.communicate()
        counts = [row.partition(",")[0] for row in told.splitlines() if "sys_enter" in row]
        return sum(map(int, counts)) if counts and all(count.isdigit() for count in counts) else None

    try:
        yield counted
    finally:
        process.kill()
        process.wait()
