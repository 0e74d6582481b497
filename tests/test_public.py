"""The public names of the package, and what it costs to import it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import trio_chat


def _as_type_checkers_see_it() -> dict[str, str]:
    """Each name with the module it is imported from in the branch that only type checkers read."""
    assert trio_chat.__file__ is not None
    tree = ast.parse(Path(trio_chat.__file__).read_text())
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: "." * statement.level + (statement.module or "")
        for statement in branch.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def test_type_checkers_and_programs_see_the_same_names() -> None:
    """A name that only one of them knows would be found at run time and refused by mypy, or the other way round."""
    assert _as_type_checkers_see_it() == {**trio_chat._HOME, "authenticators": "."}


@pytest.mark.parametrize("name", trio_chat.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """A name that was moved without its entry here would be found missing by a user first."""
    assert getattr(trio_chat, name) is not None
    assert name in dir(trio_chat)


def test_it_is_the_object_of_its_home() -> None:
    """Another object of the same name would make isinstance and except fail."""
    for name, home in trio_chat._HOME.items():
        assert getattr(trio_chat, name) is getattr(import_module(home, "trio_chat"), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Hasattr and `from trio_chat import …` rest on that."""
    with pytest.raises(AttributeError, match="has no attribute 'open_shop'"):
        _ = trio_chat.open_shop
    with pytest.raises(ImportError):
        exec("from trio_chat import open_shop")


@pytest.mark.parametrize("module", ["trio_chat.client", "trio_chat.terminal.send", "trio_chat.cli"])
def test_a_client_does_not_import_the_server(module: str) -> None:
    """A bot on asyncio would load a web server and a database, and every command would start half a second later."""
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    servers = {"sqlite_utils", "trio_websocket", "trio_chat.chat", "trio_chat.core", "trio_chat.store"}
    assert not loaded & servers
