"""The examples, run as they stand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import trio
import trio_websocket

from trio_chat.client.raw import NotConnected, open_raw_client

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


async def test_retrieval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks, unread counts, edits, or what another device has read would not be what the example says they are."""
    example = load("retrieval")
    said: list[str] = []
    monkeypatch.setattr(example, "print", lambda line, **_: said.append(f"{line}\n"), raising=False)
    with trio.fail_after(60):
        await example.main()
    assert "".join(said) == SHOWN
