"""The settings: every one has a reason and a checked range."""

from __future__ import annotations

import math

import msgspec
import pytest

from trio_chat.errors import ConfigurationError
from trio_chat.settings import Settings

FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def test_defaults_are_in_range() -> None:
    """Else the values everybody runs with are ones that nobody may choose."""
    assert Settings.of(**msgspec.to_builtins(Settings())) == Settings() == Settings.of()


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_reason(name: str) -> None:
    """Else an operator has to guess what a number is for."""
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"][name]
    assert schema["description"].endswith(".")
    assert schema["default"] == getattr(Settings(), name)


@pytest.mark.parametrize("value", [0, -1, math.nan, "1", True, [1]])
@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_range(name: str, value: object) -> None:
    """Else a limit of nothing, or one that compares with nothing, is accepted: the server stands still or has no bound."""
    with pytest.raises(ConfigurationError, match=rf"^settings: .*\$\.{name}"):
        Settings.of(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("send_rate", None),
        ("per_address", None),
        ("per_address", 3),
        ("ping_interval", 1),
        ("ping_interval", 0.5),
        ("window", 1),
    ],
)
def test_values_in_range(name: str, value: object) -> None:
    """Else a limit cannot be lifted or lowered."""
    assert getattr(Settings.of(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("frame_bytes", 1023), ("server_frame_bytes", 1023), ("retry_after", 0.9), ("window", 1.5), ("window", None)],
)
def test_values_out_of_range(name: str, value: object) -> None:
    """Else a frame has no room for an id, or clients are asked to come back at once (S4)."""
    with pytest.raises(ConfigurationError, match=name):
        Settings.of(**{name: value})


def test_unknown_settings() -> None:
    """Else a misspelt limit is silently not set."""
    with pytest.raises(ConfigurationError, match="unknown field `windows`"):
        Settings.of(windows=3)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text_bytes": 2048, "frame_bytes": 2047}, "text_bytes is more than frame_bytes"),
        ({"text_bytes": 2048, "window_bytes": 2047}, "window_bytes is less than text_bytes"),
        ({"hook_timeout": 3, "ping_interval": 1, "ping_timeout": 2}, "hook_timeout is not less than ping_interval and"),
        ({"revalidate_interval": 3, "revalidate_grace": 2}, "revalidate_grace is less than revalidate_interval"),
    ],
)
def test_values_that_contradict_one_another(values: dict[str, float], reason: str) -> None:
    """Else no frame can carry a text that is allowed, or who waits for a hook is closed as if they were dead."""
    with pytest.raises(ConfigurationError, match=f"^settings: {reason}"):
        Settings.of(**values)
    last = list(values)[-1]
    at_the_limit = values[last] + 1
    assert getattr(Settings.of(**{**values, last: at_the_limit}), last) == at_the_limit


def test_times_and_sizes_fit_together() -> None:
    """Else proxies cut idle connections before a ping, or a text that is allowed does not fit into a frame."""
    settings = Settings()
    assert settings.ping_interval + settings.ping_timeout < 60
    assert settings.hook_timeout < settings.ping_interval + settings.ping_timeout
    assert settings.text_bytes < settings.frame_bytes
    assert settings.ack_delay < settings.drain_timeout
