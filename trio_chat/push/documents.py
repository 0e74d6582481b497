"""The providers' JSON: written, read, and made to fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from .base import Notification

__all__ = ["as_json", "fitted", "from_json"]

_Shape = TypeVar("_Shape", bound=Struct)
_ELLIPSIS: Final = "…"


def as_json(document: object) -> bytes:
    """`document` in JSON."""
    return msgspec.json.encode(document)


def from_json(data: bytes | str, shape: type[_Shape]) -> _Shape:
    """The document in `data`.

    Raises:
        ValueError: it is none of this shape. The message says where, and shows nothing of it.
    """
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(_clean(error)) from None


def _clean(error: Exception) -> str:
    """What is wrong: types and places, and no values."""
    return str(error) if isinstance(error, msgspec.ValidationError) else "it is no JSON"


def fitted(notification: Notification, limit: int, document: Callable[[Notification], dict[str, Any]]) -> bytes:
    """The `document` made of the notification, in at most `limit` bytes of JSON.

    If it is too long, the text stays behind, which the device can ask the server for; then the body and the title are cut.
    """
    encoded = as_json(document(notification))
    if len(encoded) > limit and notification.text is not None:
        notification = msgspec.structs.replace(notification, text=None)
        encoded = as_json(document(notification))
    for field in ("body", "title"):
        over = len(encoded) - limit
        if over > 0:
            shorter = _cut(getattr(notification, field), over)
            notification = msgspec.structs.replace(notification, **{field: shorter})
            encoded = as_json(document(notification))
    assert len(encoded) <= limit, "what is left are names, and these are short"
    return encoded


def _cut(text: str, over: int) -> str:
    """`text` with at least `over` bytes less, as far as it has them. In JSON no character is shorter than in UTF-8."""
    data = text.encode()
    room = len(data) - over - len(_ELLIPSIS.encode())
    return data[:room].decode(errors="ignore") + _ELLIPSIS if room > 0 else ""
