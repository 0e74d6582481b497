"""What is asked with a ref: one after the other, each answered once."""

from __future__ import annotations

from typing import Any

import pytest

from trio_chat import wire
from trio_chat.core import effects, events
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .world import Client, World

FREE = Settings(send_rate=None)
QUESTIONS: list[tuple[type[Any], dict[str, Any], type[Any]]] = [
    (wire.History, {"peer": "bob"}, wire.HistoryAnswer),
    (wire.Search, {"query": "hi"}, wire.SearchAnswer),
    (wire.Conversations, {}, wire.ConversationsAnswer),
    (wire.Devices, {}, wire.DevicesAnswer),
    (wire.Blocks, {}, wire.Blocked),
]


def refused(client: Client) -> list[tuple[str, str | None, float | None]]:
    return [(error.code, error.ref, error.retry_after) for error in client.all(wire.Error)]


@pytest.mark.parametrize(("kind", "fields", "answer"), QUESTIONS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("send_only", [False, True])
def test_a_question_is_put_to_the_store_and_answered(
    kind: type[Any], fields: dict[str, Any], answer: type[Any], send_only: bool
) -> None:
    """If this fails, a request is never answered, or a send-only connection cannot ask what it may (C3)."""
    world = World()
    alice = world.join("alice", send_only=send_only)
    ref = alice.ask(kind, **fields)
    assert world.asks == {alice.id: effects.Ask(alice.id, "alice", kind(ref=ref, **fields))}
    world.settle()
    assert [frame.ref for frame in alice.all(answer)] == [ref]
    assert alice.asking == []


PUSH: list[tuple[type[Any], dict[str, Any]]] = [
    (wire.PushRegister, {"provider": "fcm", "kind": "token", "target": "secret"}),
    (wire.PushUnregister, {}),
    (wire.PushQuestion, {}),
    (wire.Mute, {"user": "eve"}),
    (wire.Unmute, {"user": "eve"}),
    (wire.Quiet, {"quiet": True}),
]


@pytest.mark.parametrize(("kind", "fields"), PUSH, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_about_push_is_asked_where_there_is_push(kind: type[Any], fields: dict[str, Any]) -> None:
    """If this fails, a phone cannot say where it can be reached, or waits for ever on a server that tells nobody."""
    world = World(push=True)
    alice = world.join("alice")
    assert alice.welcome.features == list(wire.FEATURES)
    ref = alice.ask(kind, **fields)
    assert world.asks == {alice.id: effects.Ask(alice.id, "alice", kind(ref=ref, **fields))}
    world.settle()
    assert [frame.ref for frame in alice.all(wire.PushAnswer)] == [ref]

    world = World()
    alice = world.join("alice")
    assert not wire.PUSH_FEATURES & set(alice.welcome.features)
    ref = alice.ask(kind, **fields)
    assert refused(alice) == [(ErrorCode.NOT_ALLOWED, ref, None)]
    assert "no push is configured" in alice.all(wire.Error)[0].message
    assert world.asks == {}
    alice.ask(wire.Blocks)
    world.settle()
    assert len(alice.all(wire.Blocked)) == 1


def test_a_target_that_waits_has_its_weight() -> None:
    """If this fails, targets that wait for their turn fill the memory of a server that counts only names."""
    world = World(push=True)
    alice = world.join("alice")
    fields = {"provider": "fcm", "kind": "token"}
    alice.ask(wire.PushRegister, **fields, target="x" * 4000)
    assert world.core._connections[alice.id].unanswered_bytes >= 4000


def test_one_question_at_a_time_in_order() -> None:
    """If this fails, one connection keeps all the store's readers busy, or its answers come in any order."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    refs = [alice.ask(wire.Conversations) for _ in range(4)]
    bob.ask(wire.Devices)
    assert set(world.asks) == {alice.id, bob.id}, "nobody waits for another"
    world.settle()
    assert [frame.ref for frame in alice.all(wire.ConversationsAnswer)] == refs


def test_only_a_few_may_wait() -> None:
    """If this fails, a client that asks faster than the store answers fills the memory."""
    world = World()
    alice = world.join("alice")
    refs = [alice.ask(wire.Blocks) for _ in range(10)]
    assert refused(alice) == [(ErrorCode.OVERLOADED, refs[-1], 1.0)]
    world.settle()
    assert [frame.ref for frame in alice.all(wire.Blocked)] == refs[:-1]
    alice.ask(wire.Blocks)
    world.settle()
    assert len(alice.all(wire.Blocked)) == 10


def test_requests_have_a_rate() -> None:
    """If this fails, a user asks the store for more than everybody else together (C9)."""
    world = World(Settings(request_rate=0.25, request_burst=2))
    phone, laptop = world.join("alice"), world.join("alice", "laptop")
    phone.ask(wire.Blocks)
    laptop.ask(wire.Block, user="eve")
    ref = laptop.ask(wire.Blocks)
    assert refused(laptop) == [(ErrorCode.RATE_LIMITED, ref, 4.0)]
    assert "requests" in laptop.all(wire.Error)[0].message
    world.settle()
    world.wait(4.0, alive=(laptop,))
    laptop.ask(wire.Blocks)
    world.settle()
    assert len(laptop.all(wire.Blocked)) == 2


@pytest.mark.parametrize("code", ErrorCode)
def test_what_cannot_be_answered_is_refused_with_its_ref(code: ErrorCode) -> None:
    """If this fails, a client waits for an answer that the store could not give, and for those after it."""
    world = World()
    alice = world.join("alice")
    refs = [alice.ask(wire.Blocks), alice.ask(wire.Devices)]
    world.answer(alice.id, code)
    assert refused(alice) == [(code, refs[0], 1.0 if code.retryable else None)]
    world.settle()
    assert [frame.ref for frame in alice.all(wire.DevicesAnswer)] == [refs[1]]


def test_a_refusal_says_what_the_store_says() -> None:
    """If this fails, a client is told that its question is a bad one, and not what would be a better one."""
    world = World()
    alice = world.join("alice")
    ref = alice.ask(wire.Blocks)
    world.answer_with(alice.id, events.Answered(alice.id, ErrorCode.BAD_QUERY, "Ask for fewer."))
    (error,) = alice.all(wire.Error)
    assert (error.code, error.ref, error.message) == (ErrorCode.BAD_QUERY, ref, "Ask for fewer.")
    assert alice.asking == []


def test_what_is_unanswered_slows_its_connection_only() -> None:
    """If this fails, a client keeps much in the server's memory by asking large questions (C8)."""
    world = World(Settings(send_rate=None, uncommitted_bytes=2000))
    alice, bob = world.join("alice"), world.join("bob")
    alice.ask(wire.History, ids=tuple("x" * 64 for _ in range(20)))
    bob.ask(wire.Blocks)
    assert (alice.state, bob.state) == ("paused", "reading")
    world.settle()
    assert alice.state == "reading"
    alice.ask(wire.Watch, users=tuple(f"{number}" for number in range(30)))
    assert alice.state == "paused"
    world.settle()
    assert alice.state == "reading"


def test_a_drain_answers_what_was_asked() -> None:
    """If this fails, a request that was read is never answered at the end (D1)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    refs = [alice.ask(wire.Blocks), alice.ask(wire.Block, user="eve"), alice.ask(wire.Blocks)]
    alice.say(wire.Read(peer="bob", seq=0))
    world.drain()
    assert alice.state == "paused"
    assert bob.code == CloseCode.GOING_AWAY
    world.settle()
    assert [(frame.ref, frame.users) for frame in alice.all(wire.Blocked)] == [
        (refs[0], ()), (refs[1], ("eve",)), (refs[2], ("eve",)),
    ]  # fmt: skip
    assert alice.code == CloseCode.GOING_AWAY


def test_an_answer_for_a_connection_that_is_gone_is_dropped() -> None:
    """If this fails, an answer that comes late ends the server, or goes to a closed connection (I7)."""
    world = World()
    alice = world.join("alice")
    alice.ask(wire.Blocks)
    alice.ask(wire.Block, user="eve")
    alice.leave()
    world.settle()
    eve = world.join("alice", "laptop")
    eve.ask(wire.Watch, users=("bob",))
    world.handle(events.Disconnected(eve.id))
    eve.gone = True
    world.settle()
    assert world.core.connections == 0
    assert world.store.blocks == set(), "what waited behind a question was not carried out"


def test_an_answer_to_nothing_is_ignored() -> None:
    """If this fails, a driver that answers twice ends the server, or makes a client believe in a list it did not ask for."""
    world = World()
    alice = world.join("alice")
    world.handle(events.Answered(alice.id, wire.Blocked(ref="x", users=())))
    world.handle(events.Stood(alice.id, ()))
    assert alice.all(wire.Blocked) == []
    assert world.core._connections[alice.id].unanswered == 0


def test_the_devices_that_are_connected_are_marked() -> None:
    """If this fails, a list of devices does not say which are there, though only the core knows (C2)."""
    world = World()
    phone, laptop = world.join("alice"), world.join("alice", "laptop")
    world.join("alice", "script", send_only=True)
    world.join("alice", "tablet").leave()
    laptop.leave()
    waiting = world.connect("alice", "laptop")
    assert world.core.connected("alice") == {"phone"}
    assert world.core.connected("nobody") == frozenset()
    phone.ask(wire.Devices)
    world.answer(phone.id)
    devices = phone.all(wire.DevicesAnswer)[0].devices
    assert [(device.name, device.connected) for device in devices] == [("laptop", False), ("phone", True), ("tablet", False)]
    world.settle()
    assert waiting.open
