"""Two and more people at the page: what they write arrives, once, in order, whatever happens to the line and to the tab."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from .stage import Crowd, Server


def test_two_people_chat(crowd: Crowd) -> None:
    """Else whoever tries it for five minutes sees nothing work: messages, typing, ticks, presence, unread."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    alice.says("Hi Bob")
    bob.sees("Hi Bob")
    alice.ticks("read")
    bob.page.locator("#text").press_sequentially("Hi A")
    expect(alice.page.locator("#presence")).to_have_text("typing…")
    bob.says("Hi Alice", "How are you?")
    alice.sees("Hi Bob", "Hi Alice", "How are you?")
    expect(alice.page.locator("#presence")).to_have_text("online")
    expect(alice.page.locator("#live")).to_have_text("bob: How are you?")
    expect(alice.page.locator("#messages .day")).to_have_text(["Today"])

    carol = crowd.person("carol", "alice")
    carol.says("one", "two")
    row = alice.page.locator("#conversations a", has_text="carol")
    expect(row.locator(".badge")).to_have_text("2 unread")
    expect(alice.page).to_have_title("(2) alice · trio-chat")
    carol.ticks("delivered")
    alice.open("carol")
    alice.sees("one", "two")
    carol.ticks("read")
    expect(row.locator(".badge")).to_have_count(0)
    expect(alice.page).to_have_title("alice · trio-chat")

    bob.page.close()
    alice.open("bob")
    expect(alice.page.locator("#presence")).to_have_text("last seen just now")


def test_what_is_written_offline_is_sent_when_the_line_is_back(crowd: Crowd) -> None:
    """Else a message is lost in a tunnel, comes twice behind it, or the user does not know which."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    alice.says("before")
    bob.sees("before")
    alice.ticks("read")
    alice.page.context.set_offline(True)
    expect(alice.banner).to_contain_text("You are offline")
    expect(alice.page.locator("#presence")).to_have_text("")  # nobody knows
    alice.says("one", "two", "three")
    expect(alice.banner).to_contain_text("3 messages are kept here")
    expect(alice.messages.locator(".tick.sending")).to_have_count(3)
    bob.says("meanwhile")
    alice.page.context.set_offline(False)
    bob.sees("before", "meanwhile", "one", "two", "three")
    alice.sees("before", "meanwhile", "one", "two", "three")
    alice.ticks("read")
    expect(alice.banner).to_be_hidden()


def test_a_server_that_falls_over_is_not_noticed_for_long(crowd: Crowd, server: Server) -> None:
    """Else a restart of the server costs messages, or needs a reload of every page."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    alice.says("before")
    bob.sees("before")
    server.stop(kill=True)
    alice.says("meanwhile")
    expect(alice.banner).to_contain_text("1 message is kept here")
    server.start()
    bob.sees("before", "meanwhile")
    bob.says("after")
    alice.sees("before", "meanwhile", "after")


def send_and_reload(page: Page, text: str) -> None:
    """In one task of the page: it has no time for anything else."""
    page.fill("#text", text)
    with page.expect_navigation():
        page.evaluate("() => { document.getElementById('composer').requestSubmit(); location.reload(); }")


