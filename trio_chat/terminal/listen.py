"""``trio-chat listen``: what comes, line by line."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from ..client import ChatClient, IncomingMessage
from ..model import Message
from .options import Access, as_user, device, state, token, url, wait
from .outcome import run
from .pipes import write_line
from .visible import as_json, visible
from .watch import Watch

__all__ = ["listen"]


@click.command()
@as_user("Whose messages.")
@click.option("--json", "json", is_flag=True, help="One JSON object a line.")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many messages.")
@url
@token
@device("cli-listen")
@state
@wait("Give up when there was no connection for so long; if not given, never.")
def listen(
    user: str | None,
    json: bool,  # noqa: FBT001  (click passes its flags by name)
    count: int | None,
    url: str,
    token: str | None,
    device: str,
    state: Path | None,
    wait: float | None,
) -> None:
    """Print the messages to an ID as they come, and acknowledge them.

    Each is acknowledged once its line is written, so none is lost if the reader of a pipe is slow, or if this process dies.
    With --state none comes twice, even if the server has lost the acknowledgement.
    """
    access = Access(url=url, user=user, token=token, device=device, state=state)
    run(_listen(access, json=json, count=count, wait=wait))


async def _listen(access: Access, *, json: bool, count: int | None, wait: float | None) -> None:
    async with access.open() as client, anyio.create_task_group() as tasks:
        watch = Watch(client, wait)
        tasks.start_soon(watch.run)
        left = count
        async for message in client.messages(own=True):  # own ones, for the sake of those to oneself
            if not _is_for(client, message):
                continue
            await write_line(_as_json(message) if json else f"{visible(message.sender)}: {visible(message.text or '')}")
            left = None if left is None else left - 1
            if left == 0:
                await message.ack()
                break
        await watch.leave()


def _is_for(client: ChatClient, message: IncomingMessage) -> bool:
    return client.user in (None, message.recipient)


def _as_json(message: IncomingMessage) -> str:
    return as_json(
        Message(
            seq=message.seq,
            id=message.id,
            sender=message.sender,
            recipient=message.recipient,
            text=message.text,
            sent_at=message.sent_at,
            kind=message.kind,
            reply_to=message.reply_to,
        )
    )
