"""What became of one message: for whoever has to answer for it. Synchronous: runs in a reader's thread, or in a command."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from ..core.outbox import Waiting
from ..keeping import DeviceDelivery, Explanation, PushState
from ..model import Kind
from .edits import KINDS
from .push_queries import read_waiting
from .rows import snapshot
from .scope import is_text

__all__ = ["JOBS", "push_states", "read_explanation"]

JOBS: Final = 1000
"""Rows of the outbox that are looked at for one recipient: one for each target and conversation."""

MESSAGE: Final = """
    SELECT m.id, m.kind, (SELECT t.client_id FROM messages AS t WHERE t.id = m.target), m.sent_at, m.size, m.text ISNULL,
        s.id, m.seq, s.floor, r.id, r.name, m.peer_seq, r.floor, r.delivered,
        CASE r.id WHEN c.a THEN c.read_a ELSE c.read_b END
    FROM users AS s CROSS JOIN messages AS m ON m.sender = s.id AND m.client_id = :id
        CROSS JOIN conversations AS c ON c.id = m.conversation
        CROSS JOIN users AS r ON r.id = c.a + c.b - m.sender
    WHERE s.name = :sender"""
EDITS: Final = """
    SELECT client_id FROM messages WHERE target = ? AND kind = 1 AND (peer_seq = 0) IN (0, 1) ORDER BY id"""
DEVICES: Final = "SELECT name, cursor, seen FROM devices WHERE user = ? ORDER BY name"

_KINDS: Final[dict[int, Kind]] = {number: kind for kind, number in KINDS.items()}  # type: ignore[misc]  # the keys are


def read_explanation(connection: sqlite3.Connection, sender: str, id: str) -> Explanation | None:
    """`Keeping.explain`, blocking.

    Raises:
        sqlite3.Error: it could not be read.
    """
    if not is_text(sender) or not is_text(id):
        return None
    with snapshot(connection):
        row = connection.execute(MESSAGE, {"sender": sender, "id": id}).fetchone()
        if row is None:
            return None
        (
            key,
            kind,
            target,
            sent_at,
            size,
            deleted,
            own,
            seq,
            own_floor,
            other,
            recipient,
            peer_seq,
            floor,
            delivered,
            read,
        ) = row
        devices = [_device(sender, seq, *one) for one in connection.execute(DEVICES, (own,))]
        if other != own and peer_seq:
            devices += [_device(recipient, peer_seq, *one) for one in connection.execute(DEVICES, (other,))]
        edits = tuple(edit for (edit,) in connection.execute(EDITS, (key,)))
        waiting = read_waiting(connection, recipient, JOBS)
    return Explanation(
        sender=sender,
        id=id,
        recipient=recipient,
        kind=_KINDS[kind],
        target=target,
        sent_at=sent_at,
        size=size,
        deleted=bool(deleted),
        edits=edits,
        seq=seq,
        held=seq > own_floor,
        peer_seq=peer_seq,
        peer_held=peer_seq > floor,
        delivered=0 < peer_seq <= max(delivered, read),
        read=0 < peer_seq <= read,
        devices=tuple(devices),
        push=push_states(waiting, sender),
    )


def push_states(waiting: Iterable[Waiting], sender: str) -> tuple[PushState, ...]:
    """Of what waits for a recipient, that about the messages of this sender."""
    return tuple(
        PushState(
            device=one.device,
            provider=one.provider,
            since=one.since,
            due=one.due,
            attempts=one.attempts,
            answered=one.answered,
            answer=one.answer,
        )
        for one in waiting
        if one.peer == sender
    )


def _device(user: str, seq: int, name: str, cursor: int, seen: int) -> DeviceDelivery:
    return DeviceDelivery(user=user, device=name, delivered=cursor >= seq, cursor=cursor, seen=seen)
