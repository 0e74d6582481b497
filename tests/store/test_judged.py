"""What hooks need of a store: to be told which ids are known, and that a changed text changes no digest."""

from __future__ import annotations

from msgspec.structs import replace

from trio_chat.core.batch import Batch, Draft, PageRequest, Refused, Stored
from trio_chat.errors import ErrorCode

from .conftest import Backend, draft


async def test_known_ids_are_those_of_their_sender(backend: Backend) -> None:
    """A hook would be asked twice about a message, or not at all about another user's of the same id (S2)."""
    async with backend.open() as store:
        assert await store.known([]) == []
        assert await store.known([("alice", "1")]) == [False]
        await store.append(Batch(drafts=(draft("alice", "bob", "1"), draft("alice", "bob", "2"))), 1000)
        asked = [("alice", "2"), ("bob", "1"), ("alice", "3"), ("alice", "1"), ("nobody", "1")] * 100
        assert await store.known(asked) == [True, False, False, True, False] * 100


async def test_a_changed_text_is_stored_and_the_sent_one_recognised(backend: Backend) -> None:
    """A retry of what a hook has changed would be a conflict, or the message would be stored as it was sent (S2)."""
    changed = replace(draft("alice", "bob", "1", "darn"), text="d**n", sent="darn")
    async with backend.open() as store:
        assert (await store.append(Batch(drafts=(changed,)), 1000)).drafts == (Stored(1, 1, 1000, text="d**n"),)
        (page,) = await store.pages([PageRequest("bob", 0, 10, 1000)])
        assert [message.text for message in page.messages] == ["d**n"]
        again = (draft("alice", "bob", "1", "darn"), draft("alice", "bob", "1", "d**n"))
        assert (await store.append(Batch(drafts=again), 2000)).drafts == (
            Stored(1, 1, 1000, new=False, text="d**n"),
            Refused(ErrorCode.ID_CONFLICT),
        )


async def test_who_blocks_or_is_blocked_is_parted(backend: Backend) -> None:
    """An application's own rule would show the presence of somebody who does not want to be seen (B1)."""
    async with backend.open() as store:
        talk = (draft("alice", "bob", "1"), draft("bob", "alice", "1"), draft("alice", "carol", "2"))
        await store.append(Batch(drafts=talk), 1000)
    backend.block("bob", "alice")
    async with backend.open() as store:
        for viewer, user in (("alice", "bob"), ("bob", "alice")):
            (standing,) = await store.standings(viewer, [user])
            assert (standing.parted, standing.acquainted) == (True, False)
        assert [one.parted for one in await store.standings("alice", ["carol", "nobody", "alice"])] == [False] * 3


async def test_who_sent_a_changed_text_is_told_it_each_time(backend: Backend) -> None:
    """A client that lost the first answer would go on showing what it sent, and nobody else has (C5)."""
    changed = replace(draft("alice", "bob", "1", "darn"), text="d**n", sent="darn")
    plain = draft("alice", "bob", "2", "hi")
    async with backend.open() as store:
        first = await store.append(Batch(drafts=(changed, changed, plain)), 1000)
        again = await store.append(Batch(drafts=(draft("alice", "bob", "1", "darn"), plain)), 2000)
        assert [result.text for result in first.drafts + again.drafts if isinstance(result, Stored)] == [
            *("d**n", "d**n", None),
            *("d**n", None),
        ]
        await store.append(Batch(drafts=(Draft(1, "alice", "bob", "3", None, "delete", "1"),)), 3000)
        (gone,) = (await store.append(Batch(drafts=(changed,)), 4000)).drafts
        assert isinstance(gone, Stored)
        assert gone.text is None
