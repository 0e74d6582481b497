"""The commands in the documentation: what is shown parses, what is named exists, and what needs no server is run."""

from __future__ import annotations

import itertools
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import trio
from click.testing import CliRunner

from trio_chat import open_chat
from trio_chat.cli import main

from .snippets import FENCED, PAGES, ROOT, fenced

pytestmark = pytest.mark.once


class Said(NamedTuple):
    """A command, and where it stands."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.words)}"


def split(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of one line of a shell, each without what is redirected and where to."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if set(word) <= set("<>&"):
            redirected = word != "&&"
            if redirected and words and words[-1].isdecimal():  # which of the streams
                words.pop()
            if not redirected:
                yield tuple(words)
                words = []
        elif word in ("|", "||", ";"):
            yield tuple(words)
            words = []
        elif redirected:
            redirected = False
        else:
            words.append(word)
    yield tuple(words)


def shown() -> Iterator[Said]:
    """Every command in a block."""
    for block in fenced(PAGES):
        for line in block.text.splitlines():
            if block.language == "sh" or line.startswith("$ "):
                yield from (Said(str(block), words) for words in split(line.removeprefix("$ ")) if words)


def named() -> Iterator[Said]:
    """What stands in the prose as code, in words; a block does not count."""
    for path in PAGES:
        prose = FENCED.sub(lambda block: "\n" * block[0].count("\n"), path.read_text(encoding="utf-8"))
        for code in re.finditer(r"(?<!`)`([^`\n]+)`(?!`)", prose):
            yield Said(f"{path.name}:{prose.count(chr(10), 0, code.start()) + 1}", tuple(code[1].split()))


def ours(said: Said) -> Said | None:
    """What is said to ``trio-chat``, without what stands for something else."""
    program, *words = [*itertools.dropwhile(re.compile(r"\w+=").match, said.words)] or [""]
    if program.rpartition("/")[2] != "trio-chat":
        return None
    return Said(said.place, tuple(word.strip("[]") for word in words if word != "…"))


SHOWN = [one for one in map(ours, shown()) if one]
NAMED = [one for one in map(ours, named()) if one and one.words[:1] not in ((), ("COMMAND",))]


def parsed(words: tuple[str, ...], *, whole: bool = True) -> str:
    """The name of the command that click finds in them. One that is not `whole` may lack something.

    Raises:
        click.UsageError: there is no such command or option, or it cannot have that value, or lacks one.
    """
    command: click.Command = main
    names: list[str] = []
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        names.append(rest.pop(0))
        found = command.get_command(click.Context(command), names[-1])
        if found is None:
            raise click.UsageError(f"no command {names[-1]!r}")
        command = found
    known = {name for one in command.get_params(click.Context(command)) for name in (*one.opts, *one.secondary_opts)}
    for word in rest:
        if word.startswith("--") and word.partition("=")[0] not in known:
            raise click.UsageError(f"{' '.join(names)} has no option {word}")
    if whole:
        command.make_context(" ".join(names), rest)
    return " ".join(names)


@pytest.mark.parametrize("said", SHOWN, ids=str)
def test_a_command_that_is_shown_is_understood(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reader who types what the page says is told how it is used."""
    monkeypatch.chdir(tmp_path)
    parsed(said.words)


@pytest.mark.parametrize("said", NAMED, ids=str)
def test_a_command_that_is_named_exists(said: Said) -> None:
    """Else the prose tells of a command, or of an option of one, that nobody has."""
    parsed(said.words, whole=False)


def every(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from every(found)


COMMANDS = list(every(main))
OPTIONS = {name for command in COMMANDS for one in command.params for name in (*one.opts, *one.secondary_opts)}


def test_an_option_that_is_named_exists() -> None:
    """Else the prose tells of an option, alone or behind the name of its command, that no command of ours has."""
    unknown = []
    for said in named():
        first = said.words[0]
        options = [word.partition("=")[0] for word in said.words if re.match(r"--[a-z]", word)]
        if first.startswith("--"):
            unknown += [f"{said.place}: {name}" for name in options if name not in OPTIONS | {"--help"}]
        elif first in main.list_commands(click.Context(main)) and options:
            parsed(said.words, whole=False)
    assert unknown == []


def test_a_session_that_is_named_exists() -> None:
    """Else a reader is to run a check that nox does not know."""
    sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE)
    for said in (*shown(), *named()):
        if "-s" in said.words and any(word.endswith("nox") for word in said.words):
            session = said.words[said.words.index("-s") + 1]
            assert session.partition("-")[0] in sessions, said


