"""Drafts that wait for the application's word before they go to the store (S2)."""

from __future__ import annotations

from collections.abc import Callable, Container

from .batch import Draft
from .effects import Effect, Judge, Unjudge
from .intake import Intake, Pending

__all__ = ["Judging"]


class Judging:
    """Keeps drafts until they are judged. `emit` takes the effects.

    The driver judges the drafts of one source one after the other, so they come back in order. In all there are no more than
    the intake has room for.
    """

    def __init__(self, intake: Intake, emit: Callable[[Effect], None]) -> None:
        self._intake = intake
        self._emit = emit
        self._waiting: dict[int, Pending[Draft]] = {}
        self._last = 0

    def submit(self, pending: Pending[Draft]) -> None:
        """Have a draft judged."""
        self._last += 1
        self._waiting[self._last] = pending
        self._intake.hold(pending)
        self._emit(Judge(self._last, pending.command))

    def judged(self, serial: int) -> Pending[Draft] | None:
        """The draft of this number, which is judged; None if it was withdrawn meanwhile."""
        pending = self._waiting.pop(serial, None)
        if pending is not None:
            self._intake.let_go(pending)
        return pending

    def withdraw(self, sources: Container[int]) -> list[Pending[Draft]]:
        """Take out and return what waits of these sources: it was sent after something that is refused for now (S4)."""
        serials = tuple(serial for serial, pending in self._waiting.items() if pending.source in sources)
        if serials:
            self._emit(Unjudge(serials))
        return [pending for serial in serials if (pending := self.judged(serial)) is not None]
