"""What is to be done about a job that is due, and what the device is told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import uuid
from typing import Any

from ..core.outbox import Job, Note
from ..hooks import HookFailed, run_hook
from ..model import Message
from .base import Notification, Outcome, RetryAfter, Sent
from .settings import Push

__all__ = ["clearing", "decide", "is_outcome", "noted", "telling"]

ANSWER_LENGTH = 200


def decide(job: Job, now: int, expiry: float) -> str:
    """``tell``, ``clear``, or why neither."""
    if job.since + expiry * 1000 <= now:
        return "expired"
    if job.newest is None:
        return "clear" if job.notified else "read"
    if job.silent:
        return "silent"
    if job.newest.seq <= job.cursor:
        return "acknowledged"
    if job.newest.seq <= job.notified:
        return "told already"
    return "tell"


def _notification(job: Job, **fields: Any) -> Notification:
    pair = f"{job.user}\0{job.peer}".encode()
    key = base64.urlsafe_b64encode(hashlib.blake2b(pair, digest_size=16).digest()).decode().rstrip("=")
    name = str(uuid.UUID(hex=job.id, version=4))
    return Notification(
        id=name, user=job.user, peer=job.peer, collapse_key=key, unread=job.unread, badge=job.badge, **fields
    )


def clearing(job: Job, push: Push) -> Notification:
    """Show no longer what was shown of this conversation."""
    return _notification(job, title="", body="", ttl=round(push.expiry), clear=True)


async def telling(job: Job, newest: Message, push: Push, now: int) -> Notification:
    """Show how many messages there are, or what `Push.render` says."""
    body = newest.text if push.include_text and newest.text else f"{job.unread} new messages"
    title, body = job.peer, "New message" if job.unread == 1 and not push.include_text else body
    if push.render is not None:
        with contextlib.suppress(HookFailed):  # it was logged; the device is told all the same
            title, body = await run_hook(
                "render", push.render, newest, job.unread, seconds=push.hook_timeout, returns=tuple, accepts=_is_rendered
            )
    ttl = max(round((job.since - now) / 1000 + push.expiry), 1)
    return _notification(job, title=title, body=body, ttl=ttl, text=newest.text if push.include_text else None)


def _is_rendered(answer: tuple[object, ...]) -> bool:
    return len(answer) == 2 and all(isinstance(part, str) for part in answer)


def is_outcome(answer: Any) -> bool:
    """Whether a provider has kept to what it may answer: it may be the application's own."""
    if isinstance(answer, RetryAfter):
        seconds: Any = answer.seconds
        if seconds is not None and not (isinstance(seconds, int | float) and math.isfinite(seconds)):
            return False
    return isinstance(answer, Outcome) and isinstance(_word(answer), str)


def _word(outcome: Outcome) -> Any:
    return outcome.receipt if isinstance(outcome, Sent) else outcome.reason


def noted(job: Job, outcome: Any, due: int, answer: str) -> Note:
    """What came of the job."""
    text = answer[:ANSWER_LENGTH].encode(errors="replace").decode()
    return Note(job.key, job.peer, job.id, job.seq, outcome, due, text)
