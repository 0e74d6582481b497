"""How entries get to a connection: in order, each once, through memory or from the store, as the window allows."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace

from trio_chat import wire
from trio_chat.core import effects
from trio_chat.core.batch import Page
from trio_chat.core.events import Loaded
from trio_chat.core.machine import Core
from trio_chat.errors import ErrorCode
from trio_chat.model import Message
from trio_chat.settings import Settings

from .model import LOG
from .world import Client, World, replay

SMALL = Settings(window=4, send_rate=None)


def fill(world: World, to: str, count: int, text: str = "hi") -> None:
    """Eve writes `count` messages; they are committed, and pages may still be under way."""
    eve = world.connect("eve", "writer", send_only=True)
    while not eve.open:
        world.commit()
    for number in range(count):
        eve.send(f"{text} {number + 1}", to)
        while world.batch is not None:
            world.commit()
    eve.leave()


def test_a_connected_peer_gets_a_message_from_memory() -> None:
    """If this fails, live delivery waits for a read from the store."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    alice.send("hi", "bob")
    assert not bob.entries, "before the commit (I4)"
    world.append()
    assert not bob.entries, "before the commit is known"
    world.tell()
    assert not world.loads
    assert bob.texts == ["hi"]
    assert bob.all(wire.Messages)[0].head == 1
    assert [item.seq for item in alice.stored] == [1]
    assert not alice.entries, "delivered by its stored item (C5)"


def test_other_devices_get_ones_own_messages() -> None:
    """If this fails, a conversation looks different on each of a user's devices (C5)."""
    world = World()
    phone, laptop, bob = world.join("alice"), world.join("alice", "laptop"), world.join("bob")
    phone.send("hi", "bob")
    world.settle()
    assert phone.entries == []
    assert laptop.texts == bob.texts == ["hi"]
    assert laptop.stored == []


def test_a_message_to_oneself_has_one_entry() -> None:
    """If this fails, notes to oneself come twice, or stop the log."""
    world = World()
    phone, laptop = world.join("alice"), world.join("alice", "laptop")
    phone.send("milk", "alice")
    phone.send("bread", "alice")
    world.settle()
    assert phone.held == 2
    assert laptop.texts == ["milk", "bread"]


def test_a_blocked_message_reaches_the_sender_only() -> None:
    """If this fails, a blocked person gets through, or can tell (B1)."""
    world = World()
    eve, bob = world.join("eve"), world.join("bob")
    world.store.blocks.add(("bob", "eve"))
    eve.send("listen", "bob")
    world.settle()
    assert bob.entries == []
    assert [item.seq for item in eve.stored] == [1]
    assert eve.errors == []


def test_300_own_messages_leave_the_window_empty() -> None:
    """If this fails, somebody who writes and never acknowledges stops hearing from others (C5, C6)."""
    world = World(Settings(send_rate=None))
    alice, bob = world.join("alice"), world.join("bob")
    for number in range(300):
        alice.send(f"{number}", "bob")
        world.settle()
        bob.ack()
    alice.forget()
    bob.send("stop it", "alice")
    world.commit()
    assert not world.loads, "from memory, at once"
    assert alice.texts == ["stop it"]
    assert alice.seqs == [301]


def test_the_window_stops_and_acks_free_it() -> None:
    """If this fails, a slow device costs memory without bound, or is never served again."""
    world = World(SMALL)
    bob = world.join("bob")
    fill(world, "bob", 10)
    assert bob.seqs == [1, 2, 3, 4]
    assert not world.loads, "no page is read for a full window"
    bob.ack(1)
    assert not world.loads, "nor for little room"
    bob.ack(2)
    world.settle()
    assert bob.seqs == [1, 2, 3, 4, 5, 6]
    for _ in range(3):
        bob.ack()
        world.settle()
    assert bob.seqs == list(range(1, 11))


