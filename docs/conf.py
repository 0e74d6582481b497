"""How Sphinx builds the documentation: ``nox -s docs``."""

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
