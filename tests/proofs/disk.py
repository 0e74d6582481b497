"""What happened to a disk, and every state in which a power cut may have left it. Reads what ``disk.c`` wrote down.

A file system promises of a write no more than this: what was synchronised is there. Of the rest, since then, any part may be
there and any other not, in units of sectors of 512 bytes, whatever the order of the calls was; names are made and removed in
order, and are there for certain once their folder was synchronised. A `Platter` keeps, for a prefix of the record, what is
certain of each file and what is not; a `Cut` is a choice among the latter.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .peers import TEXT, Frames

START, CREATE, WRITE, TRUNCATE, UNLINK, SYNC, SYNCED, SEND, SENT = range(9)
"""What a record's first byte says. CREATE, WRITE, TRUNCATE, UNLINK and SYNC are also the bits of ``disk_fault``."""
DATABASE, WAL, JOURNAL, FOLDER = range(1, 5)
ONCE, FROM_THEN_ON, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER = range(5)
"""What ``disk_fault`` does."""

SUFFIXES: Final = {DATABASE: "", WAL: "-wal", JOURNAL: "-journal"}
SECTOR: Final = 512
_HEAD: Final = struct.Struct("<BBHIQQ")


class Event(NamedTuple):
    """A call. `offset` is of TRUNCATE the new size, of SENT how many bytes were taken."""

    op: int
    name: int
    file: int
    offset: int
    data: bytes


def read_record(path: Path) -> list[Event]:
    """Everything that was written down."""
    record = path.read_bytes()
    events, at = [], 0
    while at < len(record):
        op, name, _, length, file, offset = _HEAD.unpack_from(record, at)
        at += _HEAD.size
        events.append(Event(op, name, file, offset, record[at : at + length]))
        at += length
    return events


def told(events: list[Event]) -> Iterator[tuple[int, bytes]]:
    """The WebSocket frames that clients may have had, each with the index of the event from which on they may have had it.

    A client cannot have a byte before it is sent, and SEND is written down before: what is demanded of a cut is therefore
    never too little. It is never too much either: a server that keeps its promise has synchronised before it calls.
    """
    streams: dict[int, Frames | None] = {}
    sending: dict[int, tuple[int, bytes]] = {}

    def sent(file: int, size: int | None) -> Iterator[tuple[int, bytes]]:
        index, data = sending.pop(file)
        if data.startswith(b"HTTP/1.1 "):
            head, _, data = data.partition(b"\r\n\r\n")
            streams[file] = Frames() if head.startswith(b"HTTP/1.1 101") else None
            size = None if size is None else max(0, size - len(head) - 4)
        frames = streams.get(file)
        if frames is not None:
            yield from ((index, payload) for opcode, payload in frames.feed(data[:size]) if opcode == TEXT)

    for index, event in enumerate(events):
        if event.op == SEND:
            sending[event.file] = (index, event.data)
        elif event.op == SENT:
            yield from sent(event.file, event.offset)
        elif event.op == START:  # of those before, that one was killed in the middle: it may have gone
            for file in list(sending):
                yield from sent(file, None)
            streams.clear()
    for file in list(sending):
        yield from sent(file, None)


class _Change(NamedTuple):
    """A part of a call, of which the disk has all or nothing: a sector of a write, or a truncation (without `data`)."""

    offset: int
    data: bytes | None


def _apply(content: bytearray, change: _Change) -> None:
    offset, data = change
    if data is None:
        if offset <= len(content):
            del content[offset:]
        else:
            content += bytes(offset - len(content))
    else:
        if len(content) < offset:
            content += bytes(offset - len(content))
        content[offset : offset + len(data)] = data


