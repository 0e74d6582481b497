"""What outlives the client's process, under both event loops, with threads and files."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given

from trio_chat import wire
from trio_chat.client import StateFailed, StateUnusable, WrongOwner, open_client
from trio_chat.client.journal import open_journal
from trio_chat.client.records import Done, Forgotten, Owner, Pending, Position, Record, Seen
from trio_chat.client.state import KEYS, Contents, StateFile
from trio_chat.errors import ChatError

from .fake import Connection, FakeServer, fake_server
from .world import Memory

pytestmark = pytest.mark.anyio

seqs = st.integers(1, 9)
names = st.sampled_from(["a", "b", "c"])
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Owner, names, names),
    st.builds(Position, st.sampled_from(["one", "two"]), seqs),
    st.builds(Done, seqs),
    st.builds(Seen, st.binary(min_size=16, max_size=16)),
    st.builds(Pending, names, st.binary(max_size=3)),
    st.builds(Forgotten, names),
)


@pytest.fixture
def anyio_backend(real: str) -> str:
    return real


@given(batches=st.lists(st.lists(RECORDS, max_size=6), max_size=6))
def test_the_file_holds_what_was_written(batches: list[list[Record]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Else what the client's decisions were tested with is not what it has after a restart."""
    path = tmp_path_factory.mktemp("state") / "state.db"
    model = Memory()
    for batch in [[], *batches]:
        file = StateFile(path)
        assert file.open() == Contents(
            model.owner, model.log, model.position, sorted(model.done), model.seen, list(model.outbox.values())
        )
        file.apply(batch)
        model.apply(batch)
        file.close()
        file.close()


