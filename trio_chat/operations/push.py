"""``trio-chat push``: set it up, try it, and look at what waits."""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
import trio

from ..errors import ConfigurationError
from ..push.base import Gone, Misconfigured, Notification, Outcome, Provider, RetryAfter, Sent, Target
from ..push.opening import NO_EXTRA, open_push
from ..store.roster import outbox_in, targets_in
from ..terminal.options import User
from ..terminal.outcome import FAILED, UNREACHABLE, USAGE, Failure, run
from ..terminal.visible import visible
from .options import config, configured, plainly
from .output import encoded
from .users import as_json, db

if TYPE_CHECKING:
    from ..push.options import PushOptions

__all__ = ["push"]

_SECONDS: Final = 10.0
"""How long one provider may take to answer."""


@click.group()
def push() -> None:
    """Reach people who are away through push providers."""


@push.command("vapid-init")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("vapid.pem"))
def vapid_init(file: Path) -> None:
    """Write a new key pair for Web Push to FILE, or vapid.pem, and print the public key, which pages subscribe with.

    A file that is there is never overwritten: every subscription is bound to its key.
    """
    click.echo(plainly(lambda: _key_pair(file)))


def _key_pair(file: Path) -> str:
    try:
        from ..push.vapid import make_key_file  # noqa: PLC0415  (needs the extra)
    except ModuleNotFoundError as missing:
        raise ConfigurationError(NO_EXTRA.format(missing.name)) from None
    return make_key_file(file)


@push.command("check")
@config
def check(config: Path | None) -> None:
    """Ask each provider whether it takes the credentials that serve would use. Nobody gets anything."""
    run(_check(_options(config)))


async def _check(options: PushOptions) -> None:
    outcomes: list[Outcome] = []
    async with open_push(options) as opened:
        for provider in opened.providers if opened else ():
            outcomes.append(await _in_time(provider.check()))
            click.echo(f"{provider.name}: {_in_words(outcomes[-1], 'good')}")
    _judge(outcomes, "not all of them are good")


@push.command("test")
@click.option("--user", type=User(), required=True, help="Whom.")
@click.option("--device", type=User(), help="Only this device.")
@config
@db
def test(user: str, device: str | None, config: Path | None, db: Path) -> None:
    """Send a test to where the user's devices have registered, and say what each provider answered.

    What they answer changes nothing: a device that is gone stays registered until the server finds out.
    """
    options = _options(config)
    found = [one for one in plainly(lambda: targets_in(db, user)) if device in (None, one.device)]
    if not found:
        raise Failure(f"no device of {visible(user)} has registered for push", FAILED)
    targets = [Target(**msgspec.structs.asdict(one)) for one in found]
    run(_test(options, targets))


async def _test(options: PushOptions, targets: list[Target]) -> None:
    outcomes: list[Outcome] = []
    async with open_push(options) as opened:
        providers = {one.name: one for one in opened.providers} if opened else {}
        for target in targets:
            provider = providers.get(target.provider)
            outcome = Misconfigured("it is not configured") if provider is None else await _try(provider, target)
            outcomes.append(outcome)
            click.echo(f"{visible(target.device)} by {visible(target.provider)}: {_in_words(outcome, 'sent')}")
    _judge(outcomes, "not all of them were reached")


async def _try(provider: Provider, target: Target) -> Outcome:
    key = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    notification = Notification(
        id=str(uuid.uuid4()), user=target.user, peer=target.user, collapse_key=key, title="trio-chat",
        body="This is a test.", unread=0, badge=0, ttl=60,
    )  # fmt: skip
    return await _in_time(provider.send(target, notification))


async def _in_time(asking: Awaitable[Outcome]) -> Outcome:
    with trio.move_on_after(_SECONDS):
        return await asking
    return RetryAfter(None, "no answer in time")


def _options(config: Path | None) -> PushOptions:
    options = configured(config).push
    if not options.wanted:
        raise Failure("no push provider is configured: trio-chat settings lists what begins with push_", USAGE)
    return options


def _in_words(outcome: Outcome, well: str) -> str:
    match outcome:
        case Sent():
            return well
        case RetryAfter(reason=reason):
            return f"not now: {visible(reason)}"
        case Gone(reason=reason):
            return f"gone: {visible(reason)}"
        case Misconfigured(reason=reason):
            return f"misconfigured: {visible(reason)}"


def _judge(outcomes: list[Outcome], what: str) -> None:
    if any(isinstance(one, Gone | Misconfigured) for one in outcomes):
        raise Failure(what, FAILED)
    if any(isinstance(one, RetryAfter) for one in outcomes):
        raise Failure(what, UNREACHABLE)


@push.command("outbox")
@click.option("--user", type=User(), help="Only this user's, and what came of the last attempts that are over.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="So many at most.")
@db
@as_json
def outbox(user: str | None, limit: int, db: Path, json: bool) -> None:
    """List what waits to be told, by provider: since when, when it is tried, and what the provider answered last."""
    now = time.time_ns() // 1_000_000
    for one in plainly(lambda: outbox_in(db, user, limit)):
        if json:
            click.echo(encoded(one))
            continue
        waits = "nothing waits" if one.due is None else f"waits for {_span(now - one.since)}, {_when(one.due - now)}"
        tried = f", {one.attempts} tries" if one.attempts else ""
        last = f"; {_span(now - one.answered)} ago: {visible(one.answer)}" if one.answered else ""
        whom = f"{visible(one.user)} {visible(one.device)} of {visible(one.peer)}"
        click.echo(f"{visible(one.provider)}  {whom}: {waits}{tried}{last}")


def _when(milliseconds: int) -> str:
    return f"due in {_span(milliseconds)}" if milliseconds > 0 else "due"


def _span(milliseconds: int) -> str:
    return f"{max(milliseconds, 0) / 1000:.0f} s"
