"""The command line. Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the server was not reached or went away."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import click
import trio

from . import access, wire
from .chat import open_chat
from .client.raw import ClosedByServer, NotConnected, open_raw_client
from .configuration import Configuration, load
from .errors import ConfigurationError
from .model import ID_LENGTH, USER_LENGTH, Message, is_name
from .serve import serve_tcp
from .settings import Settings
from .store import migration
from .store.schema import Schema, bundled
from .store.sqlite import SqliteStore
from .transport.pages import demo_pages

__all__ = ["main"]

_Error = TypeVar("_Error", bound=BaseException)
_Result = TypeVar("_Result")

_URL: Final = "ws://127.0.0.1:6662/ws"
_ANSWER_SECONDS: Final = 10.0
_JOINERS: Final = "\u200c\u200d"  # in words of some languages, and in emoji; they steer nothing


class _Failure(click.ClickException):
    """One sentence on standard error and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self._exit_code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click declares it once for all failures
        return self._exit_code


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


class _User(click.ParamType[str]):
    name = "ID"
    length = USER_LENGTH

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_name(value, self.length):
            self.fail(f"an ID is 1 to {self.length} characters without control characters", param, ctx)
        return str(value)


class _Id(_User):
    length = ID_LENGTH


class _Text(click.ParamType[str]):
    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("the text is not UTF-8", param, ctx)
        if not value or "\0" in value:
            self.fail("there is no text" if not value else "the text holds a NUL character", param, ctx)
        return str(value)


_config = click.option("--config", type=click.Path(dir_okay=False, path_type=Path), envvar="TRIO_CHAT_CONFIG",
                       help="A TOML file with settings; trio-chat settings prints one.")  # fmt: skip


@click.group()
@click.version_option(package_name="trio-chat", prog_name="trio-chat")
def main() -> None:
    """Durable, real-time, one-to-one messages by user ID."""


@main.command()
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), default=Path("chat.db"), show_default=True,
              help="The SQLite file; made if there is none.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The interface to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=6662, show_default=True, help="0 picks a free one.")
@access.options
@click.option("--rate-limit", type=_Rate(), help="Sends a second per user, or off; 20 if nothing else is set.")
@_config
@click.option("--check", is_flag=True, help="Check the whole file for corruption before serving it.")
def serve(
    db: Path,
    host: str,
    port: int,
    rate_limit: float | str | None,
    config: Path | None,
    check: bool,
    allow_origin: tuple[str, ...],
    trusted_proxy: tuple[str, ...],
    **who: Any,
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends it at once."""
    authenticate = _plainly(lambda: access.authenticator(**who), exit_code=2)
    if who["demo"] and not _is_loopback(host):
        raise _Failure(f"--demo lets anybody be anyone, so it listens on this machine only, not on {host}", 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _configured(config, send_rate=rate_limit).settings
    options = {"authenticate": authenticate, "allowed_origins": allow_origin, "trusted_proxies": trusted_proxy}
    if who["demo"]:
        options["pages"] = demo_pages()
    _run(_serve(db, host, port, settings, check=check, **options))


@main.command()
@_config
def settings(config: Path | None) -> None:
    """Print the settings in effect, with their reasons, as a TOML file.

    Those that differ from the defaults come from the file named by --config and from variables such as TRIO_CHAT_WINDOW.
    """
    configuration = _configured(config)
    for line in configuration.lines():
        click.echo(f"# {line.reason}\n{line.name} = {line.value}  # {line.source}\n")
    for variable in configuration.ignored:
        click.echo(f"there is no setting for {variable}", err=True)


@main.command()
@click.option("--as", "user", type=_User(), required=True, help="Who sends.")
@click.option("--to", type=_User(), required=True, help="Who is to have it.")
@click.option("--id", "id_", type=_Id(), help="The message's id, to send it again without doubling it; a UUID if not given.")
@click.option("--url", default=_URL, show_default=True)
@click.argument("text", type=_Text())
def send(user: str, to: str, id_: str | None, url: str, text: str) -> None:
    """Send TEXT, and print the position in the log at which it is stored."""
    _run(_send(_with_query(url, user=user, device="cli-send", window="0"), to, text, id_ or str(uuid.uuid4())))


@main.command()
@click.option("--as", "user", type=_User(), required=True, help="Whose messages.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many messages.")
@click.option("--url", default=_URL, show_default=True)
def listen(user: str, as_json: bool, count: int | None, url: str) -> None:
    """Print the messages to an ID as they come, and acknowledge them."""
    _run(_listen(_with_query(url, user=user, device="cli-listen"), user, as_json=as_json, count=count))


main.add_command(access.token)


@main.group()
def migrate() -> None:
    """Change the schema of a database file, step by step. Serving does so by itself; no server may be running."""


_db = click.option("--db", type=click.Path(dir_okay=False, path_type=Path), default=Path("chat.db"), show_default=True,
                   help="The SQLite file.")  # fmt: skip
_steps = click.option("--steps", type=click.Path(exists=True, file_okay=False, path_type=Path),
                      help="Another folder of numbered steps than the one that belongs to this version.")  # fmt: skip


@migrate.command()
@_db
@_steps
def status(db: Path, steps: Path | None) -> None:
    """List the steps and say which of them the file has. Changes nothing."""
    for name, applied in _plainly(lambda: migration.status(db, _schema(steps))):
        click.echo(f"{'applied' if applied else 'pending'}  {name}")


@migrate.command()
@_db
@_steps
def up(db: Path, steps: Path | None) -> None:
    """Apply the steps that the file lacks, after copying it if it holds anything."""
    if not _plainly(lambda: migration.up(db, _say, _schema(steps))):
        click.echo("nothing to do", err=True)


@migrate.command()
@_db
@_steps
@click.option("--to", metavar="STEP", help="Undo everything after this step.")
def down(db: Path, steps: Path | None, to: str | None) -> None:
    """Undo the newest step, after copying the file. What an older schema cannot hold is in the copy only."""
    if not _plainly(lambda: migration.down(db, _say, to, _schema(steps))):
        click.echo("nothing to do", err=True)


@migrate.command()
@click.argument("name")
@_steps
def create(name: str, steps: Path | None) -> None:
    """Write an empty step NAME with the next number."""
    click.echo(str(_plainly(lambda: migration.create(name, steps))))


def _schema(folder: Path | None) -> Schema:
    return bundled() if folder is None else Schema(folder)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _plainly(work: Callable[[], _Result], exit_code: int = 1) -> _Result:
    try:
        return work()
    except ConfigurationError as error:
        raise _Failure(str(error), exit_code) from None


def _configured(file: Path | None, **options: Any) -> Configuration:
    try:
        return load({name: text for name, text in os.environ.items() if name != "TRIO_CHAT_CONFIG"}, file, **options)
    except ConfigurationError as error:
        raise _Failure(str(error), 2) from None


def _run(work: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await work

    failure: click.ClickException | None = None
    interrupted = False
    try:
        trio.run(run)
    except* click.ClickException as group:
        failure = _first(group)
    except* ConfigurationError as group:
        failure = _Failure(str(_first(group)), 1)
    except* NotConnected as group:
        failure = _Failure(_visible(f"the server was not reached: {_first(group)}"), 3)
    except* ClosedByServer as group:
        failure = _Failure(_visible(f"the server ended the connection: {_first(group)}"), 3)
    except* KeyboardInterrupt:
        interrupted = True  # what is raised in here would end up in a group
    except* BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if interrupted:
        sys.exit(130)
    if failure is not None:
        raise failure


def _first(group: BaseExceptionGroup[_Error]) -> _Error:
    error: _Error | BaseExceptionGroup[_Error] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_SWITCH_SECONDS: Final = 0.0005
"""How long a thread may hold the interpreter while another waits for it. With Python's default of 5 ms, a loop that is busy
makes every call of SQLite's that gives the interpreter up wait so long to get it back, and all messages with it."""


async def _serve(db: Path, host: str, port: int, settings: Settings, *, check: bool, **options: Any) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        store = SqliteStore(db, settings, check=check)
        async with open_chat(store, settings=settings) as chat, trio.open_nursery() as nursery:
            listening = partial(serve_tcp, chat, port, host=host, **options)
            try:
                listeners = await nursery.start(listening)
            except OSError as error:
                raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror}") from error
            name, number = listeners[0].socket.getsockname()[:2]
            address = f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
            click.echo(f"trio-chat is listening on http://{address} (WebSockets at ws://{address}/ws), storing in {db}")
            async for _ in signals:
                break
            for expected in (signal.SIGTERM, signal.SIGINT):  # the next one ends the process at once
                signal.signal(expected, signal.SIG_DFL)
            await chat.drain()


