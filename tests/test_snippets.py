"""The Python in the documentation, executed as it stands: every line of it, none of it merely compiled."""

from __future__ import annotations

import ast
import hashlib
import hmac
import importlib
import inspect
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from anyio.from_thread import start_blocking_portal
from httpx2 import Headers
from msgspec.structs import replace
from trio.testing import MockClock

import trio_chat
from trio_chat import (
    Chat,
    Identity,
    Refused,
    Request,
    authenticators,
    handle_websocket,
    open_chat,
    serve_tcp,
    wire,
)
from trio_chat.client import Unauthorized, open_client
from trio_chat.committer import unix_ms
from trio_chat.push import http as push_http
from trio_chat.push.base import Gone, RetryAfter, Sent
from trio_chat.push.webhook import Webhook
from trio_chat.store.memory import MemoryStore
from trio_chat.testing import InMemoryServer, RecordingProvider, open_test_chat, open_test_server
from trio_chat.testing.clocks import in_step

from .authenticators import tokens
from .push.far import HELLO, Asked, Reply, far_away, reply, target
from .push.test_fcm import TAKEN, account
from .snippets import PAGES, ROOT, Fenced, Shown, fenced, snippets
from .support import UPGRADE, answer, ask, closed, dial, enter, request
from .transport.peer import Peer

pytestmark = pytest.mark.once

LANGUAGES = {"python", "sh", "json", "js", "text", "{literalinclude}", "{toctree}", "{eval-rst}", "{warning}"}
SNIPPETS = snippets()
OF_THE_KIT = [one for one in SNIPPETS if "open_test_chat(" in one.text and not one.label]
FILES = {
    "tutorial.md": ("tests/test_docs.py", ["app.py", "test_app.py"]),
    "testing.md": (
        "tests/testing/test_fixtures.py",
        [f"{plugin} {name}" for plugin in ("pytest-trio", "anyio") for name in ("conftest.py", "test_chat.py")],
    ),
}
"""Those with the name of a file: another test makes the files, and runs them as a reader would."""
BOTS = [one for one in SNIPPETS if one.page == "README.md" and ".run(echo" in one.text]  # by tests/test_readme.py
HERE: list[Fenced] = []


def of(page: str, start: str) -> pytest.MarkDecorator:
    """The test is given the one snippet of the page that starts so, as `shown`."""
    (one,) = (each for each in SNIPPETS if each.page == page and each.text.startswith(start))
    HERE.append(one)
    return pytest.mark.parametrize("shown", [one], ids=str, indirect=True)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Iterator[Shown]:
    """A snippet; when the test has ended, every statement of it has to have run."""
    one = Shown(request.param)
    yield one
    assert one.missed() == []


# That there is no other.


def test_every_snippet_is_run() -> None:
    """Else somebody adds one that only looks right: write a test here that is given it with `of`."""
    files = [one for one in SNIPPETS if one.page in FILES and one.label in FILES[one.page][1]]
    run = [*HERE, *OF_THE_KIT, *files, *BOTS]
    assert [str(one) for one in SNIPPETS if one not in run] == []
    for page, (test, labels) in FILES.items():
        assert [one.label for one in files if one.page == page] == labels
        assert page in (ROOT / test).read_text(encoding="utf-8")


def test_no_snippet_goes_by_another_name() -> None:
    """Else one that is called ``py`` or ``{code-block} python`` would be run by nobody, and not be missed."""
    assert [f"{one}: {one.language}" for one in fenced() if one.language not in LANGUAGES] == []
    assert [str(one) for one in fenced() if "code-block::" in one.text or "doctest::" in one.text] == []
    fences = re.compile(r"^[ >]*(?:```|~~~)", re.MULTILINE)  # one that is not closed, or in a quotation, would not be found
    for page in PAGES:
        assert len(fences.findall(page.read_text(encoding="utf-8"))) == 2 * len(list(fenced([page]))), page


