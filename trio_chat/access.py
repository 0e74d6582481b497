"""The command line's ways to tell who connects: the options of ``serve``, the keys in files, and tokens for development."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from . import authenticators
from .committer import unix_ms
from .errors import ConfigurationError
from .model import USER_LENGTH, is_name
from .transport.front import Authenticate

__all__ = ["authenticator", "options", "token"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_SECRET_BYTES: Final = 32

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_OPTIONS: Final = (
    click.option("--demo", is_flag=True, help="Believe whoever says who they are (?user=…&device=…); this machine only."),
    click.option("--jwt-key-file", type=_FILE, help="Believe web tokens that this secret or public key (PEM) checks."),
    click.option("--jwt-jwks-file", type=_FILE, help="The same for a set of public keys; read again when it has changed."),
    click.option("--jwt-audience", multiple=True, help="What the tokens' aud must hold."),
    click.option("--jwt-issuer", help="What the tokens' iss must be."),
    click.option("--jwt-user-claim", help="The claim that names the user; sub if not given."),
    click.option("--allow-origin", multiple=True, metavar="URL",
                 help="A page from elsewhere that may connect, as browsers write it: https://app.example."),
    click.option("--trusted-proxy", multiple=True, metavar="ADDRESS",
                 help="A proxy, or a network, whose X-Forwarded-For and -Proto are believed; unix for Unix sockets."),
)  # fmt: skip


class _Name(click.ParamType[str]):
    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_name(value):
            self.fail(f"an ID is 1 to {USER_LENGTH} characters without control characters", param, ctx)
        return str(value)


class _Duration(click.ParamType[int]):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _DURATION.fullmatch(str(value))
        if found is None or not int(found[1]):
            self.fail("give a time such as 90s, 15m, 1h or 7d", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


def options(command: _Command) -> _Command:
    """Adds the options of `authenticator` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def authenticator(
    *,
    demo: bool,
    jwt_key_file: Path | None,
    jwt_jwks_file: Path | None,
    jwt_audience: tuple[str, ...],
    jwt_issuer: str | None,
    jwt_user_claim: str | None,
) -> Authenticate:
    """The way to tell who connects.

    Raises:
        ConfigurationError: there is none, or more than one, or it cannot be used; one sentence says what to do.
    """
    ways = [demo, jwt_key_file is not None, jwt_jwks_file is not None]
    if not any(ways):
        raise ConfigurationError(
            "there is no way to tell who connects: try it with --demo, give --jwt-key-file or --jwt-jwks-file, "
            "or embed trio-chat with an authenticator of yours"
        )
    if sum(ways) > 1:
        raise ConfigurationError("--demo, --jwt-key-file and --jwt-jwks-file are alternatives: give one of them")
    if demo:
        if jwt_audience or jwt_issuer or jwt_user_claim:
            raise ConfigurationError("the options for web tokens mean nothing to --demo")
        return authenticators.demo
    key = None if jwt_key_file is None else _read(jwt_key_file)
    try:
        return authenticators.jwt(
            key, jwks=jwt_jwks_file, audience=jwt_audience, issuer=jwt_issuer, user_claim=jwt_user_claim or "sub"
        )
    except ConfigurationError as error:
        raise _about(jwt_key_file, error) from None


@click.command()
@click.option("--user", type=_Name(), required=True, help="Whom it is for.")
@click.option(
    "--key-file",
    type=_FILE,
    required=True,
    help="The secret, or private key (PEM), that signs it; a new secret is made if there is no file.",
)
@click.option("--device", type=_Name(), help="The only device that it lets its bearer be.")
@click.option("--expires", type=_Duration(), default="1h", show_default=True, help="How long it is good for.")
@click.option("--audience", multiple=True, help="What serve was given as --jwt-audience.")
@click.option("--issuer", help="What serve was given as --jwt-issuer.")  # fmt: skip
def token(
    user: str, key_file: Path, device: str | None, expires: int, audience: tuple[str, ...], issuer: str | None
) -> None:
    """Print a web token for a server that runs with --jwt-key-file: for development, where no log-in issues them."""
    now = unix_ms() // 1000
    claims: dict[str, Any] = {"sub": user, "iat": now, "exp": now + expires}
    if device is not None:
        claims["device"] = device
    if audience:
        claims["aud"] = list(audience)
    if issuer is not None:
        claims["iss"] = issuer
    try:
        if not key_file.exists():
            _make_secret(key_file)
        key = _read(key_file)
        try:
            minted = authenticators.mint(key, claims)
        except ConfigurationError as error:
            raise _about(key_file, error) from None
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    click.echo(minted)


def _about(file: Path | None, error: ConfigurationError) -> ConfigurationError:
    return error if file is None else ConfigurationError(f"{file}: {error}")


def _read(file: Path) -> bytes:
    """What is in a key file; a secret's line end, which editors add, is no part of it. Warns of files others can read."""
    try:
        data = file.read_bytes()
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"the key file {file} cannot be read: {error.strerror}") from None
    public = b"-----BEGIN " in data and b"PRIVATE KEY-----" not in data
    if not public and stat.S_IMODE(mode) & 0o077:
        click.echo(f"warning: others can read the secret in {file}: chmod 600 {file}", err=True)
    return data.rstrip(b"\r\n") if data.isascii() else data


def _make_secret(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
    except OSError as error:
        raise ConfigurationError(f"the key file {file} cannot be made: {error.strerror}") from None
    click.echo(f"made a new secret in {file}; serve believes its tokens with --jwt-key-file {file}", err=True)
