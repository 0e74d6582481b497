"""Firebase Cloud Messaging by its HTTP v1 API: Android, iOS and browsers by one's own Firebase project."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct, field

from ..errors import ConfigurationError
from .answers import otherwise, retry_after
from .base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent, Target
from .documents import as_json, fitted, from_json
from .http import Answer, post
from .tokens import AccessTokens

__all__ = ["Fcm"]

_API: Final = "https://fcm.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_KINDS: Final = ("token", "fid")
_TARGET: Final = re.compile(r"[A-Za-z0-9_:.\-]{8,1024}")
_PROJECT: Final = re.compile(r"[A-Za-z0-9:.\-]{1,128}")
_BODY_BYTES: Final = 4096
_QUOTA_SECONDS: Final = 60.0
"""What 429 without ``Retry-After`` means, by the documentation."""
_CHECK_TOPIC: Final = "trio-chat-check"
_TARGET_FIELDS: Final = ("message.token", "message.fid")
_WHY: Final = {
    "INVALID_ARGUMENT": "the request is not as it wants it",
    "SENDER_ID_MISMATCH": "the app belongs to another project",
    "THIRD_PARTY_AUTH_ERROR": "the APNs key or the web certificate in the Firebase console is bad",
    "": "may this account send for this project?",
}
_FCM_ERROR: Final = "google.firebase.fcm.v1.FcmError"
_WORD: Final = re.compile(r"[A-Z_]{1,40}")
_FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]]{1,80}")


class _Account(Struct):
    """What is used of a service account's JSON."""

    client_email: str
    private_key: str
    project_id: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105  (an address)


class _Violation(Struct):
    field: str = ""


class _Detail(Struct, rename="camel"):
    type: str = field(default="", name="@type")
    error_code: str = ""
    field_violations: list[_Violation] = []


class _Error(Struct):
    status: str = ""
    details: list[_Detail] = []

    @property
    def code(self) -> str:
        """FCM's own word, else Google's general one; "" if it says neither."""
        words = [detail.error_code for detail in self.details if detail.type.endswith(_FCM_ERROR)] + [self.status]
        return next((word for word in words if _WORD.fullmatch(word)), "")

    @property
    def fields(self) -> list[str]:
        return [found.field for detail in self.details for found in detail.field_violations if _FIELD.fullmatch(found.field)]


class _Taken(Struct):
    name: str = ""


class _Refused(Struct):
    error: _Error


class Fcm:
    """Notifications by Firebase. Its ``repr`` shows the project and no secret.

    Targets have the kind ``token`` (a registration token) or ``fid`` (a Firebase installation ID). What the app gets is
    described in ``docs/push-providers.md``.

    Args:
        http: the client; `open_push_client` gives one.
        credentials: the JSON file of a service account, from the Firebase console.
        name: what targets call the provider.
        api: where the API is; for tests.
        clock: gives Unix seconds; for tests.

    Raises:
        ConfigurationError: the file is none; one sentence says what it is.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        credentials: str | os.PathLike[str],
        *,
        name: str = "fcm",
        api: str = _API,
        clock: Callable[[], float] = time.time,
    ) -> None:
        account, key = _read(Path(credentials))
        self._http = http
        self._name = name
        self._project = account.project_id
        self._url = f"{api}/v1/projects/{account.project_id}/messages:send"
        self._clock = clock
        self._tokens = AccessTokens(
            http, email=account.client_email, key=key, token_uri=account.token_uri, scope=_SCOPE, clock=clock
        )

    def __repr__(self) -> str:
        return f"<Fcm {self._name!r} for {self._project}>"

    @property
    def name(self) -> str:
        """What targets call it."""
        return self._name

    def check_target(self, kind: str, target: str) -> None:
        """Look at a token or an installation ID.

        Raises:
            ValueError: it cannot be one.
        """
        if kind not in _KINDS:
            raise ValueError(f"a target of {self._name} is a token or a fid")
        if not _TARGET.fullmatch(target):
            raise ValueError(f"the {kind} is none of Firebase's")

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Hand it to Firebase. There is no idempotency: a repeat replaces the first on the device, by the conversation."""
        now = int(self._clock())
        to = {target.kind: target.target}
        body = fitted(notification, _BODY_BYTES, lambda fitting: {"message": {**to, **_message(fitting, now)}})
        return await self._post(body)

    async def check(self) -> Sent | RetryAfter | Misconfigured:
        """Whether the service account may send: asked with ``validate_only``, so nobody gets anything."""
        message = {"topic": _CHECK_TOPIC, "notification": {"title": "trio-chat", "body": "push check"}}
        outcome = await self._post(as_json({"validate_only": True, "message": message}))
        return Misconfigured(outcome.reason) if isinstance(outcome, Gone) else outcome

    async def _post(self, body: bytes) -> Outcome:
        outcome: Outcome | None = None
        for _ in range(2):
            token = await self._tokens.get()
            if isinstance(token, RetryAfter | Misconfigured):
                return token
            headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json; charset=UTF-8"}
            answer = await post(self._http, self._url, headers=headers, content=body)
            if isinstance(answer, RetryAfter):
                return answer
            error = _error(answer)
            outcome = self._outcome(answer, error)
            if answer.status != 401 or error.code == "THIRD_PARTY_AUTH_ERROR":
                break
            self._tokens.forget(token)  # revoked, it may be: a new one tells
        assert outcome is not None
        return outcome

    def _outcome(self, answer: Answer, error: _Error) -> Outcome:
        if answer.status == 200:
            receipt = _receipt(answer)
            return Sent(receipt) if receipt else otherwise("Firebase", answer, self._clock)
        said = f"Firebase answered {answer.status} {error.code}".rstrip()
        if (answer.status, error.code) == (404, "UNREGISTERED"):
            return Gone(said)
        if answer.status == 400 and any(field in _TARGET_FIELDS for field in error.fields):
            return Gone(f"{said}: it is no token of its")
        if answer.status in (400, 401, 403, 404):
            where = f" about {', '.join(error.fields)}" if error.fields else ""
            return Misconfigured(f"{said}{where}: {_WHY.get(error.code, _WHY[''])}")
        if answer.status == 429:
            seconds = retry_after(answer, self._clock())
            return RetryAfter(_QUOTA_SECONDS if seconds is None else seconds, said)
        return otherwise("Firebase", answer, self._clock)