def test_a_snippet_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """Else one in a list, or between other fences, is not among those that have to be run."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\none\n```\n- a list\n\n  ```python a label\n  two\n    more\n  ```\n~~~python\nthree\n~~~\n", "utf-8"
    )
    found = [(one.line, one.label, one.text) for one in snippets([page])]
    assert found == [(1, "", "one\n"), (6, "a label", "two\n  more\n"), (10, "", "three\n")]


def test_a_line_that_is_not_reached_is_noticed() -> None:
    """Else a snippet counts as run of which only the definitions were looked at."""
    shown = Shown(Fenced("page.md", 1, "python", "", "def one(x):\n    if x:\n        return 1\n    return 2\n"))
    assert shown.missed() == ["def one(x):", "    if x:", "        return 1", "    return 2"]
    one = shown.now()["one"]
    assert shown.missed() == ["    if x:", "        return 1", "    return 2"]
    assert one(True) == 1
    assert shown.missed() == ["    return 2"]
    assert one(False) == 2
    assert shown.missed() == []


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_what_a_snippet_names_exists(snippet: Fenced) -> None:
    """Else a reader copies what imports a name that was never there or is no longer."""
    for node in ast.walk(ast.parse(snippet.text)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("trio_chat"):
                for alias in names:
                    assert hasattr(importlib.import_module(module), alias.name), alias.name
            case ast.Attribute(value=ast.Name(id="trio_chat" | "authenticators" as place)):
                module = "trio_chat" if place == "trio_chat" else "trio_chat.authenticators"
                assert hasattr(importlib.import_module(module), node.attr), node.attr


# Those of the testing kit: they need nothing but it.


@pytest.mark.parametrize("shown", OF_THE_KIT, ids=str, indirect=True)
async def test_a_snippet_of_the_kit(shown: Shown, autojump_clock: MockClock) -> None:
    """Else who learns from these pages how to test, retrieve or moderate learns what fails. What they do, they assert."""
    names: dict[str, Any] = {
        name: getattr(trio_chat, name) for name in ("Hooks", "NotAllowed", "Outgoing", "Push", "Rejected")
    }
    names |= {"Gone": Gone, "RetryAfter": RetryAfter}
    await shown.run(pytest=pytest, wire=wire, open_test_chat=open_test_chat, replace=replace, **names)


# The others, each in what its page supposes.


class Sessions:
    """What an application has that knows its users: who logged in with which credentials."""

    def __init__(self) -> None:
        self.users = {"Bearer s3cret": "alice"}

    async def user_of(self, header: str | None) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.users.get(header or "")

    async def still_valid(self, user: str) -> bool:
        await trio.lowlevel.checkpoint()
        return user in self.users.values()


class Door:
    """`serve_tcp` as the snippets call it, but on a port that is free."""

    def __init__(self) -> None:
        self._open = trio.Event()
        self._port = 0

    async def __call__(self, chat: Chat, port: int, *, task_status: Any = trio.TASK_STATUS_IGNORED, **options: Any) -> None:
        assert port == 6662
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(serve_tcp, chat, 0, **options))
            self._port = listeners[0].socket.getsockname()[1]
            self._open.set()
            task_status.started(listeners)

    async def dial(self) -> trio.SocketStream:
        """A fresh connection to it, as soon as there is a listener."""
        with trio.fail_after(60):
            await self._open.wait()
        return await trio.open_tcp_stream("127.0.0.1", self._port)

    async def url(self) -> str:
        await trio.aclose_forcefully(await self.dial())
        return f"ws://127.0.0.1:{self._port}/ws"

    async def status(self, target: str = "/ws", **headers: str) -> int:
        """How it answers a plain request: 401 if a WebSocket would be refused, 426 if one would be opened."""
        head = {"Host": "localhost", "Connection": "close"} | headers
        async with await self.dial() as stream:
            return int((await answer(stream, request(target, head))).split()[1])


@asynccontextmanager
async def running(shown: Shown, **names: Any) -> AsyncIterator[tuple[Chat, Door]]:
    """A snippet that serves the `chat` it finds, for as long as the block lasts."""
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        door = Door()
        nursery.start_soon(partial(shown.run, chat=chat, serve_tcp=door, **names))
        yield chat, door
        nursery.cancel_scope.cancel()


async def welcomed(peer: Peer) -> dict[str, Any]:
    """The first frame that it is sent."""
    with trio.fail_after(60):
        read = await peer.read()
    assert read is not None
    frame: dict[str, Any] = json.loads(read[1])
    assert frame["type"] == "welcome"
    return frame


async def stored(url: str, **options: Any) -> str | None:
    """The user that a client with these credentials is, when it has had something stored."""
    with trio.fail_after(60):
        async with open_client(url, **options) as client:
            await client.send("bob", "hi")
            return client.user


@of("README.md", "async def authenticate(")
async def test_to_embed_it(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first thing that anybody copies does not start, or lets in whoever comes."""
    monkeypatch.chdir(tmp_path)
    door = Door()
    names = {"Identity": Identity, "Refused": Refused, "open_chat": open_chat, "partial": partial, "trio": trio}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(shown.run, serve_tcp=door, my_sessions=Sessions(), **names))
        url = await door.url()
        assert await stored(f"{url}?device=phone", token="s3cret") == "alice"
        with pytest.raises(Unauthorized):
            await stored(url, token="guessed")
        nursery.cancel_scope.cancel()
    async with open_chat("chat.db") as chat:  # it has let go of the file, and what was stored is there
        assert [device.name for device in await chat.devices("alice")] == ["phone"]


