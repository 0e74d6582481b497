"""The push providers of a server, as a file or the environment names them."""

from __future__ import annotations

from typing import Any

import pytest

from trio_chat.errors import ConfigurationError
from trio_chat.push.options import PushOptions


@pytest.mark.parametrize("name", ["push_fcm_account", "push_onesignal_app", "push_vapid_key", "push_webhook_url"])
def test_each_of_them_is_a_provider(name: str) -> None:
    """Else a server that was told of a provider tells nobody of messages."""
    assert not PushOptions().wanted
    given: dict[str, Any] = {name: "x"}
    assert PushOptions(**given).wanted


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("push_onesignal_app", "push_onesignal_key_file"),
        ("push_vapid_key", "push_vapid_subject"),
        ("push_webhook_url", "push_webhook_secret_file"),
    ],
)
def test_half_a_provider_is_a_mistake(given: str, missing: str) -> None:
    """Else a slip is found out when the first person is not told."""
    for one, other in ((given, missing), (missing, given)):
        with pytest.raises(ConfigurationError, match=f"^{one} is given and {other} is not: push needs both$"):
            PushOptions.of(**{one: "x"})
    assert PushOptions.of(**{given: "x", missing: "y"}).wanted


def test_a_value_out_of_its_range() -> None:
    """Else an operator sees a traceback."""
    with pytest.raises(ConfigurationError, match="push_delay"):
        PushOptions.of(push_delay=-1.0)
