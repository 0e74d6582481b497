"""The browser's client, trio_chat/web/trio-chat*.js: its own tests under ``node --test``, and its types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import NoReturn

import pytest

pytestmark = pytest.mark.process

TESTS = Path(__file__).parent / "web"
OLDEST_NODE = (18, 19)


def _unavailable(why: str) -> NoReturn:
    """A developer may do without Node; where CI is set, that would be a hole that nobody sees."""
    if os.environ.get("CI"):
        pytest.fail(f"the browser's client cannot be tested, and CI is set: {why}")
    pytest.skip(f"the browser's client is not tested: {why}")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tests, with what they need beside them, where Node looks for it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _unavailable("there is no node, or no npm, on the PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        _unavailable(f"node is {version}, and has to be {'.'.join(map(str, OLDEST_NODE))} or newer")
    folder = tmp_path_factory.mktemp("web")
    for file in [TESTS / "package.json", *TESTS.glob("*.mjs")]:
        shutil.copy(file, folder)
    with as_file(files("trio_chat") / "web") as web:  # beside the package.json that says what a .js is
        shutil.copytree(web, folder / "web")
    install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder)]
    try:
        subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.TimeoutExpired:
        _unavailable("npm did not install what the tests need within two minutes")
    except subprocess.CalledProcessError as error:
        _unavailable(f"npm did not install what the tests need: {error.stderr.strip()}")
    return folder


def test_its_own_tests_pass(folder: Path) -> None:
    """Else a page that uses the module loses messages, shows them twice, or does not come back."""
    command = ["node", "--test", *sorted(str(file) for file in folder.glob("*.test.mjs"))]
    environment = {**os.environ, "TRIO_CHAT_WEB": str(folder / "web"), "NO_COLOR": "1"}
    tests = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "skipped 0" in tests.stdout, tests.stdout


def test_its_types_are_right(folder: Path) -> None:
    """Else an editor tells the author of a page something else than the module does."""
    options = {"allowJs": True, "checkJs": True, "noEmit": True, "strict": True, "target": "es2023", "module": "esnext"}
    options |= {"moduleResolution": "bundler", "lib": ["es2023", "dom", "dom.iterable"], "types": []}
    configuration = {"compilerOptions": options, "include": ["web/trio-chat*.js"]}
    (folder / "tsconfig.json").write_text(json.dumps(configuration), encoding="utf-8")
    command = ["node", str(folder / "node_modules/typescript/bin/tsc"), "-p", str(folder)]
    types = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert types.returncode == 0, types.stdout
