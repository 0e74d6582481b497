"""What is read of a file beside the server that writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trio_chat.core.batch import Batch
from trio_chat.core.outbox import Register
from trio_chat.errors import ConfigurationError
from trio_chat.store.roster import outbox_in, reading, targets_in
from trio_chat.store.sqlite import SqliteStore

from .asked import Writer

PHONE = Register("bob", "phone", "fake", "token", "secret")
TABLET = Register("bob", "tablet", "fake", "token", "other")


async def fill(store: SqliteStore) -> None:
    store.outbox.open(5000)
    write = Writer(store)
    await write.append(Batch(push=(TABLET, PHONE)))
    await write.send("alice", "bob", "m1", "h\u00e4llo")


async def test_where_devices_are_reached(path: Path) -> None:
    """A test notification would go to the devices of somebody else, or to none."""
    async with SqliteStore(path) as store:
        await fill(store)
        assert targets_in(path, "bob") == (PHONE, TABLET)
        assert targets_in(path, "alice") == ()
        with pytest.raises(ConfigurationError, match="does not know a user 'eve'"):
            targets_in(path, "eve")


async def test_what_waits_is_told_as_by_the_store(path: Path) -> None:
    """An operator who looks beside the server would be told something else than one who asks it."""
    async with SqliteStore(path) as store:
        await fill(store)
        assert outbox_in(path, "bob", 10) == await store.outbox.waiting("bob", 10) != ()
        assert outbox_in(path, None, 1) == await store.outbox.waiting(None, 1) != ()
        assert outbox_in(path, "alice", 10) == ()


async def test_a_user_and_a_message_are_told_as_by_the_store(path: Path) -> None:
    """What somebody is given who asks for what is held would depend on whether the server runs."""
    async with SqliteStore(path) as store:
        await fill(store)
        with reading(path) as file:
            lines = [json.loads(line) for piece in file.portray("bob", 5000) for line in piece]
            told = file.explain("alice", "m1")
            assert file.explain("alice", "m2") is None
        async with store.keeping.export("bob", 5000) as said:
            assert lines == [json.loads(line) async for line in said]
        assert told == await store.keeping.explain("alice", "m1")
        assert told is not None
