"""``python -m tests.simulation SEED``: play one seed again, say what is wrong with it, and show all that happened."""

from __future__ import annotations

import click

from .bugs import BUGS, planted
from .campaign import shrink
from .checker import judge
from .script import Script, write
from .world import run


@click.command()
@click.argument("seed", type=int)
@click.option("--bug", type=click.Choice(list(BUGS)), help="Plant this bug.")
@click.option("--shrink", "shorter", is_flag=True, help="Leave out first what it fails without.")
@click.option("--last", type=int, help="Show only so many events from the end.")
def main(seed: int, bug: str | None, shorter: bool, last: int | None) -> None:
    """Play SEED, and show all that happened and what is wrong with it."""
    script = write(seed)
    with planted(bug):
        played = run(script)
        found = judge(played)
        if shorter and found:
            check = found[0].partition(":")[0]

            def fails(tried: Script) -> bool:
                return any(one.startswith(check) for one in judge(run(tried)))

            script = shrink(script, fails)
            played = run(script)
            found = judge(played)
    for line in played.history.lines(last):
        click.echo(line)
    click.echo(f"settings: {script.settings}")
    click.echo(f"{len(script.acts)} acts, {played.seconds:.1f} s, history {played.history.digest()}")
    for one in found:
        click.echo(f"VIOLATED {one}")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
