"""The values this library speaks of: who talks, what was said, where it stands.

All are frozen and compare by value. Positions in a log are called ``seq`` and count from 1; times are Unix milliseconds.
"""

from __future__ import annotations

import unicodedata
from math import isfinite
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

__all__ = [
    "DEVICE_LENGTH",
    "ID_LENGTH",
    "MAX_SEQ",
    "USER_LENGTH",
    "Identity",
    "Kind",
    "Message",
    "MessageId",
    "Seq",
    "UserName",
    "in_words",
    "is_name",
]

USER_LENGTH = 128
"""The longest user or device name, in characters."""
DEVICE_LENGTH = 128
ID_LENGTH = 64
"""The longest message id, in characters."""
MAX_SEQ = 2**53 - 1
"""The largest integer that every JSON implementation reads exactly (RFC 8259 §6)."""

NO_CONTROLS: Final = r"\A[^\x00-\x1f\x7f-\x9f]*\Z"
"""Unicode's control characters (category Cc) are these and no others; surrogates never get past a JSON decoder."""

UserName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=USER_LENGTH, pattern=NO_CONTROLS)]
MessageId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_LENGTH, pattern=NO_CONTROLS)]
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Kind: TypeAlias = Literal["message", "edit", "delete"]


def is_name(name: object, length: int = USER_LENGTH) -> bool:
    """Whether `name` can name a user, a device or a message: 1 to `length` characters, none a control or a surrogate."""
    return (
        isinstance(name, str)
        and 1 <= len(name) <= length
        and ((name.isascii() and name.isprintable()) or not any(unicodedata.category(c) in ("Cc", "Cs") for c in name))
    )


def in_words(why: str) -> str:
    """What msgspec says about a value, without the regular expression and not longer than 200 characters.

    Nor does it hold control characters: it may quote what somebody sent.
    """
    why = why.replace(f"matching regex {NO_CONTROLS!r}", "without control characters")
    return "".join(c if c.isprintable() else "�" for c in why[:200])


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


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry of a user's log, immutable: a message to or from that user, or an edit or deletion of one (L5).

    `seq` is its position in *this* user's log; the same message stands at another position in the peer's. `id` was chosen
    by the sender's client. `sent_at` is the server's clock in Unix milliseconds, never decreasing within a log. On the wire
    `sender` and `recipient` are called ``from`` and ``to``; a `kind` other than ``message`` is to be acknowledged and
    skipped by who does not know it.

    `text` is what was sent, or None once it was deleted. `reply_to` is the id of the message in the same conversation that
    this one answers: the recipient's of that id, or else the sender's own. `target` is, for an edit or a delete, the id of
    the sender's message that it is about.

    Only what is retrieved by a query shows a message as it is now: then `text` is that of the newest edit in the user's own
    log, `edit_seq` and `edited_at` (Unix milliseconds) are that edit's, and `deleted` says why there is no text.
    """

    seq: int
    id: str
    sender: str = msgspec.field(name="from")
    recipient: str = msgspec.field(name="to")
    text: str | None
    sent_at: int
    kind: str = "message"
    reply_to: str | None = None
    target: str | None = None
    edit_seq: int | None = None
    edited_at: int | None = None
    deleted: bool = False
