"""The wire, version 1: frames to and from JSON text. The only module that knows JSON.

A frame is one JSON object in one WebSocket text message, tagged by ``type``. What a client sends is decoded strictly:
unknown types, unknown or repeated fields, wrong types, NaN, lone surrogates and control characters in names are refused.
What a server sends may gain types and fields; clients ignore those they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, TypeAlias, Union, get_args

import msgspec
from msgspec import Meta, Struct

from .errors import ErrorCode, InvalidFrame
from .model import ID_LENGTH, MAX_SEQ, USER_LENGTH, Message, is_name

SUBPROTOCOL: Final = "trio-chat.v1"

# Unicode's control characters (category Cc) are these and no others; surrogates never get past the decoder.
_NO_CONTROLS: Final = r"\A[^\x00-\x1f\x7f-\x9f]*\Z"

UserName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=USER_LENGTH, pattern=_NO_CONTROLS)]
MessageId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_LENGTH, pattern=_NO_CONTROLS)]
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]


class _Frame(Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class _ClientFrame(_Frame, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    pass


class Send(_ClientFrame, frozen=True, kw_only=True, tag="send"):
    """Send a message; answered by an item of `Stored` or an `Error` with its id."""

    id: MessageId
    to: UserName
    text: Annotated[str, Meta(min_length=1)]


class Ack(_ClientFrame, frozen=True, kw_only=True, tag="ack"):
    """This device has every entry up to `seq` safely. Cumulative; not answered."""

    seq: Seq


class Typing(_ClientFrame, frozen=True, kw_only=True, tag="typing"):
    """The user is writing to `to`, or stopped. Ephemeral; not answered."""

    to: UserName
    typing: bool


class Ping(_ClientFrame, frozen=True, kw_only=True, tag="ping"):
    """Are you there? For browsers, whose scripts cannot send a WebSocket ping; answered by `Pong`."""


ClientFrame: TypeAlias = Union[Send, Ack, Typing, Ping]


class Welcome(_Frame, frozen=True, kw_only=True, tag="welcome"):
    """The first frame: who the server takes the client for, and where the connection starts (C1)."""

    user: str
    device: str
    log: str
    head: int
    floor: int
    cursor: int
    new: bool
    features: list[str]
    limits: dict[str, float]


class Messages(_Frame, frozen=True, kw_only=True, tag="messages"):
    """Entries of the user's log, in order, each once per connection; `head` is the log's last position."""

    messages: list[Message]
    head: int


class StoredItem(Struct, frozen=True):
    """A message of this connection is committed, at the sender's own `seq`."""

    id: str
    seq: int
    sent_at: int


class Stored(_Frame, frozen=True, kw_only=True, tag="stored"):
    """What became of `Send` frames: committed, and safe."""

    messages: list[StoredItem]


class TypingFrom(_Frame, frozen=True, kw_only=True, tag="typing"):
    """A peer is writing to this user, or stopped. Ephemeral."""

    sender: str = msgspec.field(name="from")
    typing: bool


class Gap(_Frame, frozen=True, kw_only=True, tag="gap"):
    """The entries `first` to `last` (on the wire ``from`` and ``to``) are no longer held (C7)."""

    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")


class Error(_Frame, frozen=True, kw_only=True, tag="error", omit_defaults=True):
    """A refusal; the connection stays. `id` or `ref` names what is refused; `retry_after` is in seconds."""

    code: str
    message: str
    id: str | None = None
    ref: str | None = None
    retry_after: float | None = None


class Pong(_Frame, frozen=True, kw_only=True, tag="pong"):
    """The answer to `Ping`."""


ServerFrame: TypeAlias = Union[Welcome, Messages, Stored, TypingFrom, Gap, Error, Pong]

FEATURES: Final = ("send", "ack", "typing", "ping")
"""What a client may send to this server: the ``features`` of `Welcome`."""

_decoder: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_server_decoder: Final[msgspec.json.Decoder[ServerFrame]] = msgspec.json.Decoder(ServerFrame)
_encoder: Final = msgspec.json.Encoder()


def _quotes(frame: type[Struct]) -> int:
    """How many quotation marks a frame of this type has that repeats no field and escapes none in its strings.

    Counts on every field being required: one that may be left out would make room for another to be repeated.
    """
    fields = msgspec.structs.fields(frame)
    strings = sum("str" in str(field.type) for field in fields)
    return 2 * (len(fields) + strings) + 4  # …and those of "type" and its value


_QUOTES: Final = {frame: _quotes(frame) for frame in (Send, Ack, Typing, Ping)}


def decode(payload: bytes | None, *, text_bytes: int) -> ClientFrame:
    """The frame a client sent as a text message.

    Args:
        payload: the message's bytes; need not be UTF-8. None stands for a binary message, which is none of ours.
        text_bytes: the longest `Send.text`, in bytes of UTF-8.

    Raises:
        InvalidFrame: it is not a frame of version 1; has the ``code``, and the ``id`` or ``ref`` where one was readable.
    """
    if payload is None:
        raise InvalidFrame(ErrorCode.BAD_FRAME, "binary messages are not part of this protocol")
    try:
        frame = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise _invalid(payload, str(error)) from None
    except UnicodeDecodeError:
        raise _invalid(payload, "not UTF-8") from None
    except RecursionError:
        raise _invalid(payload, "nested too deeply") from None
    # msgspec lets the last of two equal keys win (RFC 8259 §4 leaves it open). A repeated key adds quotation marks, so
    # frames with the usual number are free of them; the rest (escaped quotes in a text) are looked at in full.
    if payload.count(b'"') != _QUOTES[type(frame)] and _repeats_a_key(payload):
        raise _invalid(payload, "a field is repeated")
    if isinstance(frame, Send):
        if "\x00" in frame.text:
            raise InvalidFrame(ErrorCode.BAD_FRAME, "text holds a NUL character", id=frame.id)
        if len(frame.text) * 4 > text_bytes and len(frame.text.encode()) > text_bytes:
            raise InvalidFrame(ErrorCode.TOO_LARGE, f"text is over {text_bytes} bytes", id=frame.id)
    return frame


