"""The commands about push."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from trio_chat.chat import open_chat
from trio_chat.cli import main
from trio_chat.operations import push as commands
from trio_chat.push.base import Gone, Misconfigured, Notification, Outcome, RetryAfter, Sent, Target
from trio_chat.push.options import PushOptions
from trio_chat.push.settings import Push
from trio_chat.push.vapid import Vapid

from ..push.test_dispatcher import Fake

CONFIGURED = {"TRIO_CHAT_PUSH_VAPID_KEY": "vapid.pem", "TRIO_CHAT_PUSH_VAPID_SUBJECT": "mailto:ops@example.com"}


class Answering(Fake):
    """A provider that answers what its name says."""

    def __init__(self, name: str, outcome: Outcome) -> None:
        super().__init__(name, lambda _: outcome)
        self.outcome = outcome
        self.got: list[tuple[Target, Notification]] = []

    async def send(self, target: Target, notification: Notification) -> Outcome:
        self.got.append((target, notification))
        return self.outcome

    async def check(self) -> Sent:
        if self.name == "hangs":
            await trio.sleep_forever()
        return self.outcome  # type: ignore[return-value]


ANSWERS: dict[str, Outcome] = {
    "good": Sent(), "gone": Gone("unregistered\u202e"), "busy": RetryAfter(None, "503"), "bad": Misconfigured("bad key"),
    "hangs": Sent(),
}  # fmt: skip


def providing(monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, Answering]:
    """These are the providers that are configured."""
    made: dict[str, Answering] = {}

    @asynccontextmanager
    async def opened(options: PushOptions) -> AsyncIterator[Push]:
        assert options.push_vapid_key == "vapid.pem"
        made.update({name: Answering(name, ANSWERS[name]) for name in names})
        yield Push(providers=tuple(made.values()))

    monkeypatch.setattr(commands, "open_push", opened)
    return made


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, ["push", *map(str, arguments)], env=environ)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in which bob's phone and tablet wait to be told, and carol has no device."""
    path = tmp_path_factory.mktemp("push") / "chat.db"

    async def fill() -> None:
        push = Push(providers=[Fake("good"), Fake("gone"), Fake("other")], delay=3600)
        async with open_chat(path, push=push) as chat:
            await chat.register_push("bob", "phone", "good", "token", "s3cret")
            await chat.register_push("bob", "tab\u202elet", "gone", "token", "s3cret")
            await chat.register_push("dora", "phone", "other", "token", "s3cret")
            await chat.send("alice", "bob", "hi")
            await chat.send("bob", "carol", "hi")
            await chat.send("carol", "dora", "hi")

    trio.run(fill)
    return path


def test_a_key_pair_for_web_push(tmp_path: Path) -> None:
    """Else setting up Web Push needs another tool; or running it twice makes every subscription worthless."""
    file = tmp_path / "vapid.pem"
    first = CliRunner().invoke(main, ["push", "vapid-init", str(file)])
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.strip() == Vapid(file, subject="mailto:ops@example.com").public_key
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    again = CliRunner().invoke(main, ["push", "vapid-init", str(file)])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "is there already" in again.stderr
    assert file.read_bytes() == before


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever has not installed PyJWT gets a traceback."""
    monkeypatch.delitem(sys.modules, "trio_chat.push.vapid", raising=False)
    monkeypatch.delattr("trio_chat.push.vapid", raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)
    result = CliRunner().invoke(main, ["push", "vapid-init", str(tmp_path / "vapid.pem")])
    assert result.exit_code == 1
    assert "pip install 'trio-chat[push]'" in result.stderr


def test_check_asks_every_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a key that is wrong is found out when the first person is not told."""
    providing(monkeypatch, "good", "busy", "bad")
    said = run("check", **CONFIGURED)
    assert said.stdout.splitlines() == ["good: good", "busy: not now: 503", "bad: misconfigured: bad key"]
    assert (said.exit_code, said.stderr) == (1, "Error: not all of them are good\n")
    providing(monkeypatch, "good", "busy")
    assert run("check", **CONFIGURED).exit_code == 3
    providing(monkeypatch, "good")
    assert run("check", **CONFIGURED).exit_code == 0


def test_check_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a firewall that swallows what goes out makes the command hang."""
    providing(monkeypatch, "hangs")
    monkeypatch.setattr(commands, "_SECONDS", 0)
    said = run("check", **CONFIGURED)
    assert (said.exit_code, said.stdout) == (3, "hangs: not now: no answer in time\n")


def test_nothing_is_configured(db: Path) -> None:
    """Else "all is good" is said of nothing at all."""
    for command in (("check",), ("test", "--user", "bob", "--db", db)):
        said = run(*command)
        assert said.exit_code == 2
        assert "no push provider is configured" in said.stderr


def test_a_test_goes_to_each_device(monkeypatch: pytest.MonkeyPatch, db: Path) -> None:
    """Else nobody can try it on their own phone; or it says that it was sent when it was not."""
    made = providing(monkeypatch, "good", "gone")
    said = run("test", "--user", "bob", "--db", db, **CONFIGURED)
    assert said.stdout.splitlines() == ["phone by good: sent", "tab\\u202elet by gone: gone: unregistered\\u202e"]
    assert (said.exit_code, said.stderr) == (1, "Error: not all of them were reached\n")
    ((target, notification),) = made["good"].got
    assert (target.user, target.device, target.kind, target.target) == ("bob", "phone", "token", "s3cret")
    assert (notification.title, notification.body, len(notification.collapse_key)) == ("trio-chat", "This is a test.", 22)
    assert run("test", "--user", "bob", "--device", "phone", "--db", db, **CONFIGURED).exit_code == 0
    other = run("test", "--user", "dora", "--db", db, **CONFIGURED)
    assert (other.exit_code, other.stdout) == (1, "phone by other: misconfigured: it is not configured\n")
    nobody = run("test", "--user", "carol", "--db", db, **CONFIGURED)
    assert (nobody.exit_code, nobody.stderr) == (1, "Error: no device of carol has registered for push\n")
    stranger = run("test", "--user", "zoe", "--db", db, **CONFIGURED)
    assert stranger.exit_code == 1
    assert "does not know a user 'zoe'" in stranger.stderr


def test_the_outbox(db: Path) -> None:
    """Else an operator does not see who waits, and since when; or sees a target's secret."""
    said = run("outbox", "--db", db)
    assert said.exit_code == 0
    gone, good, _ = said.stdout.splitlines()
    assert good.startswith("good  bob phone of alice: waits for ")
    assert ", due in 3" in good
    assert gone.startswith("gone  bob tab\\u202elet of alice: waits for ")
    assert len(run("outbox", "--db", db, "--limit", "1").stdout.splitlines()) == 1
    assert len(run("outbox", "--db", db, "--user", "dora").stdout.splitlines()) == 1
    lines = [json.loads(line) for line in run("outbox", "--db", db, "--json", "--user", "bob").stdout.splitlines()]
    assert {(line["user"], line["device"], line["peer"], line["attempts"]) for line in lines} == {
        ("bob", "phone", "alice", 0), ("bob", "tab\u202elet", "alice", 0),
    }  # fmt: skip
    assert "s3cret" not in said.stdout
    missing = run("outbox", "--db", db.with_name("none.db"))
    assert missing.exit_code == 1
    assert "there is no database" in missing.stderr
