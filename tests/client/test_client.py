"""What a program does with the client, under both event loops and on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import anyio
import pytest

from trio_chat import wire
from trio_chat.client import (
    BadFrame,
    BadQuery,
    ChatClient,
    Connected,
    Event,
    Gap,
    IdConflict,
    IncomingMessage,
    NotAllowed,
    NotOffered,
    PresenceChanged,
    ReadElsewhere,
    ReceiptChanged,
    RequestRefused,
    TooLarge,
    Typing,
    Undelivered,
    open_client,
)
from trio_chat.errors import ConfigurationError, Fate
from trio_chat.model import Message
from trio_chat.push_frames import PushProvider, PushTarget
from trio_chat.retrieval import Conversation, Device, HistoryQuery, SearchHit

from .fake import Connection, FakeServer, Gone, fake_server
from .world import FEATURES, entry

pytestmark = pytest.mark.anyio
Kind = TypeVar("Kind", bound=Event)


@pytest.fixture
def anyio_backend(virtual: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return virtual


async def take(stream: AsyncIterator[IncomingMessage], count: int) -> list[str]:
    """The ids of the next messages."""
    with anyio.fail_after(3600):  # noqa: ASYNC100
        return [(await anext(stream)).id for _ in range(count)]


async def event(stream: AsyncIterator[Event], kind: type[Kind]) -> Kind:
    """The next event of this kind; what else happens is passed over."""
    with anyio.fail_after(3600):
        while True:
            happened = await anext(stream)
            if isinstance(happened, kind):
                return happened


async def settle() -> None:
    """Let everybody do what there is to be done."""
    await anyio.sleep(0.01)


def acked(server: FakeServer) -> int:
    return server.model.cursor


async def nothing(stream: AsyncIterator[object]) -> None:
    """Nothing comes for an hour."""
    with anyio.move_on_after(3600):
        raise AssertionError(f"there was {await anext(stream)}")


async def test_send_returns_when_it_is_stored() -> None:
    """Else a program takes for safe what is not."""
    async with fake_server() as server, server.client() as chat:
        stored = await chat.send("bob", "hi", id="one")
        assert (stored.id, stored.seq, stored.sent_at) == ("one", 1, 1)
        assert await chat.send("bob", "hi", id="one") == stored
        assert len((await chat.send("bob", "hi")).id) == 36
        assert chat.statistics().pending == 0
        assert (chat.user, chat.device) == ("alice", "phone")


async def test_sends_keep_the_order_of_the_calls() -> None:
    """Else two lines of a conversation change places (S4)."""
    async with fake_server() as server:
        refusals = iter(["rate_limited", None, None, "overloaded"])
        server.refuse = lambda frame: next(refusals, None) if isinstance(frame, wire.Send) else None
        async with server.client() as chat:
            called: list[str] = []

            async def send(id: str) -> None:
                called.append(id)
                await chat.send("bob", "hi", id=id)

            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    for number in range(40):
                        tasks.start_soon(send, str(number))
            assert [stored.id for stored in server.model.entries] == called
            assert anyio.current_time() >= 2  # both pauses that were asked for


async def test_a_full_mailbox_stops_nobody_elses_messages() -> None:
    """Else one absent recipient stops a program that writes to many (S4)."""
    async with fake_server() as server:
        full = True
        server.refuse = lambda frame: "mailbox_full" if full and getattr(frame, "to", None) == "bob" else None
        async with server.client() as chat, anyio.create_task_group() as tasks:
            tasks.start_soon(chat.send, "bob", "hi")
            await settle()
            with anyio.fail_after(10):
                for _ in range(3):
                    await chat.send("eve", "hi")
            await anyio.sleep(20)
            assert chat.statistics().pending == 1
            full = False
            await anyio.sleep(60)
            assert chat.statistics().pending == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [("not_allowed", NotAllowed), ("id_conflict", IdConflict), ("bad_frame", BadFrame), ("bad_query", BadQuery),
     ("too_large", TooLarge), ("novelty", RequestRefused)],
)  # fmt: skip
async def test_a_refusal_is_raised_as_what_it_is(code: str, kind: type[RequestRefused]) -> None:
    """Else a program cannot tell a message that is too long from one that nobody may send."""
    async with fake_server() as server:
        server.refuse = lambda _: code
        async with server.client() as chat:
            with pytest.raises(kind) as refused:
                await chat.send("bob", "hi")
            assert (refused.value.code, refused.value.fate) == (code, Fate.NEVER)
            assert type(refused.value) is kind
            server.refuse = lambda _: None
            assert (await chat.send("bob", "hi")).seq == 1


async def test_what_the_server_would_refuse_is_not_sent() -> None:
    """Else a text that is too long ends the connection, with 1009 (docs/protocol.md, Limits)."""
    async with fake_server() as server, server.client() as chat:
        await chat.wait_connected()
        with pytest.raises(TooLarge):
            await chat.send("bob", "é" * 51)
        wide = "\U0001f600" * 64  # a frame that is too long, though its text is not
        with pytest.raises(TooLarge):
            await chat.send("\U0001f600" * 128, "\x01" * 100, id=wide, reply_to=wide)
        for to, text, id in [("", "hi", "1"), ("b\n", "hi", "1"), ("bob", "", "1"), ("bob", "\0", "1"),
                             ("bob", "\ud800", "1"), ("bob", "hi", ""), ("bob", "hi", "i" * 65)]:  # fmt: skip
            with pytest.raises(BadFrame):
                await chat.send(to, text, id=id)
        assert server.connections[0]._frames == []
        assert chat.statistics().connections == 1


async def test_a_limit_that_changed_after_a_lost_answer_leaves_the_fate_unknown() -> None:
    """Else a program is told that a message was not sent that its recipient has read (S5)."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await server.greet(connection)
                await connection.receive()
                await connection.drop()
            server.limits = {"text_bytes": 1}
            await server.behave(connection)

        server.script = script
        async with server.client() as chat:
            with pytest.raises(TooLarge) as refused:
                await chat.send("bob", "hi")
            assert refused.value.fate is Fate.UNKNOWN