def test_only_so_many_messages_are_remembered(tmp_path: Path) -> None:
    """Else the file of a bot grows for as long as it lives."""
    file = StateFile(tmp_path / "state.db")
    file.open()
    file.apply([Seen(number.to_bytes(16, "big")) for number in range(KEYS + 10)])
    file.close()
    seen = file.open().seen
    file.close()
    assert seen == [number.to_bytes(16, "big") for number in range(10, KEYS + 10)]


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    """Else a wrong path destroys somebody's data."""
    text, other, newer = tmp_path / "text", tmp_path / "other.db", tmp_path / "newer.db"
    text.write_text("dear diary, " * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")
    connection.close()
    file = StateFile(newer)
    file.open()
    file.close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    for path in (text, other, newer, tmp_path / "nowhere" / "state.db", tmp_path):
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(StateUnusable, match=path.name):
            StateFile(path).open()
        assert before is None or path.read_bytes() == before


async def test_two_clients_on_one_file(tmp_path: Path) -> None:
    """Else both send what is in the outbox, and neither knows what the other gave to its program."""
    async with fake_server() as server, server.client(state=tmp_path / "state.db"):
        with pytest.raises(StateUnusable, match="another client"):
            async with server.client(state=tmp_path / "state.db"):
                raise AssertionError("entered")
    async with fake_server() as server, server.client(state=tmp_path / "state.db"):
        pass  # it is free again


async def left_in_the_outbox(server: FakeServer, path: Path) -> None:
    """A client hands two messages over and goes before they are stored."""
    server.script = lambda connection: connection.answer(503)
    async with server.client(state=path) as chat:
        with anyio.move_on_after(5):
            async with anyio.create_task_group() as tasks:
                for number, id in enumerate(["one", "two"]):
                    tasks.start_soon(sent_in_vain, chat, id)
                    while chat.statistics().pending == number:  # noqa: ASYNC110  (nobody is told of it)
                        await anyio.lowlevel.checkpoint()
                await chat.aclose()
    server.script = None


async def sent_in_vain(chat: Any, id: str) -> None:
    with pytest.raises(ChatError):
        await chat.send("bob", "hi", id=id)


async def test_what_was_handed_over_is_sent_by_the_next_client(tmp_path: Path) -> None:
    """Else a message that a program has given away is lost when it is restarted."""
    async with fake_server() as server:
        await left_in_the_outbox(server, tmp_path / "state.db")
        async with server.client(state=tmp_path / "state.db") as chat:
            assert chat.statistics().pending == 2
            with anyio.fail_after(20):
                # Handed over again, it is the same message.
                assert (await chat.send("bob", "hi", id="two")).seq == 2
                assert (await chat.send("bob", "hi", id="three")).seq == 3
        assert [entry.id for entry in server.model.entries] == ["one", "two", "three"]
        async with server.client(state=tmp_path / "state.db") as chat:
            assert chat.statistics().pending == 0


async def test_what_was_acknowledged_does_not_come_again(tmp_path: Path) -> None:
    """Else a bot answers twice because the server crashed before it had recorded the ack."""
    async with fake_server() as server:
        for number in range(5):
            server.append(str(number))
        async with server.client(state=tmp_path / "state.db") as chat:
            stream = chat.messages(auto_ack=False)
            messages = [await anext(stream) for _ in range(5)]
            for number in (0, 1, 3):
                await messages[number].ack()
        server.model.cursor = 0  # the server has lost it all
        async with server.client(state=tmp_path / "state.db") as chat:
            assert (chat.user, chat.device) == ("alice", "phone")
            stream = chat.messages()
            with anyio.fail_after(20):
                assert [(await anext(stream)).id for _ in range(2)] == ["2", "4"]
        probe, connection = server.connections[-2:]
        assert (probe.query.get("window"), probe.query.get("after")) == ("0", None)
        assert (connection.query["after"], connection.query["log"]) == ("2", server.model.log)


async def test_another_history_is_noticed_after_a_restart(tmp_path: Path) -> None:
    """Else a position in a lost history skips messages of the new one, or what was answered is answered again."""
    async with fake_server() as server:
        for number in range(4):
            server.append(str(number))
        async with server.client(state=tmp_path / "state.db") as chat:
            stream = chat.messages()
            messages = [await anext(stream) for _ in range(4)]
            await messages[-1].ack()
        server.model.restore(1, renamed=True)
        server.model.cursor = 0
        for id in ("3", "new", "2"):
            server.append(id)
        async with server.client(state=tmp_path / "state.db") as chat:
            with anyio.fail_after(20):
                assert (await anext(chat.messages())).id == "new"


@pytest.mark.parametrize("who", [{"user": "eve"}, {"device": "web"}])
async def test_a_state_of_another_user_is_not_used(who: dict[str, str], tmp_path: Path) -> None:
    """Else the position of one user acknowledges the messages of another, unseen."""
    async with fake_server() as server:
        server.append("one")
        async with server.client(state=tmp_path / "state.db") as chat:
            await (await anext(chat.messages())).ack()
        user, device = who.get("user", "alice"), who.get("device", "phone")
        client = open_client(f"ws://h/ws?user={user}", device=device, connect=server.connect, state=tmp_path / "state.db")
        async with client as chat:
            with anyio.fail_after(20), pytest.raises(WrongOwner, match="alice"):
                await chat.wait_connected()
        assert "after" not in server.connections[-1].query
        # Without a position there is nothing to find out before, and the first connection tells.
        async with server.client(state=tmp_path / "fresh.db") as chat:
            await chat.wait_connected()


async def test_the_owner_is_checked_on_every_connection(tmp_path: Path) -> None:
    """Else credentials that change while the client runs make it use the position of another."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection, user="alice" if connection.number == 0 else "eve")
            await connection.drop()

        server.script = script
        async with server.client() as chat:
            with anyio.fail_after(20), pytest.raises(WrongOwner):
                await chat.send("bob", "hi")


async def test_a_disk_that_fails_closes_the_client(tmp_path: Path) -> None:
    """Else a program goes on, believing that what it hands over survives it."""
    async with fake_server() as server, server.client(state=tmp_path / "state.db") as chat:
        await chat.send("bob", "hi")
        server.append("one")
        message = await anext(chat.messages())
        file = chat._exchange._journal._file  # type: ignore[union-attr]
        assert file._connection is not None
        (pages,) = file._connection.execute("PRAGMA page_count").fetchone()
        file._connection.execute(f"PRAGMA max_page_count = {pages}")
        with anyio.fail_after(20), pytest.raises(StateFailed, match="full"):
            await chat.send("bob", "x" * 100_000)
        with pytest.raises(StateFailed):
            await message.ack()


async def test_what_is_left_is_written_when_the_block_is_cancelled(tmp_path: Path) -> None:
    """Else an acknowledgement that was on its way to the file is lost to a cancellation."""
    async with open_journal(tmp_path / "state.db") as (journal, contents):
        assert contents == Contents(None, None, 0, [], [], [])
        journal.write([Done(7)])
    async with open_journal(tmp_path / "state.db") as (_, contents):
        assert contents.done == [7]


async def test_an_edit_and_a_deletion_outlive_the_process(tmp_path: Path) -> None:
    """Else what is answered like a message is not kept like one."""
    async with fake_server() as server:
        server.script = lambda connection: connection.answer(503)
        async with server.client(state=tmp_path / "state.db") as chat:
            for call in (chat.edit("bob", "one", "new", id="e"), chat.delete("bob", "one", id="d")):
                with anyio.move_on_after(0.2):
                    await call
        got: list[wire.ClientFrame] = []

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            while True:
                got.append(await connection.receive())
                await connection.send(wire.Stored(messages=[wire.StoredItem(getattr(got[-1], "id", ""), len(got), 1)]))

        server.script = script
        async with server.client(state=tmp_path / "state.db") as chat:
            with anyio.fail_after(20):  # noqa: ASYNC912
                while chat.statistics().pending:  # noqa: ASYNC110
                    await anyio.lowlevel.checkpoint()
        commands = [frame for frame in got if not isinstance(frame, wire.Ack)]
        assert commands == [
            wire.Edit(id="e", to="bob", target="one", text="new"),
            wire.Delete(id="d", to="bob", target="one"),
        ]
