"""What commands print for programs: one JSON value a line, in printable characters."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["decoded", "encoded"]


def encoded(value: Any) -> str:
    """`value` in one line. What could steer a terminal is escaped, as JSON can: the same program reads the same value."""
    line = msgspec.json.encode(value, enc_hook=str).decode()
    return line if line.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in line)


def _escape(character: str) -> str:
    """As JSON writes any character (RFC 8259 §7), in halves if need be."""
    halves = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{halves[n : n + 4]}" for n in range(0, len(halves), 4))


def decoded(text: bytes) -> Any:
    """What a program of ours has encoded.

    Raises:
        ValueError: it is no JSON.
    """
    return msgspec.json.decode(text)