class _File:
    """What is certain of a file, and what is not yet."""

    def __init__(self) -> None:
        self.certain = bytearray()
        self.pending: list[_Change] = []
        self.begun: int | None = None
        """How many of those a synchronisation covers that is under way."""

    def write(self, offset: int, data: bytes) -> None:
        """Sectors, where the disk has them: none is written in part."""
        end = offset + len(data)
        at = offset
        while at < end:
            to = min(end, (at // SECTOR + 1) * SECTOR)
            self.pending.append(_Change(at, data[at - offset : to - offset]))
            at = to

    def settle(self) -> bool:
        """The synchronisation is over; whether it has made anything certain."""
        covered, self.begun = self.begun or 0, None
        for change in self.pending[:covered]:
            _apply(self.certain, change)
        del self.pending[:covered]
        return covered > 0


class Cut(NamedTuple):
    """What a power cut leaves of what is uncertain: how many of the names, and of each file which changes."""

    names: int
    kept: tuple[tuple[int, int], ...]
    """File and bits, the lowest one that of the first change."""
    stretched: int
    """Sectors by which a file is longer than what is in it, with zeros: its size was written, and the content was not."""


class Platter:
    """A disk, and what is certain of it, as the record is followed."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[int, int] = {}
        self._renamings: list[tuple[int, int | None]] = []
        self._begun: int | None = None
        self.generation = 0
        """Counts how often something became certain: between two of those, equal cuts leave equal files."""

    def follow(self, event: Event) -> None:
        """The next call of the record."""
        op, name, file, offset, data = event
        if op == START:
            for each in self._files.values():
                each.begun = None
            self._begun = None
        elif op == CREATE:
            self._files[file] = _File()
            self._renamings.append((name, file))
        elif op == UNLINK:
            self._renamings.append((name, None))
        elif op == WRITE:
            self._files[file].write(offset, data)
        elif op == TRUNCATE:
            self._files[file].pending.append(_Change(offset, None))
        elif op == SYNC:
            self._begin(name, file)
        elif op == SYNCED:
            self._settle(name, file)

    def _begin(self, name: int, file: int) -> None:
        if name == FOLDER:
            self._begun = len(self._renamings)
            return
        if self._files[file].begun is not None:
            raise AssertionError("two threads synchronise one file at a time: which of them covers what is not written down")
        self._files[file].begun = len(self._files[file].pending)

    def _settle(self, name: int, file: int) -> None:
        if name == FOLDER:
            for each, inode in self._renamings[: self._begun]:
                self._rename(self._names, each, inode)
            certain = bool(self._begun)
            del self._renamings[: self._begun]
        else:
            certain = self._files[file].settle()
        self.generation += certain

    @staticmethod
    def _rename(names: dict[int, int], name: int, file: int | None) -> None:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file

    def _reachable(self) -> list[int]:
        """The files that any cut could leave a name of, and of which something is uncertain."""
        files = {*self._names.values(), *(file for _, file in self._renamings if file is not None)}
        return sorted(file for file in files if self._files[file].pending)

    def everything(self) -> Cut:
        """No power cut at all: what a killed process leaves."""
        kept = tuple((file, (1 << len(self._files[file].pending)) - 1) for file in self._reachable())
        return Cut(len(self._renamings), kept, 0)

    def nothing(self) -> Cut:
        """Of what is uncertain, nothing is there."""
        return Cut(0, tuple((file, 0) for file in self._reachable()), 0)

    def choose(self, numbers: random.Random) -> Cut:
        """Some of what is uncertain is there."""
        kept = tuple((file, self._some(len(self._files[file].pending), numbers)) for file in self._reachable())
        names = len(self._renamings) if numbers.random() < 0.7 else numbers.randint(0, len(self._renamings))
        return Cut(names, kept, numbers.choice((0, 0, 0, 1, 8, 17)))

    @staticmethod
    def _some(count: int, numbers: random.Random) -> int:
        whole = (1 << count) - 1
        split = numbers.randint(0, count)
        match numbers.randrange(5):
            case 0:  # in order, up to a sector
                return (1 << split) - 1
            case 1:  # the last ones before the first ones
                return whole ^ ((1 << split) - 1)
            case 2:  # all but a few
                return whole & ~(1 << numbers.randrange(count)) & ~(1 << numbers.randrange(count))
            case 3:  # only a few
                return 1 << numbers.randrange(count) | 1 << numbers.randrange(count)
            case _:
                return numbers.getrandbits(count)

    def leave(self, cut: Cut) -> dict[int, bytes]:
        """The contents of the files after this cut, by name."""
        names = dict(self._names)
        for name, file in self._renamings[: cut.names]:
            self._rename(names, name, file)
        kept = dict(cut.kept)
        contents = {}
        for name, file in names.items():
            state = self._files[file]
            content = bytearray(state.certain)
            bits = kept.get(file, 0)
            for number, change in enumerate(state.pending):
                if bits >> number & 1:
                    _apply(content, change)
            if state.pending:
                content += bytes(min(cut.stretched * SECTOR, max(0, self._longest(state) - len(content))))
            contents[name] = bytes(content)
        return contents

    @staticmethod
    def _longest(state: _File) -> int:
        return max([len(state.certain), *(offset + len(data or b"") for offset, data in state.pending)])
