# ruff: noqa: INP001  (docs are no package)
"""Writes the end of ``docs/command-line.md``, every command with its options, from the commands themselves.

Run it after a change to one::

    python docs/generate_commands.py

The same code gives the same bytes; a test compares them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from trio_chat.cli import main

PAGE: Final = Path(__file__).with_name("command-line.md")

HEAD: Final = """\
<!-- From here on written by docs/generate_commands.py from the commands: change it there. -->

## Every command

All take `--help`; `trio-chat --version` prints the version.
"""


def commands(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that do something, with the words that call them."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        elif command is not None:
            yield (*words, name), command


def marked(text: str) -> str:
    """The text with the options in it as code: two hyphens would become a dash."""
    return re.sub(r"(?<![\w`-])--[a-z][a-z-]*", r"`\g<0>`", text)


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    """The options of a command: how each is written, and what it is."""
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        about = [re.sub(r"\.? +\[default: (.+)\]", r"; `\1` if not given", option.help).rstrip(".")] if option.help else []
        if isinstance(option.type, click.Choice):
            about.append(f"one of {', '.join(f'`{choice}`' for choice in option.type.choices)}")
        if option.required:
            about.append("required")
        elif not option.is_flag and isinstance(option.default, str | int | float | Path):
            about.append(f"`{option.default}` if not given")
        if option.multiple:
            about.append("may be repeated")
        if option.envvar:
            about.append(f"or the variable `{option.envvar}`")
        yield ", ".join(f"`{name}`" for name in option.opts), marked("; ".join(about)).replace("|", r"\|")


def section() -> str:
    """What is to stand at the end of the page."""
    parts = [HEAD]
    for words, command in commands(main):
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        called = " ".join([*words, *(one.make_metavar(click.Context(command)) for one in arguments)])
        parts.append(f"### `trio-chat {called}`\n\n{marked(inspect.cleandoc(command.help or ''))}\n")
        rows = [f"| {written} | {about} |" for written, about in options(command)]
        if rows:
            parts.append("\n".join(["| option | what it is |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def page() -> str:
    """The page as it is to be: what is written by hand stays."""
    by_hand = PAGE.read_text(encoding="utf-8").partition(HEAD.partition("\n")[0])[0]
    return f"{by_hand.rstrip()}\n\n{section()}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
