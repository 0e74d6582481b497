"""The page itself: long histories, hostile texts, keyboards and screen readers, its weight, and who may not use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from .stage import Crowd, Server, crowd_at

LONG = 5_000


@pytest.fixture(scope="module")
def long_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Bob has written to alice, often."""
    with Server(tmp_path_factory.mktemp("long")) as server:
        server.say("bob", "alice", [f"message {k} of a long story, {'which goes on ' * (k % 7)}so far" for k in range(LONG)])
        yield server


@pytest.fixture
def long_crowd(browser: Browser, long_server: Server) -> Iterator[Crowd]:
    with crowd_at(browser, long_server.url) as crowd:
        yield crowd


WATCH_FOR_JUMPS = """() => {
    const scroller = document.getElementById("scroller");
    window.jumps = [];
    let anchor = null, top = 0, scrolled = 0;
    const look = () => {
        // A step of the wheel moves a message by so much, and what is loaded above must not move it any further.
        if (anchor?.isConnected) {
            const moved = anchor.getBoundingClientRect().top - top;
            if (moved < -1 || moved > window.step + 1) window.jumps.push(moved);
        }
        const middle = scroller.getBoundingClientRect().top + scroller.clientHeight / 2;
        anchor = [...document.querySelectorAll("#messages .message")].find((m) => m.getBoundingClientRect().bottom > middle);
        top = anchor?.getBoundingClientRect().top;
        requestAnimationFrame(look);
    };
    look();
}"""


def test_a_history_of_5000_is_scrolled_through_without_a_jump(long_crowd: Crowd, figures: Callable[[str], None]) -> None:
    """Else whoever reads back loses the line whenever older messages come in, or the page is slow with a long history."""
    alice = long_crowd.person("alice", "bob")
    page = alice.page
    expect(alice.messages.last).to_contain_text(f"message {LONG - 1} ")
    expect(alice.messages.last).to_be_in_viewport()
    assert alice.messages.count() <= 60
    box = page.locator("#scroller").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.evaluate("() => { window.step = 2400; }")
    page.evaluate(WATCH_FOR_JUMPS)
    for _ in range(1_000):
        page.mouse.wheel(0, -2400)
        page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        if page.locator("#past").text_content() == "This is where it begins." and page.evaluate("scroller.scrollTop") == 0:
            break
    assert alice.messages.count() == LONG
    assert page.evaluate("window.jumps") == []
    numbers = [int(text.split()[1]) for text in alice.texts]
    assert numbers == [*range(LONG)]

    alice.page.get_by_role("button", name="To the newest").click()
    expect(alice.messages.last).to_be_in_viewport()
    assert alice.messages.count() <= 300
    started = page.evaluate("performance.now()")
    alice.says("I have read all of it")
    expect(alice.messages.last).to_contain_text("I have read all of it")
    alice.ticks("stored")
    took = page.evaluate("performance.now()") - started
    figures(f"{LONG:,} messages scrolled through; then, from the first key to the tick of the next one: {took:.0f} ms")


FIRST_MESSAGE = """
    new MutationObserver((_, observer) => {
        if (!document.querySelector("#messages .message")) return;
        window.first = performance.now();
        observer.disconnect();
    }).observe(document, { childList: true, subtree: true });
"""
LOADED = """
    () => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .map(({ name, transferSize }) => [new URL(name).origin, transferSize])
"""


def load(crowd: Crowd, url: str) -> tuple[float, float, list[tuple[str, int]]]:
    """For the first time ever: milliseconds until the page is loaded, and until the first message is on it; what came."""
    page = crowd.profile().new_page()
    page.add_init_script(FIRST_MESSAGE)
    page.goto(f"{url}#user=alice&with=bob")
    expect(page.locator("#messages .message").last).to_be_visible()
    first: float = page.evaluate("window.first")
    loaded: float = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    files: list[tuple[str, int]] = page.evaluate(LOADED)
    page.context.close()
    return loaded, first, files


def test_it_is_light_and_quick(long_crowd: Crowd, long_server: Server, figures: Callable[[str], None]) -> None:
    """Else trying it begins with waiting: under 100 KB, from this server alone, and the first message within a second."""
    visits = [load(long_crowd, long_server.url) for _ in range(5)]
    files = visits[0][2]
    weight = sum(size for _, size in files)
    assert len({origin for origin, _ in files}) == 1
    figures(f"{len(files)} files, {weight:,} bytes")
    for loaded, first, _ in visits:
        figures(f"loaded after {loaded:.0f} ms, and {first - loaded:.0f} ms later the first message is there")
    assert 10_000 < weight < 100_000
    assert min(first - loaded for loaded, first, _ in visits) < 1_000


