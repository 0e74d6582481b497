"""The application's hooks, seen from the clients: what they refuse and change, and that their failures hurt one message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.errors import ErrorCode, Rejected, StoreError, StoreFull, StoreUnavailable
from trio_chat.policy import Hooks, Outgoing
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import open_test_server

from .support import Client, HeldStore, ask, enter, entries, frame, heard, send, silence, stored

Hook = Callable[[Outgoing], Awaitable[Any]]


async def refused(client: Client) -> wire.Error:
    """The next frame, which is to refuse something."""
    return await frame(client, wire.Error)


async def answers(client: Client, count: int) -> dict[str | None, str]:
    """The answers to `count` messages, by their ids, whichever comes first: a code, or that it is stored."""
    got: dict[str | None, str] = {}
    while len(got) < count:
        answer = await client.receive()
        if isinstance(answer, wire.Error):
            assert answer.retry_after is None
            got[answer.id] = f"{answer.code}: {answer.message}"
        elif isinstance(answer, wire.Stored):
            got |= {item.id: "stored" for item in answer.messages}
    return got


async def keep(message: Outgoing) -> Outgoing:
    return message


async def shout(message: Outgoing) -> Outgoing:
    return replace(message, text=message.text.upper())


async def test_may_send_is_asked_of_every_pair_and_its_no_is_final(autojump_clock: MockClock) -> None:
    """Strangers could write to anybody in an application that allows contacts only."""
    asked: list[tuple[str, str]] = []

    async def may_send(sender: str, recipient: str) -> bool:
        asked.append((sender, recipient))
        return recipient == "bob"

    async with open_test_server(hooks=Hooks(may_send=may_send)) as server:
        alice = await enter(server, "alice")
        await alice.send(send("1", "bob"), send("2", "eve"), send("3", "bob"))
        no = f"not_allowed: {ErrorCode.NOT_ALLOWED.meaning}"
        assert await answers(alice, 3) == {"1": "stored", "2": no, "3": "stored"}
        assert asked == [("alice", "bob"), ("alice", "eve"), ("alice", "bob")]
        assert (await server.chat.history("eve")).messages == ()


async def test_before_send_changes_the_text_for_everybody(autojump_clock: MockClock) -> None:
    """The recipient would read what was moderated away, or the sender's own devices would show another text than his."""
    async with open_test_server(hooks=Hooks(before_send=shout)) as server:
        alice, laptop, bob = await enter(server, "alice"), await enter(server, "alice", "laptop"), await enter(server, "bob")
        await alice.send(send("1", "bob", "hi"))
        assert [entry.text for entry in await entries(bob, 1)] == ["HI"]
        assert [entry.text for entry in await entries(laptop, 1)] == ["HI"]
        assert [item.text for item in await stored(alice, 1)] == ["HI"]
        await alice.send(send("1", "bob", "hi"), send("2", "bob", "LOUD"))
        assert [item.text for item in await stored(alice, 2)] == ["HI", None]


async def test_a_message_sent_again_is_answered_without_asking_twice(autojump_clock: MockClock) -> None:
    """A retry would be refused for another text than the stored one, or be counted twice by a moderator (S2)."""
    asked: list[str] = []

    async def count(message: Outgoing) -> Outgoing:
        asked.append(message.id)
        return replace(message, text=f"{message.text} #{len(asked)}")

    async with open_test_server(hooks=Hooks(before_send=count)) as server:
        alice = await enter(server, "alice", "cli", window=0)
        await alice.send(send("1", "bob", "hi"))
        first = await stored(alice, 1)
        await alice.send(send("1", "bob", "hi"))
        assert await stored(alice, 1) == first
        await alice.send(send("1", "bob", "hi #1"))
        assert (await refused(alice)).code == "id_conflict"
        assert asked == ["1"]
        assert [message.text for message in (await server.chat.history("bob")).messages] == ["hi #1"]


