"""What is known of a connection: its window, what `stored` named, and its user's devices."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from trio_chat.core.buckets import Allowances
from trio_chat.core.connection import Connection, Named, User, Window
from trio_chat.core.events import Connected
from trio_chat.settings import Settings


def test_a_window_is_full_by_count() -> None:
    """If this fails, a silent device is sent more entries than it may have unacknowledged (C6)."""
    window = Window(2, 1000)
    assert (window.room, window.room_bytes) == (2, 1000)
    window.add(1, 10)
    assert window.fits(10)
    window.add(2, 10)
    assert not window.fits(10)
    assert window.room == 0
    window.acknowledge(1)
    assert window.room == 1
    assert window.fits(10)


def test_a_window_is_full_by_bytes() -> None:
    """If this fails, a silent device costs more memory than it may (C6)."""
    window = Window(10, 100)
    window.add(1, 60)
    assert not window.fits(41)
    assert window.fits(40)
    window.add(2, 40)
    assert window.room == 0
    window.acknowledge(2)
    assert (window.room, window.room_bytes) == (10, 100)


def test_an_empty_window_takes_an_entry_of_any_size() -> None:
    """If this fails, an entry larger than the window is never delivered, nor any after it."""
    window = Window(10, 100)
    assert window.fits(1000)
    window.add(1, 1000)
    assert (window.room, window.room_bytes) == (0, 0)
    assert not window.fits(0)
    window.acknowledge(1)
    assert window.fits(1000)


def test_half_free_by_count_and_by_bytes() -> None:
    """If this fails, pages are read for next to no room, or a device with room is not fed."""
    window = Window(4, 100)
    seen = [window.half_free]
    for seq in (1, 2, 3):
        window.add(seq, 10)
        seen.append(window.half_free)
    window.acknowledge(2)
    seen.append(window.half_free)
    window.add(4, 50)
    seen.append(window.half_free)
    assert seen == [True, True, True, False, True, False]


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["name", "name", "send", "ack"]), st.integers(1, 30)), max_size=60),
)
def test_what_stored_named_is_held_exactly(size: int, steps: list[tuple[str, int]]) -> None:
    """If this fails, a client's correct ack is refused (and it never acks again), or an ack of what it lacks is taken.

    The model is a set. With more runs than the bound the reach may be too far, never too short.
    """
    named, model, sent, exact = Named(size), set[int](), 0, True
    for step, number in steps:
        if step == "name":
            named.add(number, sent)
            model.add(number)
            runs = sum(1 for seq in model if seq > sent and seq - 1 not in model)
            exact = exact and runs <= size
        elif step == "send":
            sent += number % 3
        reach = sent
        while reach + 1 in model:
            reach += 1
        if exact:
            assert named.reach(sent) == reach
        assert named.reach(sent) >= reach
        assert len(named) <= size
        if step == "ack":
            sent = named.reach(sent)


def test_a_user_has_one_connection_for_each_device() -> None:
    """If this fails, a device gets everything twice, or a send-only connection takes a device's place (C3)."""
    settings = Settings()
    user = User("alice", Allowances(settings).claim("alice", 0.0))
    first, sender, second = (
        Connection(Connected(id, "alice", "phone", send_only=id == 2), user, settings, 0.0) for id in (1, 2, 3)
    )
    assert user.add(first) is None
    assert user.add(sender) is None
    assert user.add(second) is first
    user.remove(first)
    assert user.devices == {"phone": second}
    user.remove(sender)
    assert user.devices == {"phone": second}
    user.remove(second)
    assert not user.devices
    assert not user.connections


def test_what_was_named_and_then_sent_is_forgotten() -> None:
    """If this fails, a connection remembers for ever what `stored` named while it was behind (I6)."""
    named = Named(4)
    named.add(5, 0)
    named.add(9, 0)
    assert named.reach(7) == 7
    assert len(named) == 1
    assert named.reach(8) == 9