async def test_two_messages_with_one_id() -> None:
    """Else the second is taken for the first, and never sent."""
    async with fake_server() as server:
        server.script = lambda connection: connection.answer(503)
        async with server.client() as chat, anyio.create_task_group() as tasks:
            tasks.start_soon(chat.send, "bob", "hi", )  # fmt: skip
            answers: list[int] = []

            async def send() -> None:
                answers.append((await chat.send("bob", "hi", id="one")).seq)

            for _ in range(2):
                tasks.start_soon(send)
            await settle()
            with pytest.raises(IdConflict):
                await chat.send("bob", "ho", id="one")
            server.script = None
            await anyio.sleep(10)
            assert len(answers) == 2
            assert len(set(answers)) == 1


async def test_a_cancelled_send_is_still_sent_and_its_refusal_told() -> None:
    """Else what cancelling does is another thing than `send` says."""
    async with fake_server() as server:
        server.script = lambda connection: connection.answer(503)
        async with server.client() as chat:
            events = chat.events()
            with anyio.move_on_after(1):
                await chat.send("bob", "hi", id="one")
            with anyio.move_on_after(1):
                await chat.send("bob", "hi", id="two")
            assert chat.statistics().pending == 2
            server.refuse = lambda frame: "not_allowed" if getattr(frame, "id", None) == "two" else None
            server.script = None
            told = await event(events, Undelivered)
            assert (told.id, type(told.error)) == ("two", NotAllowed)
            assert [stored.id for stored in server.model.entries] == ["one"]


