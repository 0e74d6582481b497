"""What the application says about push: where its users can be reached, and what they want to be told."""

from __future__ import annotations

from .core.batch import Refused
from .core.outbox import Mute, Preferences, PushChange, Quiet, Register, Registered, Unregister, Waiting
from .errors import BadFrame, ConfigurationError
from .push.settings import Push
from .push_frames import TARGET_LENGTH
from .registry import Registry
from .settings import Settings
from .store.base import Store
from .voice import Voice, refuse, require, require_user

__all__ = ["PushVoice"]


class PushVoice(Voice):
    """What a `Chat` says about push for its application. Each method raises as those of `Voice` do.

    Whatever is written returns when it is durable. All of it needs a chat that was opened with `Push`.
    """

    def __init__(self, store: Store, registry: Registry, settings: Settings, push: Push | None) -> None:
        super().__init__(store, registry, settings)
        self._push = push

    async def register_push(self, user: str, device: str, provider: str, kind: str, target: str) -> None:
        """This device of the user's can be reached there from now on. Say so again at every start of the device's.

        A target is of one user: one that somebody else held is theirs no longer. It goes with the device, when the user or
        the device is revoked, when the provider does not know it any more, and after 60 days in which it was not registered.

        Raises:
            BadFrame: there is no such provider, or it does not take such a target.
            ConfigurationError: the chat was opened without push.
        """
        require_user(user, device)
        push = self._configured()
        right = "\x00" not in kind + target
        require(right and 0 < len(target) <= TARGET_LENGTH and len(kind) <= 64, "this cannot be a push target")
        try:
            f"{kind}{target}".encode()
            push.check_target(provider, kind, target)
        except UnicodeEncodeError:
            raise BadFrame("half a surrogate pair is no target") from None
        except ValueError as error:
            raise BadFrame(str(error)) from error
        await self._written(Register(user, device, provider, kind, target))

    async def unregister_push(
        self, user: str, *, device: str | None = None, provider: str | None = None, target: str | None = None
    ) -> None:
        """Reach the user there no longer: at a device, through a provider, at one target; or at all, if none is given."""
        require_user(user)
        await self._written(Unregister(user, device, provider, target))

    async def mute(self, user: str, peer: str) -> None:
        """Do not tell the user of `peer`'s messages. They come as ever."""
        require_user(user, peer)
        await self._written(Mute(user, peer, muted=True))

    async def unmute(self, user: str, peer: str) -> None:
        """Tell the user of `peer`'s messages again."""
        require_user(user, peer)
        await self._written(Mute(user, peer, muted=False))

    async def set_quiet(self, user: str, *, quiet: bool) -> None:
        """Do not tell the user of anything, or do so again."""
        require_user(user)
        await self._written(Quiet(user, quiet))

    async def push_targets(self, user: str) -> tuple[Registered, ...]:
        """Where the user can be reached, by device; without the secrets."""
        return await self._reading(user).outbox.targets(user)

    async def push_preferences(self, user: str) -> Preferences:
        """Whom the user has muted, and whether all is quiet."""
        return await self._reading(user).outbox.preferences(user)

    async def push_outbox(self, user: str | None = None, *, limit: int = 100) -> tuple[Waiting, ...]:
        """What waits, by provider and due time; of one `user` also what came of the last attempts that are over."""
        return await self._reading("*" if user is None else user).outbox.waiting(user, limit)

    def _configured(self) -> Push:
        if self._push is None:
            raise ConfigurationError("this chat was opened without push")
        return self._push

    async def _written(self, change: PushChange) -> None:
        self._configured()
        self._require_open()
        ride = self.registry.ride(change, soon=True)
        await ride.done.wait()
        if isinstance(ride.refused, Refused):
            refuse(ride.refused.code)
