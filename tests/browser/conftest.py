"""A browser, a server, and people who chat."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from .stage import Crowd, Server, crowd_at

_FIGURES = pytest.StashKey[list[str]]()
CHROMIUM = os.environ.get("TRIO_CHAT_CHROMIUM", "/usr/bin/chromium")
# Without a sandbox, for it needs what root in a container does not have; and without its own traffic to elsewhere.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    assert shutil.which(CHROMIUM), f"there is no {CHROMIUM}; `nox -s browser` installs it"
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def crowd(browser: Browser, server: Server) -> Iterator[Crowd]:
    with crowd_at(browser, server.url) as crowd:
        yield crowd


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line for the summary at the end of the run."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures."""
    if lines := config.stash.get(_FIGURES, None):
        terminalreporter.section("browser")
        for line in lines:
            terminalreporter.write_line(line)
