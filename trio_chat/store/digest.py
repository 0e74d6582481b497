"""The digest that tells a message sent again from another one under the same id (S2)."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["digest"]


def digest(key: bytes, recipient: str, text: str) -> bytes:
    """16 bytes over what the client sent, keyed: without the key nobody can confirm a guess at a deleted text.

    Each part goes in with its length before it, so no two messages encode alike; a later part (what is replied to) is
    appended only where there is one, and leaves the digests of all other messages as they are.

    Raises:
        UnicodeEncodeError: a part holds a lone surrogate.
    """
    return blake2b(f"{len(recipient)}:{recipient}{len(text)}:{text}".encode(), digest_size=16, key=key).digest()
