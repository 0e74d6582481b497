"""Providers that are made of options: what is read from where, and what is told of a mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trio_chat.errors import ConfigurationError
from trio_chat.push.opening import open_push
from trio_chat.push.options import PushOptions
from trio_chat.push.vapid import make_key_file
from trio_chat.push.web_push import WebPush

from .test_fcm import account

APP = "0192b0c4-6d5e-4f3a-8b1c-2d3e4f5a6b7c"
POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
KEYS = f'{{"p256dh": "{POINT}", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}'


def written(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


async def test_nothing_is_wanted() -> None:
    """Else a server without push needs the extra, or offers devices what it cannot do."""
    async with open_push(PushOptions()) as push:
        assert push is None


async def test_all_of_them(tmp_path: Path) -> None:
    """Else a provider is not there although it is configured, or is another."""
    key = make_key_file(tmp_path / "vapid.pem")
    options = PushOptions(
        push_fcm_account=str(account(tmp_path)),
        push_onesignal_app=APP,
        push_onesignal_key_file=written(tmp_path, "key", "os_v2_key\n"),
        push_vapid_key=str(tmp_path / "vapid.pem"),
        push_vapid_subject="mailto:ops@example.com",
        push_webhook_url="https://app.example/hook?token=s3cret",
        push_webhook_secret_file=written(tmp_path, "secrets", "n" * 32 + "\n\n" + "o" * 32 + "\n"),
        push_delay=1.0, push_expiry=60.0, push_include_text=True,
    )  # fmt: skip
    async with open_push(options) as push:
        assert push is not None
        assert dict(push.offers()) == {"fcm": None, "onesignal": None, "web_push": key, "webhook": None}
        assert (push.delay, push.expiry, push.include_text) == (1.0, 60.0, True)
        assert "s3cret" not in repr(push)
        assert "os_v2_key" not in repr(push)
        push.check()


@pytest.mark.parametrize(
    ("hosts", "taken"),
    [(None, "fcm.googleapis.com"), ("one.example, push.example:8443", "push.example:8443"), ("any", "anywhere.example")],
)
async def test_whose_endpoints_are_called(hosts: str | None, taken: str, tmp_path: Path) -> None:
    """Else a URL of a client's choice is called, or a push service of one's own is not."""
    make_key_file(tmp_path / "vapid.pem")
    options = PushOptions(
        push_vapid_key=str(tmp_path / "vapid.pem"), push_vapid_subject="mailto:ops@example.com", push_web_hosts=hosts
    )
    async with open_push(options) as push:
        assert push is not None
        (provider,) = push.providers
        assert isinstance(provider, WebPush)
        for host in ("fcm.googleapis.com", "push.example:8443", "anywhere.example", "10.0.0.1:22"):
            subscription = f'{{"endpoint": "https://{host}/x", "keys": {KEYS}}}'
            if host == taken or (hosts == "any" and ":" not in host):
                push.check_target("web_push", "subscription", subscription)
            else:
                with pytest.raises(ValueError, match="not called from here"):
                    push.check_target("web_push", "subscription", subscription)


@pytest.mark.parametrize(
    ("text", "why"), [(None, "No such file"), ("\n \n", "is empty"), ("\udcff", "holds no text"), ("short", "at least 32")]
)
async def test_a_secret_that_is_none(text: str | None, why: str, tmp_path: Path) -> None:
    """Else an operator sees a traceback, or the secret itself in a log."""
    file = tmp_path / "secret"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    options = PushOptions(push_webhook_url="https://app.example/hook", push_webhook_secret_file=str(file))
    with pytest.raises(ConfigurationError, match=why) as refusal:
        async with open_push(options):
            pytest.fail("it was opened")
    assert "short" not in str(refusal.value)


@pytest.mark.parametrize("missing", ["httpcore2", "jwt"])
async def test_without_the_extra_it_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever has not installed it gets a traceback."""
    for name in ("http", "tokens", "fcm"):
        monkeypatch.delitem(sys.modules, f"trio_chat.push.{name}", raising=False)
        monkeypatch.delattr(f"trio_chat.push.{name}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'trio-chat\[push\]'"):
        async with open_push(PushOptions(push_fcm_account=str(account(tmp_path)))):
            pytest.fail("it was opened")
