"""Settings from a file and from the environment: which wins, and what a mistake is told."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from trio_chat import configuration
from trio_chat.configuration import load
from trio_chat.errors import ConfigurationError
from trio_chat.settings import Settings


def written(folder: Path, text: str) -> Path:
    file = folder / "chat.toml"
    file.write_text(text)
    return file


def test_nothing_said_is_the_defaults() -> None:
    """Else a server that is told nothing runs with something nobody chose."""
    configured = load({})
    assert configured.settings == Settings()
    assert configured.sources == {}


def test_the_nearer_source_wins(tmp_path: Path) -> None:
    """Else an operator's option is overridden by a file that nobody remembers."""
    file = written(tmp_path, 'window = 5\nbatch = 6\nsend_rate = "off"\nwrite_timeout = 2')
    configured = load({"TRIO_CHAT_BATCH": "7", "TRIO_CHAT_SEND_BURST": "8", "PATH": "x"}, file, send_burst=9, devices=None)
    settings = configured.settings
    assert (settings.window, settings.batch, settings.send_burst, settings.devices) == (5, 7, 9, 32)
    assert settings.send_rate is None
    assert settings.write_timeout == 2
    assert configured.sources["window"] == str(file)
    assert configured.sources["batch"] == "TRIO_CHAT_BATCH"
    assert configured.sources["send_burst"] == "command line"


def test_a_variable_that_is_no_setting_is_named_but_harmless() -> None:
    """A cluster sets TRIO_CHAT_PORT for a service called trio-chat: a server there would not start."""
    assert load({"TRIO_CHAT_PORT": "tcp://10.0.0.1:6662"}).ignored == ["TRIO_CHAT_PORT"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("windows = 5", "there is no setting windows"),
        ("window = 0", "window: Expected `int` >= 1"),
        ('window = "5"', "window: Expected `int`, got `str`"),
        ('window = "off"', "window: Expected `int`, got `str`"),
        ("window = ", "is not TOML"),
        ("text_bytes = 70000", "text_bytes is more than frame_bytes"),
        ("window_bytes = 1000", "window_bytes is less than text_bytes"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """An operator would see a traceback, or a server that ignores what it was told."""
    with pytest.raises(ConfigurationError, match=said) as error:
        load({}, written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_said_plainly(tmp_path: Path) -> None:
    """An operator would see a traceback."""
    with pytest.raises(ConfigurationError, match="No such file"):
        load({}, tmp_path / "missing.toml")
    file = tmp_path / "chat.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load({}, file)


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "1.5", "off"])
def test_a_mistake_in_the_environment_names_the_variable(value: str) -> None:
    """An operator would look for it in the wrong place."""
    with pytest.raises(ConfigurationError, match=r"^TRIO_CHAT_WINDOW: "):
        load({"TRIO_CHAT_WINDOW": value})


def test_what_is_shown_can_be_read_back(tmp_path: Path) -> None:
    """``trio-chat settings > chat.toml`` would not give a file to begin with."""
    configured = load({"TRIO_CHAT_WINDOW": "9", "TRIO_CHAT_PER_ADDRESS": "3"})
    shown = "\n".join(f"{line.name} = {line.value}  # {line.source}" for line in configured.lines())
    assert tomllib.loads(shown)["send_rate"] == 20.0
    again = load({}, written(tmp_path, shown))
    assert again.settings == configured.settings
    assert all(line.reason.endswith(".") for line in configured.lines())


def test_push_is_configured_beside_the_rest(tmp_path: Path) -> None:
    """Else the providers' settings need a way of their own; or a URL with a token in it is printed."""
    file = written(tmp_path, 'window = 5\npush_vapid_key = "é.pem"\npush_vapid_subject = "mailto:a@b.example"')
    environ = {
        "TRIO_CHAT_PUSH_INCLUDE_TEXT": "true", "TRIO_CHAT_PUSH_WEBHOOK_URL": "https://app.example/?s3cret",
        "TRIO_CHAT_PUSH_WEBHOOK_SECRET_FILE": "secret", "TRIO_CHAT_PUSH_FCM_ACCOUNT": "off", "TRIO_CHAT_PUSH_X": "1",
    }  # fmt: skip
    configured = load(environ, file)
    push = configured.push
    assert (configured.settings.window, configured.ignored) == (5, ["TRIO_CHAT_PUSH_X"])
    assert (push.push_vapid_key, push.push_webhook_url) == ("é.pem", "https://app.example/?s3cret")
    assert (push.push_include_text, push.push_fcm_account, push.push_delay) == (True, None, 5.0)
    shown = {line.name: (line.value, line.source) for line in configured.lines()}
    assert shown["push_webhook_url"] == ('"***"', "TRIO_CHAT_PUSH_WEBHOOK_URL")
    assert shown["push_include_text"] == ("true", "TRIO_CHAT_PUSH_INCLUDE_TEXT")
    assert shown["push_vapid_key"] == ('"é.pem"', str(file))
    assert shown["push_fcm_account"][0] == '"off"'
    with pytest.raises(ConfigurationError, match="push needs both"):
        load({"TRIO_CHAT_PUSH_VAPID_KEY": "x"})


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pastes the output into a report would publish a key."""
    hint = Annotated[int, msgspec.Meta(description="x.", extra={"secret": True})]
    monkeypatch.setitem(configuration._HINTS, "window", hint)
    shown = {line.name: line.value for line in load({"TRIO_CHAT_WINDOW": "1234"}).lines()}
    assert shown["window"] == '"***"'
