"""What the tests of queries share: batches in few words, and following a query from page to page."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from trio_chat.core.batch import Batch, BlockChange, Draft, Mark, Opening, ReadMark, Results, Stored
from trio_chat.model import Message
from trio_chat.retrieval import ConversationsQuery, HistoryQuery, SearchHit, SearchQuery, check
from trio_chat.store.base import Store

SIZE = 10**9

Query = TypeVar("Query", HistoryQuery, SearchQuery, ConversationsQuery)


class Writer:
    """Puts messages into a store, one transaction each, each at a later time: 1000, 1010 and so on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 990

    async def append(self, batch: Batch) -> Results:
        self.now += 10
        return await self.store.append(batch, self.now)

    async def send(self, sender: str, recipient: str, id: str, text: str | None = "hi", **more: str) -> Stored:
        (stored,) = (await self.append(Batch(drafts=(Draft(1, sender, recipient, id, text, **more),)))).drafts  # type: ignore[arg-type]
        assert isinstance(stored, Stored), stored
        return stored

    async def edit(self, sender: str, recipient: str, id: str, target: str, text: str) -> Stored:
        return await self.send(sender, recipient, id, text, kind="edit", target=target)

    async def delete(self, sender: str, recipient: str, id: str, target: str) -> Stored:
        return await self.send(sender, recipient, id, None, kind="delete", target=target)

    async def read(self, user: str, peer: str, seq: int) -> None:
        await self.append(Batch(reads=(ReadMark(user, peer, seq),)))

    async def block(self, user: str, peer: str, *, blocked: bool = True) -> None:
        await self.append(Batch(blocks=(BlockChange(user, peer, blocked),)))

    async def acknowledge(self, user: str, seq: int, device: str = "phone") -> None:
        await self.append(Batch(openings=(Opening(1, user, device),)))
        await self.append(Batch(marks=(Mark(user, device, seq),)))


async def history(store: Store, user: str, size: int = SIZE, **query: Any) -> list[Message]:
    """One page, and no more behind it if there is none."""
    page = await store.history(user, check(HistoryQuery(**query)), size=size)
    assert (page.next is not None) == page.more
    return list(page.messages)


async def seqs(store: Store, user: str, **query: Any) -> list[int]:
    return [message.seq for message in await history(store, user, **query)]


async def all_history(store: Store, user: str, query: HistoryQuery, size: int = SIZE) -> list[Message]:
    """All pages, one after the other."""
    found: list[Message] = []
    while True:
        page = await store.history(user, query, size=size)
        found += page.messages
        if page.next is None:
            assert not page.more
            return found
        assert page.more
        query = msgspec.structs.replace(query, order="asc" if query.ascending else "desc", around=None)
        query = msgspec.structs.replace(query, **{"after" if query.ascending else "before": page.next})
        if query.before is not None and query.after is not None and query.before <= query.after + 1:
            return found


async def all_hits(store: Store, user: str, query: SearchQuery, size: int = SIZE) -> list[SearchHit]:
    """All pages, one after the other."""
    found: list[SearchHit] = []
    while True:
        page = await store.search(user, query, size=size)
        found += page.hits
        assert (page.next is not None) == page.more
        if page.next is None:
            return found
        query = msgspec.structs.replace(query, before=page.next)
