"""The other end of a connection, written down from RFC 6455 without the help of any library, so that it can be rude."""

from __future__ import annotations

import struct

import trio

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """A frame as a client sends it (RFC 6455 §5.2)."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask is not None else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 2**16:
        head += struct.pack("!BH", bit | 126, len(payload))
    else:
        head += struct.pack("!BQ", bit | 127, len(payload))
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def close(code: int, reason: str = "") -> bytes:
    """A client's close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class Peer:
    """A client after its opening handshake: sends bytes, reads frames."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        await self.stream.send_all(data)

    async def read(self) -> tuple[int, bytes] | None:
        """The next frame's opcode and payload, None after the last."""
        while (parsed := self._parse()) is None:
            data = await self.stream.receive_some()
            if not data:
                assert not self._buffer, f"half a frame was left: {self._buffer[:20]!r}"
                return None
            self._buffer += data
        return parsed

    async def read_all(self) -> list[tuple[int, bytes]]:
        """All frames until the end."""
        frames = []
        while (read := await self.read()) is not None:
            frames.append(read)
        return frames

    async def closed_with(self) -> tuple[int, str]:
        """The code and reason of the close frame; nothing but pings may come before it, and nothing after it."""
        frames = [read for read in await self.read_all() if read[0] != PING]
        assert [opcode for opcode, _ in frames] == [CLOSE], frames
        payload = frames[0][1]
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    def _parse(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        assert buffer[0] & 0x70 == 0
        assert buffer[1] & 0x80 == 0, "a server does not mask"
        length, start = buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        self._buffer = buffer[start + length :]
        return buffer[0] & 0x0F, buffer[start : start + length]
