"""A history in order: what each log holds and since when, and what went over each line."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from trio_chat import wire
from trio_chat.core.batch import Draft, Refused, Stored

from .history import Closed, Committed, Dialled, Dropped, Ended, Event, Heard, History, Lost, Said, Told, Wrote
from .script import Script

Kind = TypeVar("Kind", bound=Event)
Number = int
"""The place of an event in the history."""
DRAFTS = (wire.Send, wire.Edit, wire.Delete)


class Place(Struct, frozen=True):
    """An entry of a log: since which event it is on the disk, and what became of its draft."""

    since: Number
    draft: Draft
    stored: Stored


class Line:
    """What went over one connection, in order."""

    def __init__(self, dialled: Number, event: Dialled) -> None:
        self.dialled = dialled
        self.event = event
        self.user = event.user
        self.device = f"{event.user}/{event.device}"
        self.events: list[tuple[Number, Event]] = []

    def all(self, kind: type[Kind]) -> Iterator[tuple[Number, Kind]]:
        """Its events of a kind."""
        for number, event in self.events:
            if isinstance(event, kind):
                yield number, event

    def written(self) -> Iterator[tuple[Number, wire.ServerFrame]]:
        """What the server wrote to it."""
        for number, event in self.events:
            if isinstance(event, Wrote):
                yield number, event.frame

    def said(self) -> Iterator[tuple[Number, wire.Send | wire.Edit | wire.Delete]]:
        """What its client sent that is answered by ``stored``."""
        for number, event in self.events:
            if isinstance(event, Said) and isinstance(event.frame, DRAFTS):
                yield number, event.frame


class Facts:
    """What can be said of a history without judging it."""

    def __init__(self, script: Script, history: History) -> None:
        self.script = script
        self.history = history
        self.events = history.events
        self.logs: dict[str, list[Place]] = defaultdict(list)
        """Every entry there ever was, in the order in which the store numbered them."""
        self.homes: dict[tuple[str, str], list[Place]] = defaultdict(list)
        """Where a sender's id is in the sender's log."""
        self.floors: dict[str, list[tuple[Number, int]]] = defaultdict(list)
        self.lines: dict[int, Line] = {}
        self.tries: dict[tuple[str, str], list[Number]] = defaultdict(list)
        """When a user's id was said, on whichever line."""
        self.ends: list[Number] = []
        for number, event in enumerate(self.events):
            if isinstance(event, Said | Heard | Wrote | Told | Closed | Lost):
                self.lines[event.line].events.append((number, event))
                if isinstance(event, Said) and isinstance(event.frame, DRAFTS):
                    self.tries[self.lines[event.line].user, event.frame.id].append(number)
            elif isinstance(event, Committed):
                self._commit(number, event)
            elif isinstance(event, Dialled):
                self.lines[event.line] = Line(number, event)
            elif isinstance(event, Dropped):
                self.floors[event.user].append((number, event.floor))
            elif isinstance(event, Ended):
                self.ends.append(number)

    def _commit(self, number: Number, event: Committed) -> None:
        for draft, result in zip(event.batch.drafts, event.results.drafts, strict=True):
            if isinstance(result, Refused) or not result.new:
                continue
            place = Place(number, draft, result)
            self.logs[draft.sender].append(place)
            self.homes[draft.sender, draft.id].append(place)
            if result.peer_seq:
                self.logs[draft.recipient].append(place)

    def is_first(self, line: Line, said: Number, id: str) -> bool:
        """Whether this was the first time that the id was said, and no other device of the user ever said it, too."""
        tries = self.tries[line.user, id]
        spoken = [self.events[number] for number in tries]
        others = {self.lines[event.line].device for event in spoken if isinstance(event, Said)}
        return tries[0] == said and others == {line.device}

    def entry(self, user: str, seq: int, before: Number) -> Place | None:
        """What the log had at `seq` when the event happened."""
        log = self.logs[user]
        if 1 <= seq <= len(log) and log[seq - 1].since < before:
            return log[seq - 1]
        return None

    def floor(self, user: str, at: Number) -> int:
        """Up to where the log was no longer held."""
        floors = self.floors[user]
        index = bisect_right(floors, at, key=lambda one: one[0])
        return floors[index - 1][1] if index else 0


def payload(command: Draft | wire.Send | wire.Edit | wire.Delete) -> tuple[str, str, str | None, str | None]:
    """What makes a message the same as another, beside its sender and id (S2)."""
    match command:
        case Draft():
            return command.kind, command.recipient, command.said, command.target
        case wire.Send(to=to, text=text, reply_to=reply_to):
            return "message", to, text, reply_to
        case wire.Edit(to=to, text=text, target=target):
            return "edit", to, text, target
        case wire.Delete(to=to, target=target):
            return "delete", to, None, target
