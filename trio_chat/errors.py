"""What can go wrong: the exceptions, the error codes and the close codes.

The tree of exceptions::

    ChatError
    ├── ConfigurationError      what the application or the command line asked for cannot be done
    │   ├── StoreLocked         another server holds the database file
    │   ├── SchemaMismatch      the file's schema is newer than this code, or not ours
    │   └── StateUnusable       the client's state file is held by another client, or is no such file
    ├── StoreError              the store could not carry out an operation; has a ``code``
    │   ├── StoreFull           no space left
    │   ├── StoreBusy           another process holds the database; try again
    │   ├── StoreUnavailable    I/O error, corruption, read-only: nothing is written until a restart
    │   └── RowRefused          this one row cannot be stored, others can
    ├── InvalidFrame            what a client sent is not a frame of ours
    ├── RequestRefused          a message or a request was refused; has a ``code``
    │   ├── BadFrame            it is no frame the server knows
    │   │   └── NotOffered      this server does not take frames of that type
    │   ├── TooLarge            the text is too long
    │   ├── IdConflict          the sender has used the id for another message
    │   ├── NotAllowed          the application's policy does not allow it
    │   └── BadQuery            it asks for what does not exist, or for what excludes itself
    ├── Rejected                raised by a hook: this message is not to be sent
    ├── ChatClosed              the chat drains or has ended
    ├── Refused                 raised by an authenticator: this request may not connect
    └── ConnectionClosed        the client (`trio_chat.client`) is closed and does not come back
        ├── Unauthorized        the credentials are not, or no longer, good
        ├── Replaced            another client of the same user and device took over
        ├── NotAccepted         what answers there does not speak this protocol, or does not take the request
        ├── ClosedForGood       the server closed with another code that says: do not reconnect
        ├── WrongOwner          the state file is for another user or device than the server takes the client for
        └── StateFailed         the state file could not be written
"""

from __future__ import annotations

import enum
from typing import Self

__all__ = [
    "BadFrame",
    "BadQuery",
    "ChatClosed",
    "ChatError",
    "CloseCode",
    "ClosedForGood",
    "ConfigurationError",
    "ConnectionClosed",
    "ErrorCode",
    "Fate",
    "IdConflict",
    "InvalidFrame",
    "NotAccepted",
    "NotAllowed",
    "NotOffered",
    "Refused",
    "Rejected",
    "Replaced",
    "RequestRefused",
    "RowRefused",
    "SchemaMismatch",
    "StateFailed",
    "StateUnusable",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreUnavailable",
    "TooLarge",
    "Unauthorized",
    "WrongOwner",
]


class Fate(enum.StrEnum):
    """What an error answer says about the message it answers (SEMANTICS S5)."""

    UNKNOWN = "unknown"
    """It may or may not be stored: send the same id again, it is stored once either way."""
    LATER = "later"
    """It is not stored: send it again after ``retry_after`` seconds."""
    NEVER = "never"
    """It is not stored and sending it again would be refused again."""


class ErrorCode(enum.StrEnum):
    """The codes of an in-band ``error`` frame. The connection stays open after each of them.

    Each has a `fate` (what became of the message) and a `meaning` (one sentence for the reader of the docs).
    """

    fate: Fate
    meaning: str

    def __new__(cls, value: str, fate: Fate = Fate.UNKNOWN, meaning: str = "") -> Self:  # defaults: ErrorCode("internal")
        member = str.__new__(cls, value)
        member._value_ = value
        member.fate = fate
        member.meaning = meaning
        return member

    BAD_FRAME = "bad_frame", Fate.NEVER, "The frame is not valid JSON, or not a frame this server knows."
    TOO_LARGE = "too_large", Fate.NEVER, "The text is longer than the server's limit."
    ID_CONFLICT = "id_conflict", Fate.NEVER, "This sender has used the id for another message."
    NOT_ALLOWED = "not_allowed", Fate.NEVER, "The application's policy, or a limit of the user's, does not allow it."
    CURSOR_AHEAD = "cursor_ahead", Fate.NEVER, "The ack names an entry this connection was not sent; it is ignored."
    BAD_QUERY = "bad_query", Fate.NEVER, "It asks for something that does not exist, or for things that exclude one another."
    RATE_LIMITED = "rate_limited", Fate.LATER, "Too much in too short a time; the user's bucket is empty."
    STORE_FULL = "store_full", Fate.LATER, "The server's disk is full."
    MAILBOX_FULL = "mailbox_full", Fate.LATER, "The recipient has too many undelivered messages."
    STORE_UNAVAILABLE = "store_unavailable", Fate.UNKNOWN, "The server cannot write to its store."
    OVERLOADED = "overloaded", Fate.UNKNOWN, "The server has more to do than it can take on."
    INTERNAL = "internal", Fate.UNKNOWN, "Something failed inside the server."

    @property
    def retryable(self) -> bool:
        """Whether the client should send the same message (the same id) again after a while."""
        return self.fate is not Fate.NEVER


