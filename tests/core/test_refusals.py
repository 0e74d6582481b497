"""Saying no, and the end of patience. How long a refusal holds is tested with the machine, in test_machine.py."""

from __future__ import annotations

import pytest

from trio_chat import wire
from trio_chat.errors import CloseCode, ErrorCode
from trio_chat.settings import Settings

from .world import World


def test_who_goes_on_sending_what_is_refused_is_closed() -> None:
    """If this fails, a client that ignores every refusal is answered for ever."""
    world = World(Settings(send_rate=1.0, send_burst=1, refusals=3))
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("stored", "bob")
    alice.send("refused, and told when to come back", "bob")
    for _ in range(3):
        alice.send("ignores it", "bob")
    assert alice.state == "reading"
    alice.say(alice.message("once too often", "bob"), wire.Typing(to="bob", typing=True))
    assert alice.code == CloseCode.FLOODING
    assert alice.errors == [ErrorCode.RATE_LIMITED] * 5
    assert bob.offered == []


def test_who_waits_as_told_is_not_closed() -> None:
    """If this fails, a patient client is thrown out because its peer's mailbox is full for long."""
    world = World(Settings(refusals=3))
    alice = world.join("alice")
    for _ in range(20):
        alice.send("hi", "bob")
        world.commit(lambda draft: ErrorCode.MAILBOX_FULL)
        world.wait(1.0, alive=(alice,))
    assert alice.code is None


def test_requests_count_as_well() -> None:
    """If this fails, a client that asks without end is answered for ever."""
    world = World(Settings(refusals=2, request_rate=1.0, request_burst=1))
    alice = world.join("alice")
    for _ in range(4):
        alice.ask(wire.Blocks)
        world.settle()
    assert alice.errors == [ErrorCode.RATE_LIMITED] * 3
    assert alice.code == CloseCode.FLOODING


@pytest.mark.parametrize("frame", ["send", "ask"])
def test_without_rates_nobody_is_closed_for_it(frame: str) -> None:
    """If this fails, ``--rate-limit off`` leaves one of the limits in force (C9)."""
    world = World(
        Settings(send_rate=None, waiting=1, refusals=1, request_rate=1.0, request_burst=1, queries=1, byte_burst=1)
    )
    alice = world.join("alice")
    for _ in range(10):
        alice.send("hi", "bob") if frame == "send" else alice.ask(wire.Blocks)
    assert alice.errors == [ErrorCode.OVERLOADED] * 8
    assert alice.code is None
