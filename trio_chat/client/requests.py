"""Requests that are answered by a frame with their ``ref``, without I/O. They change nothing twice, so they are repeated."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Protocol

from msgspec import Struct

from .. import wire
from ..errors import ChatError, NotOffered, RequestRefused

__all__ = ["Answered", "Request", "Requests"]

_UNDER_WAY: Final = 32
_LONGEST: Final = 60.0


class Request(Protocol):
    """A frame that has a `ref`."""

    @property
    def ref(self) -> str: ...


class Answered(Struct, frozen=True):
    """A request has its answer, a frame or the refusal."""

    ref: str
    answer: Any
    error: ChatError | None = None


class _Open(Struct, eq=False):
    frame: Any
    under_way: bool = False
    not_before: float = 0.0
    times: int = 0


class Requests:
    """Sends each request until it is answered, over however many connections."""

    def __init__(self) -> None:
        self._requests: dict[str, _Open] = {}
        self._features: Collection[str] = ()
        self._open = False

    def __contains__(self, ref: str) -> bool:
        return ref in self._requests

    def add(self, request: Request) -> None:
        self._requests[request.ref] = _Open(request)

    def forget(self, ref: str) -> None:
        """Nobody waits for it any more."""
        self._requests.pop(ref, None)

    def begin(self, features: Collection[str]) -> None:
        """A connection is open, to a server that takes these frames."""
        self._open, self._features = True, features

    def end(self) -> None:
        """The connection is gone: what has no answer is asked again."""
        self._open = False
        for request in self._requests.values():
            request.under_way = False

    def next(self, now: float) -> list[wire.ClientFrame | Answered]:
        """What is to be asked now, and what this server cannot be asked."""
        if not self._open:
            return []
        frames: list[wire.ClientFrame | Answered] = []
        under_way = sum(request.under_way for request in self._requests.values())
        for ref, request in list(self._requests.items()):
            if request.under_way or request.not_before > now:
                continue
            tag = str(request.frame.__struct_config__.tag)
            if tag not in self._features:
                del self._requests[ref]
                frames.append(Answered(ref, None, NotOffered(f"this server does not take {tag!r}")))
            elif under_way < _UNDER_WAY:
                under_way += 1
                request.under_way = True
                frames.append(request.frame)
        return frames

    def answer(self, ref: str, frame: object) -> Answered | None:
        """A frame with a ref; None if nobody asked."""
        if self._requests.pop(ref, None) is None:
            return None
        return Answered(ref, frame)

    def error(self, frame: wire.Error, now: float) -> Answered | None:
        """An ``error`` with a ref; None if nobody asked, or if it is asked again later."""
        request = self._requests.get(frame.ref or "")
        if request is None or frame.ref is None:
            return None
        if frame.retry_after is None:
            del self._requests[frame.ref]
            return Answered(frame.ref, None, RequestRefused.of(frame.code, frame.message))
        pause = max(frame.retry_after, min(_LONGEST, frame.retry_after * 2.0**request.times))
        request.times = min(request.times + 1, 32)
        request.under_way, request.not_before = False, now + pause
        return None

    def deadline(self) -> float | None:
        """When `next` may have something, though nothing happens before."""
        waiting = [request.not_before for request in self._requests.values() if not request.under_way and request.not_before]
        return min(waiting, default=None) if self._open else None
