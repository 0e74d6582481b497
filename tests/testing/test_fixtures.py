"""The fixtures, in projects of their own: under each of the two plugins that run tests on Trio."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process  # it runs pytest on a project

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def project(folder: Path, plugin: str) -> None:
    """The files that the documentation shows for a plugin, as they stand there."""
    files = re.findall(rf"^```python {plugin} (\S+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["conftest.py", "test_chat.py"]
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("plugin", "other"), [("pytest-trio", "anyio"), ("anyio", "trio")])
def test_the_documented_project_works(plugin: str, other: str, tmp_path: Path) -> None:
    """Else who copies the files of docs/testing.md has tests that do not run, or run for as long as they wait."""
    project(tmp_path, plugin)
    options = ["-q", "-W", "error", "-p", f"no:{other}", "-p", "no:cacheprovider", "--durations=0", "--durations-min=2"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "s call" not in done.stdout  # an hour went by in one of them
