"""``trio-chat migrate``: the schema of a database file, step by step."""

from __future__ import annotations

from pathlib import Path

import click

from ..store import migration
from ..store.schema import Schema, bundled
from . import progress
from .options import plainly

__all__ = ["migrate"]


@click.group()
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
    for name, applied in plainly(lambda: migration.status(db, _schema(steps))):
        click.echo(f"{'applied' if applied else 'pending'}  {name}")


@migrate.command()
@_db
@_steps
def up(db: Path, steps: Path | None) -> None:
    """Apply the steps that the file lacks, after copying it if it holds anything."""
    if not plainly(lambda: migration.up(db, progress.told(), _schema(steps))):
        click.echo("nothing to do", err=True)


@migrate.command()
@_db
@_steps
@click.option("--to", metavar="STEP", help="Undo everything after this step.")
def down(db: Path, steps: Path | None, to: str | None) -> None:
    """Undo the newest step, after copying the file. What an older schema cannot hold is in the copy only."""
    if not plainly(lambda: migration.down(db, progress.told(), to, _schema(steps))):
        click.echo("nothing to do", err=True)


@migrate.command()
@click.argument("name")
@_steps
def create(name: str, steps: Path | None) -> None:
    """Write an empty step NAME with the next number."""
    click.echo(str(plainly(lambda: migration.create(name, steps))))


def _schema(folder: Path | None) -> Schema:
    return bundled() if folder is None else Schema(folder)
