"""What is refused before it is sent, because the server would refuse it."""

from __future__ import annotations

import uuid

from ..errors import BadFrame
from ..model import DEVICE_LENGTH, ID_LENGTH, USER_LENGTH, is_name

__all__ = ["device_name", "named", "user_name", "whole", "word"]


def named(id: str | None) -> str:
    """A message's id; a fresh one if none is given (S1: a UUID)."""
    if id is None:
        return str(uuid.uuid4())
    if not is_name(id, ID_LENGTH):
        raise BadFrame(f"an id is 1 to {ID_LENGTH} characters without control characters")
    return id


def user_name(name: str) -> str:
    """A user's name."""
    if not is_name(name):
        raise BadFrame(f"a user is 1 to {USER_LENGTH} characters without control characters")
    return name


def device_name(name: str) -> str:
    """A device's name."""
    if not is_name(name, DEVICE_LENGTH):
        raise BadFrame(f"a device is 1 to {DEVICE_LENGTH} characters without control characters")
    return name


def word(text: str, length: int = 64) -> str:
    """What names a provider, a kind of target or a target."""
    if not is_name(text, length):
        raise BadFrame(f"this is 1 to {length} characters without control characters")
    return text


def whole(text: str) -> str:
    """A message's text, which may still be too long: only the server knows."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadFrame("a text has no lone surrogates") from None
    if not text or "\0" in text:
        raise BadFrame("a text is not empty, and has no NUL")
    return text
