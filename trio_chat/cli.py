"""The command line. Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the server was not reached or went away.

Each command is loaded when it is asked for: who sends one message does not wait for the import of a server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

__all__ = ["main"]

_HOMES: Final = {
    "backup": "operations.backup",
    "chat": "terminal.chat",
    "devices": "operations.users",
    "listen": "terminal.listen",
    "migrate": "operations.migrate",
    "push": "operations.push",
    "restore": "operations.backup",
    "retain": "operations.retain",
    "revoke": "operations.running",
    "send": "terminal.send",
    "serve": "operations.serve",
    "settings": "operations.settings",
    "stats": "operations.running",
    "token": "access",
    "users": "operations.users",
}
"""The module of each command."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _HOMES:
            return None
        command: click.Command = getattr(import_module(f"trio_chat.{_HOMES[cmd_name]}"), cmd_name)
        return command


@click.group(cls=_Commands)
@click.version_option(package_name="trio-chat", prog_name="trio-chat")
def main() -> None:
    """Durable, real-time, one-to-one messages by user ID."""
