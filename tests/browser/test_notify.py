"""The page's offer to notify: it registers the browser, and the service worker shows what is pushed and leads back.

No push service can be reached from here, so `pushManager` is a stand-in, and what a push service would deliver comes by the
DevTools protocol. Everything else is real: the permission, the service worker, its notifications, and the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

from trio_chat.push.vapid import make_key_file
from trio_chat.store.roster import targets_in

from .stage import SETTINGS, Crowd, Person, Server, crowd_at

# RFC 8291, appendix A, has these keys.
SUBSCRIPTION: Final = {
    "endpoint": "https://fcm.googleapis.com/fcm/send/s3cret",
    "keys": {
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    },
}
STAND_IN: Final = """
    const bytes = (key) => Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const kept = () => localStorage.getItem("subscribed");
    const given = () => ({
        options: { applicationServerKey: bytes(kept()).buffer },
        unsubscribe: async () => localStorage.removeItem("subscribed"),
        toJSON: () => (SUBSCRIPTION),
    });
    PushManager.prototype.getSubscription = async () => kept() && given();
    PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
        if (!userVisibleOnly) throw new Error("Chromium wants every push to show something");
        localStorage.setItem("subscribed", applicationServerKey);
        return given();
    };
""".replace("SUBSCRIPTION", json.dumps(SUBSCRIPTION))
SHOWN: Final = """async () => (await (await navigator.serviceWorker.ready).getNotifications())
    .map(({ title, body, tag, data }) => ({ title, body, tag, data }))"""


@pytest.fixture
def pushing(tmp_path: Path) -> Iterator[Server]:
    """A server with a key pair for Web Push."""
    make_key_file(tmp_path / "vapid.pem")
    settings = f'push_vapid_key = "{tmp_path / "vapid.pem"}"\npush_vapid_subject = "mailto:ops@example.com"\n'
    with Server(tmp_path, settings=SETTINGS + settings) as server:
        yield server


@pytest.fixture
def their_crowd(browser: Browser, pushing: Server) -> Iterator[Crowd]:
    with crowd_at(browser, pushing.url) as crowd:
        yield crowd


def permitting(crowd: Crowd) -> BrowserContext:
    context = crowd.profile()
    context.grant_permissions(["notifications"])
    context.add_init_script(STAND_IN)
    return context


class Deliveries:
    """What a push service would do."""

    def __init__(self, page: Page, origin: str) -> None:
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._origin = origin.rstrip("/")
        self._registration = ""
        self._session.on("ServiceWorker.workerRegistrationUpdated", self._updated)
        self._session.send("ServiceWorker.enable")

    def _updated(self, event: dict[str, Any]) -> None:
        for registration in event["registrations"]:
            self._registration = registration["registrationId"]

    def deliver(self, **notification: Any) -> None:
        fields = {"user": "bob", "peer": "alice", "tag": "t1", "unread": 1, "badge": 1, **notification}
        text = json.dumps({name: value for name, value in fields.items() if value is not None})
        where = {"origin": self._origin, "registrationId": self._registration}
        self._session.send("ServiceWorker.deliverPushMessage", {**where, "data": text})


def button(person: Person, name: str) -> Any:
    return person.page.get_by_role("button", name=name)


def shown(page: Page, *bodies: str) -> list[dict[str, Any]]:
    """The notifications, once they are these."""
    found: list[dict[str, Any]] = page.evaluate(
        f"""async (wanted) => {{
            for (let tries = 0; ; tries++) {{
                const shown = await ({SHOWN})();
                if (tries > 200 || shown.map(({{ body }}) => body).sort().join() === wanted) return shown;
                await new Promise((resolve) => setTimeout(resolve, 100));
            }}
        }}""",
        ",".join(sorted(bodies)),
    )
    assert sorted(one["body"] for one in found) == sorted(bodies)
    return found


def test_it_is_offered_where_there_is_push_alone(crowd: Crowd) -> None:
    """Else a page offers what its server cannot do, and loads for nothing what it has no use for."""
    alice = crowd.person("alice", context=permitting(crowd))
    expect(alice.page.locator("#me")).to_contain_text("alice")
    expect(alice.page.locator("#nobody")).to_be_visible()
    expect(button(alice, "Notify me")).to_have_count(0)
    loaded = alice.page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    assert not [name for name in loaded if "notify" in name]
    assert alice.faults == []


def test_who_wants_it_is_notified(their_crowd: Crowd, pushing: Server, tmp_path: Path) -> None:
    """Else "Notify me" does nothing, shows what was read elsewhere, or leads nowhere."""
    context = permitting(their_crowd)
    bob = their_crowd.person("bob", context=context)
    button(bob, "Notify me").click()
    expect(button(bob, "Stop notifying")).to_be_visible()
    (target,) = targets_in(tmp_path / "chat.db", "bob")
    assert (target.provider, target.kind, json.loads(target.target)) == ("web_push", "subscription", SUBSCRIPTION)
    bob.page.reload()
    expect(button(bob, "Stop notifying")).to_be_visible()
    pushing.say("alice", "bob", ["hi"])
    bob.page.goto("about:blank")
    bob.page.goto(pushing.url)  # to every page here it seems that it is in front: so bob has left his

    service = Deliveries(bob.page, pushing.url)
    bob.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
    service.deliver(title="alice", body="New message")
    service.deliver(title="carol", body="2 new messages", peer="carol", tag="t2")
    found = shown(bob.page, "New message", "2 new messages")
    assert {"title": "alice", "body": "New message", "tag": "t1", "data": {"user": "bob", "peer": "alice"}} in found
    service.deliver(title="alice", body="3 new messages", unread=3, badge=5)
    shown(bob.page, "3 new messages", "2 new messages")  # a newer one takes the place of the older one
    service.deliver(clear=True, unread=0, badge=2, tag="t2", peer="carol")
    shown(bob.page, "3 new messages")

    bob.page.goto(bob.address)
    expect(button(bob, "Stop notifying")).to_be_visible()
    (worker,) = context.service_workers
    worker.evaluate(
        """async () => {
            const [notification] = await registration.getNotifications();
            dispatchEvent(new NotificationEvent("notificationclick", { notification }));
        }"""
    )
    expect(bob.page.locator("#peer")).to_have_text("alice")
    shown(bob.page)

    button(bob, "Stop notifying").click()
    expect(button(bob, "Notify me")).to_be_visible()
    assert targets_in(tmp_path / "chat.db", "bob") == ()
    assert [fault for fault in bob.faults if "Not allowed to focus" not in fault] == []


def test_a_browser_without_a_push_service_says_so(their_crowd: Crowd) -> None:
    """Else the button seems to do something."""
    context = their_crowd.profile()
    context.grant_permissions(["notifications"])
    bob = their_crowd.person("bob", context=context)
    bob.page.evaluate("() => { PushManager.prototype.subscribe = async () => { throw new Error('no push service'); }; }")
    button(bob, "Notify me").click()
    expect(button(bob, "Not possible here")).to_have_attribute("title", "no push service")
    assert bob.faults == []


def test_no_other_script_can_be_made_of_a_text(their_crowd: Crowd) -> None:
    """Else what let the service worker in lets a text of eve's in, too."""
    bob = their_crowd.person("bob", context=permitting(their_crowd))
    expect(button(bob, "Notify me")).to_be_visible()
    refused = bob.page.evaluate(
        """() => {
            const tried = [
                () => trustedTypes.createPolicy("notify-worker", {}),
                () => trustedTypes.createPolicy("mine", {}),
                () => (document.body.innerHTML = "<b>"),
            ];
            return tried.map((attempt) => { try { attempt(); return "done"; } catch (error) { return error.name; } });
        }"""
    )
    assert refused == ["TypeError"] * 3
    outcome = bob.page.evaluate("navigator.serviceWorker.register('/other.js').then(() => 'done', ({ name }) => name)")
    assert outcome == "TypeError"
    bob.faults.clear()  # the browser's complaints about that