def test_who_makes_little_room_is_served_in_time() -> None:
    """If this fails, a device that never acknowledges the last few entries gets nothing more."""
    world = World(SMALL)
    bob = world.join("bob")
    fill(world, "bob", 20)
    for last in range(4, 10):
        bob.ack(last - 3)
        world.settle()
        assert bob.last == last
        world.wait(1.0, alive=(bob,))
        assert bob.last == last + 1


def test_the_last_few_come_at_once_if_they_fit() -> None:
    """If this fails, a device that is nearly caught up waits for a heartbeat."""
    world = World(SMALL)
    bob = world.join("bob")
    fill(world, "bob", 5)
    bob.ack(1)
    world.settle()
    assert bob.seqs == [1, 2, 3, 4, 5]


def test_the_window_counts_bytes() -> None:
    """If this fails, large messages make the window as large as they like (C6)."""
    world = World(Settings(window_bytes=20_000, send_rate=None))
    bob = world.join("bob")
    fill(world, "bob", 6, "x" * 6000)
    assert bob.seqs == [1, 2, 3]
    bob.ack(1)
    world.settle()
    assert bob.seqs == [1, 2, 3], "less than half is free"
    world.wait(1.0, alive=(bob,))
    assert bob.seqs == [1, 2, 3, 4]
    bob.ack()
    world.settle()
    assert bob.seqs == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("memory_path", [True, False])
def test_an_entry_that_does_not_fit_is_not_read_every_second(memory_path: bool) -> None:
    """If this fails, each device whose next entry is too big for what is left costs a page every second, for nothing."""
    world = World(Settings(window_bytes=20_000, send_rate=None), memory_path=memory_path)
    bob = world.join("bob")
    fill(world, "bob", 2, "x" * 9000)
    world.settle()
    fill(world, "bob", 1, "x" * 9000)
    world.settle()
    assert bob.seqs == [1, 2]
    asked = len(loads(world))
    world.wait(20.0, alive=(bob,))
    assert len(loads(world)) <= asked + 1
    bob.ack()
    world.settle()
    assert bob.seqs == [1, 2, 3]


@pytest.mark.parametrize("memory_path", [True, False])
def test_an_entry_larger_than_the_window_travels_alone(memory_path: bool) -> None:
    """If this fails, one large entry stops a log for good."""
    world = World(Settings(window_bytes=16_384, send_rate=None), memory_path=memory_path)
    bob = world.join("bob")
    fill(world, "bob", 1)
    fill(world, "bob", 1, "\x01" * 16_000)  # six bytes each in JSON
    fill(world, "bob", 1)
    world.settle()
    for expected in ([1], [1, 2], [1, 2, 3]):
        assert bob.seqs == expected
        bob.ack()
        world.settle()


def loads(world: World) -> list[effects.Load]:
    """The pages that were asked for so far."""
    said = [effect for _, _, wanted in world.tape if isinstance(wanted, list) for effect in wanted]
    return [effect for effect in said if isinstance(effect, effects.Load)]


def test_while_a_page_loads_nothing_overtakes_it() -> None:
    """If this fails, a new entry overtakes older ones, which then never come (C4)."""
    world = World(SMALL)
    fill(world, "bob", 2)
    world.connect("bob", log=LOG, after=0)
    world.commit()
    bob = world.clients[max(world.clients)]
    assert list(world.loads) == [bob.id]
    world.read(bob.id)
    fill(world, "bob", 1, "later")
    assert bob.entries == []
    world.arrive(bob.id)
    assert bob.seqs == [1, 2]
    world.settle()
    assert bob.seqs == [1, 2, 3]


def test_a_page_may_know_more_than_the_core() -> None:
    """If this fails, an entry leaves before the core was told of its commit, and then again (I4)."""
    world = World()
    fill(world, "bob", 1)
    alice = world.join("alice")
    bob = world.connect("bob", log=LOG, after=0)
    world.commit()
    alice.send("new", "bob")
    world.append()
    world.arrive(bob.id)
    assert bob.seqs == [1]
    world.tell()
    world.settle()
    assert bob.seqs == [1, 2]


