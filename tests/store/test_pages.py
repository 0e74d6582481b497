"""Reading pages, of every store."""

from __future__ import annotations

from trio_chat.core.batch import Batch, Page, PageRequest
from trio_chat.model import Message
from trio_chat.store.base import Store
from trio_chat.store.pages import AT_ONCE, OVERHEAD

from .conftest import Backend, draft


async def page(store: Store, user: str, after: int = 0, limit: int = 100, size: int = 10**6) -> Page:
    (one,) = await store.pages([PageRequest(user, after, limit, size)])
    return one


def seqs(one: Page) -> list[int]:
    return [message.seq for message in one.messages]


async def test_a_page_holds_both_directions(backend: Backend) -> None:
    """Names or numbers of the two sides would be mixed up: the most private thing a store could get wrong."""
    async with backend.open() as store:
        await store.append(
            Batch(
                drafts=(draft("alice", "bob", "a1", "to bob"), draft("carol", "bob", "c1"), draft("alice", "alice", "a2"))
            ),
            1000,
        )
        await store.append(Batch(drafts=(draft("bob", "alice", "b1", "to alice"),)), 2000)
        alices, bobs, carols = [await page(store, name) for name in ("alice", "bob", "carol")]
    to_bob = Message(seq=1, id="a1", sender="alice", recipient="bob", text="to bob", sent_at=1000)
    assert alices == Page(
        (
            to_bob,
            Message(seq=2, id="a2", sender="alice", recipient="alice", text="hi", sent_at=1000),
            Message(seq=3, id="b1", sender="bob", recipient="alice", text="to alice", sent_at=2000),
        ),
        0,
    )
    assert bobs == Page(
        (
            to_bob,
            Message(seq=2, id="c1", sender="carol", recipient="bob", text="hi", sent_at=1000),
            Message(seq=3, id="b1", sender="bob", recipient="alice", text="to alice", sent_at=2000),
        ),
        0,
    )
    assert seqs(carols) == [1]


async def test_pages_follow_one_another(backend: Backend) -> None:
    """A device that catches up would miss an entry between two pages, or get one twice."""
    async with backend.open() as store:
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n)) for n in range(25))), 1000)
        assert seqs(await page(store, "bob", 0, 10)) == [*range(1, 11)]
        assert seqs(await page(store, "bob", 10, 10)) == [*range(11, 21)]
        assert seqs(await page(store, "bob", 20, 10)) == [*range(21, 26)]
        assert seqs(await page(store, "bob", 25, 10)) == []
        assert seqs(await page(store, "bob", 2**70, 10)) == []
        assert seqs(await page(store, "bob", 22, 2**70, 2**70)) == [23, 24, 25]


async def test_a_page_ends_at_its_size_with_at_least_one_entry(backend: Backend) -> None:
    """Long messages would make a page of any size; or one longer than the page would never be delivered."""
    async with backend.open() as store:
        texts = ["x" * 100, "é" * 50, "x" * 5000, "x" * 100, "x" * 100]
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n), text) for n, text in enumerate(texts))), 1000)
        weight = 100 + OVERHEAD
        assert seqs(await page(store, "bob", 0, size=2 * weight)) == [1, 2]
        assert seqs(await page(store, "bob", 0, size=2 * weight - 1)) == [1]
        assert seqs(await page(store, "bob", 0, size=0)) == [1]
        assert seqs(await page(store, "bob", 2, size=weight)) == [3]
        assert seqs(await page(store, "bob", 2, limit=0)) == [3]
        assert seqs(await page(store, "bob", 3, size=2 * weight)) == [4, 5]


async def test_all_requests_are_answered_in_order(backend: Backend) -> None:
    """A page would go to the connection that asked for another one."""
    async with backend.open() as store:
        await store.append(Batch(drafts=(draft("alice", "bob", "1"), draft("carol", "bob", "2"))), 1000)
        requests = [PageRequest("bob", 1, 9, 9), PageRequest("nobody", 0, 9, 9), PageRequest("carol", 0, 9, 9)]
        pages = await store.pages(requests)
        assert await store.pages([]) == []
    assert [[message.id for message in one.messages] for one in pages] == [["2"], [], ["2"]]


async def test_more_requests_than_one_statement_takes(backend: Backend) -> None:
    """In a storm of reconnects some would get no page, or somebody else's."""
    names = [f"user {n}" for n in range(AT_ONCE * 3)]
    async with backend.open() as store:
        await store.append(Batch(drafts=tuple(draft("alice", name, name) for name in names)), 1000)
        for count in (AT_ONCE, AT_ONCE + 1, AT_ONCE * 3):
            pages = await store.pages([PageRequest(name, 0, 9, 9) for name in names[:count]])
            assert [message.id for one in pages for message in one.messages] == names[:count]


async def test_a_page_says_where_the_log_begins(backend: Backend) -> None:
    """A device whose entries were removed meanwhile would not be told of the gap (C7)."""
    async with backend.open() as store:
        await store.append(Batch(drafts=tuple(draft("alice", "bob", str(n)) for n in range(5))), 1000)
        backend.retain("bob", 3)
        one = await page(store, "bob")
        assert (seqs(one), one.floor) == ([4, 5], 3)
        assert seqs(await page(store, "bob", 4)) == [5]
        assert await page(store, "nobody") == Page((), 0)


async def test_a_blocked_message_is_in_its_senders_log_only(backend: Backend) -> None:
    """It would be delivered after a reconnect, from the store (L1)."""
    async with backend.open() as store:
        await store.append(Batch(drafts=(draft("eve", "bob", "1"),)), 1000)
        backend.block("bob", "eve")
        await store.append(Batch(drafts=(draft("eve", "bob", "2"), draft("alice", "bob", "1"))), 1000)
        assert [message.id for message in (await page(store, "eve")).messages] == ["1", "2"]
        assert [message.sender for message in (await page(store, "bob")).messages] == ["eve", "alice"]
