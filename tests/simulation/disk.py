"""The disk, and what a server sees of it: `MemoryStore`, slow, sometimes refusing, and gone with the power."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Self

import trio

from trio_chat.core.batch import Batch, Page, PageRequest, Results
from trio_chat.errors import RowRefused, StoreBusy, StoreError, StoreFull, StoreUnavailable
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore

from .history import Committed, Declined, Dropped

if TYPE_CHECKING:
    from .world import Life


def disk(settings: Settings, seed: int) -> MemoryStore:
    """An empty one. What a real one draws by lot is given by the seed."""
    made = MemoryStore(settings)
    made._epoch, made._key = f"disk{seed}", b"k" * 32
    return made


class Troubles:
    """What the disk is going to do. Times are those of the virtual clock."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.refusals: list[StoreError] = []
        self.cursed_until = 0.0
        self.cursed: str | None = None
        self.slow_until = 0.0
        self.pages_fail_until = 0.0

    async def pause(self) -> None:
        """Half of what the disk takes for a commit."""
        slow = trio.current_time() < self.slow_until
        if seconds := self.chance.uniform(0.2, 1.5) if slow else self.chance.choice([0.0, 0.0, 0.01]):
            await trio.sleep(seconds)

    def refusal(self, batch: Batch) -> StoreError | None:
        """Why nothing of this batch is stored, if so."""
        if self.refusals:
            return self.refusals.pop(0)
        if trio.current_time() < self.cursed_until:
            if self.cursed is None and batch.drafts:
                self.cursed = self.chance.choice(batch.drafts).id
            if self.cursed in {draft.id for draft in batch.drafts}:
                return RowRefused("this row cannot be stored")
        else:
            self.cursed = None
        return None

    def refuse(self, pick: float, count: int) -> None:
        """Have the next batches refused, or one row for a while."""
        kinds = (StoreFull("the disk is full"), StoreBusy("another has the lock"), RowRefused("a row cannot be stored"))
        if pick < 0.7:
            self.refusals += [kinds[count % 3]] * (1 + count % 4)
        else:
            self.cursed_until = trio.current_time() + 5.0

    def heal(self) -> None:
        """All is well from now on."""
        self.refusals.clear()
        self.cursed_until = self.slow_until = self.pages_fail_until = 0.0


class Store(MemoryStore):
    """The disk for one life of a server. Nothing reaches it, and nothing comes from it, once the power is off."""

    def __init__(self, disk: MemoryStore, life: Life) -> None:
        vars(self).update(vars(disk))
        self.life = life
        self.world = life.world

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def _power(self) -> None:
        if not self.life.powered:
            raise StoreUnavailable("the power is off")

    async def append(self, batch: Batch, now: int) -> Results:
        world = self.world
        await world.troubles.pause()
        self._power()
        if self.failure is not None:
            raise StoreUnavailable(self.failure)
        if (error := world.troubles.refusal(batch)) is not None:
            world.history.add(Declined(world.now, self.life.number, str(error)))
            if isinstance(error, StoreUnavailable):
                self.failure = str(error)
            raise error
        self.life.step()
        self._power()
        results = await self.commit(batch, now)
        self.life.step()
        await world.troubles.pause()
        self._power()
        return results

    async def commit(self, batch: Batch, now: int) -> Results:
        """Put it on the disk."""
        results = await super().append(batch, now)
        self.world.history.add(Committed(self.world.now, self.life.number, batch, results))
        return results

    async def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        await self.world.troubles.pause()
        self._power()
        if self.world.now < self.world.troubles.pages_fail_until:
            raise StoreBusy("nothing can be read")
        pages = await super().pages(requests)
        await self.world.troubles.pause()
        return pages


def drop(store: MemoryStore, user: str, share: float) -> Dropped | None:
    """Let the front of a log go, as retention does; None if there is nothing to let go."""
    row = store._contents.users.get(user)
    if row is None or (count := int(len(row.entries) * share)) == 0:
        return None
    del row.entries[:count], row.before[:count]
    row.floor += count
    return Dropped(0.0, user, row.floor)
