"""All numbered steps of this folder as one sqlite-utils `Migrations` set, in order.

`sqlite-utils migrate chat.db migrations/` finds this file by its name; the server loads the same file.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from sqlite_utils import Migrations

migrations: Migrations = Migrations("trio_chat")

steps: dict[str, dict[str, Any]] = {
    # Loaded by path: the folder is a package of the wheel, but in a checkout it lies beside the package, not on sys.path.
    file.stem: runpy.run_path(str(file))
    for file in sorted(Path(__file__).parent.glob("m[0-9]*_*.py"))
}
"""The steps by name; each has an ``up`` and a ``down``."""

for _name, _step in steps.items():
    migrations(name=_name)(_step["up"])