HOSTILE = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script><svg onload=alert(1)>",
    "&lt;b&gt; & &amp;amp;",
    "\u202eevil.exe.txt\u202c and \u202e\u202e\u202e never closed",
    "\u2067\u2067\u2068 isolates that are never ended \u200f\u200f",
    "W" * 16_384,
    "👨‍👩‍👧‍👦🏳️‍🌈👩🏽‍🚀🇺🇳❤️‍🔥",
    "Z̷̢̛̳̩͔̪͈̈́̔̓a̸̡̛͚̝̠l̵̢̛̟̈́̊g̶͉̈́ò̴͚" * 40,
    "line one\nline two\n\n\n  indented\tand tabbed",
    "javascript:alert(1) http://evil.example/<b>",
    "\u0001\u0002\u001b[31m\u007f\u0085 controls",
    "{{7*7}} ${7*7} %s \\u0041 \u2028\u2029",
    "\ufeff\u200b\u2060",
    "https://" + "a" * 2_000 + ".example",
    "ﷺ" * 2_000,
]
EVIL_NAMES = ['<img src=x onerror="alert(1)">', "\u202ebob", "x" * 128, "a&b=c#d?e/%2e", "👨‍👩‍👧‍👦"]


def test_hostile_text_is_text(crowd: Crowd, server: Server) -> None:
    """Else a message is a script in the reader's page, or makes it unreadable: markup, bidi overrides, a word of 16 KiB."""
    server.say("eve", "alice", HOSTILE)
    for name in EVIL_NAMES:
        server.say(name, "alice", [HOSTILE[3]])
    alice = crowd.person("alice", "eve")
    phone = crowd.person("alice", "eve", viewport={"width": 360, "height": 640})
    for person in (alice, phone):
        expect(person.messages).to_have_count(len(HOSTILE))
        assert person.texts == HOSTILE
        assert person.page.locator("#messages").locator("img, script, b, svg:not(.icon), a").count() == 0
        assert "owned" not in person.page.title()
        assert nothing_sticks_out(person.page) == []
    rows = alice.page.locator("#conversations a")
    expect(rows).to_have_count(1 + len(EVIL_NAMES))
    assert nothing_sticks_out(alice.page) == []
    for name in EVIL_NAMES:
        row = rows.filter(has=alice.page.locator("bdi", has_text=re.compile(f"^{re.escape(name)}$")))
        row.click()
        expect(alice.page.locator("#peer")).to_have_text(name)
        alice.sees(HOSTILE[3])
        assert nothing_sticks_out(alice.page) == []
        alice.says(f"and back to {name}")
        alice.sees(HOSTILE[3], f"and back to {name}")
        alice.ticks("stored")
    alice.page.fill("#search", "<img src=x onerror")
    expect(alice.page.locator("#results a bdi").first).to_have_text("Write to <img src=x onerror")
    expect(alice.page.locator("#results .row", has_text="document.title").first).to_be_visible()


def nothing_sticks_out(page: Page) -> list[str]:
    """What is wider than the place it is in: the page would scroll sideways, or a message would cover another one."""
    found: list[str] = page.evaluate("""() => {
        const wide = [];
        if (document.scrollingElement.scrollWidth > innerWidth) wide.push("the page");
        for (const box of document.querySelectorAll("#scroller, .message, .rows, .peer, .line")) {
            const { left, right } = box.getBoundingClientRect();
            if (right - left && (left < -1 || right > innerWidth + 1)) wide.push(box.className || box.id);
            if (box.matches(".message") && box.scrollWidth > box.clientWidth + 1) wide.push(box.textContent.slice(0, 40));
        }
        return wide;
    }""")
    return found


def test_not_even_the_page_can_make_elements_of_text(crowd: Crowd) -> None:
    """Else one careless line in the page's own code is enough; the policy that the server sends is the second lock."""
    alice = crowd.person("alice")
    for attempt in (
        "document.getElementById('me').innerHTML = '<img src=x onerror=alert(1)>'",
        "eval('1')",
        "document.head.append(Object.assign(document.createElement('script'), { text: 'window.owned = 1' }))",
    ):
        message = alice.page.evaluate(
            f"() => {{ try {{ {attempt}; return window.owned ? 'it ran' : 'refused' }} catch (e) {{ return 'refused' }} }}"
        )
        assert message == "refused", attempt
    alice.page.evaluate("() => document.body.setAttribute('style', 'display: none')")
    expect(alice.page.locator("#me")).to_be_visible()
    assert alice.faults  # the browser's complaints
    alice.faults.clear()


