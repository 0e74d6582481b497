"""What every frame of the wire is; the frames themselves are in `trio_chat.frames`."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from .model import MessageId

__all__ = ["ClientFrameBase", "Frame", "Ref"]


class Frame(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every frame is."""


class ClientFrameBase(Frame, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """What every frame of a client's is: it has exactly its fields."""


Ref: TypeAlias = MessageId
"""What a client calls a request, to know its answer by: 1 to 64 characters."""
