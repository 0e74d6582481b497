"""What has to outlive the client's process, as the changes that are written to its state file."""

from __future__ import annotations

from typing import TypeAlias, Union

from msgspec import Struct

__all__ = ["Done", "Forgotten", "Owner", "Pending", "Position", "Record", "Seen"]


class Pending(Struct, frozen=True):
    """A command is in the outbox: its id, and its frame as it goes over the wire."""

    id: str
    frame: bytes


class Forgotten(Struct, frozen=True):
    """A command has left the outbox: it is stored, or was refused for good."""

    id: str


class Position(Struct, frozen=True):
    """The program is done with everything up to `position` of `log`. Another log makes what was said of the old one void."""

    log: str
    position: int


class Done(Struct, frozen=True):
    """The program is done with the entry `seq`, though not with everything before it."""

    seq: int


class Seen(Struct, frozen=True):
    """The program is done with the message of this key, in whichever log it is met."""

    key: bytes


class Owner(Struct, frozen=True):
    """Whom the file is for."""

    user: str
    device: str


Record: TypeAlias = Union[Pending, Forgotten, Position, Done, Seen, Owner]