AXE = Path("node_modules/axe-core/axe.min.js")


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    import subprocess

    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder), "axe-core@^4.10"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    return (folder / AXE).read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(crowd: Crowd, server: Server, axe: str, scheme: str, width: int) -> None:
    """Else somebody who does not see the page, or sees it badly, is left out: labels, roles, contrast."""
    server.say("bob", "alice", ["Hi Alice", "🎉", HOSTILE[3]])
    server.say("carol", "alice", ["Are you coming?"])
    look: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    if width < 700:
        look |= {"has_touch": True, "is_mobile": True}
    profile = crowd.profile(**look)

    def check(page: Page, what: str) -> None:
        page.evaluate(axe)
        violations = page.evaluate("async () => (await axe.run()).violations")
        serious = [
            (found["id"], found["help"], [node["html"][:150] for node in found["nodes"][:3]])
            for found in violations
            if found["impact"] in ("serious", "critical")
        ]
        assert serious == [], what

    first = profile.new_page()
    first.goto(server.url)
    expect(first.locator("#who")).to_be_focused()
    check(first, "the first page")
    alice = crowd.person("alice", None, profile)
    expect(alice.page.locator("#conversations a")).to_have_count(2)
    check(alice.page, "the list")
    alice.open("bob")
    alice.says("An answer", "Another")
    expect(alice.messages).to_have_count(5)
    alice.messages.nth(3).click()
    expect(alice.page.locator(".tools")).to_be_visible()
    check(alice.page, "a conversation")
    alice.page.get_by_role("button", name="Reply").click()
    check(alice.page, "an answer")
    alice.page.get_by_label("More").click()
    check(alice.page, "the menu")
    alice.page.get_by_role("button", name="Block").click()
    expect(alice.page.locator("#blocked")).to_be_visible()
    check(alice.page, "somebody who is blocked")
    alice.page.get_by_role("button", name="Unblock").click()
    alice.messages.nth(3).click()
    alice.page.get_by_role("button", name="Delete").click()
    check(alice.page, "a question")
    alice.page.get_by_role("button", name="Keep it").click()
    alice.page.context.set_offline(True)
    expect(alice.banner).to_be_visible()
    alice.says("into the void")
    check(alice.page, "offline")
    alice.page.context.set_offline(False)
    alice.page.goto(alice.address)
    alice.page.fill("#search", "answer")
    expect(alice.page.locator("#results mark").first).to_be_visible()
    check(alice.page, "what was found")


def test_all_of_it_goes_by_the_keyboard(crowd: Crowd, server: Server) -> None:
    """Else whoever cannot use a mouse cannot use the page."""
    server.say("bob", "alice", ["Hi Alice"])
    page = crowd.profile().new_page()
    page.goto(server.url)
    keyboard = page.keyboard
    keyboard.type("alice")
    keyboard.press("Enter")
    expect(page.locator("#conversations a")).to_have_count(1)
    for _ in range(10):
        keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#conversations a')"):
            break
    keyboard.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    keyboard.type("Hello Bob")
    keyboard.press("Shift+Enter")
    keyboard.type("and the rest")
    keyboard.press("Enter")
    texts = page.locator("#messages .text")
    expect(texts).to_have_text(["Hi Alice", "Hello Bob\nand the rest"])
    expect(page.locator("#messages .tick.stored")).to_be_visible()
    keyboard.press("ArrowUp")  # edits the last one
    keyboard.press("ControlOrMeta+a")
    keyboard.type("Hello Bob!")
    keyboard.press("Enter")
    expect(texts).to_have_text(["Hi Alice", "Hello Bob!"])
    expect(page.locator("#messages .meta").last).to_contain_text("edited")
    for _ in range(6):
        keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('.message')"):
            break
    keyboard.press("ArrowUp")
    expect(page.locator("#messages .message").first).to_be_focused()
    keyboard.press("Tab")
    expect(page.get_by_role("button", name="Reply")).to_be_focused()
    keyboard.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator("#context")).to_contain_text("Reply to bob")
    keyboard.press("Escape")
    expect(page.locator("#context")).to_be_hidden()
    expect(page.locator("#text")).to_be_focused()


def test_on_a_phone_the_back_button_goes_back(crowd: Crowd, server: Server) -> None:
    """Else the first swipe throws whoever reads a conversation out of the page."""
    server.say("bob", "alice", ["Hi Alice"])
    alice = crowd.person("alice", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    alice.open("bob")
    alice.sees("Hi Alice")
    expect(alice.page.locator("#conversations")).to_be_hidden()
    alice.page.go_back()
    expect(alice.page.locator("#conversations")).to_be_visible()
    expect(alice.page.locator("#messages")).to_be_hidden()
    alice.open("bob")
    alice.page.get_by_label("Back to the conversations").click()
    expect(alice.page.locator("#conversations")).to_be_visible()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A page of another origin: the same machine, another port."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>evil</title>", encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}/"
        other.shutdown()
        thread.join()


def test_a_page_from_another_origin_is_refused(crowd: Crowd, server: Server, elsewhere: str) -> None:
    """Else any page that a user visits reads and writes in the user's name."""
    page = crowd.profile().new_page()
    address = f"ws://127.0.0.1:{server.port}/ws?user=alice"
    attempt = """(address) => new Promise((resolve) => {
        const socket = new WebSocket(address, "trio-chat.v1");
        socket.onopen = () => resolve("open");
        socket.onclose = ({ code }) => resolve(code);
    })"""
    page.goto(elsewhere)
    assert page.evaluate(attempt, address) == 1006
    assert page.evaluate(attempt, address.replace("127.0.0.1", "localhost")) == 1006
    assert page.evaluate("(url) => fetch(url).then(() => 'read', () => 'refused')", f"{server.url}healthz") == "refused"
    assert page.evaluate("(url) => import(url).then(() => 'run', () => 'refused')", f"{server.url}trio-chat.js") == "refused"
    page.goto(server.url)
    assert page.evaluate(attempt, address) == "open"
