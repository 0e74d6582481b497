"""The commands about push."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from trio_chat.cli import main
from trio_chat.push.vapid import Vapid


def test_a_key_pair_for_web_push(tmp_path: Path) -> None:
    """Else setting up Web Push needs another tool; or running it twice makes every subscription worthless."""
    file = tmp_path / "vapid.pem"
    first = CliRunner().invoke(main, ["push", "vapid-init", str(file)])
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.strip() == Vapid(file, subject="mailto:ops@example.com").public_key
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    again = CliRunner().invoke(main, ["push", "vapid-init", str(file)])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "is there already" in again.stderr
    assert file.read_bytes() == before


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever has not installed PyJWT gets a traceback."""
    monkeypatch.delitem(sys.modules, "trio_chat.push.vapid", raising=False)
    monkeypatch.delattr("trio_chat.push.vapid", raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)
    result = CliRunner().invoke(main, ["push", "vapid-init", str(tmp_path / "vapid.pem")])
    assert result.exit_code == 1
    assert "pip install 'trio-chat[push]'" in result.stderr
