"""``trio-chat stats`` and ``trio-chat revoke``: asked of a running server, by its operator's listener (`admin`)."""

from __future__ import annotations

from typing import Any, Final

import click

from ..terminal.options import User
from ..terminal.outcome import FAILED, UNREACHABLE, USAGE, Failure
from ..terminal.visible import visible
from .output import decoded, encoded
from .users import as_json

__all__ = ["lines", "revoke", "stats"]

_SECONDS: Final = 10.0
_admin: Final = click.option("--admin", metavar="URL", default="http://127.0.0.1:6663", show_default=True,
                             envvar="TRIO_CHAT_ADMIN",
                             help="The running server's operator's listener: see serve --admin-port.")  # fmt: skip


@click.command()
@_admin
@as_json
def stats(admin: str, json: bool) -> None:
    """Show what a running server holds and has done: see serve --admin-port."""
    answer = _ask("GET", admin, "/statistics")
    if json:
        click.echo(encoded(answer))
        return
    for name, value in lines(answer):
        click.echo(f"{visible(name)}  {visible(value)}")  # a push provider's own words may be among them


@click.command()
@click.option("--user", type=User(), required=True, help="Whom.")
@click.option("--device", type=User(), help="Only this device.")
@_admin
@as_json
def revoke(user: str, device: str | None, admin: str, json: bool) -> None:
    """Close a user's connections to a running server, with 4401. Whether they may return is the authenticator's to say."""
    parameters = {"user": user} | ({"device": device} if device is not None else {})
    answer = _ask("POST", admin, "/revoke", parameters)
    if json:
        click.echo(encoded(answer))
    else:
        names = ", ".join(visible(name) for name in answer["devices"])
        click.echo(f"closed: {names}" if names else "no device was connected")


def _ask(method: str, admin: str, path: str, parameters: dict[str, str] | None = None) -> Any:
    import httpx2  # noqa: PLC0415  (a server that starts has no need of it)

    try:
        # No proxy of the environment's: it is this machine that is asked.
        with httpx2.Client(timeout=_SECONDS, trust_env=False) as client:
            response = client.request(method, f"{admin.rstrip('/')}{path}", params=parameters)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        raise Failure(f"{admin} is not the URL of a listener: http://127.0.0.1:6663", USAGE) from None
    except httpx2.HTTPError as error:
        raise Failure(f"no server answers at {admin} ({visible(str(error)) or type(error).__name__}): "
                      "was it started with --admin-port?", UNREACHABLE) from None  # fmt: skip
    if response.status_code != 200:
        raise Failure(f"the server refused: {response.status_code} {visible(response.text.strip())}", FAILED)
    try:
        return decoded(response.content)
    except ValueError:
        raise Failure(f"what answers at {admin} is no operator's listener of trio-chat", FAILED) from None


def lines(answer: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """What a server holds, as names and values; of a distribution what an operator asks first."""
    told: list[tuple[str, str]] = []
    for name, value in answer.items():
        if isinstance(value, dict) and "bounds" in value:
            count = sum(value["counts"])
            mean = value["sum"] / count if count else 0.0
            told.append((f"{prefix}{name}", f"{count} times, mean {mean:.4g}, max {value['max']:.4g}"))
        elif isinstance(value, dict):
            told += lines(value, f"{prefix}{name}.")
        else:
            told.append((f"{prefix}{name}", f"{value:.1f}" if isinstance(value, float) else str(value)))
    return told
