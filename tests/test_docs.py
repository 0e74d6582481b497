"""The documentation: that it names everything there is, and that what it shows works."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

from trio_chat.client import open_client

from .snippets import DOCS, ROOT, snippets

PUBLIC = ("trio_chat", "trio_chat.authenticators", "trio_chat.client", "trio_chat.testing")


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What is public, and where it is documented.


def public() -> dict[str, Any]:
    """Every public name, with what it names; submodules apart."""
    named: dict[str, Any] = {}
    for place in PUBLIC:
        module = importlib.import_module(place)
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        found = {f"{place}.{name}": getattr(module, name) for name in names}
        named |= {name: what for name, what in found.items() if not isinstance(what, ModuleType | str)}
    return named


def referred_to() -> list[Any]:
    """What the directives of the reference name."""
    found: list[Any] = []
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    for kind, target, options in re.findall(r"^\.\. (?:auto|py:)(\w+):: (\S+)\n((?:   :.*\n)*)", text, re.MULTILINE):
        if kind == "module":
            module = importlib.import_module(target)
            listed = re.search(r"^   :members:(.*)$", options, re.MULTILINE)
            assert listed, target
            names = [name.strip() for name in listed[1].split(",") if name.strip()] or module.__all__
            found += [getattr(module, name) for name in names]
        else:
            place, _, name = target.rpartition(".")  # what autodoc cannot describe is described there by hand
            found.append(getattr(importlib.import_module(place), name))
    return found


def test_every_public_name_is_in_the_reference() -> None:
    """Else somebody can only guess what a name is for, or does not know that it exists."""
    shown = referred_to()
    assert [name for name, what in public().items() if not any(what is one for one in shown)] == []


def test_every_public_name_says_what_it_is_for() -> None:
    """Else the reference shows a signature and nothing more: functions, classes, and what the classes have."""
    silent = []
    for name, what in public().items():
        if not inspect.isroutine(what) and not isinstance(what, type):
            continue  # an alias of a type: it is what it stands for
        if not (vars(what).get("__doc__") if isinstance(what, type) else what.__doc__):
            silent.append(name)
        if isinstance(what, type):
            silent += [f"{name}.{member}" for member in silent_members(what)]
    assert silent == []


def silent_members(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        if name.startswith("_") or not (
            inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod)
        ):
            continue
        if not inspect.getdoc(member):
            yield name


# What is derived from the code.


def test_the_page_of_errors_is_that_of_the_catalogue() -> None:
    """Else the page lacks an error that was added, or tells a client to reconnect that must not."""
    generator = loaded(DOCS / "generate_errors.py")
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page()


def test_the_page_of_commands_is_that_of_the_commands() -> None:
    """Else the page lacks an option that was added, or names one that is gone."""
    generator = loaded(DOCS / "generate_commands.py")
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page()


def test_the_page_of_performance_says_what_was_measured() -> None:
    """Else it shows figures that nobody has seen, or those of an older run beside those of a newer one."""
    generator = loaded(DOCS / "generate_performance.py")
    written = generator.PAGE.read_text(encoding="utf-8")
    assert "(not measured)" not in written
    assert written == generator.page(written)


def table(text: str) -> list[list[str]]:
    """The cells of a table in Markdown, without the line below its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_comparison_quotes_the_page_of_performance() -> None:
    """Else the two pages show different figures for the same thing, and only one of them was measured."""
    text = (DOCS / "comparison.md").read_text(encoding="utf-8")
    quoted = re.search(r"^<!-- rows of: (.*) -->\n(.*?)^<!-- end -->", text, re.MULTILINE | re.DOTALL)
    assert quoted
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    measured = page.partition("<!-- generated: side-by-side -->")[2].partition("<!-- end -->")[0]
    head, *rows = table(measured)
    columns = [head.index(name) for name in ("system", "a second", "p50 ms", "syncs per 1,000")]
    wanted = [[row[column] for column in columns] for row in rows if row[0] == quoted[1]]
    assert table(quoted[2])[1:] == [row for row in wanted if not row[0].startswith("bare echo")]


NOT_RUN = {
    "Dockerfile": "needs Docker",
    "trio-chat.socket": "needs systemd",
}


def test_every_example_is_in_the_index_and_run() -> None:
    """Else nobody finds it, or it has stopped working and nobody knows."""
    rows = re.findall(r"^\| `(\S+)` \| (.+) \| (?:`(\S+)`)? ?\|$", (DOCS / "examples.md").read_text("utf-8"), re.MULTILINE)
    files = {
        path.name for path in (ROOT / "examples").iterdir() if path.suffix != ".dockerignore" and path.name[0] not in "._"
    }
    assert sorted(name for name, _, _ in rows) == sorted(files)
    for name, shows, test in rows:
        assert shows
        if name in NOT_RUN:
            assert not test
        else:
            assert Path(name).stem in (ROOT / test).read_text(encoding="utf-8"), name


# What is shown.


@pytest.mark.process
async def test_the_tutorial_by_the_text_alone(tmp_path: Path) -> None:
    """Else the first ten minutes with this library are the last: its files are run as they stand, on a free port."""
    files = {one.label: one.text for one in snippets([DOCS / "tutorial.md"])}
    assert list(files) == ["app.py", "test_app.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "start.py").write_text("import trio, app\ntrio.run(app.main, 0)\n", encoding="utf-8")
    app = await trio.lowlevel.open_process([sys.executable, "start.py"], cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        assert app.stdout is not None
        with trio.fail_after(60):
            url = (await app.stdout.receive_some()).decode().strip().replace("http:", "ws:") + "ws?user="
            async with open_client(url + "alice") as alice, open_client(url + "bob") as bob:
                stream = alice.messages()
                assert (await anext(stream)).text == "Welcome, alice!"
                await bob.send("alice", "hi")
                assert (await anext(stream)).text == "hi"
    finally:
        app.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await app.wait()
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_app.py"]
    done = await trio.run_process(command, cwd=tmp_path, capture_stdout=True, check=False)
    assert b"2 passed" in done.stdout, done.stdout.decode()
