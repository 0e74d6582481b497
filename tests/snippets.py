"""The Python in the prose, and its execution: as it stands there, with a look at whether every line of it was reached."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))

FENCED: Final = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}|:{3,}) *(?P<info>\S.*?)? *\n(?P<text>(?:.*\n)*?)(?P=indent)(?P=fence) *$",
    re.MULTILINE,
)


class Fenced(NamedTuple):
    """A block between fences."""

    page: str
    line: int
    """Of its first fence."""
    language: str
    """The first word behind the fence."""
    label: str
    """The other words."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def fenced(pages: Iterable[Path] = PAGES) -> Iterator[Fenced]:
    """Every block of every page, without its indentation."""
    for path in pages:
        whole = path.read_text(encoding="utf-8")
        for found in FENCED.finditer(whole):
            language, _, label = (found["info"] or "").partition(" ")
            text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            yield Fenced(path.name, whole.count("\n", 0, found.start()) + 1, language, label.strip(), text)


def snippets(pages: Iterable[Path] = PAGES) -> list[Fenced]:
    """Those that are Python."""
    return [one for one in fenced(pages) if one.language == "python"]


class Shown:
    """A snippet that is executed in names that a test prepares, and notes which of its statements are reached."""

    def __init__(self, snippet: Fenced) -> None:
        self.snippet = snippet
        self._reached: set[int] = set()
        noting = _Noting()
        tree = ast.fix_missing_locations(noting.visit(ast.parse(snippet.text)))
        self._statements = noting.lines
        # Annotations are not looked up: they may name what the snippet has no need to import.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | annotations.compiler_flag
        self._code = compile(tree, str(snippet), "exec", flags=flags, dont_inherit=True)
        self.names: dict[str, Any] = {}
        """What it knows, and what it has defined."""

    def now(self, **names: Any) -> dict[str, Any]:
        """Run one that awaits nothing at its top level."""
        self.names = {**names, _Noting.NAME: self._reached.add}
        assert eval(self._code, self.names) is None, "it has to be awaited"
        return self.names

    async def run(self, **names: Any) -> dict[str, Any]:
        """Run one that awaits something."""
        self.names = {**names, _Noting.NAME: self._reached.add}
        await eval(self._code, self.names)
        return self.names

    def missed(self) -> list[str]:
        """The lines that nothing has reached so far."""
        lines = self.snippet.text.splitlines()
        return [lines[number - 1] for number in sorted(self._statements - self._reached)]


class _Noting(ast.NodeTransformer):
    """Has each statement say its line before it runs."""

    NAME: Final = "__reached__"

    def __init__(self) -> None:
        self.lines: set[int] = set()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, [each for statement in block for each in self._noted(statement)])
        return node

    def _noted(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        self.lines.add(statement.lineno)
        yield ast.copy_location(ast.parse(f"{self.NAME}({statement.lineno})").body[0], statement)
        yield statement