def test_what_is_wrong_is_noticed() -> None:
    """Else these tests find nothing."""
    assert list(split("A=1 make 2>&1 | trio-chat chat --as b a <x && trio-chat stats # not --this")) == [
        ("A=1", "make"),
        ("trio-chat", "chat", "--as", "b", "a"),
        ("trio-chat", "stats"),
    ]
    assert ours(Said("", ("A=1", ".venv/bin/trio-chat", "serve", "…"))) == Said("", ("serve",))
    for wrong in (("nothing",), ("push", "nothing"), ("serve", "--nothing"), ("serve", "--port", "many"), ("token",)):
        with pytest.raises(click.UsageError):
            parsed(wrong)
    for wrong in (("nothing",), ("push", "nothing"), ("serve", "--nothing")):
        with pytest.raises(click.UsageError):
            parsed(wrong, whole=False)


# Those that end by themselves, and speak to nobody.

GOES_ON = {"serve", "chat", "send", "listen"}
"""They serve, or speak to who does: tests/test_cli.py and tests/terminal run them."""

SAYS = {
    "token": r"[\w-]+\.[\w-]+\.[\w-]+\n",
    "push vapid-init": r"[\w-]{87}\n",
    "push check": None,  # there is no provider
    "push test": None,
    "push outbox": r"",
    "backup": r"backed up to \S+/backups/chat\.db: 1 messages, [\d,]+ bytes\n",
    "restore": r"restored \S*chat\.db: 1 messages, [\d,]+ bytes\n",
    "retain": r"0 entries left the logs of 0 users, 0 messages were removed, 0 bytes given back\n",
    "export": r'\{"type":"export","version":1,"user":"alice",.*\}\n(?:\{.*\}\n)*\{"type":"end"\}\n',
    "erase": r"alice is erased; the log is \S+ from now on\n(?:  \w+: \d+ removed, \d+ kept.*\n)+",
    "explain": r"message 0192f3c8-… from alice to bob\n(?:  .+\n)+",
}
"""What a command prints, the whole of it; None for one that finds nothing to do, and exits with 2 as its page says."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A chat with one message."""
    path = tmp_path_factory.mktemp("chat") / "chat.db"

    async def fill() -> None:
        async with open_chat(path) as chat:
            await chat.send("alice", "bob", "hi", id="0192f3c8-…")

    trio.run(fill)
    return path.read_bytes()


@pytest.mark.parametrize(
    "said", [one for one in SHOWN if parsed(one.words) not in GOES_ON and "--every" not in one.words], ids=str
)
def test_a_command_that_can_be_run_is_run(
    said: Said, database: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a reader types what is understood, and does not do what the page says: in an operator's folder, as it stands."""
    monkeypatch.chdir(tmp_path)
    places = {"/backups": tmp_path / "backups", "/var/lib/trio-chat": tmp_path / "lib"}
    for place in places.values():
        place.mkdir()
    for copy in ("chat.db", "restored.db", "backups/chat-20261125T130000Z.db"):
        (tmp_path / copy).write_bytes(database)
    words = list(said.words)
    for there, here in places.items():
        words = [f"{here}{word.removeprefix(there)}" if word.startswith(there) else word for word in words]
    done = CliRunner().invoke(main, words)
    expected = SAYS[parsed(said.words)]
    if expected is None:
        assert done.exit_code == 2
        assert "no push provider is configured" in done.stderr
    else:
        assert done.exit_code == 0, done.output
        assert re.fullmatch(expected, done.stdout), done.stdout
    if "key-file" in str(said) or "vapid-init" in said.words:
        assert stat.S_IMODE((tmp_path / words[-1]).stat().st_mode) == 0o600
