"""Blocks and removals: what follows from them once they are committed (B1, C2)."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import CloseCode, ErrorCode
from .batch import BlockChange, Removal
from .connection import User
from .intake import Intake
from .presence import Presence
from .refusals import Closing

__all__ = ["Changes"]


class Changes:
    """Carries out what a change means for who is connected. `users` are those with a connection, `close` ends one."""

    def __init__(self, users: Mapping[str, User], intake: Intake, presence: Presence, close: Closing) -> None:
        self._users = users
        self._intake = intake
        self._presence = presence
        self._close = close

    def refusal(self, change: BlockChange | Removal) -> ErrorCode | None:
        """Why the change cannot be taken in, if so."""
        if isinstance(change, BlockChange) and change.user == change.peer:
            return ErrorCode.BAD_QUERY  # nobody is another to themselves
        return ErrorCode.OVERLOADED if self._intake.full else None

    def blocked(self, change: BlockChange, blocked: tuple[str, ...], at: int, now: float) -> None:
        """The user blocks `blocked` now, as of Unix milliseconds `at`. What was ephemeral between the two ends here, in both directions."""
        user = self._users.get(change.user)
        if user is not None:
            user.blocked = frozenset(blocked)
        if change.blocked:
            self._presence.part(change.user, change.peer, at, now)

    def removed(self, removal: Removal, now: float) -> None:
        """The device is forgotten. Its connection ends without leaving a mark.

        One that is not open yet came after the removal: it is that of a new device.
        """
        self._intake.drop_mark(removal.user, removal.device)
        user = self._users.get(removal.user)
        connection = user.devices.get(removal.device) if user is not None else None
        if connection is not None and connection.open:
            self._close(connection, now, CloseCode.UNAUTHORIZED, "this device was removed")
            self._intake.drop_mark(removal.user, removal.device)