async def test_messages_come_in_order_and_are_acknowledged_when_the_loop_comes_back() -> None:
    """Else a program that crashes loses what it was just working on."""
    async with fake_server() as server, server.client() as chat:
        for number in range(3):
            server.append(str(number))
        stream = chat.messages()
        assert await take(stream, 1) == ["0"]
        await settle()
        assert acked(server) == 0
        assert await take(stream, 1) == ["1"]
        await settle()
        assert acked(server) == 1
        message = await anext(stream)
        assert (message.seq, message.sender, message.recipient, message.text) == (3, "bob", "alice", "text of 2")
        assert (message.sent_at, message.kind, message.reply_to, message.target) == (3, "message", None, None)
        assert "3" in repr(message)
        await message.ack()
        await message.ack()
        await settle()
        assert acked(server) == 3
        await nothing(stream)


async def test_a_new_loop_begins_with_what_was_not_acknowledged() -> None:
    """Else what a program failed at is forgotten, though it was not acknowledged."""
    async with fake_server() as server, server.client() as chat:
        for number in range(3):
            server.append(str(number))
        old = chat.messages(auto_ack=False)
        first, second = await anext(old), await anext(old)
        await second.ack()
        new = chat.messages()
        with pytest.raises(RuntimeError, match="taken over"):
            await anext(old)
        assert await take(new, 2) == ["0", "2"]
        await first.ack()
        assert acked(server) < 3


async def test_acknowledging_in_any_order_is_told_in_the_order_of_the_log() -> None:
    """Else the server forgets what the program does not have yet (A2)."""
    async with fake_server() as server, server.client() as chat:
        for number in range(4):
            server.append(str(number))
        stream = chat.messages(auto_ack=False)
        messages = [await anext(stream) for _ in range(4)]
        for number, expected in ((1, 0), (3, 0), (0, 2), (2, 4)):
            await messages[number].ack()
            await settle()
            assert acked(server) == expected


async def test_ones_own_messages_are_passed_over_unless_asked_for() -> None:
    """Else a bot answers itself, or another device's messages are not shown."""
    for own in (False, True):
        async with fake_server() as server, server.client() as chat:
            server.append("one")
            server.append("two", sender="alice")
            server.append("change", kind="edit")
            server.append("novelty", kind="novelty")
            await chat.send("bob", "hi", id="three")
            server.append("four")
            stream = chat.messages(own=own)
            assert await take(stream, 4 if own else 2) == (["one", "two", "three", "four"] if own else ["one", "four"])
            await nothing(stream)
            assert acked(server) == 6


async def test_changes_are_given_to_who_asks_for_them() -> None:
    """Else a program that shows messages shows what was deleted."""
    async with fake_server() as server, server.client() as chat:
        for kind in ("message", "edit", "delete", "novelty"):
            server.append(kind, kind=kind)
        stream = chat.messages(changes=True)
        assert [(await anext(stream)).kind for _ in range(3)] == ["message", "edit", "delete"]
        await nothing(stream)
        assert acked(server) == 4


async def test_at_most_a_window_is_held_and_the_reader_goes_on() -> None:
    """Else a program that is slow takes in all there is, or cannot send any more."""
    async with fake_server() as server:
        server.window = 10
        for number in range(300):
            server.append(str(number))
        async with server.client() as chat:
            with anyio.fail_after(60):
                for number in range(200):
                    await chat.send("bob", "hi", id=f"out {number}")
            assert chat.statistics().buffered == 10
            assert await take(chat.messages(), 300) == [str(number) for number in range(300)]
            await settle()
            assert chat.statistics().buffered <= 1


async def test_a_server_that_keeps_to_no_window() -> None:
    """Else a faulty server fills the client's memory, or makes it lose what it has no room for."""
    async with fake_server() as server:
        server.window = 1000
        for number in range(500):
            server.append(str(number))

        async def script(connection: Connection) -> None:
            line = await server.greet(connection, limits={"window": 10})
            await connection.send(wire.Messages(messages=server.model.entries[line.start : line.start + 400], head=500))
            line.sent = 500
            while True:
                server._take(line, await connection.receive())

        server.script = script
        server.refuse = lambda _: None
        async with server.client() as chat:
            stream = chat.messages()
            for number in range(500):
                assert await take(stream, 1) == [str(number)]
                assert chat.statistics().buffered <= 10


