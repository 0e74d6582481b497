"""What the application has a say in: who may send what to whom, and who may see whom."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias, TypeVar

import trio
from msgspec import Struct
from msgspec.structs import replace

from .core.batch import Batch, Draft, Results, Stored
from .core.effects import Judge
from .core.events import Event, Judged, Rejection
from .errors import ErrorCode, Rejected, StoreError
from .hooks import HookFailed, run_hook
from .model import Kind
from .retrieval import Standing
from .settings import Settings
from .store.base import Store

__all__ = ["Hooks", "Outgoing", "Policy"]


class Outgoing(Struct, frozen=True, kw_only=True):
    """A message on its way, or an edit of one: what `Hooks.before_send` is asked about. It has no place in a log yet.

    `reply_to` and `target` are ids, as in `Message`. To change the text, return
    ``msgspec.structs.replace(message, text=…)``; nothing else of it may change.
    """

    id: str
    sender: str
    recipient: str
    text: str
    kind: Kind = "message"
    reply_to: str | None = None
    target: str | None = None


BeforeSend: TypeAlias = Callable[[Outgoing], Awaitable[Outgoing]]
May: TypeAlias = Callable[[str, str], Awaitable[bool]]


class Hooks(Struct, frozen=True, kw_only=True):
    """The application's say in a chat: async functions, each with ``settings.hook_timeout`` seconds for one answer.

    They are asked about what clients do, not about what the application does itself. A hook that raises, hangs or gives
    something that is no answer is logged, and the one message is refused with ``internal``; nobody else notices. The
    messages of a connection are judged one after the other, in order, so a slow hook slows that connection.

    `may_send` is given the sender and the recipient of a message or an edit; False refuses it with ``not_allowed``.
    `before_send`, asked after it, returns the message as it is to be stored, its text changed perhaps, or raises `Rejected`.
    Both are asked about new ids only: a message that is sent again is answered as it was (S2). A deletion is not theirs to
    refuse.

    `may_watch` is given who wants to see and whom: whether that user is online, and was last. Without it, those may who have
    exchanged messages in both directions. Neither way may anybody who blocks the other or is blocked.
    """

    may_send: May | None = None
    before_send: BeforeSend | None = None
    may_watch: May | None = None

    @property
    def judge(self) -> bool:
        """Whether any of them wants to know of messages."""
        return self.may_send is not None or self.before_send is not None


class _Content(Struct, frozen=True):
    """What makes a draft the same message as another (S2), whichever connection it came by."""

    sender: str
    id: str
    digest: bytes

    @classmethod
    def of(cls, draft: Draft) -> _Content:
        parts = (draft.recipient, draft.said or "", draft.kind, draft.target or "")
        what = "".join(f"{len(part)}:{part}" for part in parts)
        return cls(draft.sender, draft.id, blake2b(what.encode(), digest_size=16).digest())


_REMEMBERED: Final = 4096
"""Words that are remembered until their message is stored, and messages that were stored lately."""


class Policy:
    """Asks the hooks. Drafts of one source come back in order; sources do not wait for one another.

    A message is judged once, although it may come again by another connection before it is stored: the second waits for the
    word on the first, and is given the same. `report` takes what they said.
    """

    def __init__(self, hooks: Hooks, store: Store, report: Callable[[Event], None], settings: Settings) -> None:
        self._hooks = hooks
        self._store = store
        self._report = report
        self._settings = settings
        self._waiting: dict[int, deque[Judge]] = {}  # by source; of one that is being judged it may be empty
        self._wanted: set[int] = set()  # the serials of those that were not withdrawn
        self._under_way: dict[_Content, trio.Event] = {}
        self._accepted: OrderedDict[_Content, Draft] = OrderedDict()
        self._settled: OrderedDict[_Content, None] = OrderedDict()
        self._new: list[int] = []
        self._submitted = trio.Event()

    @property
    def waiting(self) -> int:
        """How many drafts wait for the application's word; not those it is being asked about."""
        return sum(map(len, self._waiting.values()))

    def submit(self, judge: Judge) -> None:
        """Have this draft judged; `Judged` is reported. The core bounds how many wait."""
        source = judge.draft.source
        if source not in self._waiting:
            self._waiting[source] = deque()
            self._new.append(source)
            self._submitted.set()
        self._waiting[source].append(judge)
        self._wanted.add(judge.serial)

    def withdraw(self, serials: Iterable[int]) -> None:
        """These were refused meanwhile: do not ask about them."""
        self._wanted.difference_update(serials)

    def stored(self, batch: Batch, results: Results) -> None:
        """A batch is durable: from now on the store knows its messages."""
        for draft, result in zip(batch.drafts, results.drafts, strict=True):
            if isinstance(result, Stored):
                content = _Content.of(draft)
                self._accepted.pop(content, None)
                _remember(self._settled, content, None)

    async def run(self) -> None:
        """Judge what is submitted, until cancelled. Raises whatever the store raises beside its own errors, in a group."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._submitted.wait()
                self._submitted = trio.Event()
                sources, self._new = self._new, []
                for source in sources:
                    nursery.start_soon(self._judge_all, source)

    async def _judge_all(self, source: int) -> None:
        waiting = self._waiting[source]
        while waiting:
            judges = list(waiting)
            waiting.clear()
            drafts = [judge.draft for judge in judges]
            try:
                known: Sequence[bool] = await self._store.known([(draft.sender, draft.id) for draft in drafts])
            except StoreError as error:
                for judge in judges:
                    self._wanted.discard(judge.serial)
                    self._report(Judged(judge.serial, Rejection(error.code)))
                continue
            for judge, stored in zip(judges, known, strict=True):
                if judge.serial not in self._wanted:
                    continue
                # What is stored already gets its first answer from the store, and a deletion nobody's.
                verdict: Draft | Rejection = judge.draft
                if not stored and judge.draft.text is not None:
                    verdict = await self._judge_once(judge, judge.draft.text)
                self._wanted.discard(judge.serial)
                self._report(Judged(judge.serial, verdict))
        del self._waiting[source]

    async def _judge_once(self, judge: Judge, text: str) -> Draft | Rejection:
        draft, content = judge.draft, _Content.of(judge.draft)
        while (under_way := self._under_way.get(content)) is not None:
            await under_way.wait()
        if content in self._settled or judge.serial not in self._wanted:
            return draft  # the store has the answer since it was asked; or nobody waits for the word any more
        if (accepted := self._accepted.get(content)) is not None:
            return replace(draft, text=accepted.text, sent=accepted.sent)
        done = self._under_way[content] = trio.Event()
        try:
            verdict = await self._judge(draft, text)
        finally:
            del self._under_way[content]
            done.set()
        if isinstance(verdict, Draft) and judge.serial in self._wanted:
            _remember(self._accepted, content, verdict)
        return verdict

    async def _judge(self, draft: Draft, text: str) -> Draft | Rejection:
        hooks, seconds = self._hooks, self._settings.hook_timeout
        try:
            if hooks.may_send is not None and not await run_hook(
                "may_send", hooks.may_send, draft.sender, draft.recipient, seconds=seconds, returns=bool
            ):
                return Rejection(ErrorCode.NOT_ALLOWED)
            if hooks.before_send is None:
                return draft
            message = Outgoing(
                id=draft.id,
                sender=draft.sender,
                recipient=draft.recipient,
                text=text,
                kind=draft.kind,
                reply_to=draft.target if draft.kind == "message" else None,
                target=draft.target if draft.kind != "message" else None,
            )
            allowed = await run_hook(
                "before_send",
                hooks.before_send,
                message,
                seconds=seconds,
                returns=Outgoing,
                answers=(Rejected,),
                accepts=lambda answer: self._is_answer(answer, message),
            )
        except Rejected as rejected:
            return Rejection(rejected.code, rejected.message)
        except HookFailed:
            return Rejection(ErrorCode.INTERNAL)
        return draft if allowed.text == text else replace(draft, text=allowed.text, sent=text)

    def _is_answer(self, answer: Outgoing, message: Outgoing) -> bool:
        """Whether a hook changed nothing but the text, to one that can be stored."""
        text: Any = answer.text  # nothing has made sure that it is one
        if not isinstance(text, str) or not text or "\x00" in text or replace(answer, text=message.text) != message:
            return False
        try:
            return len(text.encode()) <= self._settings.text_bytes
        except UnicodeEncodeError:
            return False

    async def standings(self, viewer: str, standings: Iterable[Standing]) -> tuple[Standing, ...]:
        """What `viewer` may know, by the application's word. Whom a hook fails about is not seen."""
        seen = list(standings)
        async with trio.open_nursery() as nursery:
            for index, standing in enumerate(seen):
                if not standing.parted:
                    nursery.start_soon(self._may_watch, viewer, seen, index)
        return tuple(seen)

    async def _may_watch(self, viewer: str, seen: list[Standing], index: int) -> None:
        hook = self._hooks.may_watch
        assert hook is not None
        standing = seen[index]
        seconds = self._settings.hook_timeout
        try:
            allowed = await run_hook("may_watch", hook, viewer, standing.user, seconds=seconds, returns=bool)
        except HookFailed:
            allowed = False
        seen[index] = replace(standing, acquainted=allowed)


Value = TypeVar("Value")


def _remember(memory: OrderedDict[_Content, Value], content: _Content, value: Value) -> None:
    memory[content] = value
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
