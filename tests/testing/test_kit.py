"""The kit that applications test their chat with."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from trio_chat import Hooks, Identity, NotAllowed, Outgoing, Refused, Rejected, wire
from trio_chat.client.raw import ClosedByServer, NotConnected
from trio_chat.errors import CloseCode, RequestRefused
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import ChatKit, Participant, open_test_chat
from trio_chat.transport.http import Request

from ..support import no_task_left

pytest_plugins = ["trio_chat.testing.fixtures"]


def ended(participant: Participant) -> int:
    """The close code."""
    assert participant.closed is not None
    return participant.closed.code


async def offline_and_back(t: ChatKit) -> None:
    """What an application wants to know first: nothing is lost while somebody is away."""
    alice, bob = await t.connect("alice"), await t.connect("bob", "phone")
    await alice.send("bob", "before")
    await bob.expect(text="before")
    await bob.cut()
    stored = await alice.send("bob", "while you were away")
    await bob.reconnect()
    await bob.expect(sender="alice", text="while you were away")
    await bob.expect_nothing()
    await alice.expect_frame(wire.Receipt, peer="bob", delivered=stored.seq)


_watching: list[list[str]] = []


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if event in ("socket.__new__", "socket.connect", "socket.bind", "open"):
        for watched in _watching:
            watched.append(event)


sys.addaudithook(_audit)  # never to be taken away again, so it writes down only what somebody watches


@contextmanager
def watched() -> Iterator[list[str]]:
    """Every socket, file and thread that is made in the block; Trio's threads, which are used again, included."""
    made: list[str] = []

    def in_a_thread(*_: object, **__: object) -> NoReturn:
        made.append("to_thread")
        raise AssertionError("something was to run in a thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", in_a_thread)
        patch.setattr(threading.Thread, "start", in_a_thread)
        _watching.append(made)
        try:
            yield made
        finally:
            _watching.remove(made)


async def test_no_socket_no_file_no_thread(chat_clock: MockClock) -> None:
    """Else tests by the kit are slow, depend on the machine they run on, or hang on a virtual clock."""
    async with open_test_chat() as t:
        await offline_and_back(t)  # whatever is imported only now is read from a file
    with watched() as made:
        async with no_task_left(), open_test_chat() as t:
            await offline_and_back(t)
    assert made == []


async def test_what_is_watched_would_be_noticed(tmp_path: Path) -> None:
    """Else the test above is blind, and passes whatever the kit does."""
    with watched() as made:
        trio.socket.socket().close()
        (tmp_path / "file").write_text("")
        for start in (threading.Thread(target=int).start, partial(trio.to_thread.run_sync, int)):
            with pytest.raises(AssertionError):
                start()
    assert made == ["socket.__new__", "open", "to_thread", "to_thread"]


async def test_a_failure_shows_what_came_instead(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else a red test tells its author nothing but that it is red."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob", "phone")
    await alice.send("bob", "hello")
    with pytest.raises(AssertionError) as failure:
        await bob.expect(text="hi")
    first, *heard = str(failure.value).splitlines()
    assert first == (
        "bob's phone expected a message with text='hi', but the next one is 1: from alice to bob: 'hello'. It has heard:"
    )
    assert heard == [
        "    welcome user='bob' device='phone' cursor=0 head=0",
        "    messages 1: from alice to bob: 'hello'",
    ]
    with pytest.raises(AssertionError, match=r"expected a message, but none came within 5 s\. It has heard:\n"):
        await bob.expect()
    assert trio.current_time() == 5
    with pytest.raises(AssertionError, match=r"expected Receipt with peer='bob', read=1, but none came within 2 s"):
        await alice.expect_frame(wire.Receipt, peer="bob", read=1, within=2)
    await alice.send("bob", "again")
    with pytest.raises(AssertionError, match="expected nothing more, but there is 2: from alice to bob: 'again'"):
        await bob.expect_nothing()
    await bob.send("alice", "hi")
    with pytest.raises(AttributeError, match="txet"):
        await alice.expect(txet="hi")
    await bob.cut()
    with pytest.raises(AssertionError, match="but its connection was closed with 1006"):
        await bob.expect()


async def test_a_long_story_is_cut_short(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else the line that matters is somewhere in a thousand."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob")
    for number in range(30):
        await alice.send("bob", str(number))
        await bob.expect(text=str(number))
    with pytest.raises(AssertionError) as failure:
        await bob.expect()
    shown = str(failure.value).splitlines()[1:]
    assert shown[0] == "    … 11 frames before"
    assert shown[-1] == "    messages 30: from alice to bob: '29'"


async def test_changes_are_messages_of_their_own_kind(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else an application cannot test what an edit or a deletion looks like to others."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob")
    await alice.send("bob", "helo", id="x")
    await bob.expect(text="helo", id="x")
    await alice.say(wire.Edit(id="y", to="bob", target="x", text="hello"))
    await bob.expect(kind="edit", target="x", text="hello")
    await alice.say(wire.Delete(id="z", to="bob", target="x"))
    with pytest.raises(AssertionError, match=r"the next one is 3: delete from alice to bob, target='x'\."):
        await bob.expect(kind="message")
    await alice.say(wire.Edit(id="y2", to="bob", target="x", text="hello"))
    assert (await alice.expect_frame(wire.Error, id="y2")).code == "bad_query"


