"""Frames and requests that are almost right: made with their structure in mind, so that they get far in before they fail.

Everything comes from a `random.Random`: who knows the seed has the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from .peers import BINARY, CLOSE, CONT, PING, PONG, TEXT, head

Pairs: TypeAlias = list[tuple[bytes, bytes]]

_NAMES: Final = [b'"bob"', b'"fuzz-peer"', '"\u00e9\u4e2d\U0001f600"'.encode(), b'"' + b"n" * 128 + b'"']
_COUNTS: Final = [b"0", b"1", b"2", b"9007199254740991"]

TEMPLATES: Final[list[list[tuple[bytes, list[bytes]]]]] = [
    [(b"type", [b'"send"']), (b"id", [b'"i1"', b'"0192"']), (b"to", _NAMES), (b"text", [b'"hi"', b'"a longer text"'])],
    [(b"type", [b'"send"']), (b"id", [b'"i2"']), (b"to", _NAMES), (b"text", [b'"hi"']), (b"reply_to", [b'"i1"'])],
    [(b"type", [b'"edit"']), (b"id", [b'"e1"']), (b"to", _NAMES), (b"target", [b'"i1"']), (b"text", [b'"ho"'])],
    [(b"type", [b'"delete"']), (b"id", [b'"d1"']), (b"to", _NAMES), (b"target", [b'"i1"'])],
    [(b"type", [b'"ack"']), (b"seq", _COUNTS)],
    [(b"type", [b'"read"']), (b"peer", _NAMES), (b"seq", _COUNTS)],
    [(b"type", [b'"typing"']), (b"to", _NAMES), (b"typing", [b"true", b"false"])],
    [(b"type", [b'"ping"'])],
    [(b"type", [b'"watch"']), (b"ref", [b'"r"']), (b"users", [b'["bob","eve"]', b"[]"])],
    [(b"type", [b'"history"']), (b"ref", [b'"r"']), (b"peer", _NAMES), (b"limit", [b"20"]), (b"before", _COUNTS)],
    [(b"type", [b'"search"']), (b"ref", [b'"r"']), (b"query", [b'"hi"', b'"a OR b*"'])],
    [(b"type", [b'"conversations"']), (b"ref", [b'"r"']), (b"limit", [b"20"])],
    [(b"type", [b'"devices"']), (b"ref", [b'"r"'])],
    [(b"type", [b'"block"']), (b"ref", [b'"r"']), (b"user", _NAMES)],
    [(b"type", [b'"blocks"']), (b"ref", [b'"r"'])],
]
"""Every kind of frame a client may send: its fields, each with values that are right."""

STRANGE: Final = [
    # numbers
    b"-0", b"-1", b"0.0", b"1.5", b"1e2", b"9007199254740992", b"9223372036854775808", b"18446744073709551616", b"1e400",
    b"NaN", b"Infinity", b"-Infinity", b"01", b"0x10", b"+1", b"1_000", b"9" * 400, b"1e-400", "\u0661".encode(),
    # strings
    b'""', b'"' + b"n" * 129 + b'"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\u001f"',
    b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\xc2\x80"', b'"\xe2\x80\xae"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"',
    b'"\\x41"',
    b'"\\u00"', b'"unended', b"'single'", b'"\\""', b'"a\\/b"', b'"\xef\xbb\xbf"', b'"\\u0041"', b'" "', b'"\\n"',
    # everything else
    b"null", b"true", b"false", b"[]", b"{}", b"[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", b'{"type":"ping"}', b'["bob",null]',
    b'["bob","bob"]', b"[" + b",".join([b'"u"'] * 101) + b"]", b"", b"undefined", b"//", b"\xef\xbb\xbf",
]  # fmt: skip

_KEYS: Final = [
    b"type",
    b"id",
    b"to",
    b"from",
    b"text",
    b"seq",
    b"ref",
    b"Type",
    b"\\u0074ype",
    b"t\\u0065xt",
    b"",
    b"x",
    b"__proto__",
]
_SPACES: Final = [b"", b" ", b"\n", b"\t\r\n", b"\x0b", b"\xc2\xa0", b"\0"]
_CHUNKS: Final = [b"\0", b"\xff\xff", b'"', b"\xed\xa0\x80", b"{", b"}", b",", b":", b"\\", b"\\u", b"[", b"\xf0\x9f"]
_DEEP: Final = [
    b"[" * 3000,
    b'{"a":' * 3000,
    b"[" * 1500 + b"]" * 1500,
    b'{"type":"send","x":' + b"[" * 2000 + b"]" * 2000 + b"}",
]


def some_json(chance: Random) -> bytes:
    """A client's frame as JSON text, right in one of four cases."""
    pick = chance.choice
    template = pick(TEMPLATES)
    pairs = [(key, pick(values)) for key, values in template]
    dice = chance.random()
    if dice < 0.25:
        return _join(pairs, b"")
    if dice > 0.998:
        return pick(_DEEP)
    for _ in range(1 if dice < 0.7 else 3):
        _mutate_pairs(chance, pairs)
    text = _join(pairs, pick(_SPACES) if dice > 0.6 else b"")
    return mutated(chance, text, _CHUNKS) if dice > 0.85 else text


