"""OneSignal, by its REST API."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import httpx2
from msgspec import Struct

from ..errors import ConfigurationError
from .answers import clipped, otherwise
from .base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent, Target
from .documents import as_json, fitted, from_json
from .http import Answer, post

__all__ = ["OneSignal"]

_API: Final = "https://api.onesignal.com"
_KINDS: Final = ("external_id", "subscription")
_LABEL_LENGTH: Final = 128
_BODY_BYTES: Final = 4096
_NOBODY: Final = ("not subscribed", "invalid_aliases", "invalid_player_ids", "invalid_subscription_ids")


class _Answered(Struct):
    id: str = ""
    errors: list[Any] | dict[str, Any] | str | None = None


class OneSignal:
    """Notifications by OneSignal. Its ``repr`` shows the app and no secret.

    Targets have the kind ``subscription``, with the ID that OneSignal's SDK gives a device, or ``external_id``, for apps
    whose users log in to OneSignal by the same ID as here: then it goes to whatever that user has subscribed, and the target
    is only a name for the registration that nobody can guess.

    Args:
        http: the client; `open_push_client` gives one.
        app_id: a UUID.
        key: the App API key.
        name: what targets call the provider.
        api: where the API is; for tests.
        clock: gives Unix seconds; for tests.

    Raises:
        ConfigurationError: the app ID is no UUID, or there is no key.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        app_id: str,
        key: str,
        *,
        name: str = "onesignal",
        api: str = _API,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            self._app = str(uuid.UUID(app_id))
        except ValueError:
            raise ConfigurationError("the OneSignal app ID is no UUID") from None
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError("the OneSignal App API key is none")
        self._http = http
        self._key = key
        self._name = name
        self._url = f"{api}/notifications"
        self._clock = clock

    def __repr__(self) -> str:
        return f"<OneSignal {self._name!r} for {self._app}>"

    @property
    def name(self) -> str:
        """What targets call it."""
        return self._name

    def check_target(self, kind: str, target: str) -> None:
        """Look at a subscription's ID or the name of a registration.

        Raises:
            ValueError: it cannot be one.
        """
        if kind not in _KINDS:
            raise ValueError(f"a target of {self._name} is a subscription or an external_id")
        if kind == "subscription":
            try:
                uuid.UUID(target)
            except ValueError:
                raise ValueError("the subscription is no UUID") from None
        elif not 0 < len(target) <= _LABEL_LENGTH:
            raise ValueError(f"a registration's name has 1 to {_LABEL_LENGTH} characters")

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Hand it to OneSignal, which knows a repeat by the notification's id for 30 days."""
        # Whom it goes to is never what the device says of a user: who registers is the user.
        to: dict[str, Any] = {"include_aliases": {"external_id": [target.user]}}
        if target.kind == "subscription":
            to = {"include_subscription_ids": [target.target]}
        return await self._post(fitted(notification, _BODY_BYTES, lambda fitting: self._document(to, fitting)))

    async def check(self) -> Sent | RetryAfter | Misconfigured:
        """Whether the key may send for the app: with a notification to somebody who does not exist."""
        nobody = f"trio-chat-check-{uuid.uuid4()}"
        to = {"include_aliases": {"external_id": [nobody]}}
        document = {"app_id": self._app, "target_channel": "push", **to, "contents": {"en": "push check"}}
        outcome = await self._post(as_json(document))
        return Sent() if isinstance(outcome, Gone) else outcome

    def _document(self, to: dict[str, Any], notification: Notification) -> dict[str, Any]:
        data = {
            "type": "clear" if notification.clear else "message",
            "user": notification.user,
            "peer": notification.peer,
            "conversation": notification.collapse_key,
            "unread": notification.unread,
            "badge": notification.badge,
        }
        document: dict[str, Any] = {
            "app_id": self._app,
            "target_channel": "push",
            **to,
            "idempotency_key": notification.id,
            "collapse_id": notification.collapse_key,
            "ttl": notification.ttl,
            "ios_badgeType": "SetTo",
            "ios_badgeCount": notification.badge,
            "data": data,
        }
        if notification.clear:
            return {**document, "content_available": True}  # without contents: it shows nothing
        if notification.text is not None:
            data["text"] = notification.text
        return {**document, "headings": {"en": notification.title}, "contents": {"en": notification.body}}

    async def _post(self, body: bytes) -> Outcome:
        headers = {"Authorization": f"Key {self._key}", "Content-Type": "application/json; charset=utf-8"}
        answer = await post(self._http, self._url, headers=headers, content=body)
        return answer if isinstance(answer, RetryAfter) else self._outcome(answer)

    def _outcome(self, answer: Answer) -> Outcome:
        said = _said(answer)
        why = clipped(_text(said.errors), self._key)
        if answer.status in (200, 202):
            if said.id:
                return Sent(said.id)
            if any(word in why for word in _NOBODY):
                return Gone(f"OneSignal sent it to nobody: {why}")
            if why:
                return Misconfigured(f"OneSignal sent nothing: {why}")
        if answer.status in (401, 403):
            return Misconfigured(f"OneSignal answered {answer.status}: the App API key is not this app's")
        outcome = otherwise("OneSignal", answer, self._clock)
        if why and isinstance(outcome, Misconfigured):
            return Misconfigured(f"{outcome.reason}: {why}")
        return outcome


def _said(answer: Answer) -> _Answered:
    try:
        return from_json(answer.body, _Answered)
    except ValueError:
        return _Answered()


def _text(errors: object) -> str:
    """What is wrong. Of an object only the keys: its values are the targets."""
    if isinstance(errors, str):
        return errors
    return ", ".join(error for error in errors if isinstance(error, str)) if isinstance(errors, list | dict) else ""