def test_a_page_that_fails_is_asked_for_again() -> None:
    """If this fails, one failed read stops a device until it reconnects."""
    world = World()
    fill(world, "bob", 1)
    bob = world.connect("bob", log=LOG, after=0)
    world.commit()
    world.fail_load(bob.id)
    assert not world.loads, "not at once: the store has trouble"
    world.wait(1.0, alive=(bob,))
    assert bob.seqs == [1]


def test_a_page_for_a_connection_that_is_gone_is_dropped() -> None:
    """If this fails, a page that comes late crashes the registry or reaches the wrong connection (C3)."""
    world = World()
    fill(world, "bob", 1)
    old = world.connect("bob", log=LOG, after=0)
    world.commit()
    failing = world.connect("bob", "laptop", log=LOG, after=0)
    world.commit()
    new = world.connect("bob")
    failing.leave()
    world.arrive(old.id)
    world.fail_load(failing.id)
    world.settle()
    assert old.entries == []
    assert new.start == 0
    assert new.seqs == [1]


def test_a_store_with_a_hole_is_not_hammered() -> None:
    """If this fails, damage in one log keeps the store busy without end; and nothing may jump over the hole."""
    world = World()
    fill(world, "bob", 3)
    bob = world.connect("bob", log=LOG, after=0)
    world.commit()
    del world.loads[bob.id]
    third = world.store.logs["bob"][2]
    world.handle(Loaded(bob.id, Page((third,), 0)))
    assert bob.entries == []
    assert not world.loads
    world.wait(1.0, alive=(bob,))
    assert bob.seqs == [1, 2, 3]


def test_a_start_below_the_floor_is_told() -> None:
    """If this fails, entries that are no longer held are missed in silence (C7, promise 5)."""
    world = World()
    fill(world, "bob", 5)
    world.retain("bob", 3)
    bob = world.join("bob")
    assert [(gap.first, gap.last) for gap in bob.all(wire.Gap)] == [(1, 3)]
    assert bob.seqs == [4, 5]


def test_a_gap_is_told_again_until_something_is_acknowledged() -> None:
    """If this fails, a client that crashed before it read of a gap is never told: a silent hole."""
    world = World()
    fill(world, "bob", 5)
    world.retain("bob", 3)
    bob = world.join("bob")
    bob.leave()
    world.wait(1.0)
    assert world.store.cursors["bob", "phone"] == 0
    bob = world.join("bob")
    assert [(gap.first, gap.last) for gap in bob.all(wire.Gap)] == [(1, 3)]
    bob.ack(3)
    bob.leave()
    world.wait(1.0)
    assert world.store.cursors["bob", "phone"] == 3
    assert world.join("bob").all(wire.Gap) == []


def test_retention_while_behind_is_told() -> None:
    """If this fails, a device that is behind stops, or skips in silence, when the front of its log is dropped."""
    world = World(SMALL)
    bob = world.join("bob")
    fill(world, "bob", 9)
    world.retain("bob", 6)
    bob.ack()
    world.settle()
    assert [(gap.first, gap.last) for gap in bob.all(wire.Gap)] == [(5, 6)]
    assert bob.seqs == [1, 2, 3, 4, 7, 8, 9]
    world.retain("bob", 9)
    assert bob.held == 9, "what was sent before is no gap"


def test_a_page_behind_which_all_is_gone_is_followed_at_once() -> None:
    """If this fails, a device waits for a heartbeat after a gap that took a whole page."""
    world = World()
    fill(world, "bob", 2)
    bob = world.connect("bob", log=LOG, after=0)
    world.commit()
    world.retain("bob", 2)
    world.read(bob.id)
    fill(world, "bob", 1)
    world.arrive(bob.id)
    world.settle()
    assert bob.seqs == [3]


def test_acks_move_the_cursor_and_only_forward() -> None:
    """If this fails, a device misses or gets again what it has acknowledged (A1)."""
    world = World()
    bob = world.join("bob")
    fill(world, "bob", 5)
    bob.ack(3)
    bob.ack(2)
    bob.ack(3)
    assert bob.errors == []
    bob.leave()
    bob = world.join("bob")
    assert bob.welcome.cursor == 3
    assert bob.seqs == [4, 5]