@of("authentication.md", "async def authenticate(")
async def test_to_say_who_it_is(shown: Shown, autojump_clock: MockClock) -> None:
    """Else an application's log-in does not let its users in, or lets in others."""
    names = shown.now(my_sessions=Sessions(), Identity=Identity, Refused=Refused)
    async with open_test_server(authenticate=names["authenticate"]) as server:
        peer = await dial(await server.stream(), "/ws?device=phone", UPGRADE | {"Authorization": "Bearer s3cret"})
        welcome = await welcomed(peer)
        assert (welcome["user"], welcome["device"]) == ("alice", "phone")
        assert (await answer(await server.stream(), request("/ws"))).split()[1] == b"401"


@of("authentication.md", "authenticate = authenticators.jwt(")
async def test_to_believe_web_tokens(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the line for web tokens lets in whom another service vouched for, or nobody."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [tokens.jwk("Ed25519")]}), encoding="utf-8")
    good = {"exp": time.time() + 3600, "aud": "chat", "iss": "https://login.example.com"}

    def token(**changed: str) -> str:
        return tokens.token(tokens.private("Ed25519"), "EdDSA", **(good | changed))

    async with running(shown, authenticators=authenticators) as (_, door):
        assert await stored(await door.url(), token=token()) == "alice"
        for wrong in (token(aud="mail"), token(iss="https://login.example.net")):
            with pytest.raises(Unauthorized):
                await stored(await door.url(), token=wrong)


@of("authentication.md", "cookie = authenticators.signed_cookie(")
async def test_to_sign_a_cookie(shown: Shown) -> None:
    """Else a page whose user has logged in is refused, or one whose user has not is let in."""
    response = SimpleNamespace(headers={})
    names = {"authenticators": authenticators, "key": secrets.token_bytes(32), "response": response}
    async with running(shown, **names) as (_, door):
        await door.url()
        cookie, *attributes = response.headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Secure"} <= set(attributes)
        page = UPGRADE | {"Origin": "http://localhost"}
        peer = await dial(await door.dial(), "/ws", page | {"Cookie": cookie})
        assert (await welcomed(peer))["user"] == "alice"
        assert await door.status(Cookie=cookie[:-1]) == 401
        await trio.aclose_forcefully(peer.stream)


@of("authentication.md", "async def revalidate(")
async def test_to_ask_again_afterwards(shown: Shown, autojump_clock: MockClock) -> None:
    """Else whoever was logged out goes on reading for as long as the connection holds."""
    sessions = Sessions()
    servers: list[InMemoryServer] = []

    async def in_memory(chat: object, port: int, **options: Any) -> None:
        inspect.signature(serve_tcp).bind(chat, port, **options)
        async with open_test_server(**options) as server:
            servers.append(server)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        names = {"Refused": Refused, "my_sessions": sessions, "authenticate": authenticators.demo, "serve_tcp": in_memory}
        nursery.start_soon(partial(shown.run, chat=None, **names))
        await trio.testing.wait_all_tasks_blocked()
        (server,) = servers
        clients = [await enter(server, "alice", device) for device in ("phone", "tablet")]
        await trio.sleep(31)
        assert [await ask(client, wire.Ping(), wire.Pong) for client in clients]  # they were asked about, and may stay
        sessions.users.clear()
        assert [(await closed(client)).code for client in clients] == [4401, 4401]
        nursery.cancel_scope.cancel()


@of("authentication.md", "class Session(")
async def test_to_carry_more_than_an_identity(shown: Shown, autojump_clock: MockClock) -> None:
    """Else `revalidate` is not given what the authenticator has found out."""
    session = shown.now(Identity=Identity)["Session"]
    asked: list[Identity] = []

    async def authenticate(request: Request) -> Identity:
        await trio.lowlevel.checkpoint()
        made: Identity = session("alice", "phone", number=7)
        return made

    async def revalidate(identity: Identity) -> None:
        await trio.lowlevel.checkpoint()
        asked.append(identity)

    async with open_test_server(authenticate=authenticate, revalidate=revalidate) as server:
        await dial(await server.stream(), "/ws")
        await trio.sleep(31)
    assert set(asked) == {session("alice", "phone", number=7)}


@of("embedding.md", "async def websocket(")
async def test_to_serve_what_trio_websocket_has_accepted(shown: Shown) -> None:
    """Else an application of trio-websocket's that does as it is told has no chat."""

    async def who_is(request: trio_websocket.WebSocketRequest) -> Identity:
        await trio.lowlevel.checkpoint()
        assert request.path == "/ws"
        return Identity("alice", "phone")

    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        websocket = shown.now(who_is=who_is, handle_websocket=handle_websocket, chat=chat)["websocket"]
        serve = partial(trio_websocket.serve_websocket, websocket, "127.0.0.1", 0, None)
        server = await nursery.start(serve)
        assert await stored(f"ws://127.0.0.1:{server.port}/ws") == "alice"
        nursery.cancel_scope.cancel()


@of("embedding.md", "with start_blocking_portal()")
async def test_to_send_from_code_that_is_not_async(shown: Shown) -> None:
    """Else a view of Django's, in a thread, has no way to say something."""
    door, sessions = Door(), Sessions()
    authenticate = shown_authenticator(sessions)
    async with open_chat(MemoryStore()) as chat, trio.open_nursery() as nursery:
        nursery.start_soon(partial(door, chat, 6662, authenticate=authenticate))
        names = {"URL": await door.url(), "token": "s3cret", "open_client": open_client}
        with trio.fail_after(60):
            await trio.to_thread.run_sync(
                partial(shown.now, start_blocking_portal=start_blocking_portal, **names), abandon_on_cancel=True
            )
        (message,) = (await chat.history("bob")).messages
        assert (message.sender, message.text) == ("alice", "Your order is on its way.")
        nursery.cancel_scope.cancel()


def shown_authenticator(sessions: Sessions) -> Any:
    """The one that the page on log-ins shows."""
    (one,) = (each for each in HERE if each.page == "authentication.md" and each.text.startswith("async def authenticate("))
    return Shown(one).now(my_sessions=sessions, Identity=Identity, Refused=Refused)["authenticate"]


@of("client.md", "async with open_client(")
async def test_the_client(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the page on the client begins with a bot that does not answer."""
    monkeypatch.chdir(tmp_path)

    async def authenticate(request: Request) -> Identity:
        if request.header("authorization") == "Bearer s3cret":
            return Identity("bot", request.parameter("device") or "default")
        return await authenticators.demo(request)

    async with open_test_server(authenticate=authenticate) as server, trio.open_nursery() as nursery:
        bot = partial(shown.run, open_client=partial(open_client, connect=server.byte_stream), token="s3cret")
        nursery.start_soon(bot)
        async with server.open_client("alice") as alice:
            with trio.fail_after(60):
                await alice.send("bot", "one")
                assert (await anext(alice.messages())).text == "You said: one"
                assert [device.name for device in await server.chat.devices("bot")] == ["bot"]
        nursery.cancel_scope.cancel()
    assert (tmp_path / "bot.db").exists()


@of("push.md", "from trio_chat import Push")
async def test_to_push(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock) -> None:
    """Else people who are away are told by nobody."""
    monkeypatch.chdir(tmp_path)
    provider = RecordingProvider()
    names = await shown.run(provider=provider, token="t0k")
    mock_clock.rate = 100.0  # five seconds of it are 50 ms; the disk's threads take the time they take
    async with open_chat("chat.db", push=names["push"], clock=in_step(unix_ms())) as chat:
        before = trio.current_time()
        await chat.send("alice", "bob", "hi")
        await provider.expect(user="bob", device="phone", kind="token", target="t0k", unread=1, within=5_000)
        assert trio.current_time() - before >= 5


@of("push-providers.md", "from trio_chat.push.fcm import")
async def test_to_ask_a_provider(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else whoever sets up Firebase by this page does not learn whether it is right."""
    monkeypatch.chdir(tmp_path)
    account(tmp_path).rename("service-account.json")

    def answered(asked: Asked) -> Reply:
        return reply({"access_token": "t", "expires_in": 3600}) if asked.host == "oauth2.googleapis.com" else TAKEN

    async with far_away(answered) as (far, _):
        monkeypatch.setattr(push_http, "open_push_client", partial(push_http.open_push_client, network=far))
        await shown.run()
    assert capsys.readouterr().out == f"{Sent('projects/p-1/messages/0:1500415314455276')}\n"
    assert [asked.host for asked in far.asked] == ["oauth2.googleapis.com", "fcm.googleapis.com"]
    assert far.asked[-1].json["validate_only"] is True


@of("push-providers.md", "def verified(")
async def test_to_verify_a_webhook(shown: Shown) -> None:
    """Else an application refuses what we sent, or takes what anybody has."""
    verified = shown.now(hmac=hmac, hashlib=hashlib, time=time)["verified"]
    new, old = b"n" * 32, b"o" * 32
    async with far_away(Reply(204)) as (far, http):
        hook = Webhook(http, "https://app.example/hooks/push", secrets=[new, old])
        assert await hook.send(target("phone", "t0k"), HELLO) == Sent()
    (asked,) = far.asked
    headers = Headers(asked.headers)
    assert verified(new, headers, asked.body)
    assert verified(old, headers, asked.body)
    assert not verified(b"x" * 32, headers, asked.body)
    assert not verified(new, headers, asked.body + b" ")
    headers["Trio-Chat-Timestamp"] = str(int(headers["Trio-Chat-Timestamp"]) - 301)
    assert not verified(new, headers, asked.body)
