"""Makes providers of `PushOptions`: reads the secrets from their files, and keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .base import Provider
from .options import PushOptions
from .settings import Push

if TYPE_CHECKING:
    from .http import PushClient

__all__ = ["NO_EXTRA", "open_push"]

NO_EXTRA = "push needs {0}, which comes with the extra push: pip install 'trio-chat[push]'"


@asynccontextmanager
async def open_push(options: PushOptions) -> AsyncIterator[Push | None]:
    """What to give to `open_chat`, within the block; None if no provider is wanted. Leaving it breaks requests off.

    Raises:
        ConfigurationError: a file cannot be read or is none, or the extra is not installed; no secret is told.
    """
    if not options.wanted:
        yield None
        return
    try:
        from .http import open_push_client  # noqa: PLC0415  (needs the extra, and nobody else has to pay for it)
    except ModuleNotFoundError as missing:
        raise ConfigurationError(NO_EXTRA.format(missing.name)) from None
    async with open_push_client() as http:
        try:
            providers = tuple(_providers(http, options))
        except ModuleNotFoundError as missing:
            raise ConfigurationError(NO_EXTRA.format(missing.name)) from None
        yield Push(
            providers=providers, delay=options.push_delay, expiry=options.push_expiry, include_text=options.push_include_text
        )


def _providers(http: PushClient, options: PushOptions) -> Iterator[Provider]:
    if options.push_fcm_account is not None:
        from .fcm import Fcm  # noqa: PLC0415

        yield Fcm(http, options.push_fcm_account)
    if options.push_onesignal_app is not None:
        from .onesignal import OneSignal  # noqa: PLC0415

        yield OneSignal(http, options.push_onesignal_app, _lines(options.push_onesignal_key_file)[0])
    if options.push_vapid_key is not None:
        from .vapid import Vapid  # noqa: PLC0415
        from .web_push import KNOWN_HOSTS, WebPush  # noqa: PLC0415

        listed = options.push_web_hosts
        names = KNOWN_HOSTS if listed is None else [name.strip() for name in listed.split(",")]
        vapid = Vapid(options.push_vapid_key, subject=options.push_vapid_subject or "")
        yield WebPush(http, vapid, hosts=None if listed == "any" else names)
    if options.push_webhook_url is not None:
        from .webhook import Webhook  # noqa: PLC0415

        yield Webhook(http, options.push_webhook_url, secrets=_lines(options.push_webhook_secret_file))


def _lines(file: str | None) -> list[str]:
    """The secrets in a file."""
    path = Path(file or "")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} holds no text") from None
    if not lines:
        raise ConfigurationError(f"{path} is empty")
    return lines