async def test_own_messages_that_nobody_takes_are_not_kept() -> None:
    """Else a program that only sends keeps every message it ever sent."""
    async with fake_server() as server:
        server.window = 10
        async with server.client() as chat:
            for number in range(50):
                await chat.send("bob", "hi", id=str(number))
            assert chat.statistics().buffered <= 10
            assert await take(chat.messages(own=True), 50) == [str(number) for number in range(50)]
        async with server.client() as chat:
            chat.messages()
            for number in range(50):
                await chat.send("bob", "hi", id=f"more {number}")
            await settle()
            assert chat.statistics().buffered == 0
            assert acked(server) == 100


async def test_a_client_that_only_sends() -> None:
    """Else a program that sends one line throws its user's other program out (C3)."""
    async with fake_server() as server:
        server.append("one")
        async with server.client(send_only=True) as chat:
            assert (await chat.send("bob", "hi")).seq == 2
            await nothing(chat.messages())
        assert server.connections[0].query["window"] == "0"
        assert acked(server) == 0


async def test_another_history_gives_nothing_twice() -> None:
    """Else a server that was restored from a backup makes every bot repeat itself (C1)."""
    async with fake_server() as server, server.client() as chat:
        for number in range(4):
            server.append(str(number))
        stream = chat.messages()
        assert await take(stream, 4) == ["0", "1", "2", "3"]
        await settle()
        server.model.restore(1, renamed=True)  # its cursor comes back with it…
        server.model.cursor = 1
        for id in ("new", "2", "3", "newer"):  # …and some of what was lost, by who sent it
            server.append(id)
        await server.connections[-1].drop()
        assert await take(stream, 2) == ["new", "newer"]
        await nothing(stream)
        assert acked(server) == 5


async def test_what_happens_beside_the_messages() -> None:
    """Else a program does not see who is writing, who has read, and what is gone."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection, new=True)
            await connection.send(
                wire.TypingFrom(sender="bob", typing=True),
                wire.Gap(first=1, last=3),
                wire.Receipt(peer="bob", delivered=4),
                wire.Receipt(peer="bob", delivered=2),
                wire.Receipt(peer="bob", read=6),
                wire.ReadElsewhere(peer="bob", seq=5),
                wire.Presence(user="bob", online=False, last_seen=7),
                wire.Error(code="cursor_ahead", message="no"),
                wire.Error(code="novelty", message="no", id="of nothing"),
                wire.Error(code="novelty", message="no", ref="of nothing"),
                wire.HistoryAnswer(ref="of nothing", messages=(), more=False, next=None),
                wire.Pong(),
            )
            while True:
                await connection.receive()

        server.script = script
        async with server.client() as chat:
            events = chat.events()
            got = [await anext(events) for _ in range(7)]
            assert got == [
                Connected("alice", "phone", new=True),
                Typing("bob", typing=True),
                Gap(1, 3),
                ReceiptChanged("bob", 4, 0),
                ReceiptChanged("bob", 6, 6),
                ReadElsewhere("bob", 5),
                PresenceChanged("bob", online=False, last_seen=7),
            ]
            assert await anext(chat.events()) == Connected("alice", "phone", new=True)
            await nothing(events)


async def test_a_fault_of_the_clients_own_ends_it() -> None:
    """Else a message that nobody can name is under way for ever (S3)."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            await connection.send(wire.Error(code="bad_frame", message="what was that?"))
            while True:
                await connection.receive()

        server.script = script
        async with server.client() as chat:
            with anyio.fail_after(60), pytest.raises(Exception, match="what was that"):
                await chat.send("bob", "hi")