async def _send(url: str, to: str, text: str, id: str) -> None:
    async with open_raw_client(url) as client:
        with trio.move_on_after(_ANSWER_SECONDS):
            await client.send(wire.Send(id=id, to=to, text=text))
            while True:
                frame = await client.receive()
                if isinstance(frame, wire.Stored):
                    click.echo(str(frame.messages[0].seq))
                    return
                if isinstance(frame, wire.Error):
                    raise _Failure(_visible(f"refused with {frame.code}: {frame.message}"), 1)
    raise _Failure(f"no answer; the message may be stored, so send it again with --id {id}", 3)


async def _listen(url: str, user: str, *, as_json: bool, count: int | None) -> None:
    async with open_raw_client(url) as client:
        while True:
            frame = await client.receive()
            if isinstance(frame, wire.Gap):
                click.echo(f"the messages {frame.first} to {frame.last} are no longer held", err=True)
            elif isinstance(frame, wire.Messages):
                for message in frame.messages:
                    if message.kind == "message" and (message.sender != user or message.recipient == user):
                        _print(message, as_json=as_json)
                        count = None if count is None else count - 1
                    if count == 0:
                        await client.send(wire.Ack(seq=message.seq))
                        return
                await client.send(wire.Ack(seq=frame.messages[-1].seq))


def _print(message: Message, *, as_json: bool) -> None:
    if as_json:
        line = wire.encode_entry(message).decode()
        click.echo("".join(c if c.isprintable() else _json_escape(c) for c in line))
    else:
        click.echo(f"{_visible(message.sender)}: {_visible(message.text or '')}")
    sys.stdout.flush()


def _visible(text: str) -> str:
    """`text` with control characters shown and not obeyed: a message must not steer the reader's terminal."""
    return "".join(c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text)


def _json_escape(character: str) -> str:
    """As JSON writes any character (RFC 8259 §7), in halves if need be. It leaves C1 controls and the like as they are."""
    halves = character.encode("utf-16-be").hex()
    return "".join(f"\\u{halves[n : n + 4]}" for n in range(0, len(halves), 4))


def _with_query(url: str, **parameters: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket without its other half, or a port that is none
        parts, known = urlsplit(""), False
    if not known:
        raise _Failure(f"the URL {url} is not one of a WebSocket: ws://host:port/ws", 2)
    query = urlencode([*parse_qsl(parts.query), *parameters.items()])
    return urlunsplit(parts._replace(path="/ws" if parts.path in ("", "/") else parts.path, query=query))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