def test_an_ack_of_what_was_not_sent_is_refused() -> None:
    """If this fails, a client's mistake loses messages: what it never got counts as delivered (A1)."""
    world = World(SMALL)
    bob = world.join("bob")
    fill(world, "bob", 6)
    bob.ack(5)
    assert bob.errors == [ErrorCode.CURSOR_AHEAD]
    bob.leave()
    world.wait(1.0)
    assert world.store.cursors["bob", "phone"] == 0


def behind_with_own_messages(world: World, own: int) -> Client:
    """Bob's connection is sent one page of one entry, and meanwhile `own` messages of its own are stored."""
    fill(world, "bob", 1)
    bob = world.connect("bob", log=LOG, after=0)
    world.commit()
    world.read(bob.id)
    bob.say(*[bob.message(f"own {number}", "eve") for number in range(own)])
    world.commit()
    world.arrive(bob.id)
    assert bob.seqs == [1]
    assert bob.held == 1 + own
    return bob


def test_own_messages_may_be_acknowledged_before_their_turn() -> None:
    """If this fails, a client that acknowledges what it holds (A2) is told that it does not, and never does so again."""
    world = World(SMALL)
    bob = behind_with_own_messages(world, 20)
    bob.ack()
    assert bob.errors == []
    world.settle()
    assert bob.seqs == [1], "what it says it has need not come again"
    fill(world, "bob", 3)
    world.settle()
    assert bob.seqs == [1, 22, 23, 24], "and the window is free for others"


def test_own_messages_come_as_entries_while_behind() -> None:
    """If this fails, a client that cannot know that it was behind waits for an entry that never comes (C5)."""
    world = World(SMALL)
    bob = behind_with_own_messages(world, 2)
    world.settle()
    assert bob.seqs == [1, 2, 3]


def test_an_ack_reaches_over_own_messages_only() -> None:
    """If this fails, a client that acknowledges the highest number it saw loses what lies below."""
    world = World(SMALL)
    bob = behind_with_own_messages(world, 1)
    fill(world, "bob", 1)
    bob.send("own again", "eve")
    world.commit()
    assert bob.named == {2, 4}
    bob.ack(4)
    assert bob.errors == [ErrorCode.CURSOR_AHEAD]
    bob.ack(2)
    assert bob.errors == [ErrorCode.CURSOR_AHEAD]
    world.settle()
    assert bob.held == 4


def test_a_page_that_became_superfluous_is_followed_at_once() -> None:
    """If this fails, a device waits for a heartbeat because an ack overtook the page that was loading."""
    world = World(SMALL)
    bob = behind_with_own_messages(world, 2)
    world.read(bob.id)
    bob.ack(3)
    fill(world, "bob", 1)
    assert bob.seqs == [1], "from memory only if no page is loading (C4)"
    world.arrive(bob.id)
    assert bob.seqs == [1]
    world.settle()
    assert bob.seqs == [1, 4]


def test_an_id_sent_again_is_named_but_not_delivered_again() -> None:
    """If this fails, a resend after a lost `stored` shows the message twice, or jumps over what lies before it (S2)."""
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    message = alice.message("hi", "bob")
    alice.say(message, message)
    world.settle()
    alice.leave()
    fill(world, "alice", 1)
    alice = world.connect("alice", log=LOG, after=0)
    world.commit()
    alice.say(message)
    world.settle()
    assert [item.seq for item in alice.stored] == [1]
    assert alice.seqs == [1, 2]
    assert bob.texts == ["hi"]


def test_a_send_only_connection_gets_nothing() -> None:
    """If this fails, a sender is flooded with its own log, or takes a device's place (C3)."""
    world = World()
    sender, bob = world.join("alice", send_only=True), world.join("bob")
    sender.send("hi", "bob")
    world.settle()
    bob.send("ho", "alice")
    world.settle()
    assert sender.entries == []
    assert [item.seq for item in sender.stored] == [1]
    sender.ack()
    assert sender.errors == [], "it holds its own message, if that means anything"
    sender.leave()
    world.wait(1.0)
    assert ("alice", "phone") not in world.store.cursors


