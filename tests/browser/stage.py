"""Real servers and people at real browsers: what the tests of the page have in common."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Locator, Page, expect
from websockets.sync.client import connect

SETTINGS: Final = "ping_interval = 2.0\nping_timeout = 2.0\nhook_timeout = 2.0\nretry_spread = 1.0\n"
"""So that what takes a minute in the world takes seconds here."""


class Server(AbstractContextManager["Server"]):
    """``trio-chat serve --demo`` in a process of its own, on a port that it keeps when it is started again."""

    def __init__(self, folder: Path, options: Sequence[str] = (), settings: str = SETTINGS) -> None:
        self.port = 0
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        (folder / "settings.toml").write_text(settings, encoding="utf-8")
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert "Traceback" not in self.log, self.log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        options = ["--port", str(self.port), "--db", str(self._folder / "chat.db"), "--rate-limit", "off"]
        options += ["--config", str(self._folder / "settings.toml"), *self._options]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trio_chat", "serve", "--demo", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout
        line = self._process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, (line, self.log)
        self.port = int(found[1])

    def stop(self, *, kill: bool = False) -> None:
        assert self._process
        with self._process:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            assert self._process.wait(timeout=20) == (-9 if kill else 0), self.log

    @property
    def log(self) -> str:
        return (self._folder / "server.log").read_text(encoding="utf-8")

    def say(self, sender: str, recipient: str, texts: Sequence[str]) -> None:
        """Messages from somebody who is not at a browser, stored on return."""
        query = urlencode({"user": sender, "window": 0})
        with connect(f"ws://127.0.0.1:{self.port}/ws?{query}", max_size=2**20) as socket:
            stored, sent = 0, 0
            while stored < len(texts):
                while sent < len(texts) and sent - stored < 100:
                    frame = {"type": "send", "id": str(uuid.uuid4()), "to": recipient, "text": texts[sent]}
                    socket.send(msgspec.json.encode(frame).decode())
                    sent += 1
                answer = msgspec.json.decode(socket.recv())
                assert answer["type"] in ("welcome", "stored"), answer
                stored += len(answer["messages"]) if answer["type"] == "stored" else 0


class Person:
    """Somebody at a browser. Whatever the page's scripts do wrong is in `faults`."""

    def __init__(self, page: Page, server_url: str, user: str, peer: str | None = None) -> None:
        self.page = page
        self.user = user
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error.stack)))
        page.on("console", self._console)
        page.on("dialog", self._dialog)
        self.address = f"{server_url}#{urlencode({'user': user} | ({'with': peer} if peer else {}))}"
        page.goto(self.address)
        expect(page.locator("#me")).to_contain_text(user)

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        # A server that is not there is what some of the tests are about; 426 answers the page's own question.
        expected = r"net::ERR|WebSocket connection to|status of 426"
        if message.type in ("error", "warning") and not re.search(expected, message.text):
            self.faults.append(message.text)

    @property
    def messages(self) -> Locator:
        return self.page.locator("#messages .message")

    @property
    def texts(self) -> list[str]:
        return self.page.locator("#messages .text").all_text_contents()

    @property
    def banner(self) -> Locator:
        return self.page.locator("#banner")

    def says(self, *texts: str) -> None:
        touch = self.page.evaluate("matchMedia('(pointer: coarse)').matches")
        for text in texts:
            self.page.fill("#text", text)
            if touch:  # there, Enter begins a new line
                self.page.get_by_role("button", name="Send").click()
            else:
                self.page.press("#text", "Enter")

    def sees(self, *texts: str) -> None:
        """Exactly these are shown, in this order."""
        expect(self.page.locator("#messages .text")).to_have_text(list(texts))

    def ticks(self, progress: str) -> None:
        """So far has every own message come."""
        own = self.messages.and_(self.page.locator(".own"))
        expect(own.locator(f".tick.{progress}")).to_have_count(own.count())

    def open(self, peer: str) -> None:
        """By the list, as one does."""
        self.page.locator("#conversations a", has_text=peer).click()


class Crowd:
    """People in one browser: each in a profile of their own, unless they share one."""

    def __init__(self, browser: Browser, server_url: str) -> None:
        self._browser = browser
        self._url = server_url
        self._contexts: list[BrowserContext] = []
        self._people: list[Person] = []

    def profile(self, **options: Any) -> BrowserContext:
        usual: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", "ignore_https_errors": True}
        context = self._browser.new_context(**usual | options)
        context.set_default_timeout(30_000)
        self._contexts.append(context)
        return context

    def person(self, user: str, peer: str | None = None, context: BrowserContext | None = None, **options: Any) -> Person:
        page = (context or self.profile(**options)).new_page()
        person = Person(page, self._url, user, peer)
        self._people.append(person)
        return person

    def leave(self) -> None:
        for context in self._contexts:
            context.close()
        faults = [fault for person in self._people for fault in person.faults]
        assert not faults, faults


@contextmanager
def crowd_at(browser: Browser, url: str) -> Iterator[Crowd]:
    """People who go home at the end, and whose pages had no fault."""
    crowd = Crowd(browser, url)
    try:
        yield crowd
    except BaseException:
        for context in crowd._contexts:
            context.close()
        raise
    crowd.leave()
