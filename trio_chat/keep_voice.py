"""What the application says about what is kept, and what a chat does about it by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from .errors import StoreError
from .keeping import Advance, Retained, Retention
from .push.settings import Push
from .push_voice import PushVoice
from .registry import Registry
from .settings import Settings
from .store.base import Store

__all__ = ["KeepVoice"]

_log = logging.getLogger("trio_chat.keeping")


def _unseen(done: int, total: int) -> None:
    """Nobody looks."""


class KeepVoice(PushVoice):
    """What a `Chat` says about what is kept for its application. Each method raises as those of `Voice` do."""

    def __init__(
        self, store: Store, registry: Registry, settings: Settings, push: Push | None, clock: Callable[[], int]
    ) -> None:
        super().__init__(store, registry, settings, push)
        self.clock = clock
        self._keeping = trio.Lock()
        self._retention = Retention(
            days=settings.retain_days,
            per_user=settings.retain_per_user,
            max_bytes=settings.retain_bytes,
            undelivered_days=settings.undelivered_days,
        )

    async def retain(
        self,
        *,
        days: float | None = None,
        per_user: int | None = None,
        max_bytes: int | None = None,
        undelivered_days: float | None = None,
        advance: Advance = _unseen,
    ) -> Retained:
        """Have old entries leave the logs, now; ``Settings.retain_days`` and its siblings do so every hour.

        An entry goes if any of these says so. It is done in slices, between which messages are stored as ever. A device
        that has not taken what goes is told of one ``gap``. A message is removed when it has left both logs.

        Args:
            days: entries older than this go.
            per_user: all but so many entries of each log go.
            max_bytes: the oldest messages go until the rest weighs no more; each weighs its text and 300 bytes, which is
                about what it takes of a file.
            undelivered_days: whatever the others say, what no device of a user's has taken stays in that user's log for so
                long; ``settings.undelivered_days`` if it is not given.
            advance: is told how many entries are removed and how many there are to be, from the loop's thread.

        When cancelled, what was begun is left as it is; the next call goes on with it.

        Raises:
            ConfigurationError: a value is out of its range.
        """
        retention = Retention.of(
            days=days,
            per_user=per_user,
            max_bytes=max_bytes,
            undelivered_days=self.settings.undelivered_days if undelivered_days is None else undelivered_days,
        )
        self._require_open()
        async with self._keeping:
            return await self._store.keeping.retain(retention, self.clock(), advance)

    async def _keep(self) -> None:
        """Retain what the settings say, again and again; at once if they say nothing."""
        while self._retention:
            try:
                async with self._keeping:
                    done = await self._store.keeping.retain(self._retention, self.clock(), _unseen)
            except StoreError as error:
                _log.error("what is too old was not removed: %s", error)
            else:
                if done.entries or done.messages:
                    _log.info("%d entries left the logs of %d users, %d messages were removed, %d bytes given back",
                              done.entries, done.users, done.messages, done.bytes)  # fmt: skip
            await trio.sleep(self.settings.retain_every)
