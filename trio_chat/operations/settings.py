"""``trio-chat settings``: what a server would run with, and why."""

from __future__ import annotations

from pathlib import Path

import click

from .options import config, configured

__all__ = ["settings"]


@click.command()
@config
def settings(config: Path | None) -> None:
    """Print the settings in effect, with their reasons, as a TOML file.

    Those that differ from the defaults come from the file named by --config and from variables such as TRIO_CHAT_WINDOW.
    """
    configuration = configured(config)
    for line in configuration.lines():
        click.echo(f"# {line.reason}\n{line.name} = {line.value}  # {line.source}\n")
    for variable in configuration.ignored:
        click.echo(f"there is no setting for {variable}", err=True)
