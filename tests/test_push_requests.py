"""What clients say about push on the wire: where they can be reached, and of what they want to be told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_chat import wire
from trio_chat.client.raw import RawClient
from trio_chat.errors import ErrorCode, StoreBusy
from trio_chat.push.settings import Push
from trio_chat.settings import Settings
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import InMemoryServer, open_test_server

from .push.test_dispatcher import Fake, clock
from .support import HeldStore, ask, closed, enter


def register(ref: str = "r", target: str = "secret", **fields: str) -> wire.PushRegister:
    return wire.PushRegister(ref=ref, target=target, **{"provider": "fake", "kind": "token", **fields})


async def about(client: RawClient, request: wire.PushRequest) -> wire.PushAnswer:
    answer = await ask(client, request, wire.PushAnswer)
    assert answer.ref == request.ref
    return answer


def devices(answer: wire.PushAnswer) -> list[str]:
    return [target.device for target in answer.targets]


async def targets(server: InMemoryServer, user: str) -> list[str]:
    return [target.device for target in await server.chat.push_targets(user)]


async def test_a_device_registers_and_is_told(autojump_clock: MockClock) -> None:
    """A phone could not say where it can be reached; or for whom, and the push would go to somebody else."""
    fake = Fake()
    async with open_test_server(push=Push(providers=[fake]), clock=clock) as server:
        phone = await enter(server, "bob", "phone")
        nothing = await about(phone, wire.PushQuestion(ref="q"))
        assert nothing == wire.PushAnswer(
            ref="q", providers=(wire.PushProvider(name="fake"),), targets=(), muted=(), quiet=False
        )
        answer = await about(phone, register())
        (target,) = answer.targets
        assert (target.device, target.provider, target.kind) == ("phone", "fake", "token")
        assert b"secret" not in wire.encode(answer)
        await phone.aclose()
        await server.chat.send("alice", "bob", "hi")
        await trio.sleep(60)
        assert [device for device, _ in fake.asked] == ["phone"]


async def test_each_device_speaks_for_itself(autojump_clock: MockClock) -> None:
    """Logging out on one device would silence another; or one that was taken over would be told of its old owner's talk."""
    async with open_test_server(push=Push(providers=[Fake(), Fake("other")]), clock=clock) as server:
        phone, tablet = await enter(server, "bob", "phone"), await enter(server, "bob", "tablet")
        carol = await enter(server, "carol", "phone")
        await about(phone, register(target="one"))
        await about(phone, register(target="one", provider="other"))
        assert devices(await about(tablet, register(target="two"))) == ["phone", "phone", "tablet"]
        assert devices(await about(carol, wire.PushUnregister(ref="u"))) == []
        left = await about(phone, wire.PushUnregister(ref="u", provider="other"))
        assert [(target.device, target.provider) for target in left.targets] == [("phone", "fake"), ("tablet", "fake")]
        assert devices(await about(phone, wire.PushUnregister(ref="u"))) == ["tablet"]
        assert devices(await about(carol, register(target="two"))) == ["phone"]
        assert devices(await about(tablet, wire.PushQuestion(ref="q"))) == []


async def test_of_what_a_user_wants_to_be_told(autojump_clock: MockClock) -> None:
    """Nobody could have silence from their own client; or would not see that they have it."""
    async with open_test_server(push=Push(providers=[Fake()]), clock=clock, settings=Settings(blocks=1)) as server:
        phone = await enter(server, "bob", "phone")
        assert (await about(phone, wire.Mute(ref="m", user="eve"))).muted == ("eve",)
        refused = await ask(phone, wire.Mute(ref="n", user="zoe"), wire.Error)
        assert (refused.code, refused.ref, refused.retry_after) == (ErrorCode.NOT_ALLOWED, "n", None)
        assert (await about(phone, wire.Unmute(ref="m", user="eve"))).muted == ()
        assert (await about(phone, wire.Quiet(ref="m", quiet=True))).quiet
        assert (await server.chat.push_preferences("bob")).quiet
        assert not (await about(phone, wire.Quiet(ref="m", quiet=False))).quiet


@pytest.mark.parametrize(
    ("fields", "why"), [({"provider": "none"}, "no such push provider"), ({"kind": "fid"}, "only tokens")]
)
async def test_what_no_provider_can_use_is_refused(autojump_clock: MockClock, fields: dict[str, Any], why: str) -> None:
    """What can never be reached would be tried for ever, or a URL of the client's choice would be called."""
    async with open_test_server(push=Push(providers=[Fake()]), clock=clock) as server:
        phone = await enter(server, "bob", "phone")
        refused = await ask(phone, register(**fields), wire.Error)
        assert (refused.code, refused.ref) == (ErrorCode.BAD_QUERY, "r")
        assert why in refused.message
        assert "secret" not in refused.message
        assert await targets(server, "bob") == []


async def test_the_key_that_browsers_subscribe_with_is_told(autojump_clock: MockClock) -> None:
    """A page would have to be told by other means, which go wrong when the key changes."""
    fake = Fake("web_push")
    fake.public_key = "BKey"  # type: ignore[attr-defined]
    async with open_test_server(push=Push(providers=[fake]), clock=clock) as server:
        answer = await about(await enter(server, "bob", "web"), wire.PushQuestion(ref="q"))
        assert answer.providers == (wire.PushProvider(name="web_push", key="BKey"),)


async def test_a_store_that_is_busy_is_said_so(autojump_clock: MockClock) -> None:
    """A device would believe that it is registered."""
    store = MemoryStore()
    async with open_test_server(store=store, push=Push(providers=[Fake()]), clock=clock) as server:
        phone = await enter(server, "bob", "phone")
        store.fail_next(StoreBusy("busy"))
        refused = await ask(phone, register(), wire.Error)
        assert (refused.code, refused.ref) == (ErrorCode.OVERLOADED, "r")
        assert devices(await about(phone, register())) == ["phone"]


async def test_who_was_revoked_registers_nothing_more(autojump_clock: MockClock) -> None:
    """Who was thrown out while a registration was on its way would go on hearing of messages, for sixty days."""
    store = HeldStore()
    async with open_test_server(store=store, push=Push(providers=[Fake()]), clock=clock) as server:
        phone = await enter(server, "bob", "phone")
        store.hold()
        for n in range(3):
            await phone.send(register(f"r{n}", target=f"t{n}"))
        await wait_all_tasks_blocked()
        server.chat.revoke("bob", "phone")
        await phone.send(register("r4", target="t4"))
        await wait_all_tasks_blocked()
        store.release()
        assert (await closed(phone)).code == 4401
        await trio.sleep(10)
        assert await targets(server, "bob") == []


async def test_one_who_has_left_changes_nothing(autojump_clock: MockClock) -> None:
    """What waited for its turn would be done for a device that nobody knows any more."""
    store = HeldStore()
    async with open_test_server(store=store, push=Push(providers=[Fake()]), clock=clock) as server:
        phone = await enter(server, "bob", "phone")
        store.hold()
        for n in range(3):
            await phone.send(register(f"r{n}", target=f"t{n}"))
        await wait_all_tasks_blocked()
        assert server.chat.statistics().progress.queues.questions == 0
        await phone.aclose()
        await wait_all_tasks_blocked()
        store.release()
        await trio.sleep(10)
        assert len(await targets(server, "bob")) == 1