async def test_edits_are_asked_about_and_deletions_are_not(autojump_clock: MockClock) -> None:
    """What may not be sent could be edited in; or nobody could take back what a hook has come to dislike."""
    seen: list[tuple[str, str | None, str | None]] = []

    async def moderate(message: Outgoing) -> Outgoing:
        seen.append((message.kind, message.reply_to, message.target))
        if "spam" in message.text:
            raise Rejected(message="no advertising")
        return message

    async with open_test_server(hooks=Hooks(before_send=moderate)) as server:
        alice = await enter(server, "alice")
        await alice.send(send("1", "bob", "hi"), wire.Send(id="2", to="bob", text="ho", reply_to="1"))
        await alice.send(wire.Edit(id="3", to="bob", target="1", text="spam"), wire.Delete(id="4", to="bob", target="1"))
        no = "not_allowed: no advertising"
        assert await answers(alice, 4) == {"1": "stored", "2": "stored", "3": no, "4": "stored"}
        assert seen == [("message", None, None), ("message", "1", None), ("edit", None, "1")]


async def raises(message: Outgoing) -> Outgoing:
    raise LookupError(message.text)


async def raises_in_a_group(message: Outgoing) -> Outgoing:
    raise ExceptionGroup("several", [Rejected(), LookupError()])


async def gives_nothing(message: Outgoing) -> None:
    return None


async def gives_a_text(message: Outgoing) -> str:
    return "yes"


async def hangs(message: Outgoing) -> Outgoing:
    await trio.sleep_forever()
    raise AssertionError


async def changes_the_recipient(message: Outgoing) -> Outgoing:
    return replace(message, recipient="eve")


async def changes_the_id(message: Outgoing) -> Outgoing:
    return replace(message, id="other")


async def empties(message: Outgoing) -> Outgoing:
    return replace(message, text="")


async def puts_in_a_nul(message: Outgoing) -> Outgoing:
    return replace(message, text="\0")


async def halves_a_pair(message: Outgoing) -> Outgoing:
    return replace(message, text="\ud800")


async def makes_it_long(message: Outgoing) -> Outgoing:
    return replace(message, text="x" * (Settings().text_bytes + 1))


async def gives_bytes(message: Outgoing) -> Outgoing:
    return replace(message, text=b"hi")


FAILING = (
    raises,
    raises_in_a_group,
    gives_nothing,
    gives_a_text,
    hangs,
    changes_the_recipient,
    changes_the_id,
    empties,
    puts_in_a_nul,
    halves_a_pair,
    makes_it_long,
    gives_bytes,
)


