"""Web Push: to browsers, without an account anywhere (RFC 8030, 8291, 8292)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from ..errors import ConfigurationError
from .answers import otherwise
from .base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent, Target
from .documents import fitted, from_json
from .encryption import PLAINTEXT_BYTES, encrypted, public_point, unb64
from .http import NotPublic, PushClient, post
from .vapid import Vapid

__all__ = ["KNOWN_HOSTS", "WebPush"]

KNOWN_HOSTS: Final = (
    "fcm.googleapis.com",  # Chromium and its kin
    "*.push.services.mozilla.com",
    "*.notify.windows.com",
    "*.push.apple.com",
)
"""The push services of the browsers that people use."""

_APPLE: Final = ".push.apple.com"
_ENDPOINT_LENGTH: Final = 2048
_SUBSCRIPTION: Final = "subscription"
_HTTPS: Final = 443


class _Keys(Struct):
    p256dh: str
    auth: str


class _Subscription(Struct):
    """What ``JSON.stringify(subscription)`` gives in a browser."""

    endpoint: str
    keys: _Keys


class WebPush:
    """Notifications for browsers. Its ``repr`` shows no secret.

    Targets have the kind ``subscription``; the target is ``JSON.stringify(await pushManager.subscribe(…))``. What the
    service worker gets is described in ``docs/push-providers.md``.

    Args:
        http: from `open_push_client`.
        vapid: the key pair.
        hosts: the push services that a subscription may be of, ``*.`` standing for any sub-domain and ``:port`` for another
            port than 443. An endpoint is a URL that a client gives us to call, so only what is listed is called. None calls
            any host on the public Internet, checked when it is dialled; then what goes wrong there is taken for the target's
            fault.
        name: what targets call the provider.
        clock: gives Unix seconds; for tests.

    Raises:
        ConfigurationError: `http` cannot keep from private addresses and `hosts` is None.
    """

    def __init__(
        self,
        http: PushClient,
        vapid: Vapid,
        *,
        hosts: Collection[str] | None = KNOWN_HOSTS,
        name: str = "web_push",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if hosts is None and not isinstance(http, PushClient):
            raise ConfigurationError("Web Push to any host needs the client that open_push_client gives")
        self._http = http
        self._vapid = vapid
        self._hosts = hosts
        self._name = name
        self._clock = clock

    def __repr__(self) -> str:
        return f"<WebPush {self._name!r} {self._vapid.public_key}>"

    @property
    def name(self) -> str:
        """What targets call it."""
        return self._name

    @property
    def public_key(self) -> str:
        """What a page subscribes with."""
        return self._vapid.public_key

    def check_target(self, kind: str, target: str) -> None:
        """Look at a subscription.

        Raises:
            ValueError: it is none, or of a push service that is not called from here.
        """
        if kind != _SUBSCRIPTION:
            raise ValueError(f"a target of {self._name} is a subscription")
        self._parsed(target)

    def host(self, target: Target) -> str:
        """The push service of the subscription: one that is down, or hostile, is left alone by itself."""
        try:
            return urlsplit(from_json(target.target, _Subscription).endpoint).netloc
        except ValueError:
            return ""

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Hand it to the push service, which keeps it until the browser is there."""
        try:
            endpoint, point, secret = self._parsed(target.target)
        except ValueError as error:  # the list of hosts has become shorter
            return Gone(f"the subscription cannot be used: {error}")
        host = urlsplit(endpoint).hostname or ""
        if notification.clear and host.endswith(_APPLE):
            return Sent()  # after a few pushes that show nothing, Safari takes the subscription away
        headers = {
            "Authorization": self._vapid.authorization(endpoint),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(notification.ttl),
            "Urgency": "low" if notification.clear else "high",
            "Topic": notification.collapse_key,  # one of the same topic that still waits there is replaced, by a clear too
        }
        body = encrypted(fitted(notification, PLAINTEXT_BYTES, _payload), point, secret)
        try:
            answer = await post(self._http, endpoint, headers=headers, content=body, public_only=self._hosts is None)
        except NotPublic:
            return Gone(f"{host} has no public address")
        if isinstance(answer, RetryAfter):
            return answer
        if answer.status in (200, 201, 202):
            return Sent()
        if answer.status in (404, 410):
            return Gone(f"{host} answered {answer.status}: the subscription has ended")
        outcome = self._refusal(host, answer.status) or otherwise(host, answer, self._clock)
        if isinstance(outcome, Misconfigured) and self._hosts is None:
            return Gone(outcome.reason)  # of a host that nobody vouches for, no alarm
        return outcome

    async def check(self) -> Sent | RetryAfter | Misconfigured:
        """Whether a token can be signed. Nobody is asked: there is no account, and each push service is on its own."""
        self._vapid.authorization("https://push.example")
        return Sent()

    def _refusal(self, host: str, status: int) -> Misconfigured | None:
        if status in (401, 403):
            return Misconfigured(
                f"{host} answered {status}: it does not take the VAPID signature. Is the subject an address of yours, "
                "the clock right, and the key the one that the page subscribed with?"
            )
        if status == 413:
            return Misconfigured(f"{host} answered 413: the notification is too large for it")
        return None

    def _parsed(self, target: str) -> tuple[str, bytes, bytes]:
        try:
            subscription = from_json(target, _Subscription)
        except ValueError as error:
            raise ValueError(f"the subscription is not what JSON.stringify makes of one: {error}") from None
        try:
            point, secret = unb64(subscription.keys.p256dh), unb64(subscription.keys.auth)
            public_point(point)
        except ValueError:
            raise ValueError("the subscription's keys are none") from None
        if len(secret) != 16:
            raise ValueError("the subscription's auth is not 16 bytes")
        self._check_endpoint(subscription.endpoint)
        return subscription.endpoint, point, secret

    def _check_endpoint(self, endpoint: str) -> None:
        try:
            parts = urlsplit(endpoint)
            port = parts.port or _HTTPS
        except ValueError:
            parts, port = urlsplit(""), 0
        plain = endpoint.isascii() and endpoint.isprintable() and not set(endpoint) & set(' \\"<>^`{|}')
        if not plain or len(endpoint) > _ENDPOINT_LENGTH or parts.scheme != "https" or not parts.hostname or parts.fragment:
            raise ValueError("the endpoint is no https URL")
        if "@" in parts.netloc:
            raise ValueError("the endpoint names a user")
        if not self._may_call(parts, port):
            raise ValueError("the endpoint is of a push service that is not called from here")

    def _may_call(self, parts: SplitResult, port: int) -> bool:
        if self._hosts is None:
            return port == _HTTPS
        host = parts.hostname or ""
        for entry in self._hosts:
            name, _, its_port = entry.lower().partition(":")
            if port == int(its_port or _HTTPS) and (host.endswith(name[1:]) if name.startswith("*.") else host == name):
                return True
        return False


def _payload(notification: Notification) -> dict[str, Any]:
    """What the service worker gets."""
    document: dict[str, Any] = {
        "id": notification.id,
        "user": notification.user,
        "peer": notification.peer,
        "tag": notification.collapse_key,
        "unread": notification.unread,
        "badge": notification.badge,
    }
    if notification.clear:
        return {**document, "clear": True}
    document |= {"title": notification.title, "body": notification.body}
    return document if notification.text is None else {**document, "text": notification.text}
