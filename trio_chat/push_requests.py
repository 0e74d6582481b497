"""What clients ask about push: a change that rides in a batch, if it is one, and then how everything stands.

They wait for commits, so they have a line of their own: while the disk is slow, nobody's history waits behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import trio

from . import wire
from .core.batch import ConnectionId, Refused
from .core.effects import Ask
from .core.events import Connected, Event
from .core.outbox import Mute, PushChange, Quiet, Register, Unregister
from .errors import BadQuery, ErrorCode
from .push.settings import Push
from .questions import Questions
from .settings import Settings
from .store.base import Store
from .wire import ServerFrame

__all__ = ["PushRequests"]


class _Ride(Protocol):
    done: trio.Event
    refused: Refused | None


Ride: TypeAlias = Callable[[PushChange], _Ride]


class PushRequests(Questions):
    """Carries them out: of one user one at a time, and users take turns.

    `ride` has a change committed; `who` tells whose a connection is that has not left. From the look at a question to its
    change there is no pause: who was revoked, and whose connection is withdrawn, registers nothing any more.
    """

    def __init__(
        self,
        store: Store,
        report: Callable[[Event], None],
        settings: Settings,
        push: Push,
        ride: Ride,
        who: Callable[[ConnectionId], Connected],
    ) -> None:
        super().__init__(store, report, settings)
        self._push = push
        self._ride = ride
        self._who = who

    async def _answer(self, user: str, ask: Ask) -> ServerFrame | ErrorCode:
        change = self._change(user, ask)
        if change is not None:
            ride = self._ride(change)
            await ride.done.wait()
            if ride.refused is not None:
                return ride.refused.code
        targets = await self._store.outbox.targets(user)
        preferences = await self._store.outbox.preferences(user)
        return wire.PushAnswer(
            ref=ask.question.ref,
            providers=tuple(wire.PushProvider(name=name, key=key) for name, key in self._push.offers()),
            targets=tuple(
                wire.PushTarget(device=one.device, provider=one.provider, kind=one.kind, registered=one.registered)
                for one in targets
            ),
            muted=preferences.muted,
            quiet=preferences.quiet,
        )

    def _change(self, user: str, ask: Ask) -> PushChange | None:
        """What is to be changed; None if nothing is.

        Raises:
            BadQuery: this cannot be a target.
        """
        device = self._who(ask.connection).device
        match ask.question:
            case wire.PushRegister(provider=provider, kind=kind, target=target):
                try:
                    self._push.check_target(provider, kind, target)
                except ValueError as error:
                    raise BadQuery(str(error)) from None
                return Register(user, device, provider, kind, target)
            case wire.PushUnregister(provider=only):
                return Unregister(user, device, only)
            case wire.Mute(user=peer):
                return Mute(user, peer, muted=True)
            case wire.Unmute(user=peer):
                return Mute(user, peer, muted=False)
            case wire.Quiet(quiet=quiet):
                return Quiet(user, quiet)
        return None
