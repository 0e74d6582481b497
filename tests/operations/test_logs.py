"""The logs of the command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trio_chat.operations import logs


@contextmanager
def fresh() -> Iterator[None]:
    """Logging as it is in a process that begins."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Else what collects logs takes a traceback for twenty messages, or does not find the user."""
    log = logging.getLogger("trio_chat.test")
    with fresh():
        logs.configure("json")
        log.info("connection %d\nof %r", 7, "bob\u202e", extra={"user": "bob\u202e", "closed": None})
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            log.exception("it failed")
    written = capsys.readouterr().err
    first, second = map(json.loads, written.splitlines())
    assert written.replace("\n", "").isprintable()
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info", "logger": "trio_chat.test", "message": "connection 7\nof 'bob\\u202e'",
        "user": "bob\u202e", "closed": None,
    }  # fmt: skip
    assert "ZeroDivisionError" in second["traceback"]


def test_lines_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    """What a client says could clear the operator's screen, or look like a line of the server's own."""
    with fresh():
        logs.configure("console")
        logging.getLogger("trio_chat.test").warning("refused: %s", "x\x1b[2J\n2026-01-01 ERROR all is lost")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING trio_chat.test: refused: x\\x1b[2J\\n2026-01-01 ERROR all is lost")


def test_libraries_do_not_tell_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that a request goes to may hold a token: httpx2 logs each."""
    with fresh():
        logs.configure("json")
        logging.getLogger("httpx2").info("HTTP Request: POST https://push.example/?token=secret")
    assert not capsys.readouterr().err
