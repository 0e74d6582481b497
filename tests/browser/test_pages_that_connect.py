"""A page that is listed chats, with a token; those that only look like it are refused, whatever they know."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import trio

from trio_chat import Identity, Request, authenticators, open_chat, serve_tcp

from .chromium import Pages, browsing

SECRET = "a secret of the test, long enough for HMAC"
PATIENCE = 60.0

PAGE = """<!doctype html><meta charset="utf-8"><title>page</title>
<script>
const url = "ws://chat.example:CHAT_PORT/ws";
const connect = token => new Promise(told => {
  const socket = new WebSocket(url, ["trio-chat.v1", "bearer." + token]);
  socket.onmessage = event => { told(JSON.parse(event.data).type + " " + socket.protocol); socket.close(); };
  socket.onclose = event => told("closed " + event.code);
});
const ask = token => fetch(url.replace("ws", "http"), {headers: {Authorization: "Bearer " + token}})
  .then(answer => answer.status, () => "unreadable");
(async () => {
  const said = {name: "NAME", origin: self.origin};
  said.good = await connect("GOOD");
  said.expired = await connect("EXPIRED");
  said.ask_good = await ask("GOOD");
  said.ask_expired = await ask("EXPIRED");
  fetch("http://app.example:PAGE_PORT/report?" + new URLSearchParams(said), {mode: "no-cors"});
})();
</script>
"""

HOSTILE = {
    "elsewhere": "evil.example",
    "suffix": "app.example.evil.example",
    "prefix": "evil-app.example",
    "sub-domain": "sub.app.example",
    "trailing dot": "app.example.",
    "another port of the server": "chat.example",
    "looks alike": "аpp.example",  # a Cyrillic letter
}
SANDBOXED = "sandboxed"


def minted(seconds: int) -> str:
    return authenticators.mint(SECRET, {"sub": "alice", "exp": int(time.time()) + seconds})


async def test_pages_that_connect(tmp_path: Path) -> None:
    """Else any page its visitor opens chats in the visitor's name; or the listed page cannot."""
    asked: list[str | None] = []
    believes = authenticators.jwt(SECRET)

    async def authenticate(request: Request) -> Identity:
        asked.append(request.origin)
        return await believes(request)

    ports: dict[str, str] = {}

    def page(host: str, path: str) -> str:
        name = path.removeprefix("/").replace("%20", " ")
        frames = ""
        if name == "listed":
            frames = "".join(f'<iframe src="http://{host}:{pages.port}/{name}"></iframe>' for name, host in HOSTILE.items())
            frames += f'<iframe sandbox="allow-scripts" src="/{SANDBOXED}"></iframe>'
        text = PAGE + frames
        for word, value in (ports | {"NAME": name, "GOOD": minted(600), "EXPIRED": minted(-1)}).items():
            text = text.replace(word, value)
        return text

    pages = Pages(page)
    reports: dict[str, dict[str, str]] = {}
    async with open_chat(tmp_path / "chat.db") as chat, trio.open_nursery() as nursery:
        await nursery.start(pages.run)
        listed = f"http://app.example:{pages.port}"
        listeners = await nursery.start(partial(serve_tcp, chat, 0, authenticate=authenticate, allowed_origins=[listed]))
        ports |= {"CHAT_PORT": str(listeners[0].socket.getsockname()[1]), "PAGE_PORT": str(pages.port)}
        async with browsing(f"{listed}/listed", tmp_path / "profile"):
            with trio.fail_after(PATIENCE):  # noqa: ASYNC912
                while len(reports) < len(HOSTILE) + 2:
                    report = await pages.report()
                    reports[report.pop("name")] = report
        nursery.cancel_scope.cancel()
        forbidden = chat.statistics().turned_away[403]

    good = {"good": "welcome trio-chat.v1", "expired": "closed 1006", "ask_good": "426", "ask_expired": "401"}
    assert reports.pop("listed") == {"origin": listed} | good
    bad = {"good": "closed 1006", "expired": "closed 1006", "ask_good": "unreadable", "ask_expired": "unreadable"}
    assert reports.pop(SANDBOXED) == {"origin": "null"} | bad
    assert reports.keys() == HOSTILE.keys()
    for name, report in reports.items():
        origin = report.pop("origin")
        assert report == bad, name
        assert origin != listed
    assert set(asked) == {listed}
    # They came as far as the server, and it was the server that refused: two sockets and two preflights each.
    assert forbidden >= 4 * (len(HOSTILE) + 1)
