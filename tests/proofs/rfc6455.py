"""A reader of a client's frames that takes all of them at once: plain, slow, and written without a look at the engine."""

from __future__ import annotations

from typing import NamedTuple

from .peers import BINARY, CLOSE, CONT, PING, PONG, TEXT

_OPCODES = {CONT, TEXT, BINARY, CLOSE, PING, PONG}


class Reading(NamedTuple):
    """What the bytes say: the whole messages (None for a binary one), and with which codes the connection may end for it.

    Where a frame breaks two rules, either is a reason.
    """

    messages: list[bytes | None]
    pings: int
    codes: frozenset[int]
    may_go_on: bool
    """They break no rule, or only one that may be looked at when the frame is whole, and it is not."""


class _Header(NamedTuple):
    fin: bool
    opcode: int
    length: int
    payload: int
    """Where it begins."""
    faults: set[int]


def read(data: bytes, *, message_bytes: int, fragments: int) -> Reading:
    """Read it as a server that knows no extensions (RFC 6455 §5 and §7)."""
    messages: list[bytes | None] = []
    pings, at = 0, 0
    begun, joined, parts = 0, b"", 0
    codes: set[int] = set()
    while not codes:
        header = _header(data, at, room := message_bytes - len(joined))
        if header is None:
            break
        codes = header.faults
        at = header.payload + header.length
        if codes or len(data) < at:
            return Reading(messages, pings, frozenset(codes), codes <= {1002} and len(data) < at)
        payload = _unmasked(data[header.payload - 4 : header.payload], data[header.payload : at])
        if header.opcode == CLOSE:
            codes = _close(payload)
        elif header.opcode < CLOSE:
            codes |= {1002} if (header.opcode == CONT) is not bool(begun) else set()
            codes |= {1009} if header.length > room else set()
            begun, joined, parts = begun or header.opcode, joined + payload, parts + 1
            codes = codes or ({1008} if parts > fragments else set())
            if header.fin and not codes:
                codes = {1007} if begun == TEXT and not _is_utf8(joined) else set()
                messages += [] if codes else [joined if begun == TEXT else None]
                begun, joined, parts = 0, b"", 0
        else:
            pings += header.opcode == PING
    return Reading(messages, pings, frozenset(codes), not codes)


def _header(data: bytes, at: int, room: int) -> _Header | None:
    """The header that begins there, if all of it is there; with faults already if what is there has some."""
    if len(data) < at + 2:
        return None
    fin, rsv, opcode = data[at] >> 7, data[at] >> 4 & 7, data[at] & 15
    is_masked, length = data[at + 1] >> 7, data[at + 1] & 127
    faults: set[int] = set()
    if rsv or opcode not in _OPCODES or not is_masked or (opcode >= CLOSE and not fin):
        faults.add(1002)
    begin = at + 2 + {126: 2, 127: 8}.get(length, 0)
    if length >= 126:
        if len(data) < begin:
            return _Header(bool(fin), opcode, 0, begin, faults) if faults else None
        length = int.from_bytes(data[at + 2 : begin], "big")
    if opcode >= CLOSE and length > 125:  # in whatever form: §5.2 binds who writes to the shortest one
        faults.add(1002)
    if length > max(room, 125):  # a control frame has room beside a message
        faults |= {1009} if length < 2**63 else {1002, 1009}
    if not faults and len(data) < begin + 4:
        return None
    return _Header(bool(fin), opcode, length, begin + 4, faults)


def _unmasked(key: bytes, payload: bytes) -> bytes:
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(payload), "big")


def _close(payload: bytes) -> set[int]:
    """The codes that may answer a close frame."""
    if not payload:
        return {1005}
    if len(payload) == 1:
        return {1002}
    code = int.from_bytes(payload[:2], "big")
    # §7.4: what is registered to be sent, what is registered by others, and what applications use among themselves.
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return {1002, 1007} if not _is_utf8(payload[2:]) else {1002}
    return {code} if _is_utf8(payload[2:]) else {1002, 1007}


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
