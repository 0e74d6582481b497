"""``trio-chat send``: one message, stored."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

import anyio
import click

from ..client import RequestRefused, Stored
from ..errors import Fate
from .options import CHAT, Access, Id, Text, User, as_user, state, token, url, wait
from .outcome import FAILED, UNREACHABLE, Failure, run
from .visible import visible
from .watch import Watch

__all__ = ["send"]

_WAIT: Final = 10.0


@click.command()
@as_user("Who sends.")
@click.option("--to", type=User(), required=True, help="Who is to have it.")
@click.option("--id", "id_", type=Id(), help="The message's id, to send it again without doubling it; a UUID if not given.")
@url
@token
@state
@click.option("--device", type=User(), help="With --state: the device of the chat that has the file.  [default: cli-chat]")
@wait("How long to try.", _WAIT)
@click.argument("text", type=Text())
def send(
    user: str | None,
    to: str,
    id_: str | None,
    url: str,
    token: str | None,
    state: Path | None,
    device: str | None,
    wait: float,
    text: str,
) -> None:
    """Send TEXT, and print the position in the log at which it is stored.

    With --state the message is in that file before it is sent: if it is not stored in time, or this process dies, the next
    "send" or "chat" with the file sends it, before anything else.
    """
    # What only sends is no device and replaces none. But a state file belongs to one, and `chat` is to send what is left.
    name = device or (CHAT if state else "cli-send")
    access = Access(url=url, user=user, token=token, device=name, state=state, send_only=True)
    run(_send(access, to, text, id_ or str(uuid.uuid4()), wait))


async def _send(access: Access, to: str, text: str, id: str, wait: float) -> None:
    stored: Stored | None = None
    async with access.open() as client, anyio.create_task_group() as tasks:
        watch = Watch(client)
        tasks.start_soon(watch.run)
        with anyio.move_on_after(wait):
            try:
                stored = await client.send(to, text, id=id)
            except RequestRefused as error:
                also = "; it may be stored all the same" if error.fate is Fate.UNKNOWN else ""
                raise Failure(visible(f"refused with {error.code}: {error}{also}"), FAILED) from None
        await watch.leave()
    if stored is not None:
        click.echo(str(stored.seq))
    elif access.state is not None:
        raise Failure(
            f"{watch.unreachable()}; the message is kept in {access.state}, for the next send or chat", UNREACHABLE
        )
    elif watch.connected:
        raise Failure(f"no answer; the message may be stored, so send it again with --id {id}", UNREACHABLE)
    else:
        raise Failure(watch.unreachable(), UNREACHABLE)
