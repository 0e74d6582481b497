"""What a client can ask: history, search, conversations, devices, whom it does not want to hear from, and push."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from typing import Any

from .. import wire
from ..push_frames import TARGET_LENGTH, PushSettings
from ..retrieval import (
    ConversationsPage,
    ConversationsQuery,
    Device,
    HistoryPage,
    HistoryQuery,
    SearchPage,
    SearchQuery,
    check,
)
from .checks import device_name, user_name, word

__all__ = ["Retrieval"]


class Retrieval(ABC):
    """The requests of `trio_chat.client.ChatClient`.

    Each is asked again after a reconnect, until it is answered, however long the server is away: put a time limit around it.
    Cancelling it forgets it; what changes something, such as `block` or `register_push`, may have happened all the same.

    Each raises:
        RequestRefused: the server refused it, e.g. `BadQuery`; `NotOffered` if this server is too old for it, or,
            for what is about push, does not push.
        ConnectionClosed: the client is closed.
    """

    @abstractmethod
    async def _request(self, request: Any) -> Any:
        """Have a frame with a ``ref`` sent, and give the frame that answers it."""

    async def history(self, query: HistoryQuery | None = None, **filters: Any) -> HistoryPage:
        """Messages of this user's log, chosen by `query`, or by its fields as keywords: ``history(peer="bob", limit=20)``.

        Raises:
            BadQuery: a filter is out of its range, or two of them exclude one another; nothing was sent then.
            TypeError: there is no such filter.
        """
        asked = query or HistoryQuery(**filters)
        answer: wire.HistoryAnswer = await self._request(check(wire.History(ref=_ref(), **_fields(asked))))
        return HistoryPage(messages=answer.messages, more=answer.more, next=answer.next)

    async def search(self, query: SearchQuery | str, **filters: Any) -> SearchPage:
        """Messages whose text holds all words of `query`, newest first. `filters`, and what is raised, as for `history`."""
        asked = SearchQuery(query=query, **filters) if isinstance(query, str) else query
        answer: wire.SearchAnswer = await self._request(check(wire.Search(ref=_ref(), **_fields(asked))))
        return SearchPage(hits=answer.hits, more=answer.more, next=answer.next)

    async def conversations(self, query: ConversationsQuery | None = None, **filters: Any) -> ConversationsPage:
        """This user's conversations, the one with the latest entry first. What is raised is as for `history`."""
        asked = query or ConversationsQuery(**filters)
        answer: wire.ConversationsAnswer = await self._request(check(wire.Conversations(ref=_ref(), **_fields(asked))))
        return ConversationsPage(conversations=answer.conversations, more=answer.more, next=answer.next)

    async def devices(self) -> tuple[Device, ...]:
        """The devices that the server remembers of this user."""
        answer: wire.DevicesAnswer = await self._request(wire.Devices(ref=_ref()))
        return answer.devices

    async def remove_device(self, device: str) -> tuple[Device, ...]:
        """Have the server forget a device, and close its connection with 4401. Gives those that are left."""
        answer: wire.DevicesAnswer = await self._request(wire.RemoveDevice(ref=_ref(), device=device_name(device)))
        return answer.devices

    async def block(self, user: str) -> tuple[str, ...]:
        """Stop hearing from a user, who cannot tell (B1). Gives everybody who is blocked."""
        answer: wire.Blocked = await self._request(wire.Block(ref=_ref(), user=user_name(user)))
        return answer.users

    async def unblock(self, user: str) -> tuple[str, ...]:
        """Hear from a user again; what they sent meanwhile stays unheard. Gives everybody who is still blocked."""
        answer: wire.Blocked = await self._request(wire.Unblock(ref=_ref(), user=user_name(user)))
        return answer.users

    async def blocked(self) -> tuple[str, ...]:
        """Whom this user blocks, in the order of their names."""
        answer: wire.Blocked = await self._request(wire.Blocks(ref=_ref()))
        return answer.users

    async def register_push(self, provider: str, kind: str, target: str) -> PushSettings:
        """Have this device told of messages while it is away. To be called at every start of the device.

        Args:
            provider: the name of one of the providers that `push` lists.
            kind: what the target is to it, e.g. ``token`` for Firebase or ``subscription`` for Web Push.
            target: what the device got from its system, e.g. Firebase's token. Nobody is told it again.

        Raises:
            BadQuery: the provider is not there, or cannot use this.
        """
        request = wire.PushRegister(ref=_ref(), provider=word(provider), kind=word(kind), target=word(target, TARGET_LENGTH))
        return await self._push(request)

    async def unregister_push(self, provider: str | None = None) -> PushSettings:
        """Have this device told no more: not by this provider, or not at all."""
        only = None if provider is None else word(provider)
        return await self._push(wire.PushUnregister(ref=_ref(), provider=only))

    async def push(self) -> PushSettings:
        """How this user's devices can be reached while they are away, and what the user has said about it."""
        return await self._push(wire.PushQuestion(ref=_ref()))

    async def mute(self, user: str) -> PushSettings:
        """Have no device of this user's told of `user`'s messages while it is away. They come as ever."""
        return await self._push(wire.Mute(ref=_ref(), user=user_name(user)))

    async def unmute(self, user: str) -> PushSettings:
        """Have them told again."""
        return await self._push(wire.Unmute(ref=_ref(), user=user_name(user)))

    async def set_quiet(self, *, quiet: bool) -> PushSettings:
        """Have no device of this user's told of anything while it is away, or have them told again."""
        return await self._push(wire.Quiet(ref=_ref(), quiet=quiet))

    async def _push(self, request: wire.PushRequest) -> PushSettings:
        answer: wire.PushAnswer = await self._request(request)
        return PushSettings(providers=answer.providers, targets=answer.targets, muted=answer.muted, quiet=answer.quiet)


def _ref() -> str:
    return uuid.uuid4().hex


def _fields(query: HistoryQuery | SearchQuery | ConversationsQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in query.__struct_fields__}