class CloseCode(enum.IntEnum):
    """The close codes a server sends (RFC 6455 §7.4; 4400–4499 are this protocol's own).

    `reconnect` says whether a client should connect again by itself; if not, something has to change first
    (the client's code, its credentials, a person's mind).
    """

    reconnect: bool
    meaning: str

    def __new__(cls, value: int, reconnect: bool = False, meaning: str = "") -> Self:  # noqa: FBT001, FBT002  (a row)
        member = int.__new__(cls, value)
        member._value_ = value
        member.reconnect = reconnect
        member.meaning = meaning
        return member

    NORMAL = 1000, False, "The client asked for it."
    GOING_AWAY = 1001, True, "The server is shutting down; the reason carries retry_after in seconds."
    PROTOCOL_ERROR = 1002, False, "The client broke the WebSocket protocol."
    INVALID_DATA = 1007, False, "A text frame was not UTF-8."
    POLICY = 1008, False, "The client exceeded a limit: fragments, time per message, control frames, devices or connections."
    TOO_BIG = 1009, False, "A message was longer than the server's frame limit."
    INTERNAL = 1011, True, "Something failed inside the server; the reason may carry retry_after in seconds."
    UNAUTHORIZED = 4401, False, "The identity is no longer authorised."
    SILENT = 4408, True, "The client answered no ping."
    REPLACED = 4409, False, "A newer connection of the same user and device took over."
    FLOODING = 4429, False, "The client kept sending what it was told not to send."


class ChatError(Exception):
    """The root of every exception this library raises on purpose."""


class ConfigurationError(ChatError):
    """What was asked for cannot be done; the message is one sentence saying what to do instead."""


