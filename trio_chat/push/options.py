"""The push providers of a server, as a file or the environment names them. What is secret is in files of its own."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from ..errors import ConfigurationError

__all__ = ["PushOptions"]


_Text: TypeAlias = Annotated[str, Meta(min_length=1)] | None


def _text(reason: str, *, secret: bool = False) -> Any:
    return Meta(description=reason, extra={"secret": secret})


class PushOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `trio_chat.push.opening.open_push` makes providers of. Without any of them nobody is told of anything."""

    push_fcm_account: Annotated[_Text, _text("Firebase: the service account's JSON file.")] = None
    push_onesignal_app: Annotated[_Text, _text("OneSignal: the app ID.")] = None
    push_onesignal_key_file: Annotated[_Text, _text("OneSignal: the file that holds an App API key.")] = None
    push_vapid_key: Annotated[_Text, _text("Web Push: the key file that trio-chat push vapid-init has made.")] = None
    push_vapid_subject: Annotated[
        _Text, _text("Web Push: mailto: or https: address at which push services reach the operator.")
    ] = None
    push_web_hosts: Annotated[
        _Text,
        _text("Web Push: the push services that are called, with commas between; any for any public host; else the usual."),
    ] = None
    push_webhook_url: Annotated[_Text, _text("Webhook: where notifications are posted.", secret=True)] = None
    push_webhook_secret_file: Annotated[
        _Text,
        _text("Webhook: the file with the secret that signs, a line; two while it is changed, the new one first."),
    ] = None
    push_delay: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds a device has to acknowledge before it is told.")
    ] = 5.0
    push_expiry: Annotated[
        float, Meta(gt=0, le=30 * 86_400, description="Seconds after which nobody need be told any more.")
    ] = 3600.0
    push_include_text: Annotated[bool, Meta(description="Whether the text travels through the provider.")] = False

    @property
    def wanted(self) -> bool:
        """Whether there is any provider."""
        ways = self.push_fcm_account, self.push_onesignal_app, self.push_vapid_key, self.push_webhook_url
        return any(way is not None for way in ways)

    @classmethod
    def of(cls, **values: object) -> PushOptions:
        """The options, checked.

        Raises:
            ConfigurationError: a value is out of its range, or half of a provider is missing; one sentence says which.
        """
        try:
            options = msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"settings: {error}") from None
        for one, other in (
            ("push_onesignal_app", "push_onesignal_key_file"),
            ("push_vapid_key", "push_vapid_subject"),
            ("push_webhook_url", "push_webhook_secret_file"),
        ):
            given, missing = (one, other) if getattr(options, other) is None else (other, one)
            if getattr(options, given) is not None and getattr(options, missing) is None:
                raise ConfigurationError(f"{given} is given and {missing} is not: push needs both")
        return options
