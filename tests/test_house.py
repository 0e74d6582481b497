"""The house rules that can be checked by reading the code (docs/design.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import trio_websocket

pytestmark = pytest.mark.once  # it reads the text of the code

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "trio_chat").rglob("*.py"))
MIGRATIONS = sorted((ROOT / "migrations").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROSE = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "newsfragments").glob("*.md")])

SQL_ROOMS = ("migrations/", "trio_chat/store/", "trio_chat/client/state.py")
JSON_ROOMS = ("trio_chat/wire.py", "trio_chat/operations/output.py", "trio_chat/push/documents.py")
PRIVATE_ROOM = "trio_chat/transport/websocket.py"
EDGES = [
    ("trio_chat/hooks.py", "except* Exception"),  # around one hook of the application's
    ("trio_chat/porch.py", "except* Exception"),  # around one connection
    ("trio_chat/questions.py", "except* Exception"),  # around one connection: what it asks, which changes nothing
]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> Iterator[str]:
    """The modules that are named in imports, wherever they stand."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def broad(path: Path) -> Iterator[str]:
    """Each clause that catches everything and may keep it: those that end with a ``raise`` only clean up."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Try | ast.TryStar):
            for handler in node.handlers:
                kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
                for kind in kinds:
                    caught = "" if kind is None else dotted(kind)
                    if caught in ("", "Exception", "BaseException") and not isinstance(handler.body[-1], ast.Raise):
                        yield f"except{'*' if isinstance(node, ast.TryStar) else ''} {caught}".strip()


@pytest.mark.parametrize("path", [*PACKAGE, *MIGRATIONS], ids=name)
def test_a_module_is_one_idea(path: Path) -> None:
    """Else a module has grown into two that nobody can read in one sitting."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_everything_is_caught_only_at_the_edges() -> None:
    """Else a bug is swallowed somewhere in the middle: only one connection and one hook may fail for any reason (rule 3).

    With ``except*``, for a cancellation at the same moment makes a BaseExceptionGroup that a plain ``except`` lets out.
    """
    assert [(name(path), clause) for path in PACKAGE for clause in broad(path)] == EDGES


@pytest.mark.parametrize("path", [path for path in TESTS if "proofs" not in path.parts], ids=name)
def test_no_test_sleeps(path: Path) -> None:
    """Else the suite is slow and fails on a busy machine: wait for the event, or sleep by the virtual clock (rule 9).

    Not so the proofs: they disturb a real server in a process of its own, which no virtual clock reaches.
    """
    called = {dotted(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)}
    slept = {call for call in called if re.fullmatch(r"(\w+\.)?sleep(_until)?", call)}
    if re.search(r"\b(MockClock|autojump_clock|virtual clock)\b", path.read_text(encoding="utf-8")):
        slept -= {"trio.sleep", "trio.sleep_until", "anyio.sleep"}
    assert not slept


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_every_test_says_what_would_break(path: Path) -> None:
    """Else a red test has to be understood before it can be judged."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_every_language_has_its_room(path: Path) -> None:
    """Else SQL or the wire's JSON is spread over the house, and so is whatever is wrong with it (rule 6)."""
    modules = {module.partition(".")[0] for module in imported(path)}
    if not name(path).startswith(SQL_ROOMS):
        assert not modules & {"sqlite3", "sqlite_utils"}
    if name(path) not in JSON_ROOMS:
        assert "json" not in modules
        uses = {dotted(node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
        if not name(path).startswith(SQL_ROOMS):  # SQLite has JSON of its own
            assert not {use for use in uses if use.startswith("msgspec.json.")}


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_private_names_of_others_have_one_room(path: Path) -> None:
    """Else an update of trio-websocket breaks places that nobody remembers."""
    if name(path) == PRIVATE_ROOM:
        return
    assert not [module for module in imported(path) if re.search(r"(^|\.)_[a-z]", module) and module != "__future__"]
    private = {attribute for attribute in vars(trio_websocket.WebSocketConnection) if re.match(r"_[a-z]", attribute)}
    foreign = {
        node.attr
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and dotted(node.value) not in ("self", "cls")
    }
    assert not private & foreign


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_links_in_the_prose_lead_somewhere(path: Path) -> None:
    """Else a reader is sent to a page that is not there."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert (path.parent / target).exists(), target


def test_the_readme_starts_and_tests_with_one_line_each() -> None:
    """Else the two lines a reader copies are no longer there; .ci/run runs the second as it stands."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^python3 -m venv .* serve --demo$", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 -m venv .*/nox -s tests$", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("path", [path for path in PACKAGE if "authenticators" in path.parts], ids=name)
def test_secrets_are_not_compared_by_looking_at_them(path: Path) -> None:
    """Else how long a comparison takes says how much of a guess was right (websockets CVE-2021-33880)."""
    secret = re.compile(r"(^|[._])(signature|secret|password|token|mac|digest)s?$")
    compared = [
        ast.unparse(node)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and any(secret.search(dotted(side)) for side in [node.left, *node.comparators])
    ]
    assert not compared, "hmac.compare_digest takes as long for any two of a length"
