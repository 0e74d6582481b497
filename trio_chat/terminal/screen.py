"""The terminal of ``trio-chat chat``: what was said above, what is going on in a bar, what is being written below."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

import anyio
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Point
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, Dimension, FormattedTextControl, HSplit, Layout, VerticalAlign, Window
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from ..client.background import open_background
from ..errors import ConnectionClosed
from .conversation import Conversation
from .options import Access
from .outcome import UNREACHABLE, Failure, first
from .rows import Place, Row, rows
from .talk import Talk, standing
from .visible import visible

__all__ = ["Screen", "show"]

_STYLE: Final = Style.from_dict(
    {
        "aside": "ansibrightblack",
        "peer": "bold",
        "refused": "ansired",
        "read": "ansigreen",
        "bar": "reverse",
    }
)
_INPUT_ROWS: Final = 6


async def show(access: Access, peer: str, wait: float) -> None:
    """Chat until somebody has enough. Under asyncio.

    Args:
        access: the way to the server.
        peer: the other one.
        wait: seconds to wait at the end for what is not stored yet.

    Raises:
        Failure: there is something left that is not known to be stored.
        ConnectionClosed: the server ended it, for good.
        KeyboardInterrupt: it was left by Ctrl-C.
    """
    async with access.open() as client:
        screen = Screen(Conversation(peer), keep=access.state is not None, wait=wait)
        talk = Talk(client, screen.conversation, screen.changed)
        await screen.run(talk)
        held = client.statistics()
        left = held.unwritten + held.pending  # what is on its way to the file is written when the client is closed
    if left:
        kept = (
            f"kept in {access.state}, for the next send or chat" if access.state else "lost, if the server does not have it"
        )
        raise Failure(f"{left} not known to be stored: {kept}", UNREACHABLE)


class Screen:
    """A conversation as a full screen.

    Args:
        conversation: what to show.
        keep: what is not stored at the end is not lost.
        wait: …and if it were, so many seconds are given to it.
    """

    def __init__(self, conversation: Conversation, *, keep: bool, wait: float) -> None:
        self.conversation = conversation
        self._keep = keep
        self._wait = wait
        self._talk: Talk | None = None
        self._rows: list[Row] = []
        self._at: Place | None = None  # the row that has to be seen; None: the last one
        self._leaving = anyio.Event()
        self._interrupted = False
        self._terminated = False
        self._buffer = Buffer(multiline=True, history=InMemoryHistory(), on_text_changed=self._typed)
        self._pane = Window(
            FormattedTextControl(self._shown, get_cursor_position=self._point, show_cursor=False),
            dont_extend_height=True,
        )
        bar = Window(FormattedTextControl(self._bar), height=1, style="class:bar")
        line = Window(
            BufferControl(self._buffer, input_processors=[BeforeInput("> ", style="class:aside")]),
            height=Dimension(min=1, max=_INPUT_ROWS),
            dont_extend_height=True,
            wrap_lines=True,
        )
        self._application: Application[None] = Application(
            Layout(HSplit([self._pane, bar, line], align=VerticalAlign.BOTTOM), focused_element=line),
            key_bindings=self._keys(),
            style=_STYLE,
            full_screen=True,
            after_render=self._rendered,
        )

    async def run(self, talk: Talk) -> None:
        """Show the talk until somebody leaves. Raises as `show`."""
        self._talk = talk
        ended: list[ConnectionClosed] = []

        async def converse() -> None:
            try:
                await talk.run()
            except* ConnectionClosed as group:
                ended.append(first(group))
                self._exit()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)  # else the terminal would be left as it is now
        try:
            async with open_background() as tasks:
                tasks.start_soon(converse)
                tasks.start_soon(self._take_leave)
                await self._application.run_async()
        except EOFError:
            pass  # the terminal is gone
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
        if ended:
            raise ended[0]
        if self._interrupted:
            raise KeyboardInterrupt
        if self._terminated:
            sys.exit(128 + signal.SIGTERM)

    def changed(self) -> None:
        """There is something else to be seen."""
        if self._leaving.is_set() and not self.conversation.unsettled:
            self._exit()
        self._application.invalidate()

    # The end.

    def _exit(self) -> None:
        if self._application.is_running and not self._application.is_done:
            self._application.exit()

    def _terminate(self) -> None:
        self._terminated = True
        self._exit()

    async def _take_leave(self) -> None:
        await self._leaving.wait()
        if not self._keep and self.conversation.unsettled:
            self._application.invalidate()
            await anyio.sleep(self._wait)
        self._exit()

    # What is pressed.

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        empty = Condition(lambda: not self._buffer.text)

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:  # noqa: ARG001
            text = self._buffer.text.strip()
            if text and self._talk is not None:
                self._talk.say(text)
                self._buffer.append_to_history()
                self._at = None
            self._buffer.reset()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:  # noqa: ARG001
            self._buffer.insert_text("\n")

        @keys.add("c-d", filter=empty)
        def _(event: KeyPressEvent) -> None:  # noqa: ARG001
            if self._leaving.is_set():
                self._exit()
            self._leaving.set()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _(event: KeyPressEvent) -> None:  # noqa: ARG001
            self._interrupted = True
            self._exit()

        @keys.add("c-z")
        def _(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

        @keys.add("pageup")
        def _(event: KeyPressEvent) -> None:  # noqa: ARG001
            self._leaf(up=True)

        @keys.add("pagedown")
        def _(event: KeyPressEvent) -> None:  # noqa: ARG001
            self._leaf(up=False)

        return keys

    def _typed(self, _: Buffer) -> None:
        if self._talk is not None:
            self._talk.types(something=bool(self._buffer.text))

    def _leaf(self, *, up: bool) -> None:
        info = self._pane.render_info
        if info is None or self._talk is None or not self._rows:
            return
        top, bottom = info.first_visible_line(), info.last_visible_line()
        step = max(1, bottom - top)
        if up and top == 0:
            self._talk.leaf()
        row = max(0, top - step) if up else bottom + step
        self._at = None if row >= len(self._rows) - 1 else self._rows[row].place

    # What is seen.

    def _shown(self) -> StyleAndTextTuples:
        self._rows = list(rows(self.conversation, self._columns()))
        shown: StyleAndTextTuples = []
        for row in self._rows:
            shown += [*row.pieces, ("", "\n")]
        return shown[:-1]

    def _columns(self) -> int:
        return self._application.output.get_size().columns

    def _point(self) -> Point:
        places = [row.place for row in self._rows]
        if self._at is not None and self._at in places:
            return Point(0, places.index(self._at))
        self._at = None
        return Point(0, max(0, len(places) - 1))

    def _bar(self) -> StyleAndTextTuples:
        assert self._talk is not None
        left, right = f" {visible(self.conversation.peer)} {standing(self._talk)}", f"{visible(self.conversation.me or '')} "
        if self._leaving.is_set():
            left = f" {self.conversation.unsettled} not stored yet; Ctrl-C leaves all the same"
        elif self._at is not None:
            right = "Page Down for more "
        space = self._columns() - get_cwidth(left) - get_cwidth(right)
        return [("", left), ("", " " * max(1, space)), ("", right)]

    def _rendered(self, _: object) -> None:
        if self._at is None and self._talk is not None:
            self._talk.seen()