@pytest.mark.parametrize("hook", FAILING)
async def test_a_failing_hook_costs_that_message_and_no_other(
    hook: Hook, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One message that a hook chokes on would end the server, or keep others waiting (failures 28)."""

    async def fails_for_alice(message: Outgoing) -> Any:
        return await (hook if message.sender == "alice" else keep)(message)

    async with open_test_server(hooks=Hooks(before_send=fails_for_alice)) as server:
        alice, bob = await enter(server, "alice", "cli", window=0), await enter(server, "bob")
        await alice.send(send("1", "bob", "sEcrEt"))
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        await bob.send(send("2", "carol"))
        assert [item.id for item in await stored(bob, 1)] == ["2"]
        assert trio.current_time() - begun < 1
        error = await refused(alice)
        assert (error.id, error.code) == ("1", "internal")
        assert error.retry_after is not None
        assert (await server.chat.history("bob", peer="alice")).messages == ()
        await silence(bob, 1)
    assert "before_send" in caplog.text
    assert "sEcrEt" not in "".join(record.getMessage() for record in caplog.records)


async def test_a_hook_that_says_neither_yes_nor_no_refuses(autojump_clock: MockClock) -> None:
    """Whatever a hook returns by mistake would count as a yes."""

    async def maybe(sender: str, recipient: str) -> Any:
        return 1

    async with open_test_server(hooks=Hooks(may_send=maybe)) as server:
        alice = await enter(server, "alice")
        await alice.send(send("1", "bob"))
        assert (await refused(alice)).code == "internal"


async def test_a_slow_hook_slows_who_it_is_asked_about_and_keeps_the_order(autojump_clock: MockClock) -> None:
    """Messages of a connection would be stored in the order in which a moderator gets to them (S4), or all would wait."""

    async def slow(message: Outgoing) -> Outgoing:
        await trio.sleep(3 if message.text == "long" else 0)
        return message

    async with open_test_server(hooks=Hooks(before_send=slow)) as server:
        alice, bob = await enter(server, "alice", "cli", window=0), await enter(server, "bob", "cli", window=0)
        await alice.send(send("1", "eve", "long"), send("2", "eve", "short"))
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        await bob.send(send("3", "eve", "short"))
        await stored(bob, 1)
        assert trio.current_time() - begun < 1
        assert [item.id for item in await stored(alice, 2)] == ["1", "2"]
        assert [message.id for message in (await server.chat.history("eve", order="asc")).messages] == ["3", "1", "2"]


async def test_the_application_is_not_asked_about_itself(autojump_clock: MockClock) -> None:
    """A bot that answers from inside a hook would be judged by itself, and a system message refused by its own rule."""

    async def never(sender: str, recipient: str) -> bool:
        return False

    async with open_test_server(hooks=Hooks(may_send=never)) as server:
        assert (await server.chat.send("system", "alice", "welcome")).seq == 1


async def test_what_was_refused_meanwhile_is_not_judged(autojump_clock: MockClock) -> None:
    """A moderator would be asked about messages that are refused already, and what is sent again would wait behind them."""
    asked: list[str] = []

    async def slow(message: Outgoing) -> Outgoing:
        asked.append(message.id)
        await trio.sleep(1)
        return message

    store = MemoryStore()
    async with open_test_server(hooks=Hooks(before_send=slow), store=store) as server:
        alice = await enter(server, "alice")
        store.fail_next(StoreFull("no space"), StoreFull("no space"))
        await alice.send(*(send(str(number), "bob") for number in range(5)))
        assert [(await refused(alice)).id for _ in range(5)] == ["0", "1", "2", "3", "4"]
        await silence(alice, 2)
        assert asked == ["0", "1"]
        await alice.send(*(send(str(number), "bob") for number in range(5)))
        assert [item.id for item in await stored(alice, 5)] == ["0", "1", "2", "3", "4"]
        assert asked == ["0", "1", "1", "2", "3", "4"]  # what was allowed is not asked about again


async def test_a_message_that_comes_twice_before_it_is_stored_is_judged_once(autojump_clock: MockClock) -> None:
    """A client whose line broke would be told that a message is refused which is stored and delivered (S2, S5)."""
    asked: list[str] = []
    go_on = trio.Event()

    async def first_yes(message: Outgoing) -> Outgoing:
        asked.append(message.id)
        await go_on.wait()
        if len(asked) > 1:
            raise Rejected
        return replace(message, text="changed")

    store = HeldStore()
    async with open_test_server(hooks=Hooks(before_send=first_yes), store=store) as server:
        phone, laptop, web = [await enter(server, "alice", device) for device in ("phone", "laptop", "web")]
        store.hold()
        await phone.send(send("1", "bob"))
        await wait_all_tasks_blocked()
        await laptop.send(send("1", "bob"))  # while it is being judged
        await wait_all_tasks_blocked()
        go_on.set()
        await wait_all_tasks_blocked()
        await web.send(send("1", "bob"), send("1", "bob", "another"))  # while it is being committed
        await wait_all_tasks_blocked()
        store.release()
        for client in (phone, laptop, web):
            said = await heard(client, 1)
            items = [item for got in said if isinstance(got, wire.Stored) for item in got.messages]
            assert [(item.seq, item.text) for item in items] == [(1, "changed")]
            codes = [got.code for got in said if isinstance(got, wire.Error)]
            assert codes == (["not_allowed"] if client is web else [])
        assert asked == ["1", "1"]
        assert store.texts("bob") == ["changed"]


async def test_a_message_that_is_stored_while_the_store_is_asked_is_not_judged(autojump_clock: MockClock) -> None:
    """Between the store's "no" and the hook's turn lies a commit: the message would be judged a second time."""
    asked: list[str] = []

    async def count(message: Outgoing) -> Outgoing:
        asked.append(message.id)
        return message

    class Forgetful(MemoryStore):
        async def known(self, ids: Any) -> list[bool]:
            await trio.lowlevel.checkpoint()
            return [False for _ in ids]

    async with open_test_server(hooks=Hooks(before_send=count), store=Forgetful()) as server:
        alice = await enter(server, "alice")
        for _ in range(2):
            await alice.send(send("1", "bob"))
            await stored(alice, 1)
        assert asked == ["1"]


class Unreadable(MemoryStore):
    """A store that cannot say what it holds."""

    error: StoreError = StoreUnavailable("the disk is gone")

    async def known(self, ids: Any) -> list[bool]:
        await trio.lowlevel.checkpoint()
        raise self.error


async def test_a_store_that_cannot_be_asked_refuses_for_now(autojump_clock: MockClock) -> None:
    """A message that is stored might be judged again; or the hook's task would end the server."""
    async with open_test_server(hooks=Hooks(before_send=keep), store=Unreadable()) as server:
        alice = await enter(server, "alice")
        await alice.send(send("1", "bob"), send("2", "bob"))
        assert [(error.id, error.code) for error in [await refused(alice), await refused(alice)]] == [
            ("1", "store_unavailable"),
            ("2", "store_unavailable"),
        ]


async def test_a_drain_answers_what_is_being_judged(autojump_clock: MockClock) -> None:
    """What was read before the shutdown would be lost without an answer (D1)."""
    judging, go_on = trio.Event(), trio.Event()

    async def wait(message: Outgoing) -> Outgoing:
        judging.set()
        await go_on.wait()
        return message

    store = HeldStore()
    async with open_test_server(hooks=Hooks(before_send=wait), store=store) as server, trio.open_nursery() as nursery:
        alice = await enter(server, "alice")
        await alice.send(send("1", "bob"))
        await judging.wait()
        nursery.start_soon(server.chat.drain)
        await wait_all_tasks_blocked()
        go_on.set()
        assert [item.id for item in await stored(alice, 1)] == ["1"]
    assert store.texts("bob") == ["hi"]


async def test_may_watch_decides_who_is_seen_and_a_block_goes_before_it(autojump_clock: MockClock) -> None:
    """An application's contacts would not see one another before they have written; or somebody blocked would (B1)."""
    asked: list[tuple[str, str]] = []

    async def may_watch(viewer: str, user: str) -> bool:
        asked.append((viewer, user))
        if user == "mallory":
            raise LookupError
        return user in ("bob", "carol")

    async with open_test_server(hooks=Hooks(may_watch=may_watch)) as server:
        alice = await enter(server, "alice")
        for user in ("bob", "carol", "eve", "mallory"):
            await enter(server, user)
        await server.chat.block("carol", "alice")
        await alice.send(wire.Watch(ref="w", users=("bob", "carol", "eve", "mallory")))
        seen = [await frame(alice, wire.Presence) for _ in range(4)]
        assert {presence.user: presence.online for presence in seen} == {
            "bob": True,
            "carol": False,
            "eve": False,
            "mallory": False,
        }
        assert all(presence.last_seen is None for presence in seen)
        assert sorted(asked) == [("alice", "bob"), ("alice", "eve"), ("alice", "mallory")]
        assert (await ask(alice, wire.Blocks(ref="b"), wire.Blocked)).users == ()


def test_a_rejection_has_a_code_of_the_catalogue() -> None:
    """A client would be told a code that says nothing about the message."""
    assert Rejected().code is ErrorCode.NOT_ALLOWED
    assert Rejected("rate_limited").code is ErrorCode.RATE_LIMITED
    assert str(Rejected(message="no")) == "no"
    with pytest.raises(ValueError, match="nonsense"):
        Rejected("nonsense")


@pytest.mark.parametrize("message", ["\ud800", "x" * 501, 7, b"no"])
def test_a_rejection_says_what_can_be_sent(message: Any) -> None:
    """The connection of who is refused would break, for the error frame cannot be written (failures 28)."""
    with pytest.raises(ValueError, match="500"):
        Rejected(message=message)