def _join(pairs: Pairs, space: bytes) -> bytes:
    return b"{" + space + b",".join([b'"%b"%b:%b%b' % (key, space, space, value) for key, value in pairs]) + space + b"}"


def _mutate_pairs(chance: Random, pairs: Pairs) -> None:
    at = chance.randrange(len(pairs)) if pairs else 0
    match chance.randrange(9):
        case 0 | 1 | 2 if pairs:
            pairs[at] = (pairs[at][0], chance.choice(STRANGE))
        case 3 if pairs:
            del pairs[at]
        case 4 if pairs:
            pairs.append(pairs[at])
        case 5 if pairs:
            pairs.insert(at, (pairs[at][0], chance.choice(STRANGE)))
        case 6 if pairs:
            pairs[at] = (chance.choice(_KEYS), pairs[at][1])
        case 7:
            chance.shuffle(pairs)
        case _:
            pairs.append((chance.choice(_KEYS), chance.choice(STRANGE)))


def mutated(chance: Random, data: bytes, chunks: list[bytes]) -> bytes:
    """`data` with a few mistakes, some of them one of the `chunks` put in."""
    broken = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(broken) + 1)
        match chance.randrange(6):
            case 0:
                broken[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                broken[at : at + chance.randint(1, 8)] = b""
            case 2:
                broken[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                broken[at:at] = broken[at : at + chance.randint(1, 64)]
            case 4 if at < len(broken):
                broken[at] ^= 1 << chance.randrange(8)
            case _:
                broken[at:at] = chance.choice(chunks)
    return bytes(broken)


# Frames of RFC 6455.

_CODES: Final = [
    0,
    999,
    1000,
    1001,
    1002,
    1003,
    1004,
    1005,
    1006,
    1007,
    1011,
    1012,
    1014,
    1015,
    1016,
    2999,
    3000,
    4000,
    4999,
    5000,
    65535,
]


def some_frame(chance: Random) -> bytes:
    """A frame, or a message in parts: right nine times in ten, so that a connection hears some before it ends."""
    dice = chance.random()
    payload = some_json(chance)
    if dice < 0.55:
        return masked(chance, TEXT, payload)
    if dice < 0.70:
        return _in_parts(chance, payload)
    if dice < 0.80:
        return masked(chance, chance.choice([PING, PONG]), payload[: chance.randrange(126)])
    if dice < 0.88:
        return masked(chance, BINARY, payload)
    if dice < 0.92:
        return masked(chance, TEXT, chance.choice(STRANGE) * chance.randrange(60))
    whole = masked(chance, chance.choice([TEXT, PING, CONT]), payload[:100])
    match chance.randrange(7):
        case 0:
            return mutated(chance, whole, [b"\0", b"\xff", b"\x80", b"\x81\x80"])
        case 1:
            return bytes([whole[0] ^ 1 << chance.randrange(8)]) + whole[1:]  # an opcode, a reserved bit, FIN
        case 2:
            return whole[:1] + bytes([whole[1] ^ 1 << chance.randrange(8)]) + whole[2:]  # the mask's bit, a length
        case 3:
            length = chance.choice([65_536, 65_537, 2**31, 2**62, 2**63, 2**64 - 1, 126, 1])
            return whole[:1] + struct.pack("!BQ", 0xFF, length) + bytes(4) + payload[:50]
        case 4:
            return masked(chance, chance.choice([CLOSE, PING, PONG]), payload[:200], fin=chance.random() < 0.5)
        case 5:
            code = struct.pack("!H", chance.choice(_CODES))
            return masked(chance, CLOSE, (code + chance.choice(STRANGE))[: chance.choice([0, 1, 2, 125])])
        case _:
            return masked(chance, TEXT, payload, fin=False) + masked(chance, CONT, b"", fin=False) * chance.choice(
                [1, 63, 64, 65]
            )


def _in_parts(chance: Random, payload: bytes) -> bytes:
    parts = []
    while len(payload) > 1 and len(parts) < 5:
        cut = chance.randrange(len(payload))
        parts.append(payload[:cut])
        payload = payload[cut:]
    parts.append(payload)
    frames = []
    for number, part in enumerate(parts):
        frames.append(masked(chance, CONT if number else TEXT, part, fin=number == len(parts) - 1))
        if chance.random() < 0.2:
            frames.append(masked(chance, PING, b"between"))
    return b"".join(frames)


def masked(chance: Random, opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame, now and then with a longer form of its length than it needs."""
    mask = chance.getrandbits(32).to_bytes(4, "big")
    length, form = len(payload), chance.random()
    if length < 126 and form < 0.95:
        size = struct.pack("!B", 0x80 | length)
    elif length < 65_536 and form < 0.98:
        size = struct.pack("!BH", 0xFE, length)
    else:
        size = struct.pack("!BQ", 0xFF, length)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    said = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
    return bytes([fin << 7 | opcode]) + size + mask + said


def cut(chance: Random, data: bytes) -> list[bytes]:
    """`data` as it may come in reads."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 1, 3, 10])))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


# Requests of HTTP.

_LINES: Final[list[bytes]] = [
    b"Origin: http://127.0.0.1", b"Origin: null", b"Origin: http://evil.example", b"Origin: http://xn--/",
    b"Origin: http://[::1",
    b"Cookie: a=b; c", b"Sec-WebSocket-Protocol: trio-chat.v1, other", b"Sec-WebSocket-Protocol: ,,,",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", b"Sec-WebSocket-Extensions: " + b"x;" * 500,
    b"Sec-WebSocket-Key: c2hvcnQ=", b"Sec-WebSocket-Version: 8", b"Upgrade: h2c", b"Connection: close",
    b"Host: evil.example",
    b"Host: 127.0.0.1:99999", b"Host: \xff", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity",
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5, 5", b"Expect: 100-continue",
    b"X: " + b"y" * 9_000, b": x",
    b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: " + b"1," * 200, b'Forwarded: for="["',
    b"X-Forwarded-Proto: https", b"X\0: y",
    b" folded", b"Authorization: Bearer \xff", b"Authorization: Basic ====", b"X: a\rb", b"X: a\nY: b",
]  # fmt: skip
_TARGETS: Final[list[bytes]] = [
    b"/", b"/healthz", b"/ws", b"//ws", b"/ws/", b"/ws?", b"/ws?user=%00", b"/ws?user=%ff", b"/ws?user=a&user=b", b"*", b"",
    b"http://127.0.0.1/ws?user=a", b"/%2e%2e/ws", b"/ws?user=a#b", b"/ws?user=a&log=x", b"/ws?user=a&after=1",
    b"/ws?user=a&window=0",
    b"/ws?user=a&log=x&after=9007199254740992", b"/ws?" + b"a=1&" * 300, b"/ws?user=" + b"%F0%9F%98%80" * 30, b"/\xff",
    b"/ws?user=%zz",
]  # fmt: skip
_METHODS: Final[list[bytes]] = [b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"get", b"G\0T", b"PRI", b"TRACE", b""]
_VERSIONS: Final[list[bytes]] = [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b""]
_HTTP_CHUNKS: Final = [b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\xff", b" ", b"\t", b":", b"%", b"%00", b"\xc3\xa9"]


def some_request(chance: Random) -> bytes:
    """A request for a WebSocket with one to four mistakes in it, or in one of twenty cases none."""
    lines = head("fuzz", f"d{chance.randrange(5)}").removesuffix(b"\r\n\r\n").split(b"\r\n")
    if chance.random() < 0.05:
        return b"\r\n".join([*lines, b"", b""])
    changes: list[Callable[[], object]] = [
        lambda: lines.insert(chance.randrange(1, len(lines) + 1), chance.choice(_LINES)),
        lambda: lines.__setitem__(chance.randrange(1, len(lines)), chance.choice(_LINES)),
        lambda: lines.pop(chance.randrange(1, len(lines))) if len(lines) > 2 else None,
        lambda: lines.append(chance.choice(lines)),
        lambda: lines.__setitem__(0, b"GET " + chance.choice(_TARGETS) + b" HTTP/1.1"),
        lambda: lines.__setitem__(0, chance.choice(_METHODS) + b" /ws?user=fuzz HTTP/1.1"),
        lambda: lines.__setitem__(0, b"GET /ws?user=fuzz " + chance.choice(_VERSIONS)),
    ]
    for _ in range(chance.randint(1, 3)):
        chance.choice(changes)()
    request = b"\r\n".join([*lines, b"", b""])
    return mutated(chance, request, _HTTP_CHUNKS) if chance.random() < 0.4 else request