def test_a_reload_in_mid_send_loses_nothing_and_doubles_nothing(crowd: Crowd) -> None:
    """Else whoever closes the laptop right after Enter has written nothing, or everything twice."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    texts = [f"message {k}" for k in range(8)]
    for text in texts:
        send_and_reload(alice.page, text)
    alice.sees(*texts)
    alice.ticks("read")
    bob.sees(*texts)


def test_a_tab_that_is_closed_offline_leaves_its_messages_to_the_next(crowd: Crowd) -> None:
    """Else what was written on a train is gone when the browser is closed before the next station."""
    bob = crowd.person("bob", "alice")
    alice = crowd.person("alice", "bob")
    alice.says("hello")
    alice.ticks("read")
    alice.page.context.set_offline(True)
    expect(alice.banner).to_be_visible()
    alice.says("one", "two")
    expect(alice.banner).to_contain_text("2 messages")
    alice.page.close()
    alice.page.context.set_offline(False)
    again = crowd.person("alice", "bob", alice.page.context)
    bob.sees("hello", "one", "two")
    again.sees("hello", "one", "two")


def test_tabs_of_one_browser_do_not_fight(crowd: Crowd) -> None:
    """Else two tabs of one user throw each other out for ever, or one of them misses what the other was sent."""
    profile = crowd.profile()
    tabs = [crowd.person("alice", "bob", profile) for _ in range(3)]
    bob = crowd.person("bob", "alice")
    tabs[0].says("from the first")
    tabs[2].says("from the third")
    bob.says("to all")
    for person in (*tabs, bob):
        expect(person.messages).to_have_count(3)
    assert sorted(bob.texts) == ["from the first", "from the third", "to all"]
    assert all(tab.texts == bob.texts for tab in tabs)
    assert not any(tab.banner.is_visible() for tab in tabs)
    devices = {
        name
        for tab in tabs
        for name in tab.page.evaluate("async () => (await navigator.locks.query()).held.map((lock) => lock.name)")
    }
    assert len(devices) == 3


def test_two_tabs_are_two_people(crowd: Crowd) -> None:
    """Else nobody can try it alone: the ID is in the address, and the page offers the other side."""
    profile = crowd.profile()
    alice = crowd.person("alice", "bob", profile)
    alice.page.get_by_label("More").click()
    with profile.expect_page() as opened:
        alice.page.get_by_role("link", name="Open this as bob").click()
    other = opened.value
    expect(other.locator("#me")).to_contain_text("bob")
    expect(other.locator("#peer")).to_have_text("alice")
    other.fill("#text", "from the other side")
    other.keyboard.press("Enter")
    alice.sees("from the other side")


def test_edits_deletions_and_replies(crowd: Crowd) -> None:
    """Else a slip stays for ever, or one of the two sees something else than the other."""
    alice, bob = crowd.person("alice", "bob"), crowd.person("bob", "alice")
    alice.says("Helo Bob", "a secret")
    bob.sees("Helo Bob", "a secret")
    alice.messages.nth(0).hover()
    alice.page.get_by_role("button", name="Edit").click()
    expect(alice.page.locator("#text")).to_have_value("Helo Bob")
    alice.says("Hello Bob")
    bob.sees("Hello Bob", "a secret")
    expect(bob.messages.nth(0)).to_contain_text("edited")
    alice.messages.nth(1).hover()
    alice.page.get_by_role("button", name="Delete").click()
    alice.page.get_by_role("button", name="Keep it").click()
    alice.messages.nth(1).hover()
    alice.page.get_by_role("button", name="Delete").click()
    alice.page.locator("#confirm").get_by_role("button", name="Delete").click()
    bob.sees("Hello Bob", "Message deleted")
    alice.sees("Hello Bob", "Message deleted")
    bob.messages.nth(0).hover()
    bob.page.get_by_role("button", name="Reply").click()
    bob.says("Hello yourself")
    expect(alice.messages.nth(2).locator(".quote")).to_contain_text("Hello Bob")

    for person in (alice, bob):  # and all the same from history
        person.page.reload()
        person.sees("Hello Bob", "Message deleted", "Hello yourself")
        expect(person.messages.nth(2).locator(".quote")).to_contain_text("Hello Bob")
        expect(person.messages.nth(0)).to_contain_text("edited")


def test_who_is_blocked_cannot_tell(crowd: Crowd) -> None:
    """Else there is no peace from somebody, or they are told so."""
    alice, eve = crowd.person("alice", "eve"), crowd.person("eve", "alice")
    eve.says("hello")
    alice.says("hello")
    eve.sees("hello", "hello")
    alice.page.get_by_label("More").click()
    alice.page.get_by_role("button", name="Block eve").click()
    expect(alice.page.locator("#blocked")).to_be_visible()
    expect(alice.page.locator("#composer")).to_be_hidden()
    eve.says("are you there?")
    expect(eve.messages.nth(2).locator(".tick.stored")).to_be_visible()
    alice.page.reload()
    expect(alice.page.locator("#blocked")).to_be_visible()
    alice.sees("hello", "hello")
    alice.page.get_by_role("button", name="Unblock").click()
    eve.says("and now?")
    alice.sees("hello", "hello", "and now?")


def test_messages_are_found_and_gone_to(crowd: Crowd, server: Server) -> None:
    """Else what was said last year is there, and nobody gets to it."""
    server.say("bob", "alice", [f"filler {k}" for k in range(300)])
    server.say("bob", "alice", ["the combination is swordfish"])
    server.say("bob", "alice", [f"more filler {k}" for k in range(300)])
    alice = crowd.person("alice", "bob")
    expect(alice.messages.last).to_contain_text("more filler 299")
    alice.page.fill("#search", "swordf")
    hit = alice.page.locator("#results a", has_text="combination")
    expect(hit.locator("mark")).to_have_text(re.compile("swordf"))
    hit.click()
    found = alice.messages.filter(has_text="swordfish")
    expect(found).to_be_in_viewport()
    expect(alice.page.locator("#search")).to_have_value("")
    assert alice.messages.count() < 200  # not everything between here and there
    alice.page.get_by_role("button", name="To the newest").click()
    expect(alice.messages.last).to_be_in_viewport()
    expect(alice.messages.last).to_contain_text("more filler 299")
    alice.says("thanks")
    expect(alice.messages.last).to_contain_text("thanks")
