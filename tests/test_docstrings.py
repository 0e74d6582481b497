"""The Python in docstrings, which the reference shows: executed as it stands, as that of the pages is."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_chat
from trio_chat import MessageStored, authenticators, open_chat
from trio_chat.asgi import ChatEndpoint
from trio_chat.testing import open_test_chat, open_test_server

from .snippets import Fenced, Shown, snippets

pytestmark = pytest.mark.once

PACKAGE: Final = Path(trio_chat.__file__).parent
LITERAL: Final = re.compile(r"::\n\n(?P<text>(?: {4}.*\n|\n)+)")
NO_PYTHON: Final = {"errors.py"}  # the tree of exceptions
HERE: list[Fenced] = []


def blocks() -> Iterator[Fenced]:
    """What a docstring shows behind ``::``, without its indentation."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for found in LITERAL.finditer(f"{ast.get_docstring(node)}\n"):
                    page, line = path.relative_to(PACKAGE).as_posix(), getattr(node, "lineno", 1)
                    yield Fenced(page, line, "python", "", textwrap.dedent(found["text"]).strip() + "\n")


def plain(text: str) -> str:
    """Without comments, and whatever the indentation."""
    return "\n".join(re.sub(r" +# .*", "", line).strip() for line in text.strip().splitlines())


BLOCKS: Final = [one for one in blocks() if one.page not in NO_PYTHON]
ON_A_PAGE: Final = [one for one in BLOCKS if any(plain(one.text) in plain(page.text) for page in snippets())]


def of(page: str, around: str = "{}") -> pytest.MarkDecorator:
    """The test is given the one block of the module that stands on no page, as `shown`, with what is to be `around` it."""
    (one,) = (each for each in BLOCKS if each.page == page and each not in ON_A_PAGE)
    HERE.append(one)
    inside = one._replace(text=around.format(one.text.replace("\n", "\n    ") if around != "{}" else one.text))
    return pytest.mark.parametrize("shown", [inside], ids=str, indirect=True)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Iterator[Shown]:
    """A block; when the test has ended, every statement of it has to have run."""
    one = Shown(request.param)
    yield one
    assert one.missed() == []


def test_every_block_is_run() -> None:
    """Else somebody adds one that only looks right: show it on a page, or write a test here that is given it with `of`."""
    assert [str(one) for one in BLOCKS if one not in [*HERE, *ON_A_PAGE]] == []
    assert len(BLOCKS) >= 11


@of("testing/kit.py")
async def test_the_kit(shown: Shown, autojump_clock: MockClock) -> None:
    """Else the first test that an application writes with it fails."""
    await shown.run(open_test_chat=open_test_chat)


@of("chat.py")
async def test_what_happens(shown: Shown, autojump_clock: MockClock) -> None:
    """Else a bot that listens as the docstring says hears nothing."""
    async with open_test_chat() as t, trio.open_nursery() as nursery:
        nursery.start_soon(partial(shown.run, chat=t.chat, MessageStored=MessageStored))
        await wait_all_tasks_blocked()
        await t.chat.send("alice", "bot", "hi")
        await wait_all_tasks_blocked()
        assert shown.names["sender"] == "alice"
        assert shown.names["text"] == "hi"
        nursery.cancel_scope.cancel()


@of("keep_voice.py")
async def test_to_export(shown: Shown, tmp_path: Path) -> None:
    """Else a user who asks for what is held is given nothing."""
    written: list[str] = []

    async def write(line: str) -> None:
        await trio.lowlevel.checkpoint()
        written.append(line)

    async with open_chat(tmp_path / "chat.db") as chat:
        await chat.send("alice", "bob", "hi")
        await shown.run(chat=chat, response=SimpleNamespace(write=write))
    assert any(json.loads(line).get("text") == "hi" for line in written)


@of("client/client.py")
async def test_to_listen(shown: Shown, autojump_clock: MockClock) -> None:
    """Else a loop as the docstring has it is given nothing."""
    async with open_test_server() as server, server.open_client("bob") as bob, trio.open_nursery() as nursery:
        nursery.start_soon(partial(shown.run, chat=bob))
        await server.chat.send("alice", "bob", "hi")
        with trio.fail_after(60):
            while "message" not in shown.names:  # noqa: ASYNC110  (it is in the snippet's names, and nobody tells)
                await trio.sleep(1)
        assert shown.names["message"].text == "hi"
        nursery.cancel_scope.cancel()


@of("asgi.py", "async def lifespan(app):\n    {}\n")
async def test_to_mount_it(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an application of Starlette's that is written so does not start."""
    monkeypatch.chdir(tmp_path)
    mounted: dict[str, object] = {}
    app = SimpleNamespace(mount=mounted.__setitem__)
    names = shown.now(open_chat=open_chat, ChatEndpoint=ChatEndpoint, authenticate=authenticators.demo)
    lifespan = names["lifespan"](app)
    assert await anext(lifespan) == {}
    assert isinstance(mounted["/chat"], ChatEndpoint)
    assert [state async for state in lifespan] == []
