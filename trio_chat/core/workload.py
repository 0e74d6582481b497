"""How much the core has to do at one moment."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from .connection import Connection
from .intake import Intake

__all__ = ["Workload", "measure"]


class Workload(Struct, frozen=True, kw_only=True):
    """What is under way.

    `users` have a session, `devices` of theirs are connected and `sending` connections only send. `behind` of the devices
    have not been sent all there is, `unacknowledged` entries are sent and not acknowledged. `waiting` commands
    (`waiting_bytes`) are for a commit, and `requests` are not answered yet.
    """

    users: int
    devices: int
    sending: int
    behind: int
    unacknowledged: int
    waiting: int
    waiting_bytes: int
    requests: int


def measure(connections: Iterable[Connection], intake: Intake) -> Workload:
    """What is under way for these connections, and for the store."""
    opened = [connection for connection in connections if connection.open]
    devices = [connection for connection in opened if not connection.send_only]
    waiting, waiting_bytes = intake.load
    return Workload(
        users=len({connection.user.name for connection in opened}),
        devices=len(devices),
        sending=len(opened) - len(devices),
        behind=sum(connection.sent < connection.user.head for connection in devices),
        unacknowledged=sum(len(connection.window) for connection in devices),
        waiting=waiting,
        waiting_bytes=waiting_bytes,
        requests=sum(len(connection.waiting) + (connection.request is not None) for connection in opened),
    )