def _message(notification: Notification, now: int) -> dict[str, Any]:
    """The message without its target. No key of ``data`` is a reserved one: ``from``, ``message_type``, ``google.*`` …."""
    key = notification.collapse_key
    data = {
        "type": "clear" if notification.clear else "message",
        "id": notification.id,
        "user": notification.user,
        "peer": notification.peer,
        "conversation": key,
        "unread": str(notification.unread),
        "badge": str(notification.badge),
    }
    ttl = f"{notification.ttl}s"
    apns = {"apns-expiration": str(now + notification.ttl), "apns-collapse-id": key}
    web = {"TTL": str(notification.ttl), "Topic": key}
    if notification.clear:
        return {
            "data": data,
            "android": {"collapse_key": key, "priority": "NORMAL", "ttl": ttl},
            "apns": {
                "headers": {**apns, "apns-priority": "5", "apns-push-type": "background"},
                "payload": {"aps": {"content-available": 1}},  # and nothing else, or it is no background push
            },
            "webpush": {"headers": {**web, "Urgency": "low"}},
        }
    if notification.text is not None:
        data["text"] = notification.text
    return {
        "notification": {"title": notification.title, "body": notification.body},
        "data": data,
        "android": {
            "collapse_key": key,
            "priority": "HIGH",
            "ttl": ttl,
            "notification": {"tag": key, "notification_count": notification.badge},
        },
        "apns": {
            "headers": {**apns, "apns-priority": "10"},
            "payload": {"aps": {"badge": notification.badge, "sound": "default", "thread-id": key}},
        },
        "webpush": {"headers": {**web, "Urgency": "high"}},
    }


def _error(answer: Answer) -> _Error:
    try:
        return from_json(answer.body, _Refused).error
    except ValueError:
        return _Error()


def _receipt(answer: Answer) -> str:
    try:
        return from_json(answer.body, _Taken).name
    except ValueError:
        return ""


def _read(file: Path) -> tuple[_Account, RSAPrivateKey]:
    try:
        account = from_json(file.read_bytes(), _Account)
    except OSError as error:
        raise ConfigurationError(f"the service account {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{file} is no service account of Google's: {error}") from None
    try:
        key = load_pem_private_key(account.private_key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # their texts may quote
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigurationError(f"the private_key in {file} is none")
    if not _PROJECT.fullmatch(account.project_id) or urlsplit(account.token_uri).scheme != "https":
        raise ConfigurationError(f"the project_id or the token_uri in {file} is none")
    return account, key
