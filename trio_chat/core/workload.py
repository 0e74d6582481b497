"""How much the core has to do at one moment."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Workload"]


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