async def test_typing_marks_and_watching_reach_the_server() -> None:
    """Else a peer sees nothing of it; or nothing any more, after a reconnect."""
    async with fake_server() as server:
        frames: list[list[wire.ClientFrame]] = []

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            frames.append([])
            while True:
                frames[-1].append(await connection.receive())

        server.script = script
        async with server.client() as chat:
            chat.typing("bob", on=True)  # there is no connection yet
            chat.read("bob", 3)
            chat.watch(["bob", "eve"])
            await chat.wait_connected()
            chat.typing("bob", on=True)
            chat.read("bob", 2)
            await settle()
            watch = wire.Watch(ref="watch", users=("bob", "eve"))
            read = wire.Read(peer="bob", seq=3)
            assert sorted(frames[0], key=str) == sorted([read, watch, wire.Typing(to="bob", typing=True)], key=str)
            await server.connections[0].drop()
            await anyio.sleep(1)
            assert sorted(frames[1], key=str) == sorted([read, watch], key=str)
            with pytest.raises(BadQuery):
                chat.watch([str(number) for number in range(201)])
            with pytest.raises(BadFrame):
                chat.watch([""])
            with pytest.raises(BadFrame):
                chat.read("", 1)
            with pytest.raises(BadFrame):
                chat.typing("", on=True)


async def answers(server: FakeServer, connection: Connection, features: list[str] = FEATURES) -> None:
    """A server that answers every request."""
    await server.greet(connection, features=features)
    message = entry(1, "one")
    conversation = Conversation(peer="bob", last=message, unread=1, delivered=0, read=0, own_delivered=0, own_read=0)
    while True:
        match await connection.receive():
            case wire.History(ref=ref) as asked:
                assert (asked.peer, asked.limit) == ("bob", 7)
                await connection.send(wire.HistoryAnswer(ref=ref, messages=(message,), more=True, next=1))
            case wire.Search(ref=ref, query="words"):
                hit = SearchHit(message=message, snippet=("a", "b"))
                await connection.send(wire.SearchAnswer(ref=ref, hits=(hit,), more=False, next=None))
            case wire.Conversations(ref=ref):
                answer = wire.ConversationsAnswer(ref=ref, conversations=(conversation,), more=False, next=None)
                await connection.send(answer)
            case wire.Devices(ref=ref) | wire.RemoveDevice(ref=ref, device="old"):
                device = Device(name="phone", cursor=1, seen=2, created=3)
                await connection.send(wire.DevicesAnswer(ref=ref, devices=(device,)))
            case wire.Block(ref=ref, user="eve") | wire.Blocks(ref=ref):
                await connection.send(wire.Blocked(ref=ref, users=("eve",)))
            case wire.Unblock(ref=ref, user="eve"):
                await connection.send(wire.Blocked(ref=ref, users=()))
            case wire.Edit(id=id, to="bob", target="one", text="new") | wire.Delete(id=id, to="bob", target="one"):
                await connection.send(wire.Stored(messages=[wire.StoredItem(id, 9, 9)]))
            case wire.Send(id=id, reply_to="one"):
                await connection.send(wire.Stored(messages=[wire.StoredItem(id, 8, 8)]))
            case frame:
                await connection.send(about_push(frame))


def about_push(frame: wire.ClientFrame) -> wire.PushAnswer:
    fields: dict[str, Any] = {}
    match frame:
        case wire.PushRegister(provider="fcm", kind="token", target="secret"):
            fields["targets"] = (PushTarget(device="phone", provider="fcm", kind="token", registered=1),)
        case wire.PushUnregister(provider=None | "fcm") | wire.PushQuestion():
            pass
        case wire.Mute(user="eve") | wire.Unmute(user="zoe"):
            fields["muted"] = ("eve",)
        case wire.Quiet(quiet=quiet):
            fields["quiet"] = quiet
        case _:
            raise AssertionError(frame)
    providers = (PushProvider(name="fcm"),)
    return wire.PushAnswer(
        **{"ref": frame.ref, "providers": providers, "targets": (), "muted": (), "quiet": False, **fields}
    )


