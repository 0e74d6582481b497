"""What can be asked of the authenticator for web tokens, and what is told when it cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trio_chat import authenticators
from trio_chat.errors import ConfigurationError

from .tokens import SECRET, public_pem


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give one of"),
        ({"key": SECRET, "jwks": "keys.json"}, "give one of"),
        ({"key": ""}, "0 bytes"),
        ({"key": SECRET, "algorithms": "HS256"}, "list"),
        ({"key": SECRET, "algorithms": ["RS256"]}, "HS256"),
        ({"key": SECRET, "algorithms": ["none"]}, "HS256"),
        ({"key": public_pem(), "algorithms": ["HS256"]}, "RS256"),
        ({"key": SECRET, "leeway": -1}, "leeway"),
        ({"key": SECRET, "leeway": float("nan")}, "leeway"),
        ({"key": SECRET, "leeway": float("inf")}, "leeway"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(options: dict[str, Any], says: str) -> None:
    """Else a mistake is noticed when the first user cannot connect, or everybody can."""
    with pytest.raises(ConfigurationError, match=says) as refused:
        authenticators.jwt(**options)
    assert SECRET.decode() not in str(refused.value)


WITHOUT_EXTRA = """
import sys
for name in ("jwt", "cryptography"):
    sys.modules[name] = None
import trio_chat
trio_chat.authenticators.signed_cookie("k" * 32)
try:
    trio_chat.authenticators.jwt("k" * 32)
except trio_chat.ConfigurationError as error:
    print(error)
"""


def test_without_the_extra_everything_else_works(tmp_path: Path) -> None:
    """Else who needs no web tokens has to install what checks them, or who lacks it is shown a traceback."""
    ran = subprocess.run([sys.executable, "-c", WITHOUT_EXTRA], capture_output=True, text=True, check=True)
    assert ran.stdout == "web tokens need jwt, which comes with the extra jwt: pip install 'trio-chat[jwt]'\n"
    assert ran.stderr == ""


def test_it_is_imported_when_it_is_asked_for() -> None:
    """Else every server and every command starts a good deal later for the sake of what it does not use."""
    script = "import sys, trio_chat, trio_chat.cli; print([n for n in ('jwt', 'cryptography') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
