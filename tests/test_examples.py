"""The examples, run as they stand."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import msgspec
import pytest
import trio
import trio_websocket

from trio_chat import Identity, Refused, wire
from trio_chat.client.raw import NotConnected, RawClient, open_raw_client
from trio_chat.operations.serve import serve

from .support import UPGRADE, dial

Frame = TypeVar("Frame", bound=wire.ServerFrame)
EXAMPLES = Path(__file__).parent.parent / "examples"


def test_what_the_unit_starts_exists() -> None:
    """Else an operator copies a unit whose server refuses its own options."""
    unit = (EXAMPLES / "trio-chat.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=\S+/trio-chat serve (.*)$", unit, re.MULTILINE)
    known = {option for parameter in serve.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", line)) <= known


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def running(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """An example that serves, on a port of its own; gives the address, to which a query is to be added."""
    example = load(name)
    said, heard = trio.open_memory_channel[str](10)
    monkeypatch.setattr(example, "print", lambda line, **_: said.send_nowait(line), raising=False)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main, str(folder / "chat.db"), 0)
            yield f"ws://127.0.0.1:{(await heard.receive()).split()[-1]}/ws"
            nursery.cancel_scope.cancel()


async def next_frame(client: RawClient, kind: type[Frame]) -> Frame:
    """The next frame of a kind, whatever comes before it."""
    while not isinstance(got := await client.receive(), kind):
        pass
    return got


async def test_moderated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies the rules would have a chat without them."""
    async with (
        running("moderated", tmp_path, monkeypatch) as url,
        open_raw_client(f"{url}?user=alice") as alice,
        open_raw_client(f"{url}?user=bob") as bob,
    ):
        await alice.send(wire.Send(id="1", to="bob", text="darn, buy NOW"))
        refused = await next_frame(alice, wire.Error)
        assert (refused.id, refused.code, refused.message) == ("1", "not_allowed", "no advertising, please")
        await alice.send(wire.Send(id="2", to="eve", text="hi"))
        assert (await next_frame(alice, wire.Error)).id == "2"
        await alice.send(wire.Send(id="3", to="bob", text="darn"))
        assert [message.text for message in (await next_frame(bob, wire.Messages)).messages] == ["d**n"]


async def test_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first bot that somebody copies would answer nobody, or itself without end."""
    async with running("bot", tmp_path, monkeypatch) as url, open_raw_client(f"{url}?user=alice") as alice:
        await alice.send(wire.Send(id="1", to="echo", text="hi"))
        (message,) = (await next_frame(alice, wire.Messages)).messages
        assert (message.sender, message.text, message.reply_to) == ("echo", "you said: hi", "1")
        assert (await next_frame(alice, wire.Receipt)).read == 1


async def test_no_client_ends_the_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are each sender's own: the second who counts from 1 would end the bot, and so would a text too long to repeat."""
    async with (
        running("bot", tmp_path, monkeypatch) as url,
        open_raw_client(f"{url}?user=alice") as alice,
        open_raw_client(f"{url}?user=bob") as bob,
    ):
        users, ids = {"alice": alice, "bob": bob}, ("1", "x" * 63 + "1", "x" * 63 + "2")
        await alice.send(wire.Send(id="long", to="echo", text="x" * 16_384))
        for id in ids:
            for name, client in users.items():
                await client.send(wire.Send(id=id, to="echo", text=f"{id} of {name}"))
        for name, client in users.items():
            got: list[tuple[str | None, str | None]] = []
            while len(got) < 3:
                got += [(one.reply_to, one.text) for one in (await next_frame(client, wire.Messages)).messages]
            assert got == [(id, f"you said: {id} of {name}") for id in ids]


async def test_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing that an embedding developer copies would not work."""
    example = load("embedded")
    said, heard = trio.open_memory_channel[str](1)
    monkeypatch.setattr(example, "print", lambda line, **_: said.send_nowait(line), raising=False)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main, str(tmp_path / "chat.db"), 0)
            url = f"ws://127.0.0.1:{(await heard.receive()).split()[-1]}/ws?device=test"
            with pytest.raises(NotConnected) as refused:
                await open_raw_client(url).__aenter__()
            assert refused.value.status == 401
            headers = [(b"Authorization", b"Bearer s3cr3t")]
            async with trio_websocket.open_websocket_url(url, extra_headers=headers) as alice:
                welcome = msgspec.json.decode(await alice.get_message())
                assert (welcome["user"], welcome["device"], welcome["new"]) == ("alice", "test", True)
                await alice.send_message('{"type":"send","id":"1","to":"bob","text":"hi"}')
                assert msgspec.json.decode(await alice.get_message())["messages"][0]["seq"] == 1
            nursery.cancel_scope.cancel()


async def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application whose log-in issues tokens would copy something that lets nobody in, or nobody out."""
    example = load("tokens")
    said, heard = trio.open_memory_channel[str](2)
    monkeypatch.setattr(example, "print", lambda line, **_: said.send_nowait(line), raising=False)
    log_out, log_outs = trio.open_memory_channel[str](1)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main, str(tmp_path / "chat.db"), 0, log_outs)
            port, token = (await heard.receive()).removeprefix("alice's token for port ").split(": ")
            url = f"ws://127.0.0.1:{port}/ws?device=test"
            with pytest.raises(NotConnected) as refused:
                await open_raw_client(url).__aenter__()
            assert refused.value.status == 401
            async with await trio.open_tcp_stream("127.0.0.1", int(port)) as stream:
                headers = UPGRADE | {"Sec-WebSocket-Protocol": f"trio-chat.v1, bearer.{token}"}
                alice = await dial(stream, "/ws?device=test", headers)
                read = await alice.read()
                assert read is not None
                welcome = msgspec.json.decode(read[1])
                assert (welcome["user"], welcome["device"]) == ("alice", "test")
                await log_out.send("alice\n")
                assert (await alice.closed_with())[0] == 4401
            with pytest.raises(Refused):
                await example.revalidate(Identity("alice"))
            await example.revalidate(Identity("bob"))
            nursery.cancel_scope.cancel()


SHOWN = """\
alice's laptop  alice: Are you coming at seven?
     bob's web  alice: Are you coming at seven?
 alice's phone  bob has received 1
alice's laptop  bob has received 1
 alice's phone  alice changed that to: Are you coming at eight?
     bob's web  alice changed that to: Are you coming at eight?
 alice's phone  bob has read 2
alice's laptop  bob has read 2
 alice's phone  bob: Of course!
alice's laptop  bob: Of course!
alice's laptop  bob: 1 unread
alice's laptop  bob was read elsewhere, up to 3
 alice's phone  bob is there
     bob's web  history: bob: Of course!
     bob's web  history: alice: Are you coming at eight? (edited)
alice's laptop  found: Are you [coming] at [eight]?
     bob's web  blocks eve
   application  alice has laptop and phone
   application  bob has 0 unread
"""


async def test_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks, unread counts, edits, or what another device has read would not be what the example says they are."""
    example = load("several_devices")
    said: list[str] = []
    monkeypatch.setattr(example, "print", lambda line, **_: said.append(f"{line}\n"), raising=False)
    with trio.fail_after(60):
        await example.main()
    assert "".join(said) == SHOWN
