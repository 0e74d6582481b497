"""A signed request to a URL of the application's own, which does the rest itself."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from ..errors import ConfigurationError
from .answers import otherwise
from .base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent, Target
from .documents import as_json
from .http import post

__all__ = ["SIGNATURE", "TIMESTAMP", "Webhook", "signature"]

SIGNATURE: Final = "Trio-Chat-Signature"
TIMESTAMP: Final = "Trio-Chat-Timestamp"
_SECRET_BYTES: Final = 32
_TARGET_LENGTH: Final = 4096


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a full stop and the body, in hexadecimal."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """Sends notifications to a URL. Its ``repr`` shows neither the URL's path nor a secret.

    What is sent, and how to verify it, is described in ``docs/push-providers.md``. Targets may be of any kind, and any text.

    Args:
        http: the client; `open_push_client` gives one.
        url: where to, http or https. It is the application's own, so it may be a private address.
        secrets: what the request is signed with, each at least 32 bytes. While a secret is changed there are two, and two
            signatures.
        name: what targets call the provider.
        clock: gives Unix seconds; for tests.

    Raises:
        ConfigurationError: the URL is none, or a secret is too short.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        url: str,
        *,
        secrets: Sequence[str | bytes],
        name: str = "webhook",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._url, self._host = url, _host(url)
        keys = [secrets] if isinstance(secrets, str | bytes) else secrets
        self._secrets = [key.encode() if isinstance(key, str) else key for key in keys]
        if not self._secrets or any(len(key) < _SECRET_BYTES for key in self._secrets):
            raise ConfigurationError(f"a webhook's secret has at least {_SECRET_BYTES} bytes: fewer can be guessed")
        self._name = name
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Webhook {self._name!r} at {self._host}>"

    @property
    def name(self) -> str:
        """What targets call it."""
        return self._name

    def check_target(self, kind: str, target: str) -> None:
        """Look at a target, which only the application understands.

        Raises:
            ValueError: it is empty or endless.
        """
        if not kind or not 0 < len(target) <= _TARGET_LENGTH:
            raise ValueError(f"a target of {self._name} has 1 to {_TARGET_LENGTH} characters")

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Tell the application. What it answers with 2xx it has taken; with 410, it no longer knows the target."""
        told = msgspec.to_builtins(notification)
        return await self._post(
            {
                "type": "clear" if told.pop("clear") else "notification",
                "target": {"kind": target.kind, "target": target.target, "device": target.device},
                **{key: value for key, value in told.items() if value is not None},
            }
        )

    async def check(self) -> Sent | RetryAfter | Misconfigured:
        """Whether the application takes what is signed so: a request of type ``check``, to be answered with 2xx."""
        outcome = await self._post({"type": "check", "id": str(uuid.uuid4())})
        return Misconfigured(outcome.reason) if isinstance(outcome, Gone) else outcome

    async def _post(self, document: dict[str, Any]) -> Outcome:
        body = as_json(document)
        timestamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: ", ".join(f"v1={signature(secret, timestamp, body)}" for secret in self._secrets),
        }
        answer = await post(self._http, self._url, headers=headers, content=body)
        if isinstance(answer, RetryAfter):
            return answer
        if 200 <= answer.status < 300:
            return Sent()
        if answer.status == 410:
            return Gone(f"{self._host} answered 410: it no longer knows the target")
        return otherwise(self._host, answer, self._clock)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # a bracket without its other half, or a port that is none
        parts, known = urlsplit(""), False
    if not known or not (url.isascii() and url.isprintable()) or " " in url or "#" in url:
        raise ConfigurationError("the webhook's URL is no http or https URL without a user and a fragment")
    return str(parts.hostname)
