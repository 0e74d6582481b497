"""The wire, version 1: frames to and from JSON text. The only module that knows JSON.

A frame is one JSON object in one WebSocket text message, tagged by ``type``. What a client sends is decoded strictly:
unknown types, unknown or repeated fields, wrong types, NaN, lone surrogates and control characters in names are refused.
What a server sends may gain types and fields; clients ignore those they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, get_args

import msgspec
from msgspec import Struct

from .errors import BadQuery, ErrorCode, InvalidFrame
from .frame import Frame, Ref
from .frames import (
    WATCHED,
    Ack,
    Block,
    Blocked,
    Blocks,
    ClientFrame,
    Conversations,
    ConversationsAnswer,
    Delete,
    Devices,
    DevicesAnswer,
    Edit,
    Error,
    Gap,
    History,
    HistoryAnswer,
    Messages,
    Mute,
    Ping,
    Pong,
    Presence,
    PushAnswer,
    PushQuestion,
    PushRegister,
    PushUnregister,
    Quiet,
    Read,
    ReadElsewhere,
    Receipt,
    RemoveDevice,
    Search,
    SearchAnswer,
    Send,
    ServerFrame,
    Stored,
    StoredItem,
    Typing,
    TypingFrom,
    Unblock,
    Unmute,
    Watch,
    Welcome,
)
from .model import ID_LENGTH, Message, in_words, is_name
from .push_frames import PushProvider, PushRequest, PushSettings, PushTarget
from .retrieval import check_combination

__all__ = [
    "FEATURES",
    "PUSH_FEATURES",
    "SUBPROTOCOL",
    "WATCHED",
    "Ack",
    "Block",
    "Blocked",
    "Blocks",
    "ClientFrame",
    "Conversations",
    "ConversationsAnswer",
    "Delete",
    "Devices",
    "DevicesAnswer",
    "Edit",
    "Error",
    "Gap",
    "History",
    "HistoryAnswer",
    "Messages",
    "Mute",
    "Ping",
    "Pong",
    "Presence",
    "PushAnswer",
    "PushProvider",
    "PushQuestion",
    "PushRegister",
    "PushRequest",
    "PushSettings",
    "PushTarget",
    "PushUnregister",
    "Quiet",
    "Read",
    "ReadElsewhere",
    "Receipt",
    "Ref",
    "RemoveDevice",
    "Search",
    "SearchAnswer",
    "Send",
    "ServerFrame",
    "Stored",
    "StoredItem",
    "Typing",
    "TypingFrom",
    "Unblock",
    "UnknownFrame",
    "Unmute",
    "Watch",
    "Welcome",
    "decode",
    "decode_server",
    "encode",
    "encode_entry",
    "encoded_size",
    "pack",
    "weight",
]

SUBPROTOCOL: Final = "trio-chat.v1"

FEATURES: Final = tuple(str(frame.__struct_config__.tag) for frame in get_args(ClientFrame))
"""What a client may send to this server: the ``features`` of `Welcome`."""
PUSH_FEATURES: Final = frozenset(str(frame.__struct_config__.tag) for frame in get_args(PushRequest))
"""Those of them that a server has only if it pushes."""

_decoder: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_server_decoder: Final[msgspec.json.Decoder[ServerFrame]] = msgspec.json.Decoder(ServerFrame)
_encoder: Final = msgspec.json.Encoder()


def _quotes(frame: type[Struct]) -> int:
    """How many quotation marks a frame of this type has that repeats no field and escapes none in its strings.

    -1 if that depends on what the frame says: a field that may be left out makes room for another to be repeated, and a list
    has as many marks as it has items. Such a frame is always looked at in full. (`Send`, for speed, is not: see `decode`.)
    """
    fields = msgspec.structs.fields(frame)
    required = [field for field in fields if field.required]
    if frame is not Send and (len(required) < len(fields) or any("tuple" in str(field.type) for field in fields)):
        return -1
    return (
        2 * (len(required) + sum("str" in str(field.type) for field in required)) + 4
    )  # …and those of "type" and its value


def _check_text(frame: Send | Edit, text_bytes: int) -> None:
    if "\x00" in frame.text:
        raise InvalidFrame(ErrorCode.BAD_FRAME, "text holds a NUL character", id=frame.id)
    if len(frame.text) * 4 > text_bytes and len(frame.text.encode()) > text_bytes:
        raise InvalidFrame(ErrorCode.TOO_LARGE, f"text is over {text_bytes} bytes", id=frame.id)


def _check_history(frame: History, text_bytes: int) -> None:  # noqa: ARG001  (as every check)
    try:
        check_combination(frame)
    except BadQuery as error:
        raise InvalidFrame(ErrorCode.BAD_QUERY, str(error), ref=frame.ref) from None


_CHECKS: Final[dict[type[Struct], Callable[[Any, int], None]]] = {
    Send: _check_text,
    Edit: _check_text,
    History: _check_history,
}
_RULES: Final = {frame: (_quotes(frame), _CHECKS.get(frame)) for frame in get_args(ClientFrame)}
_OPTIONAL_QUOTES: Final = 4
"""Of a string field that may be left out: two around its name, two around its value."""


def decode(payload: bytes | None, *, text_bytes: int) -> ClientFrame:
    """The frame a client sent as a text message.

    A field that may be left out is left out or has a value: ``null`` is none.

    Args:
        payload: the message's bytes; need not be UTF-8. None stands for a binary message, which is none of ours.
        text_bytes: the longest text, in bytes of UTF-8.

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
    # msgspec lets the last of two equal keys win (RFC 8259 §4 leaves it open). A repeated key adds quotation marks, and so
    # does a key whose value is null: frames with the usual number are free of both, and the rest is looked at in full.
    quotes, check_more = _RULES[type(frame)]
    marks = payload.count(b'"')
    if marks != quotes:
        replies = isinstance(frame, Send) and frame.reply_to is not None and marks == quotes + _OPTIONAL_QUOTES
        if not replies and (flaw := _flaw(payload)):
            raise _invalid(payload, flaw)
    if check_more is not None:
        check_more(frame, text_bytes)
    return frame