def _repeats_a_key(payload: bytes) -> bool:
    pairs: list[tuple[str, Any]] = []
    json.loads(payload, object_pairs_hook=pairs.extend)  # a frame is flat, and it has been decoded once already
    return len(pairs) != len({key for key, _ in pairs})


_lenient: Final = json.JSONDecoder(strict=False, parse_int=float)  # int() raises for more than 4,300 digits


def _invalid(payload: bytes, why: str) -> InvalidFrame:
    """The refusal of `payload`, naming what it refuses if that can be read in any way.

    Who sent a message waits for an answer with its id (S3), and what is wrong may well be something else than the id: a
    script's string cut in the middle of a pair of surrogates, say. So this reads whatever is anything like JSON.
    """
    try:
        frame, _ = _lenient.raw_decode(payload.decode("utf-8", "surrogateescape").lstrip())
    except (ValueError, RecursionError):
        frame = None
    named = frame if isinstance(frame, dict) else {}
    id, ref = (name if is_name(name := named.get(key), ID_LENGTH) else None for key in ("id", "ref"))
    return InvalidFrame(ErrorCode.BAD_FRAME, _shown(why), id=id, ref=ref)


def _shown(why: str) -> str:
    """`why` without control characters and not longer than 200: it may quote what the client sent."""
    why = why.replace(f"matching regex {_NO_CONTROLS!r}", "without control characters")
    return "".join(c if c.isprintable() else "�" for c in why[:200])


def encode(frame: ServerFrame | ClientFrame) -> bytes:
    """The frame as the UTF-8 JSON text of one WebSocket message."""
    return _encoder.encode(frame)


def encode_entry(message: Message) -> bytes:
    """A log entry as it stands in a `Messages` frame."""
    return _encoder.encode(message)


def encoded_size(message: Message) -> int:
    """How many bytes `message` takes in a `Messages` frame."""
    return len(encode_entry(message)) + 1


class _Typed(Struct):
    type: str


_typed: Final[msgspec.json.Decoder[_Typed]] = msgspec.json.Decoder(_Typed)
_SERVER_TYPES: Final = frozenset(frame.__struct_config__.tag for frame in get_args(ServerFrame))


class UnknownFrame(msgspec.ValidationError):
    """A frame of a type that a later version has added: a client passes over it (C1)."""


def decode_server(payload: bytes) -> ServerFrame:
    """The frame a server sent, for clients and tests.

    Raises:
        UnknownFrame: its type is not one of this version's.
        msgspec.DecodeError: it is no frame, or one of a known type that is broken.
    """
    try:
        return _server_decoder.decode(payload)
    except msgspec.ValidationError as error:
        if _typed.decode(payload).type in _SERVER_TYPES:
            raise
        raise UnknownFrame(str(error)) from None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def weight(frame: ServerFrame) -> int:
    """About how many bytes the frame takes, without encoding it: for bounding what waits to be sent."""
    if isinstance(frame, Messages):
        return sum(_size(message.text or "") + 200 for message in frame.messages)
    if isinstance(frame, Stored):
        return 120 * len(frame.messages)
    return 250


class _RawMessages(_Frame, frozen=True, kw_only=True, tag="messages"):
    messages: list[msgspec.Raw]
    head: int


class _RawStored(_Frame, frozen=True, kw_only=True, tag="stored"):
    messages: list[msgspec.Raw]


class _Packer:
    """Encodes frames in order, joining neighbours of the same listing type up to `limit` bytes each."""

    _OVERHEAD: ClassVar = 64  # braces, names and the head of a listing frame

    def __init__(self, limit: int) -> None:
        self.packed: list[bytes] = []
        self._room = limit - self._OVERHEAD
        self._items: list[msgspec.Raw] = []
        self._size = 0
        self._head: int | None = None  # of the open listing, if that is one of entries

    def add(self, frame: ServerFrame) -> None:
        if isinstance(frame, Messages):
            self._open(entries=True)
            for message in frame.messages:
                self._item(_encoder.encode(message))
                self._head = frame.head
        elif isinstance(frame, Stored):
            self._open(entries=False)
            for item in frame.messages:
                self._item(_encoder.encode(item))
        else:
            self.flush()
            self.packed.append(_encoder.encode(frame))

    def _open(self, *, entries: bool) -> None:
        if self._items and (self._head is not None) is not entries:
            self.flush()

    def _item(self, encoded: bytes) -> None:
        if self._items and self._size + len(encoded) + 1 > self._room:
            self.flush()
        self._items.append(msgspec.Raw(encoded))
        self._size += len(encoded) + 1

    def flush(self) -> None:
        if not self._items:
            return
        frame = (
            _RawStored(messages=self._items) if self._head is None else _RawMessages(messages=self._items, head=self._head)
        )
        self.packed.append(_encoder.encode(frame))
        self._items, self._size, self._head = [], 0, None


def pack(frames: Iterable[ServerFrame], limit: int) -> list[bytes]:
    """The frames as WebSocket texts, in order; neighbouring `Messages` and `Stored` become one each, split at `limit` bytes.

    A single entry larger than `limit` travels alone in a larger frame (C6).
    """
    packer = _Packer(limit)
    for frame in frames:
        packer.add(frame)
    packer.flush()
    return packer.packed