class StoreLocked(ConfigurationError):
    """Another process serves this database file; `holder` is its process id, if it could be read."""

    def __init__(self, message: str, holder: int | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class SchemaMismatch(ConfigurationError):
    """The database's schema is newer than this code, or holds a step this code does not know. Nothing was written."""


class StateUnusable(ConfigurationError):
    """The client's state file is in use by another client, cannot be opened, or is something else. Nothing was written."""


class StoreError(ChatError):
    """The store could not carry out an operation. `code` is what the client concerned is told."""

    code = ErrorCode.INTERNAL
    id: str | None = None
    """The id of the message that it is about, where the application sent one (`Chat.send`): to try again under."""


class StoreFull(StoreError):
    """There is no space left. Reading goes on; writing may succeed again once there is space."""

    code = ErrorCode.STORE_FULL


class StoreBusy(StoreError):
    """Another process held the database for longer than the store waits; or more waits for the store than may wait."""

    code = ErrorCode.OVERLOADED


class StoreUnavailable(StoreError):
    """The store met an I/O error, corruption or a read-only file, and writes nothing more until a restart.

    An fsync that failed is never retried: the kernel may have dropped the pages it could not write.
    """

    code = ErrorCode.STORE_UNAVAILABLE


class RowRefused(StoreError):
    """One row of a batch cannot be stored whatever is tried; the others can."""

    code = ErrorCode.BAD_FRAME


class InvalidFrame(ChatError):
    """A client's bytes are not a valid frame. Carries what an ``error`` answer needs.

    `id` or `ref` is the one the frame carried, where it was readable.
    """

    def __init__(self, code: ErrorCode, message: str, *, id: str | None = None, ref: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
        self.ref = ref


class RequestRefused(ChatError):
    """A message or a request was refused.

    `fate` says what became of a message: ``never`` is *not stored, and not to be sent again*. The client raises nothing
    else, but ``unknown`` if the message may be stored: if the answer to an earlier attempt was lost, and this refusal says
    nothing about that one (S5).

    Codes that have no subclass, and those that this version does not know, are raised as this class itself.

    Args:
        message: one sentence.
        code: as on the wire.
        retry_after: when it may be tried again, in seconds, if that makes sense.
        fate: what it says about the message, if not what the code says.
    """

    def __init__(
        self, message: str = "", code: str | None = None, retry_after: float | None = None, fate: Fate | None = None
    ) -> None:
        self.code: str = code or self.default
        known = next((known for known in ErrorCode if known == self.code), None)
        super().__init__(message or (known.meaning if known else self.code))
        self.retry_after = retry_after
        self.fate: Fate = fate or (known.fate if known else Fate.NEVER if retry_after is None else Fate.UNKNOWN)

    default: str = ErrorCode.INTERNAL
    """The code of this class."""
    id: str | None = None
    """The id of the message that it is about, where the application sent one (`Chat.send`): to try again under."""

    @staticmethod
    def of(code: str, message: str = "", retry_after: float | None = None, fate: Fate | None = None) -> RequestRefused:
        """The exception for a code."""
        kind = next((kind for kind in RequestRefused.__subclasses__() if kind.default == code), RequestRefused)
        return kind(message, code, retry_after, fate)


class BadFrame(RequestRefused):
    """What was sent is no frame that the server knows."""

    default: str = ErrorCode.BAD_FRAME


class NotOffered(BadFrame):
    """The server does not take frames of this type: it is an older one. Nothing was sent to it."""


class TooLarge(RequestRefused):
    """The text is longer than the server's limit."""

    default: str = ErrorCode.TOO_LARGE


class IdConflict(RequestRefused):
    """The sender has used the id for another message."""

    default: str = ErrorCode.ID_CONFLICT


class NotAllowed(RequestRefused):
    """The application's policy does not allow it."""

    default: str = ErrorCode.NOT_ALLOWED


class BadQuery(RequestRefused):
    """It asks for something that does not exist, or for things that exclude one another."""

    default: str = ErrorCode.BAD_QUERY


class ChatClosed(ChatError):
    """The chat drains or has ended: it takes nothing more. If what was asked for may be done all the same, it says so."""

    id: str | None = None
    """The id of the message that it is about, where the application sent one (`Chat.send`): to try again under."""


class Rejected(ChatError):
    """Raise this in ``before_send`` to refuse a message.

    Args:
        code: what its sender is told. After a code that may be tried again, such as ``rate_limited``, the later messages of
            the same connection are refused likewise for a second or more (S4).
        message: one sentence for who sent it, of at most 500 characters; what the code means, if there is none.

    Raises:
        ValueError: there is no such code, or the message is none that can be sent.
    """

    def __init__(self, code: ErrorCode | str = ErrorCode.NOT_ALLOWED, message: str | None = None) -> None:
        self.code: ErrorCode = ErrorCode(code)
        if message is not None and not self._can_be_told(message):
            raise ValueError("a message for who sent it is a text of at most 500 characters")
        super().__init__(message or self.code.meaning)
        self.message = message

    @staticmethod
    def _can_be_told(message: object) -> bool:
        if not isinstance(message, str) or len(message) > 500:
            return False
        try:
            message.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            return False
        return True


class Refused(ChatError):
    """Raise this in an authenticator to refuse a connection.

    Args:
        message: for the server's log; the client is told only the status.
        status: the HTTP status of the answer, 401 (who are you?), 403 (you may not) or another 4xx.

    Raises:
        ValueError: the status is none of these.
    """

    def __init__(self, message: str = "refused", *, status: int = 401) -> None:
        super().__init__(message)
        if not 400 <= status <= 499:
            raise ValueError(f"a refusal is a 4xx, not a {status}")
        self.status = status


class ConnectionClosed(ChatError):
    """The client is closed: its block was left, or it was ended for good. It does not come back by itself.

    Every call that waits raises it, and so do the iterators. `code` is the close code, 1000 if the client itself closed,
    1006 if there was none. `reason` may be empty. `status` is the HTTP status, if it was the handshake that failed.
    """

    def __init__(self, message: str, *, code: int = 1000, reason: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.status = status


class Unauthorized(ConnectionClosed):
    """The credentials are not good (401, 403), or no longer (4401)."""


class Replaced(ConnectionClosed):
    """Another client of the same user and device has connected (4409). To come back would throw that one out."""


class NotAccepted(ConnectionClosed):
    """What answers at the URL is not a trio-chat server of this version, or does not take the request: see `status`."""


class ClosedForGood(ConnectionClosed):
    """The server closed with a code that says: do not reconnect. See `CloseCode`."""


class WrongOwner(ConnectionClosed):
    """The server takes this client for another user or device than the state file belongs to; the file is untouched."""


class StateFailed(ConnectionClosed):
    """The state file could not be written: the disk is full, say. What was not written may be done again after a restart."""
