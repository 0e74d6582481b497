"""The digest that tells a message sent again from another one under the same id (S2)."""

from __future__ import annotations

from hashlib import blake2b

from ..model import Kind

__all__ = ["digest"]


def digest(key: bytes, recipient: str, text: str | None, kind: Kind = "message", target: str | None = None) -> bytes:
    """16 bytes over what the client sent, keyed: without the key nobody can confirm a guess at a deleted text.

    Each part goes in with its length before it, so no two messages encode alike; what is replied to, edited or deleted is
    appended only where there is such a thing, and leaves the digests of all other messages as they are.

    Raises:
        UnicodeEncodeError: a part holds a lone surrogate.
    """
    text = text or ""  # a deletion has none
    what = f"{len(recipient)}:{recipient}{len(text)}:{text}"
    if target is not None:
        what += f"{len(target)}:{target}{kind}"
    return blake2b(what.encode(), digest_size=16, key=key).digest()
