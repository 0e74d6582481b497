"""What is refused before it is sent, because the server would refuse it."""

from __future__ import annotations

import uuid

from ..errors import BadFrame, ErrorCode
from ..model import ID_LENGTH, is_name

__all__ = ["named", "recipient", "whole"]


def named(id: str | None) -> str:
    """A message's id; a fresh one if none is given."""
    if id is None:
        return str(uuid.uuid4())
    if not is_name(id, ID_LENGTH):
        raise BadFrame(ErrorCode.BAD_FRAME, f"an id is 1 to {ID_LENGTH} characters without control characters")
    return id


def recipient(to: str) -> str:
    """A user's name."""
    if not is_name(to):
        raise BadFrame(ErrorCode.BAD_FRAME, "a user is 1 to 128 characters without control characters")
    return to


def whole(text: str) -> str:
    """A message's text, which may still be too long: only the server knows."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadFrame(ErrorCode.BAD_FRAME, "a text has no lone surrogates") from None
    if not text or "\0" in text:
        raise BadFrame(ErrorCode.BAD_FRAME, "a text is not empty, and has no NUL")
    return text
