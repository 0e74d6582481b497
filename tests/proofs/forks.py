"""A process that has imported everything and forks servers: ``LD_PRELOAD=disk.so python forks.py``.

Starting an interpreter and importing costs a second of a processor's time for each server; a fork costs milliseconds. It
is made before there is any thread, event loop or open database in this process, and what runs in the child is the command
line's own ``trio-chat serve``: listener, store, file and threads are made anew by each child.

Every line on standard input is a JSON object, see `Order`. The child prints its process id, then what the server prints;
when it is gone, this prints ``ended STATUS``, negative if a signal ended it. There is one child at a time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, Final

import anyio._backends._trio  # noqa: F401  (what `anyio.run` imports when it is asked for Trio)
import msgspec

import trio_chat.authenticators
import trio_chat.operations.serve  # what the command line imports when it is asked to serve
import trio_chat.store.memory
import trio_chat.transport.websocket  # noqa: F401
from trio_chat import cli
from trio_chat.store import schema, writer

SERVERS: Final = Path(__file__).with_name("servers.py")


class Order(msgspec.Struct, kw_only=True):
    """What a child is to be."""

    db: str
    plant: str = ""
    """A planted bug of `servers.py`, which serves then instead of the command line."""
    pages: int = writer.CHECKPOINT_PAGES
    """The WAL is copied into the database after about so many pages; fewer than usual, that it happens in a short run."""
    record: str = ""
    """Write down what happens to the files here, see `disk.py`."""
    fault: tuple[int, int, int, int] = (0, 0, 0, 0)
    """The arguments of ``disk_fault``: which calls, at which of them, what, and with what error."""
    calls: str = ""
    """When the server has ended by itself, write here how many calls there were, as JSON."""


def command(order: Order, servers: dict[str, Any]) -> None:
    """Serve, as the order says."""
    if order.plant:
        import trio

        sys.argv = ["servers.py", order.db, "--plant", order.plant]
        trio.run(servers["main"])
    else:
        cli.main(["serve", "--demo", "--port", "0", "--db", order.db, "--rate-limit", "off"])


def child(order: Order, servers: dict[str, Any]) -> None:
    """Become the server, and end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(os.open(f"{order.db}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    disk = ctypes.CDLL(None)
    record = -1
    if order.record:
        record = os.open(order.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    disk.disk_watch(order.db.encode(), record)
    disk.disk_fault(*map(ctypes.c_long, order.fault))
    writer.CHECKPOINT_PAGES = order.pages
    print(os.getpid(), flush=True)  # noqa: T201  (that is the interface)
    status = 1
    try:
        command(order, servers)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        if sys.exc_info()[0] not in (None, SystemExit):
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        if order.calls:
            counts = [disk.disk_calls(), disk.disk_after(), disk.disk_synced_after()]
            Path(order.calls).write_bytes(msgspec.json.encode(counts))
        os._exit(status)


def main() -> None:
    """Fork a server for every line."""
    schema.bundled()
    servers = runpy.run_path(str(SERVERS))
    gc.freeze()
    print("ready", flush=True)  # noqa: T201
    pid = 0
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        if pid:
            os.waitpid(pid, 0)
        pid = os.fork()
        if not pid:
            child(order, servers)
        # It stays a zombie, so that its number is nobody else's, until the next order says that its end was heard of.
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        print("ended", ended.si_status * (1 if ended.si_code == os.CLD_EXITED else -1), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