def _flaw(payload: bytes) -> str | None:
    """What is wrong with a frame that has been decoded, and that msgspec does not mind."""
    pairs: list[tuple[str, Any]] = []
    json.loads(payload, object_pairs_hook=pairs.extend)  # a frame is flat, and it has been decoded once already
    if len(pairs) != len({key for key, _ in pairs}):
        return "a field is repeated"
    if any(value is None for _, value in pairs):
        return "a field is null: leave it out"
    return None


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
    return InvalidFrame(ErrorCode.BAD_FRAME, in_words(why), id=id, ref=ref)


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
    size = 100
    if isinstance(frame, Messages):  # these two first, and in a plain loop: they are nearly all there is
        for message in frame.messages:
            size += 200 if message.text is None else 200 + _size(message.text)
        return size
    if isinstance(frame, Stored):
        for item in frame.messages:
            size += 120 if item.text is None else 120 + _size(item.text)
        return size
    return _weight_of_answer(frame)


def _weight_of_answer(frame: ServerFrame) -> int:
    match frame:
        case HistoryAnswer(messages=messages):
            return 100 + sum(_size(message.text or "") + 200 for message in messages)
        case SearchAnswer(hits=hits):
            return 100 + sum(_size(hit.message.text or "") + sum(map(_size, hit.snippet)) + 250 for hit in hits)
        case ConversationsAnswer(conversations=conversations):
            texts = (conversation.last.text if conversation.last else "" for conversation in conversations)
            return 100 + sum(_size(text or "") + 500 for text in texts)
        case Blocked(users=users):
            return 100 + sum(_size(user) + 3 for user in users)
        case DevicesAnswer(devices=devices):
            return 100 + sum(_size(device.name) + 120 for device in devices)
        case PushAnswer(targets=targets, muted=muted):
            return 500 + sum(_size(target.device) + 200 for target in targets) + sum(_size(user) + 3 for user in muted)
    return 250


class _RawMessages(Frame, frozen=True, kw_only=True, tag="messages"):
    messages: list[msgspec.Raw]
    head: int


class _RawStored(Frame, frozen=True, kw_only=True, tag="stored"):
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