async def test_a_device_keeps_its_position(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else a reconnect in a test is not what a reconnect is: messages come twice, or the device is a new one."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob", "phone")
    await alice.send("bob", "one")
    await bob.send("alice", "two")
    await bob.cut()
    assert bob.position == 2
    assert ended(bob) == 1006
    with pytest.raises(ClosedByServer):
        await bob.send("alice", "nobody hears this")
    await alice.send("bob", "three")
    await bob.reconnect()
    assert (bob.welcome.cursor, bob.welcome.new, bob.device) == (2, False, "phone")
    await bob.expect(text="one")  # heard before the cut, and not expected yet
    await bob.expect(text="three")
    await bob.expect_nothing()
    await bob.reconnect()  # cuts first
    await bob.expect_nothing()
    assert bob.position == 3


async def test_a_device_that_does_not_acknowledge_gets_it_again(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else nobody can test what happens when a client dies before it has stored what it got."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob", acknowledge=False)
    stored = await alice.send("bob", "hi")
    await alice.send("bob", "ho")
    await bob.expect(text="hi")
    await bob.reconnect()
    await bob.expect(text="hi")
    await bob.ack()
    await bob.expect(text="ho")
    await alice.expect_frame(wire.Receipt, peer="bob", delivered=stored.seq + 1)
    await bob.reconnect()
    await bob.expect_nothing()


async def test_own_messages_are_there_for_who_asks(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else the carbons of another device stand in the way of every expectation, or cannot be tested at all."""
    phone, web = await chat_kit.connect("alice", "phone"), await chat_kit.connect("alice", "web")
    bob = await chat_kit.connect("bob")
    await phone.send("bob", "hi")
    await web.expect(own=True, sender="alice", recipient="bob")
    await phone.send("bob", "ho")
    await bob.expect(text="hi")
    await bob.send("alice", "hey")
    await web.expect(text="hey")  # over its own
    assert phone.position == web.position == 3


async def test_what_was_read_is_told(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else an application cannot test its ticks."""
    alice, bob = await chat_kit.connect("alice"), await chat_kit.connect("bob")
    stored = await alice.send("bob", "hi")
    await bob.read(await bob.expect())
    await alice.expect_frame(wire.Receipt, peer="bob", read=stored.seq)
    await bob.say(wire.Typing(to="alice", typing=True))
    assert (await alice.expect_frame(wire.TypingFrom, sender="bob")).typing


async def test_refusals_are_raised(chat_clock: MockClock) -> None:
    """Else an application's rules cannot be tested by the messages that they refuse or change."""

    async def before_send(outgoing: Outgoing) -> Outgoing:
        if outgoing.text == "darn":
            raise Rejected(message="language!")
        return outgoing

    async with open_test_chat(hooks=Hooks(before_send=before_send)) as t:
        alice = await t.connect("alice")
        with pytest.raises(NotAllowed, match="language!"):
            await alice.send("bob", "darn")
        await alice.send("bob", "dear", id="x")
        with pytest.raises(RequestRefused) as refused:
            await alice.send("bob", "other", id="x")
        assert refused.value.code == "id_conflict"
        await (await t.connect("bob")).expect(text="dear")


async def test_both_clocks_go_together(chat_kit: ChatKit, chat_clock: MockClock) -> None:
    """Else a message is dated by a clock that stands still, and what expires never does."""
    alice, before = await chat_kit.connect("alice"), chat_kit.now()
    first = await alice.send("bob", "now")
    await chat_kit.advance(3600)
    second = await alice.send("bob", "an hour later")
    assert (chat_kit.now() - before, second.sent_at - first.sent_at) == (3_600_000, 3_600_000)
    assert trio.current_time() == 3600
    assert alice.closed is None  # 144 pings were answered


async def test_time_is_where_a_test_wants_it(mock_clock: MockClock) -> None:
    """Else dates in a test are those of the day it runs; and a clock that does not jump by itself cannot be advanced."""

    async def authenticate(request: Request) -> Identity:
        return Identity("alice", expires_at=1_000_060.0)

    async with open_test_chat(start=1_000_000_000, authenticate=authenticate) as t:
        alice = await t.connect()
        assert (await alice.send("bob", "hi")).sent_at == 1_000_000_000
        await t.advance(59)
        assert alice.closed is None
        await t.advance(2)
        assert ended(alice) == CloseCode.UNAUTHORIZED
        assert mock_clock.autojump_threshold == float("inf")


async def test_real_time_cannot_be_advanced() -> None:
    """Else a test that forgot its clock really waits an hour."""
    async with open_test_chat() as t:
        with pytest.raises(RuntimeError, match="chat_clock"):
            await t.advance(3600)


async def test_an_applications_own_authenticator(chat_clock: MockClock) -> None:
    """Else only the demo identity can be tested, which no application uses."""

    async def authenticate(request: Request) -> Identity:
        if request.header("authorization") != "Bearer s3cr3t":
            raise Refused("unknown token")
        return Identity("0151", request.parameter("device") or "default")

    async with open_test_chat(authenticate=authenticate) as t:
        phone = await t.connect(device="phone", headers={"Authorization": "Bearer s3cr3t"})
        assert (phone.user, phone.device) == ("0151", "phone")
        await phone.reconnect()
        with pytest.raises(NotConnected) as refused:
            await t.connect("0151")
        assert refused.value.status == 401
        t.chat.revoke("0151")
        with pytest.raises(AssertionError, match="4401"):
            await phone.expect()


async def test_a_chat_goes_on_with_the_store_of_another(chat_clock: MockClock) -> None:
    """Else a restart of the server cannot be tested."""
    store = MemoryStore()
    async with open_test_chat(store=store) as t:
        alice = await t.connect("alice")
        await alice.send("bob", "before the restart")
        await alice.leave()
        assert ended(alice) == CloseCode.NORMAL
    async with open_test_chat(store=store) as t:
        assert t.store is store
        await (await t.connect("bob")).expect(text="before the restart")
