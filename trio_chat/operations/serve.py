"""``trio-chat serve``: a server, until a signal ends it."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio

from .. import access
from ..chat import open_chat
from ..errors import ConfigurationError
from ..push.opening import open_push
from ..push.settings import Push
from ..serve import serve_listeners, serve_tcp
from ..store.copies import renew
from ..store.sqlite import SqliteStore
from ..terminal.outcome import Failure, run
from ..transport.pages import demo_pages
from ..transport.patient import PatientListener
from ..transport.supervised import Supervisor
from . import admin, logs, stalls
from .options import config, configured, plainly

__all__ = ["serve"]


class _Rate(click.ParamType[float | str]):
    name = "N|off"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value == "off":
            return "off"
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            self.fail("give a number of sends a second above 0, or off", param, ctx)
        return rate


@click.command()
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), default=Path("chat.db"), show_default=True,
              help="The SQLite file; made if there is none.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The interface to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=6662, show_default=True, help="0 picks a free one.")
@access.options
@click.option("--rate-limit", type=_Rate(), help="Sends a second per user, or off; 20 if nothing else is set.")
@config
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Listen for the operator here: /healthz, /readyz, /metrics and what stats and revoke ask; 6663, say.",
)
@click.option(
    "--admin-host", default="127.0.0.1", show_default=True, help="The interface for that. Who reaches it may look."
)
@click.option("--admin-exposed", is_flag=True, help="Allow an --admin-host that others can reach.")
@click.option("--log-format", type=click.Choice(logs.FORMATS), default="console", show_default=True)
@click.option("--watch-stalls", is_flag=True, help="Write where the server is when one task holds up all others.")
@click.option("--restored", is_flag=True, help="The file was put here by hand: have the clients begin anew.")
@click.option("--check", is_flag=True, help="Check the whole file for corruption before serving it.")
def serve(
    db: Path,
    host: str,
    port: int,
    rate_limit: float | str | None,
    config: Path | None,
    check: bool,
    restored: bool,
    admin_port: int | None,
    admin_host: str,
    admin_exposed: bool,
    log_format: str,
    watch_stalls: bool,
    allow_origin: tuple[str, ...],
    trusted_proxy: tuple[str, ...],
    **who: Any,
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends it at once.

    If a supervisor such as systemd hands over sockets that listen, it serves those, and --host and --port mean nothing.
    """
    authenticate = plainly(lambda: access.authenticator(**who), exit_code=2)
    if who["demo"] and not admin.is_loopback(host):
        raise Failure(f"--demo lets anybody be anyone, so it listens on this machine only, not on {host}", 2)
    if not (admin_exposed or admin.is_loopback(admin_host)):
        raise Failure(f"everybody who reaches {admin_host} could look at the metrics: add --admin-exposed if they may", 2)
    logs.configure(log_format)
    configuration = configured(config, send_rate=rate_limit)
    settings = configuration.settings
    options = {"authenticate": authenticate, "allowed_origins": allow_origin, "trusted_proxies": trusted_proxy}
    if who["demo"]:
        options["pages"] = demo_pages()
    if restored:
        plainly(lambda: renew(db))
    store = SqliteStore(db, settings, check=check)
    operator = None if admin_port is None else (admin_host, admin_port)
    watching = partial(stalls.watched, json=log_format == "json") if watch_stalls else nullcontext
    run(_serve(store, host, port, operator=operator, watching=watching, telling=open_push(configuration.push), **options))


_SWITCH_SECONDS: Final = 0.0005
"""How long a thread may hold the interpreter while another waits for it. With Python's default of 5 ms, a loop that is busy
makes every call of SQLite's that gives the interpreter up wait so long to get it back, and all messages with it."""

_COLLECTING: Final = (10_000, 20, 20)
"""When the collector of cycles looks for some, in place of Python's (700, 10, 10). Most objects go without it. Looking for
others every few messages took an eighth of a server's time, and looking through all of them held everybody up for 100 ms."""


async def _serve(
    store: SqliteStore,
    host: str,
    port: int,
    *,
    operator: tuple[str, int] | None,
    watching: Callable[[], AbstractContextManager[None]],
    telling: AbstractAsyncContextManager[Push | None],
    **options: Any,
) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()  # what is loaded stays: there is no use in looking through it again and again
    gc.set_threshold(*_COLLECTING)
    supervisor = Supervisor()
    async with AsyncExitStack() as stack:
        # First: the process that watches looks through the memory of this one, and finds nothing while much is loaded.
        push = await stack.enter_async_context(telling)
        stack.enter_context(watching())
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        async with open_chat(store, settings=store.settings, push=push) as chat, trio.open_nursery() as beside:
            async with trio.open_nursery() as nursery:
                if handed := supervisor.listeners():
                    patient = [PatientListener(listener, chat.admission) for listener in handed]
                    listeners = await nursery.start(partial(serve_listeners, chat, patient, **options))
                else:
                    listeners = await _started(nursery, partial(serve_tcp, chat, port, host=host, **options), host, port)
                at = _address(listeners[0])
                click.echo(f"trio-chat is listening on http://{at} (WebSockets at ws://{at}/ws), storing in {store.path}")
                if operator is not None:
                    serving = partial(admin.serve_admin, chat, operator[1], host=operator[0])
                    click.echo(f"its operator asks at http://{_address((await _started(beside, serving, *operator))[0])}")
                beside.start_soon(supervisor.keep_telling, lambda: not chat.registry.ended)
                supervisor.tell("READY=1")
                async for _ in signals:
                    break
                for expected in (signal.SIGTERM, signal.SIGINT):  # the next one ends the process at once
                    signal.signal(expected, signal.SIG_DFL)
                supervisor.tell("STOPPING=1")
                await chat.drain()
            beside.cancel_scope.cancel()  # until now it was told that this drains


async def _started(nursery: trio.Nursery, listening: Callable[..., Awaitable[Any]], host: str, port: int) -> Any:
    try:
        return await nursery.start(listening)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def _address(listener: trio.SocketListener | PatientListener) -> str:
    name = listener.socket.getsockname()
    if not isinstance(name, tuple):  # a Unix socket that was handed over
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
