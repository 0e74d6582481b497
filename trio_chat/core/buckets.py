"""Token buckets: how fast something may go on for long, and how much of it at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ..settings import Settings

__all__ = ["Allowances", "Bucket", "UserBuckets"]

_ROUNDING: Final = 1e-5
"""What a token may lack: who waits exactly as long as told must not be refused for a rounding error."""


class Bucket:
    """Holds up to `size` tokens and gains `rate` a second. A `rate` of None means without limit."""

    __slots__ = ("_rate", "_size", "_tokens", "_updated")

    def __init__(self, rate: float | None, size: float, now: float) -> None:
        self._rate = rate
        self._size = size
        self._tokens = float(size)
        self._updated = now

    def take(self, now: float, count: float = 1.0) -> float:
        """Take `count` tokens and return 0.0, or take none and return the seconds until there will be as many.

        More than the bucket holds are taken when it is full: they would never be there.
        """
        if self._rate is None:
            return 0.0
        self._refill(self._rate, now)
        count = min(count, self._size)
        if self._tokens >= count - _ROUNDING:
            self._tokens -= count
            return 0.0
        return (count - self._tokens) / self._rate

    def spend(self, count: int, now: float) -> float:
        """Take `count` tokens, those that are not there on credit, and return the seconds until the debt is paid."""
        if self._rate is None:
            return 0.0
        self._refill(self._rate, now)
        self._tokens -= count
        return max(0.0, -self._tokens / self._rate)

    def _refill(self, rate: float, now: float) -> None:
        # A clock that steps back adds nothing; it must not take tokens away either.
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._updated) * rate)
        self._updated = now

    def put_back(self) -> None:
        """Return a token that was taken for nothing."""
        self._tokens = min(self._size, self._tokens + 1.0)

    def full(self, now: float) -> bool:
        """Whether nothing would be forgotten if the bucket were made anew."""
        return self._rate is None or self._tokens + max(0.0, now - self._updated) * self._rate >= self._size


class UserBuckets:
    """What one user may do, over all connections (C9)."""

    __slots__ = ("_all", "bad_frames", "frames", "new_devices", "refusals", "requests", "sends", "texts", "typing")

    def __init__(self, settings: Settings, now: float) -> None:
        limited = settings.send_rate is not None
        self.sends: Bucket = Bucket(settings.send_rate, settings.send_burst, now)
        self.texts: Bucket = Bucket(settings.byte_rate if limited else None, settings.byte_burst, now)
        self.requests: Bucket = Bucket(settings.request_rate if limited else None, settings.request_burst, now)
        self.refusals: Bucket = Bucket(settings.refusals / 60 if limited else None, settings.refusals, now)
        # Somebody who types starts and stops a few times a second at most; more is dropped without a word.
        self.typing: Bucket = Bucket(10.0 if limited else None, 20, now)
        self.new_devices: Bucket = Bucket(settings.new_devices / 3600 if limited else None, settings.new_devices, now)
        self.frames: Bucket = Bucket(settings.frame_rate if limited else None, settings.frame_rate, now)
        self.bad_frames: Bucket = Bucket(settings.bad_frames / 60, settings.bad_frames, now)
        self._all = (
            self.sends, self.texts, self.requests, self.refusals, self.typing, self.new_devices, self.frames,
            self.bad_frames,
        )  # fmt: skip

    def full(self, now: float) -> bool:
        return all(bucket.full(now) for bucket in self._all)


class Allowances:
    """The buckets of all users: they outlive a reconnect, in a bounded memory of those who left lately."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._departed: OrderedDict[str, UserBuckets] = OrderedDict()

    def claim(self, user: str, now: float) -> UserBuckets:
        """The buckets of a user who had no connection and has one now."""
        return self._departed.pop(user, None) or UserBuckets(self._settings, now)

    def give_back(self, user: str, buckets: UserBuckets, now: float) -> None:
        """Keep the buckets of a user whose last connection has gone, unless they are full again."""
        if buckets.full(now):
            return
        self._departed[user] = buckets
        while len(self._departed) > self._settings.connections:
            self._departed.popitem(last=False)
