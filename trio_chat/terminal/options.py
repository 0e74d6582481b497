"""The options that the commands share, and the way to the server that they describe."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import click
from msgspec import Struct

from ..client import ChatClient, Timing, open_client
from ..model import ID_LENGTH, USER_LENGTH, is_name
from .outcome import USAGE, Failure

__all__ = ["CHAT", "Access", "Id", "Text", "User", "as_user", "device", "state", "token", "url", "wait"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Decorator(Protocol):
    def __call__(self, command: _Command, /) -> _Command: ...


CHAT: Final = "cli-chat"
"""The device of `chat`."""
_TIMING: Final = Timing(backoff_cap=5.0)  # somebody sits there and waits


class User(click.ParamType[str]):
    """A user's name."""

    name = "ID"
    length = USER_LENGTH

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_name(value, self.length):
            self.fail(f"an ID is 1 to {self.length} characters without control characters", param, ctx)
        return str(value)


class Id(User):
    """A message's id."""

    length = ID_LENGTH


class Text(click.ParamType[str]):
    """A message's text."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("the text is not UTF-8", param, ctx)
        if not value or "\0" in value:
            self.fail("there is no text" if not value else "the text holds a NUL character", param, ctx)
        return str(value)


class _Token(click.ParamType[str]):
    name = "TOKEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not (value and value.isascii() and value.isprintable()):
            self.fail("a token is printable ASCII", param, ctx)
        return str(value)


def as_user(help: str) -> _Decorator:
    """``--as``: who this is."""
    return click.option("--as", "user", type=User(), help=f"{help} With a token it may be left out.")


url: _Decorator = click.option("--url", default="ws://127.0.0.1:6662/ws", show_default=True)
token: _Decorator = click.option(
    "--token", type=_Token(), envvar="TRIO_CHAT_TOKEN", show_envvar=True,
    help="Proof of who this is. Others on the machine can see the option, not the variable.",
)  # fmt: skip
state: _Decorator = click.option(
    "--state", type=click.Path(dir_okay=False, path_type=Path),
    help="A file for what has to outlive this process; made if there is none.",
)  # fmt: skip


def device(default: str) -> _Decorator:
    """``--device``."""
    return click.option("--device", type=User(), default=default, show_default=True,
                        help="The name of this client among the user's. A second one ends the first.")  # fmt: skip


def wait(help: str, default: float | None = None) -> _Decorator:
    """``--wait``."""
    return click.option("--wait", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", default=default,
                        show_default=default is not None, help=help)  # fmt: skip


class Access(Struct, frozen=True, kw_only=True):
    """Where the server is, who this is, and what proves it."""

    url: str
    user: str | None
    token: str | None
    device: str
    state: Path | None = None
    send_only: bool = False

    def open(self) -> AbstractAsyncContextManager[ChatClient]:
        """A client that stays connected.

        Raises:
            Failure: this cannot be the way to a server.
        """
        if self.user is None and self.token is None:
            raise Failure("say who this is with --as, or prove it with --token", USAGE)
        return open_client(
            _with_query(self.url, user=self.user),
            user=self.user,
            token=self.token,
            device=self.device,
            state=self.state,
            send_only=self.send_only,
            timing=_TIMING,
        )


def _with_query(url: str, **parameters: str | None) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket without its other half, or a port that is none
        parts, known = urlsplit(""), False
    if not known:
        raise Failure(f"the URL {url} is not one of a WebSocket: ws://host:port/ws", USAGE)
    more = [(name, value) for name, value in parameters.items() if value is not None]
    query = urlencode([*parse_qsl(parts.query), *more])
    return urlunsplit(parts._replace(path="/ws" if parts.path in ("", "/") else parts.path, query=query))
