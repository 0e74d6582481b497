# ruff: noqa: INP001  (docs are no package)
"""Writes ``docs/errors.md`` from the catalogue in ``trio_chat/errors.py``.

Run it after a change there::

    python docs/generate_errors.py

The same code gives the same bytes; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from trio_chat import errors
from trio_chat.errors import CloseCode, ErrorCode, Fate, RequestRefused

PAGE: Final = Path(__file__).with_name("errors.md")

FATES: Final = {
    Fate.NEVER: "not stored; do not send it again",
    Fate.LATER: "not stored; send it again after `retry_after` seconds",
    Fate.UNKNOWN: "not known; send the same id again, it is stored once",
}

HEAD: Final = """\
# Errors

<!-- Written by docs/generate_errors.py from trio_chat/errors.py: change it there. -->

What can go wrong, and what to do about it: the exceptions of the library, the codes of an `error` frame, and the close
codes. Every exception that trio-chat raises on purpose is a `ChatError`; the [reference](reference.md) has them one by one.
"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def tree() -> str:
    """The exceptions as errors.py draws them."""
    assert errors.__doc__ is not None
    drawn = errors.__doc__.partition("The tree of exceptions::\n\n")[2]
    return "\n".join(line.removeprefix("    ") for line in drawn.rstrip().splitlines())


def page() -> str:
    """The page as it is to be."""
    raised = {kind.default: kind.__name__ for kind in RequestRefused.__subclasses__()}
    codes = table(
        ("code", "what it says", "the message it is about", "raised by the client as"),
        (
            (
                f"`{code.value}`",
                code.meaning,
                FATES[code.fate],
                f"`{raised.get(code, 'RequestRefused')}`"
                if code.fate is Fate.NEVER
                else "nothing: the client waits, and sends again",
            )
            for code in ErrorCode
            if code is not ErrorCode.CURSOR_AHEAD  # about an ack, not about a message
        ),
    )
    closes = table(
        ("code", "what it says", "the client should"),
        ((f"{code.value}", code.meaning, "reconnect" if code.reconnect else "not reconnect") for code in CloseCode),
    )
    return "\n".join(
        [
            HEAD,
            "## The exceptions\n",
            f"```text\n{tree()}\n```\n",
            "## Codes of an `error` frame\n",
            "The connection stays open after each of them. What became of the message is the code's *fate*.\n",
            codes,
            f"`cursor_ahead` is about an `ack`. {ErrorCode.CURSOR_AHEAD.meaning}\n",
            "## Close codes\n",
            "1006 is never sent: a client sees it when the connection broke without a word, and reconnects.\n",
            closes,
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
