"""``trio-chat chat``: two people, line by line; or a filter, if there is no terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from .lines import converse
from .options import CHAT, Access, User, as_user, device, state, token, url, wait
from .outcome import run

__all__ = ["chat"]

_WAIT: Final = 10.0


@click.command()
@as_user("Who this is.")
@click.argument("peer", type=User())
@url
@token
@device(CHAT)
@state
@wait("How long to wait at the end for what is not stored yet.", _WAIT)
def chat(user: str | None, peer: str, url: str, token: str | None, device: str, state: Path | None, wait: float) -> None:
    """Chat with PEER.

    In a terminal: Enter sends, Alt-Enter begins a new line, Page Up and Page Down leaf, Ctrl-D leaves. Behind each line of
    yours stands what became of it.

    Without a terminal it is a filter: each line of standard input is a message, each message from PEER a line of standard
    output, and it leaves when the input has ended and all of it is stored.

    With --state, what is not stored when this ends goes out the next time.
    """
    access = Access(url=url, user=user, token=token, device=device, state=state)
    if sys.stdin.isatty() and sys.stdout.isatty():
        # Not before it is needed: that takes as long as all the rest.
        from .screen import show  # noqa: PLC0415

        run(show(access, peer, wait), "asyncio")  # the loop of prompt_toolkit
    else:
        run(converse(access, peer, wait))
