"""The values this library speaks of: who talks, what was said, where it stands.

All are frozen and compare by value. Positions in a log are called ``seq`` and count from 1; times are Unix milliseconds.
"""

from __future__ import annotations

import unicodedata
from math import isfinite

import msgspec

__all__ = ["DEVICE_LENGTH", "ID_LENGTH", "MAX_SEQ", "USER_LENGTH", "Identity", "Message", "is_name"]

USER_LENGTH = 128
"""The longest user or device name, in characters."""
DEVICE_LENGTH = 128
ID_LENGTH = 64
"""The longest message id, in characters."""
MAX_SEQ = 2**53 - 1
"""The largest integer that every JSON implementation reads exactly (RFC 8259 §6)."""


def is_name(name: object, length: int = USER_LENGTH) -> bool:
    """Whether `name` can name a user, a device or a message: 1 to `length` characters, none a control or a surrogate."""
    return (
        isinstance(name, str)
        and 1 <= len(name) <= length
        and ((name.isascii() and name.isprintable()) or not any(unicodedata.category(c) in ("Cc", "Cs") for c in name))
    )


class Identity(msgspec.Struct, frozen=True):
    """Who is at the other end of a connection: an authenticator's answer.

    A user is an opaque string compared exactly (leading zeros are part of it); a device is one of that user's clients. At
    `expires_at`, in Unix *seconds* as in ``exp`` of a JWT, the connection is closed with 4401; None is never.

    A subclass may carry more for the application's `revalidate`: the session's number, say.

    Raises:
        ValueError: a name is empty, longer than 128 characters or holds a control character, or `expires_at` is not finite.
    """

    user: str
    device: str = "default"
    expires_at: float | None = None

    def __post_init__(self) -> None:
        for what, name in (("user", self.user), ("device", self.device)):
            if not is_name(name):
                raise ValueError(f"a {what} is 1 to {USER_LENGTH} characters without control characters")
        if self.expires_at is not None and not isfinite(self.expires_at):  # NaN is before no moment: it would never come
            raise ValueError("expires_at is a moment in Unix seconds, or None")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a user's log, immutable: a message to or from that user.

    `seq` is its position in *this* user's log; the same message stands at another position in the peer's. `id` was chosen
    by the sender's client. `sent_at` is the server's clock in Unix milliseconds, never decreasing within a log. On the wire
    `sender` and `recipient` are called ``from`` and ``to``; a `kind` other than ``message`` is to be acknowledged and
    skipped by who does not know it.
    """

    seq: int
    id: str
    sender: str = msgspec.field(name="from")
    recipient: str = msgspec.field(name="to")
    text: str | None
    sent_at: int
    kind: str = "message"