def test_no_entry_leaves_for_somebody_else() -> None:
    """If this fails, a mistake of the store shows one user's messages to another (I9, failures R7)."""
    world = World()
    fill(world, "bob", 1)
    bob = world.connect("bob", log=LOG, after=0)
    world.commit()
    foreign = Message(seq=1, id="x", sender="alice", recipient="eve", text="secret", sent_at=0)
    with pytest.raises(AssertionError, match="does not belong"):
        world.core.handle(Loaded(bob.id, Page((foreign,), 0)), world.now)


Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "reply", "edit", "delete", "commit", "load", "ack", "wait", "reconnect"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


def awake(world: World) -> tuple[Client, ...]:
    """Everybody who is connected: they answer pings."""
    return tuple(client for client in world.clients.values() if client.open)


def catch_up(world: World, client: Client) -> None:
    """Let the client have and acknowledge everything."""
    world.wait(1.0, alive=awake(world))
    world.settle()
    while client.acked < client.held:
        client.ack()
        world.settle()
    assert client.held == world.store.head(client.user), "a device is not served"


def about(client: Client, action: str, target: str, to: str) -> wire.Send | wire.Edit | wire.Delete:
    """Something that is said of a message."""
    id = client.world.new_id()
    if action == "reply":
        return wire.Send(id=id, to=to, text="indeed", reply_to=target)
    return (
        wire.Edit(id=id, to=to, target=target, text="better")
        if action == "edit"
        else wire.Delete(id=id, to=to, target=target)
    )


def bare(entry: Message) -> Message:
    return replace(entry, text=None)


def history(script: list[Step], limits: Settings, *, memory_path: bool) -> list[list[Message]]:
    """Play the script; return what each connection got in all, own messages that only `stored` named included."""
    world = World(limits, memory_path=memory_path)
    names = ["alice", "alice", "bob", "bob", "alice", "bob"]
    clients = [world.join(name, f"device {place}", log=LOG, after=0) for place, name in enumerate(names)]

    for action, number in script:
        client = clients[number]
        match action:
            case "send":
                client.send(f"from {number}", "bob" if number % 2 else "alice")
            case "reply" | "edit" | "delete" if client.spoken:
                client.say(about(client, action, client.spoken[-1 - number // 2 :][0], "bob" if number % 2 else "alice"))
            case "commit" if world.batch is not None:
                world.commit()
            case "load" if world.loads:
                pages = sorted(world.loads)
                world.arrive(pages[number % len(pages)])
            case "ack":
                client.ack()
            case "wait":
                world.wait(number / 2, alive=awake(world))
            case "reconnect":
                catch_up(world, client)
                client.leave()
                clients[number] = world.join(client.user, client.device, log=LOG, after=client.held)
    for client in clients:
        catch_up(world, client)
    replay(world, Core(limits, memory_path=memory_path))
    got = []
    for client in world.clients.values():
        seqs = {*client.seqs, *client.named}
        entries = {entry.seq: entry for entry in (*world.store.logs.get(client.user, ()), *client.entries)}
        # What was deleted in the end may have left with its text or without it, by the moment at which it left.
        deleted = {entry.target for entry in entries.values() if entry.kind == "delete"}
        got.append(
            [
                bare(entries[seq]) if deleted & {entries[seq].id, entries[seq].target} else entries[seq]
                for seq in sorted(seqs)
            ]
        )
        assert len(client.seqs) == len(set(client.seqs))
        assert sorted(seqs) == list(range(client.start + 1, client.held + 1))
    return got


@given(script=steps, window=st.integers(1, 5))
def test_without_the_path_through_memory_the_same_entries_arrive(script: list[Step], window: int) -> None:
    """If this fails, the short cut is more than one: it loses, repeats or adds entries (C4, I5)."""
    limits = Settings(window=window, send_rate=None)
    assert history(script, limits, memory_path=True) == history(script, limits, memory_path=False)
