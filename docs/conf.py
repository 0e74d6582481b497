"""How Sphinx builds the documentation: ``nox -s docs``."""

import re
from typing import Any

import trio_chat

project = "trio-chat"
author = "trio-chat contributors"
copyright = author
release = version = trio_chat.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = "trio-chat"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
# As they are written: `unix_ms`, and not `<function unix_ms at …>`.
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100  # a longer one has a line for each parameter


def _without_limits(text: str) -> str:
    """``Annotated[int, Meta(…)]`` is an int to who reads a signature: what its values may be stands in the text."""
    opening = "Annotated["
    while (start := text.find(opening)) >= 0:
        depth, quote, comma, at = 0, "", -1, start + len(opening)
        while depth or text[at] != "]" or quote:
            char = text[at]
            if quote:
                at += char == "\\"  # the next one as well
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            elif char == "," and not depth and comma < 0:
                comma = at
            else:
                depth += (char in "([") - (char in ")]")
            at += 1
        text = text[:start] + text[start + len(opening) : comma] + text[at + 1 :]
    return text


def _readable(*given: Any) -> tuple[str | None, str | None] | None:
    """A signature as one would write it."""
    _, _, _, obj, _, signature, returned = given  # and which Sphinx, of what kind and name, with which options
    if signature is None:
        return None
    signature = re.sub(r" ?= ?(?:<[^<>]*>|_\w+|lambda _: \.\.\.)(?=[,)])", " = ...", _without_limits(signature))
    known = getattr(obj, "__globals__", {})
    signature = re.sub(r"= ([A-Z_]+)(?=[,)])", lambda found: f"= {known.get(found[1], found[1])!r}", signature)
    return signature, returned


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("autodoc-process-signature", _readable)
