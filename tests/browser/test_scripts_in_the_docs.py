"""The JavaScript that the pages of the documentation show, executed in a page."""

from __future__ import annotations

from typing import Any, Final

from playwright.sync_api import Page

from ..snippets import fenced
from .stage import Crowd, Server

SCRIPTS: Final = {one.page: one.text for one in fenced() if one.language == "js"}
IMPORT: Final = 'import { connect } from "./trio-chat.js";'
ELSEWHERE: Final = "wss://chat.example.com"

AROUND: Final = """async () => {
  const Native = WebSocket;
  self.WebSocket = class extends Native {
    constructor(url, ...more) {
      const to = new URL(String(url).replace("ELSEWHERE", "HERE"));
      to.searchParams.set("user", "alice");  // the demo server believes that; a true one looks at the token
      super(to, ...more);
    }
  };
  const { connect } = await import("/trio-chat.js");
  const token = "t0k", said = self.said = { shown: [], ticked: [], crossed: [], banners: [] };
  const show = (from, text) => said.shown.push([from, text]), tick = (id) => said.ticked.push(id);
  const cross = (id, why) => said.crossed.push(why), banner = (state) => said.banners.push(state);
  SCRIPT
  Object.assign(said, { id, texts: messages.map(({ text }) => text) });
}"""


def blank(crowd: Crowd, server: Server) -> Page:
    """A page of the server's that does nothing by itself."""
    page = crowd.profile().new_page()
    page.goto(f"{server.url}trio-chat.js")
    return page


def test_there_are_no_others() -> None:
    """Else one is shown that nobody has tried: run it here."""
    assert set(SCRIPTS) == {"browser.md", "authentication.md"}


def test_the_module_is_used_as_its_page_says(crowd: Crowd, server: Server) -> None:
    """Else the first lines that somebody copies into a page do not chat."""
    script = SCRIPTS["browser.md"]
    assert script.startswith(IMPORT)
    assert ELSEWHERE in script
    page = blank(crowd, server)
    here = server.url.replace("http", "ws", 1).rstrip("/")
    around = AROUND.replace("ELSEWHERE", ELSEWHERE).replace("HERE", here)
    server.say("bob", "alice", ["Earlier"])
    page.evaluate(around.replace("SCRIPT", script.removeprefix(IMPORT)))
    server.say("bob", "alice", ["Hi Alice"])
    page.wait_for_function("self.said.shown.length > 1 && self.said.ticked.length > 0")
    said: dict[str, Any] = page.evaluate("self.said")
    assert said["shown"] == [["bob", "Earlier"], ["bob", "Hi Alice"]]
    assert said["texts"][0] == "Earlier"
    assert said["ticked"] == [said["id"]]
    assert said["crossed"] == []
    assert "open" in said["banners"]


def test_to_learn_that_one_has_to_log_in(crowd: Crowd, server: Server) -> None:
    """Else a page that is told nothing by a WebSocket which does not open never asks its visitor."""
    page = blank(crowd, server)
    script = SCRIPTS["authentication.md"]
    asked = (
        "async () => { let asked = false; const token = 'x', logInAgain = () => { asked = true; }; SCRIPT\nreturn asked; }"
    )
    assert page.evaluate(asked.replace("SCRIPT", script)) is True