async def test_every_request_has_its_answer() -> None:
    """Else something that the protocol offers cannot be asked for."""
    async with fake_server() as server:
        server.script = lambda connection: answers(server, connection)
        async with server.client() as chat:
            with anyio.fail_after(60):
                page = await chat.history(peer="bob", limit=7)
                assert ([message.id for message in page.messages], page.more, page.next) == (["one"], True, 1)
                assert await chat.history(HistoryQuery(peer="bob", limit=7)) == page
                assert (await chat.search("words", peer="bob")).hits[0].snippet == ("a", "b")
                assert (await chat.conversations(limit=3)).conversations[0].unread == 1
                assert (await chat.devices())[0].name == "phone"
                assert (await chat.remove_device("old"))[0].cursor == 1
                assert await chat.block("eve") == ("eve",)
                assert await chat.blocked() == ("eve",)
                assert await chat.unblock("eve") == ()
                assert (await chat.register_push("fcm", "token", "secret")).targets[0].device == "phone"
                assert await chat.unregister_push() == await chat.unregister_push("fcm") == await chat.push()
                assert (await chat.push()).providers == (PushProvider(name="fcm"),)
                assert (await chat.mute("eve")).muted == (await chat.unmute("zoe")).muted == ("eve",)
                assert (await chat.set_quiet(quiet=True)).quiet
                assert not (await chat.set_quiet(quiet=False)).quiet
                assert (await chat.edit("bob", "one", "new")).seq == 9
                assert (await chat.delete("bob", "one")).seq == 9
                assert (await chat.send("bob", "hi", reply_to="one")).seq == 8
            with pytest.raises(BadQuery):
                await chat.history(before=1, after=5)
            with pytest.raises(BadQuery):
                await chat.search("")
            with pytest.raises(TypeError):
                await chat.history(colour="red")
            for call in (
                chat.block(""), chat.unblock("\n"), chat.remove_device(""), chat.mute(""), chat.register_push("", "k", "t"),
                chat.register_push("p", "k", "x" * 4097), chat.unregister_push(""),
            ):  # fmt: skip
                with pytest.raises(BadFrame):
                    await call


async def test_edits_and_deletions_of_ones_own_stand_in_the_log() -> None:
    """Else a program that shows all messages does not see what it changed itself (C5)."""
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            for seq in (1, 2):
                frame = await connection.receive()
                assert isinstance(frame, wire.Edit | wire.Delete)
                await connection.send(wire.Stored(messages=[wire.StoredItem(frame.id, seq, 5)]))
            while True:
                await connection.receive()

        server.script = script
        async with server.client() as chat:
            stream = chat.messages(own=True, changes=True)
            await chat.edit("bob", "one", "new")
            await chat.delete("bob", "one")
            edit, deletion = await anext(stream), await anext(stream)
            assert (edit.kind, edit.target, edit.text, edit.seq) == ("edit", "one", "new", 1)
            assert (deletion.kind, deletion.target, deletion.text, deletion.sender) == ("delete", "one", None, "alice")


async def test_a_request_outlives_its_connection_and_its_refusals() -> None:
    """Else a program has to ask again after every reconnect, or whenever the server is busy."""
    async with fake_server() as server:
        asked: list[float] = []

        async def script(connection: Connection) -> None:
            if connection.number == 0:
                await server.greet(connection)
                await connection.receive()
                await connection.drop()
                raise Gone(1006)
            await server.greet(connection)
            while True:
                frame = await connection.receive()
                assert isinstance(frame, wire.Blocks)
                asked.append(anyio.current_time())
                if len(asked) < 4:
                    await connection.send(wire.Error(code="overloaded", message="no", ref=frame.ref, retry_after=2.0))
                elif len(asked) == 4:
                    await connection.send(wire.Blocked(ref=frame.ref, users=()))
                else:
                    await connection.send(wire.Error(code="bad_query", message="never", ref=frame.ref))

        server.script = script
        async with server.client() as chat:
            with anyio.fail_after(60):
                assert await chat.blocked() == ()
            assert [round(later - first) for first, later in itertools.pairwise(asked)] == [2, 4, 8]
            with anyio.fail_after(60), pytest.raises(BadQuery, match="never"):
                await chat.blocked()


