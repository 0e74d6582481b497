"""The frames about push, of those in `trio_chat.frames`: where a device can be reached, of what the user wants to be told.

Only a server that pushes has them among its ``features``.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

from .frame import ClientFrameBase, Frame, Ref
from .model import NO_CONTROLS, UserName

__all__ = [
    "TARGET_LENGTH",
    "Mute",
    "PushAnswer",
    "PushProvider",
    "PushQuestion",
    "PushRegister",
    "PushRequest",
    "PushSettings",
    "PushTarget",
    "PushUnregister",
    "Quiet",
    "Unmute",
]

TARGET_LENGTH: Final = 4096
"""Characters of a target: a Web Push subscription is the longest, with some 500."""

Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_CONTROLS)]
Secret: TypeAlias = Annotated[str, Meta(min_length=1, max_length=TARGET_LENGTH, pattern=NO_CONTROLS)]


class PushProvider(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Through whom devices can be reached. `key` is what a browser subscribes with, for Web Push."""

    name: str
    key: str | None = None


class PushTarget(Struct, frozen=True, kw_only=True):
    """Where a device of the user's can be reached, without what is secret of it. `registered` is Unix milliseconds."""

    device: str
    provider: str
    kind: str
    registered: int


class PushSettings(Struct, frozen=True, kw_only=True):
    """What a user has said about push. `muted` are the users of whose messages none is told, `quiet` that none at all is."""

    providers: tuple[PushProvider, ...]
    targets: tuple[PushTarget, ...]
    muted: tuple[str, ...]
    quiet: bool


class PushRegister(ClientFrameBase, frozen=True, kw_only=True, tag="push_register"):
    """This device can be reached there while it is away. Answered by a `PushAnswer` with the `ref`."""

    ref: Ref
    provider: Word
    kind: Word
    target: Secret

    def __repr__(self) -> str:
        return f"<PushRegister {self.ref!r} {self.provider!r} {self.kind!r}>"


class PushUnregister(ClientFrameBase, frozen=True, kw_only=True, tag="push_unregister", omit_defaults=True):
    """This device is not to be reached there any more: nowhere, or not by this provider. Answered by a `PushAnswer`."""

    ref: Ref
    provider: Word | None = None


class PushQuestion(ClientFrameBase, frozen=True, kw_only=True, tag="push"):
    """How can devices be reached, and what has the user said about it? Answered by a `PushAnswer` with the `ref`."""

    ref: Ref


class Mute(ClientFrameBase, frozen=True, kw_only=True, tag="mute"):
    """Do not tell the user's devices of this user's messages. They come as ever. Answered by a `PushAnswer`."""

    ref: Ref
    user: UserName


class Unmute(ClientFrameBase, frozen=True, kw_only=True, tag="unmute"):
    """Tell them again. Answered by a `PushAnswer`."""

    ref: Ref
    user: UserName


class Quiet(ClientFrameBase, frozen=True, kw_only=True, tag="quiet"):
    """Tell the user's devices of nothing, or do so again. Answered by a `PushAnswer`."""

    ref: Ref
    quiet: bool


PushRequest: TypeAlias = PushRegister | PushUnregister | PushQuestion | Mute | Unmute | Quiet
"""What is answered by a `PushAnswer`."""


class PushAnswer(PushSettings, Frame, frozen=True, kw_only=True, tag="push"):
    """How this user's devices can be reached, and what the user has said about it; see `PushSettings`."""

    ref: str
