"""The pictures in the documentation: taken of the page as it is, so that they show no other."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Locator, expect

from .stage import Crowd, Person, Server

LARGEST = 150_000


def take(person: Person, folder: Path, name: str, *, quiet: Locator | None = None) -> None:
    """A picture, without a blinking cursor in it."""
    person.page.evaluate("() => document.activeElement?.blur()")
    person.page.mouse.move(0, 0)
    if quiet:
        expect(quiet).to_be_visible()
    picture = person.page.screenshot(path=folder / f"{name}.png", caret="hide", animations="disabled")
    assert 10_000 < len(picture) < LARGEST


def test_pictures_of_the_page(crowd: Crowd, server: Server, tmp_path: Path) -> None:
    """Else what the README shows is a page that does not exist any more. Kept where TRIO_CHAT_SCREENSHOTS says."""
    folder = Path(os.environ.get("TRIO_CHAT_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(exist_ok=True)
    server.say("dave", "alice", ["The tickets are in your mailbox"])
    server.say("alice", "erin", ["Did you get the key?"])
    carol = crowd.person("carol", "alice", viewport={"width": 1000, "height": 700})
    alice = crowd.person("alice", "bob", viewport={"width": 1200, "height": 760}, color_scheme="light")
    bob = crowd.person("bob", "alice", viewport={"width": 1200, "height": 760}, color_scheme="dark")
    alice.says("Are you on the train?")
    bob.says("Yes! By the window, somewhere behind Verona.", "The light is lovely.")
    alice.says("Then you will be here at six.")
    expect(bob.messages).to_have_count(4)
    bob.messages.nth(3).hover()
    bob.page.get_by_role("button", name="Reply").click()
    bob.says("Half past. We stop in every village 🙂", "🏔️🚆")
    alice.says(
        "Take your time. I will keep the soup warm, and there is a seat by the stove with your name on it.",
        "Anna says hello",
    )
    bob.sees(*alice.texts)
    alice.messages.nth(7).hover()
    alice.page.get_by_role("button", name="Edit").click()
    alice.says("Anna says hello, and so does the cat.")
    expect(bob.messages.last).to_contain_text("edited")
    server.say("alice", "carol", ["Saturday?"])
    carol.says("Are you coming on Saturday?", "There will be cake")
    expect(alice.page.locator("#conversations .badge")).to_have_count(2)
    alice.ticks("read")
    expect(alice.page.locator("#conversations .online")).to_have_count(2)
    take(alice, folder, "desktop-light")
    bob.says("I will")
    bob.ticks("read")  # for typing is not told to those for whom anything else is on its way
    alice.page.locator("#text").press_sequentially("Good")
    expect(bob.page.locator("#presence")).to_have_text("typing…")
    take(bob, folder, "desktop-dark", quiet=bob.page.locator("#presence.typing"))

    phone = crowd.person(
        "alice", viewport={"width": 390, "height": 760}, has_touch=True, is_mobile=True, device_scale_factor=1.5
    )
    expect(phone.page.locator("#conversations .online")).to_have_count(2)
    take(phone, folder, "phone-list")
    phone.open("bob")
    expect(phone.messages).to_have_count(9)
    take(phone, folder, "phone")

    alice.page.context.set_offline(True)
    expect(alice.banner).to_be_visible()
    alice.says("The line is gone, but write on:", "it will all be there.")
    expect(alice.banner).to_contain_text("2 messages are kept here")
    take(alice, folder, "offline", quiet=alice.banner)
    alice.page.context.set_offline(False)
    alice.ticks("read")