async def test_a_cancelled_request_is_forgotten() -> None:
    """Else requests that nobody waits for pile up, and are asked again after every reconnect."""
    async with fake_server() as server:
        asked: list[wire.ClientFrame] = []

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            while True:
                asked.append(await connection.receive())

        server.script = script
        async with server.client() as chat:
            with anyio.move_on_after(1):
                await chat.blocked()
            await server.connections[0].drop()
            await anyio.sleep(1)
            assert len(server.connections) == 2
            assert len(asked) == 1


async def test_an_older_server_is_not_sent_what_it_does_not_know() -> None:
    """Else the client collects refusals until it is thrown out (docs/protocol.md: MUST NOT)."""
    async with fake_server() as server:
        server.script = lambda connection: answers(server, connection, ["send"])
        async with server.client() as chat:
            chat.typing("bob", on=True)
            chat.read("bob", 1)
            chat.watch(["bob"])
            with anyio.fail_after(60):
                for call in (chat.blocked(), chat.edit("bob", "one", "new"), chat.history(peer="bob")):
                    with pytest.raises(NotOffered):
                        await call
                assert (await chat.send("bob", "hi", reply_to="one")).seq == 8


async def test_what_nobody_takes_of_the_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a program that forgot about its events is full of them one day; and a gap is not to be pushed out by typing."""
    monkeypatch.setattr("trio_chat.client.streams._EVENTS", 20)
    async with fake_server() as server:

        async def script(connection: Connection) -> None:
            await server.greet(connection)
            await connection.send(wire.Gap(first=1, last=2))
            for number in range(30):
                await connection.send(wire.TypingFrom(sender=str(number), typing=True))
            for number in range(30):
                await connection.send(wire.Gap(first=1, last=10 + number))
            while True:
                await connection.receive()

        server.script = script
        async with server.client() as chat:
            events = chat.events()
            await anyio.sleep(10)
            got = [await anext(events) for _ in range(20)]
            assert not [happened for happened in got if isinstance(happened, Typing)]
            assert got[-1] == Gap(1, 39)
            await nothing(events)


async def test_credentials_and_the_query_are_sent_as_given() -> None:
    """Else nobody can log in."""
    async with fake_server() as server:
        client = open_client("ws://h/ws?user=alice&x=a%2Bb&device=no", connect=server.connect, token="s3cr3t",
                             device="büro", headers={"X-Tenant": "7"})  # fmt: skip
        async with client as chat:
            await chat.wait_connected()
            assert chat.device == "büro"
        (connection,) = server.connections
        assert connection.query == {"user": "alice", "x": "a+b", "device": "büro"}
        assert connection.headers["authorization"] == "Bearer s3cr3t"
        assert connection.headers["x-tenant"] == "7"
        assert connection.headers["sec-websocket-protocol"] == wire.SUBPROTOCOL


@pytest.mark.parametrize(
    "wrong",
    [{"url": "http://h/ws"}, {"url": "ws:///ws"}, {"url": "ws://h:0/"}, {"url": "ws://[h/"}, {"device": ""},
     {"device": "a\n"}, {"token": "a\nb"}, {"headers": {"X": "é"}}],
)  # fmt: skip
async def test_what_makes_no_request_is_refused_at_once(wrong: dict[str, Any]) -> None:
    """Else a typing error shows as a server that is never there, or as a header that was smuggled in."""
    with pytest.raises(ConfigurationError):
        async with open_client(**{"url": "ws://h/ws", **wrong}):
            raise AssertionError("entered")


async def test_a_message_to_oneself_by_another_device_is_ones_own(anyio_backend: object) -> None:
    """Else a bot that writes to itself answers that, for ever."""
    async with fake_server() as server, server.client() as chat:
        own = Message(seq=1, id="memo", sender="alice", recipient="alice", text="hi", sent_at=1)
        server.model.entries.append(own)
        await nothing(chat.messages())
        assert acked(server) == 1


def test_a_client_is_what_it_says() -> None:
    """Else the reference has no methods to show."""
    assert {"send", "messages", "typing", "events", "history"} <= set(dir(ChatClient))
