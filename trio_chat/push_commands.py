"""The commands about push."""

from __future__ import annotations

from pathlib import Path

import click

from .errors import ConfigurationError

__all__ = ["push"]


@click.group()
def push() -> None:
    """Reach people who are away through push providers."""


@push.command("vapid-init")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("vapid.pem"))
def vapid_init(file: Path) -> None:
    """Write a new key pair for Web Push to FILE, vapid.pem if not given, and print the public key, which pages subscribe with.

    A file that is there is never overwritten: every subscription is bound to its key.
    """
    try:
        try:
            from .push import vapid  # noqa: PLC0415  (needs the extra)
        except ModuleNotFoundError as missing:
            raise ConfigurationError(
                f"Web Push needs {missing.name}, which comes with the extra push: pip install 'trio-chat[push]'"
            ) from None
        public_key = vapid.make_key_file(file)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    click.echo(public_key)
