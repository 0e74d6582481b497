"""``trio-chat push``: what there is to set up for push."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import ConfigurationError
from .options import plainly

__all__ = ["push"]


@click.group()
def push() -> None:
    """Reach people who are away through push providers."""


@push.command("vapid-init")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("vapid.pem"))
def vapid_init(file: Path) -> None:
    """Write a new key pair for Web Push to FILE, or vapid.pem, and print the public key, which pages subscribe with.

    A file that is there is never overwritten: every subscription is bound to its key.
    """
    click.echo(plainly(lambda: _key_pair(file)))


def _key_pair(file: Path) -> str:
    try:
        from ..push.vapid import make_key_file  # noqa: PLC0415  (needs the extra)
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"Web Push needs {missing.name}, which comes with the extra push: pip install 'trio-chat[push]'"
        ) from None
    return make_key_file(file)
