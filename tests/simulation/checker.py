"""The judge: each promise and invariant in about ten lines, over what could be seen from outside. See DESIGN and SEMANTICS.

Each check yields a sentence for each violation that it finds. None of them looks at the core.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from trio_chat import wire
from trio_chat.core.batch import Mark, Opened, ReadMark, Refused
from trio_chat.errors import CloseCode, ErrorCode, Fate

from .facts import Facts, Line, payload
from .history import (
    Closed,
    Committed,
    Dialled,
    Did,
    Ended,
    Event,
    Failed,
    Finished,
    Given,
    Heard,
    Said,
    Settled,
    Started,
    Told,
    Wrote,
)
from .script import FORGETFUL
from .world import Run

Check = Callable[[Facts], Iterator[str]]
STRANGER: Final = "eve"
_FOR_A_REASON: Final = {CloseCode.GOING_AWAY, CloseCode.INTERNAL, CloseCode.SILENT}


def stored_means_stored(facts: Facts) -> Iterator[str]:
    """Promise 1, I4, I8: what is acknowledged is on the disk then, and still there in the end."""
    for line in facts.lines.values():
        for number, frame in line.written():
            for item in frame.messages if isinstance(frame, wire.Stored) else ():
                place = facts.entry(line.user, item.seq, number)
                if place is None or (place.draft.id, place.stored.sent_at) != (item.id, item.sent_at):
                    yield f"{number}: {line.user} is told that {item.id} is stored at {item.seq}, and it is not"
                elif (kept := facts.history.logs[line.user][-1].seq) < item.seq:
                    yield f"{number}: {item.id} was stored at {item.seq}; in the end the log of {line.user} ends at {kept}"


def delivered_means_acknowledged(facts: Facts) -> Iterator[str]:
    """Promise 2, R1, R2: a cursor or a receipt goes no further than what a device has said that it has."""
    reach: dict[str, int] = defaultdict(int)
    own: dict[str, int] = defaultdict(int)
    for number, event in enumerate(facts.events):
        line = facts.lines[event.line] if isinstance(event, Said | Wrote | Dialled) else None
        if isinstance(event, Committed) or line is None or line.user == STRANGER:
            continue
        user, device, told = line.user, line.device, 0
        match event:
            case Said(frame=wire.Ack(seq=seq)) | Dialled(after=int(seq)):
                reach[user], own[device] = max(reach[user], seq), max(own[device], seq)
            case Said(frame=wire.Read(seq=seq)):
                reach[user] = max(reach[user], seq)
            case Wrote(frame=wire.Welcome(cursor=cursor, new=new)):
                if cursor > (reach[user] if new else own[device]):
                    yield f"{number}: {device} begins at {cursor}, further than it has acknowledged: {own[device]}"
                own[device] = max(own[device], cursor)
            case Wrote(frame=wire.Receipt(peer=peer, delivered=delivered, read=read)):
                told = max(delivered, read)
                place = facts.entry(user, told, number)
                if place is None or place.draft.recipient != peer or place.stored.peer_seq > reach[peer]:
                    yield f"{number}: {user} is told that {peer} has {told}, of which no device of {peer}'s has said so"


def receipts_follow_commits(facts: Facts) -> Iterator[str]:
    """I4: what a receipt says is on the disk before it is said."""
    reached: dict[str, int] = defaultdict(int)
    for number, event in enumerate(facts.events):
        if isinstance(event, Committed):
            marks: tuple[Mark | ReadMark, ...] = (*event.batch.marks, *event.batch.reads)
            for mark in marks:
                reached[mark.user] = max(reached[mark.user], mark.seq)
            for opening, result in zip(event.batch.openings, event.results.openings, strict=True):
                if isinstance(result, Opened):
                    reached[opening.user] = max(reached[opening.user], result.cursor)
        elif isinstance(event, Wrote) and isinstance(event.frame, wire.Receipt):
            user, frame = facts.lines[event.line].user, event.frame
            place = facts.entry(user, max(frame.delivered, frame.read), number)
            if place is None or place.stored.peer_seq > reached[frame.peer]:
                yield f"{number}: {user} is told how far {frame.peer} is before that is on the disk"


def once(facts: Facts) -> Iterator[str]:
    """Promise 3: an id is stored once, with the contents it came with, and always gets the same answer."""
    for (user, id), places in facts.homes.items():
        if len(places) > 1:
            yield f"{places[1].since}: {id} of {user} is stored {len(places)} times"
    answers: dict[tuple[str, str], tuple[int, int]] = {}
    for line in facts.lines.values():
        said = defaultdict(set)
        for _, command in line.said():
            said[command.id].add(payload(command))
        for number, frame in line.written():
            for item in frame.messages if isinstance(frame, wire.Stored) else ():
                answer = answers.setdefault((line.user, item.id), (item.seq, item.sent_at))
                if answer != (item.seq, item.sent_at):
                    yield f"{number}: {item.id} of {line.user} is at {item.seq}, and was at {answer[0]}"
                if (places := facts.homes[line.user, item.id]) and payload(places[0].draft) not in said[item.id]:
                    yield f"{number}: {line.device} is told that its {item.id} is stored; stored is another message"


def given_once(facts: Facts) -> Iterator[str]:
    """Promise 3, for the program: what it is done with is not given to it again."""
    finished: set[tuple[str, tuple[str, str]]] = set()
    for number, event in enumerate(facts.events):
        if isinstance(event, Finished) and event.device not in FORGETFUL:
            finished.add((event.device, event.key))
        elif isinstance(event, Given) and (event.device, (event.message.sender, event.message.id)) in finished:
            yield f"{number}: {event.device} is given {event.message.id} again"


def one_order(facts: Facts) -> Iterator[str]:
    """Promise 4, I1, L6: a log is numbered without holes in the order of commits, and its times never go back."""
    for user, log in facts.logs.items():
        last = 0
        for expected, place in enumerate(log, 1):
            seqs = {place.stored.seq} if place.draft.sender == user else {place.stored.peer_seq}
            if seqs != {expected} or place.stored.sent_at < last:
                yield f"{place.since}: {place.draft.id} is at {seqs} of {user}'s log, at {expected} in the order of commits"
            last = place.stored.sent_at
        floor, held = facts.floor(user, len(facts.events)), facts.history.logs[user]
        if [(entry.seq, entry.id) for entry in held] != [
            (floor + at, one.draft.id) for at, one in enumerate(log[floor:], 1)
        ]:
            yield f"in the end the log of {user} is not what was committed to it, from {floor + 1} to {len(log)}"


def pipelined_order(facts: Facts) -> Iterator[str]:
    """S4: what is sent on one connection keeps its order, and nothing overtakes what is refused for now."""
    for line in facts.lines.values():
        stored, refused = _answers(line, stuck=_stuck(facts, line))
        last = 0
        for number, (seq, heard) in sorted(stored.items()):
            id = _id(facts.events[number])
            if not facts.is_first(line, number, id):
                continue
            overtaken = [said for said, (told, until) in refused.items() if said < number < told and heard < until]
            if seq < last or overtaken:
                yield f"{number}: {id} on line {line.event.line} of {line.device} is at {seq}, before {overtaken or last}"
            last = seq


def _answers(line: Line, *, stuck: bool) -> tuple[dict[int, tuple[int, float]], dict[int, tuple[float, float]]]:
    """By when it was said: where a message was stored, and when the server had read it; and what was refused for now.

    Of that, when the client heard of it, and until when later ones have to be refused, too: so long that a client which
    hears of it can stop. What is written to one that is stuck may have been decided earlier, though not before it was read.
    """
    attempts: dict[str, int] = {}
    read: dict[str, float] = {}
    stored: dict[int, tuple[int, float]] = {}
    refused: dict[int, tuple[float, float]] = {}
    for number, event in line.events:
        match event:
            case Said():
                attempts[_id(event)] = number
            case Heard(at=at):
                read[_id(event)] = at
            case Wrote(frame=wire.Stored(messages=items)):
                stored |= {attempts[item.id]: (item.seq, read[item.id]) for item in items}
            case Wrote(at=at, frame=wire.Error(id=str(id), retry_after=float(wait))) if id in attempts:
                refused[attempts[id]] = float("inf"), (read[id] if stuck else at) + wait
            case Told(frame=wire.Error(id=str(id), retry_after=float())) if attempts.get(id) in refused:
                refused[attempts[id]] = number, refused[attempts[id]][1]
    return stored, refused


def _id(event: Event) -> str:
    return str(getattr(getattr(event, "frame", None), "id", ""))


def complete_or_told(facts: Facts) -> Iterator[str]:
    """Promise 5, I3, C4, C5, C7: each line brings everything behind its start, in order, once, or says what is gone."""
    for line in facts.lines.values():
        position, named = 0, set()
        for number, frame in line.written():
            match frame:
                case wire.Welcome(cursor=position):
                    pass
                case wire.Stored(messages=items):
                    named |= {item.seq for item in items}
                case wire.Gap(first=first, last=last):
                    if not set(range(position + 1, first)) <= named or last > facts.floor(line.user, number):
                        yield f"{number}: line {line.event.line} is told of a gap {first}-{last}, after {position}"
                    position = max(position, last)
                case wire.Messages(messages=messages):
                    for message in messages:
                        if message.seq <= position or not set(range(position + 1, message.seq)) <= named:
                            yield f"{number}: line {line.event.line} of {line.device} jumps from {position} to {message.seq}"
                        position = message.seq


def everything_is_settled(facts: Facts) -> Iterator[str]:
    """S3: in the end there is nothing that anybody still waits for, and nobody who was not told."""
    for name in facts.history.unfinished:
        yield f"{name} has not come to rest"
    settled = {(event.device, event.id) for event in facts.events if isinstance(event, Settled)}
    there = {line.user for line in facts.lines.values()}
    for line in facts.lines.values():
        for number, command in line.said():
            waits = (line.device, command.id) not in settled and command.to in there  # else that mailbox may be full
            if waits and line.device not in FORGETFUL and line.user != STRANGER:
                yield f"{number}: {line.device} was never told what became of {command.id}"


def everything_arrives(facts: Facts) -> Iterator[str]:
    """Promise 5: every program has taken everything behind the start of its first connection, or was told of a gap."""
    begun: dict[str, int] = {}
    there: dict[str, set[str]] = defaultdict(set)
    for line in facts.lines.values():
        for _, told in line.all(Told):
            if isinstance(told.frame, wire.Welcome):
                begun.setdefault(line.device, told.frame.cursor)
            elif isinstance(told.frame, wire.Gap):
                gone = facts.logs[line.user][told.frame.first - 1 : told.frame.last]
                there[line.device] |= {place.draft.id for place in gone}
    for event in facts.events:
        if isinstance(event, Finished):
            there[event.device].add(event.key[1])
    for device, start in begun.items():
        user = device.partition("/")[0]
        for seq, place in enumerate(facts.logs[user][start:], start + 1):
            if user != STRANGER and place.draft.sender != user and place.draft.id not in there[device]:
                yield f"the program of {device} has never taken {place.draft.id}, {seq} in the log of {user}"


def settled_is_true(facts: Facts) -> Iterator[str]:
    """S5: who is told that a message is not stored can believe it; and what it was told is stored stays so."""
    for number, event in enumerate(facts.events):
        if isinstance(event, Settled):
            user = event.device.partition("/")[0]
            places = facts.homes[user, event.id]
            if event.fate == "stored" and (not places or places[0].stored.seq != event.seq):
                yield f"{number}: {event.device} was told that {event.id} is stored at {event.seq}"
            if event.fate.startswith("never") and places and len(facts.tries[user, event.id]) == 1:
                yield f"{number}: {event.device} was told that {event.id} is not stored"
        elif isinstance(event, Wrote) and isinstance(event.frame, wire.Error) and event.frame.id is not None:
            user = facts.lines[event.line].user
            known = ErrorCode(event.frame.code).fate is not Fate.UNKNOWN
            if known and len(facts.tries[user, event.frame.id]) == 1 and facts.homes[user, event.frame.id]:
                yield f"{number}: {event.frame.id} was refused with {event.frame.code}, and is stored"


def bounded(facts: Facts) -> Iterator[str]:
    """Promise 6, I2: at most a window of entries is under way to a device, and no write is larger than what may wait."""
    settings = facts.script.settings
    burst = settings.outbox_bytes + settings.window_bytes + 2 * settings.server_frame_bytes + 1024 * 250
    for line in facts.lines.values():
        window: list[int] = []
        acked = 0
        for number, event in line.events:
            match event:
                case Heard(frame=wire.Ack(seq=seq)):
                    acked = max(acked, seq)
                    window = [one for one in window if one > seq]
                case Wrote(frame=wire.Messages(messages=messages)):
                    window += [message.seq for message in messages if message.seq > acked]
                    if len(window) > settings.window or event.burst > burst:
                        yield f"{number}: {len(window)} entries, {event.burst} bytes are under way on line {line.event.line}"


def answered_in_time(facts: Facts) -> Iterator[str]:
    """Promise 6, 8: who is well is answered at once, whatever others do: hooks, disk and network apart."""
    slow = ("slow disk", "hooks", "leap", "dead disk", "refuse", "no pages", "stop")
    troubled = [event.at for event in facts.events if isinstance(event, Did) and event.what.startswith(slow)]
    for line in facts.lines.values():
        waiting: dict[str, float] = {}
        for number, event in line.events:
            match event:
                case Heard(at=at, frame=wire.Send(id=id)):
                    waiting[id] = at
                case Wrote(frame=wire.Error(id=str(id))):
                    waiting.pop(id, None)
                case Wrote(at=at, frame=wire.Stored(messages=items)):
                    for item in items:
                        began = waiting.pop(item.id, at)
                        if (
                            at - began > 4.0
                            and not any(began - 30.0 < one < at for one in troubled)
                            and not _stuck(facts, line)
                        ):
                            yield f"{number}: {line.device} has waited {at - began:.1f} s to hear of {item.id}"


def _stuck(facts: Facts, line: Line) -> bool:
    """Whether the client of a line did not read for a while, so that it has itself to blame."""
    stalled = {f"stall {line.device}", f"cut {line.device}"}
    return line.user == STRANGER or any(
        isinstance(event, Did) and event.what.rpartition(" ")[0] in stalled for event in facts.events
    )


def nothing_outlives(facts: Facts) -> Iterator[str]:
    """Promise 7, I6, I7: nothing is kept for who is gone, and nothing is written after a server's or a line's end."""
    if kept := {name: value for name, value in facts.history.remains.items() if value}:
        yield f"everybody is gone, and the server still has {kept}"
    if facts.history.left_over:
        yield f"still there in the end: {facts.history.left_over}"
    up, closed = False, set()
    for number, event in enumerate(facts.events):
        match event:
            case Started():
                up = True
            case Ended():
                up = False
            case Closed(line=line):
                closed.add(line)
            case Wrote(line=line) if line in closed or not up:
                yield f"{number}: something is written to line {line} after its end"


def only_itself(facts: Facts) -> Iterator[str]:
    """Promise 8: nothing fails for everybody; nobody well-behaved is closed but for a reason that exists."""
    for number, event in enumerate(facts.events):
        if isinstance(event, Failed):
            yield f"{number}: {event.what}"
    for line in facts.lines.values():
        twins = sum(other.device == line.device for other in facts.lines.values())
        for number, closed in line.all(Closed):
            expected = closed.code in _FOR_A_REASON or (closed.code == CloseCode.REPLACED and twins > 1)
            if not expected and line.user != STRANGER:
                yield f"{number}: {line.device} is closed with {closed.code}"


def replaced_hears_nothing(facts: Facts) -> Iterator[str]:
    """I7: what is committed after a device's newer connection was welcome does not reach the older one."""
    welcome: dict[int, int] = {}
    newest: dict[str, int] = {}
    for number, event in enumerate(facts.events):
        if not isinstance(event, Wrote):
            continue
        line = facts.lines[event.line]
        if isinstance(event.frame, wire.Welcome):
            welcome[event.line] = newest[line.device] = number
        elif isinstance(event.frame, wire.Messages) and welcome.get(event.line, 0) < newest.get(line.device, 0):
            for message in event.frame.messages:
                if facts.entry(line.user, message.seq, newest[line.device]) is None:
                    yield f"{number}: {message.id} goes to line {event.line}, which was replaced"


def own_log_only(facts: Facts) -> Iterator[str]:
    """I4, I9: every entry that leaves is one of that user's log, as it was committed, and was committed before."""
    for line in facts.lines.values():
        for number, frame in line.written():
            for message in frame.messages if isinstance(frame, wire.Messages) else ():
                place = facts.entry(line.user, message.seq, number)
                draft = None if place is None else place.draft
                if draft is None or (draft.id, draft.sender, draft.recipient, draft.kind) != (
                    message.id, message.sender, message.recipient, message.kind,
                ) or message.text not in (draft.text, None):  # fmt: skip
                    yield f"{number}: {line.user} is given {message.id} at {message.seq}, which is {draft}"


def blocked_is_blocked(facts: Facts) -> Iterator[str]:
    """B1: from its commit on, nothing of the blocked sender enters the log, and no typing is told in either direction."""
    blocks: dict[tuple[str, str], int] = {}
    heard: dict[tuple[str, str], int] = {}
    for number, event in enumerate(facts.events):
        match event:
            case Committed(batch=batch, results=results):
                for change, result in zip(batch.blocks, results.blocks, strict=True):
                    pair = change.user, change.peer
                    if not change.blocked:
                        blocks.pop(pair, None)
                    elif not isinstance(result, Refused):
                        blocks.setdefault(pair, number)
                for draft, stored in zip(batch.drafts, results.drafts, strict=True):
                    enters = not isinstance(stored, Refused) and stored.new and stored.peer_seq
                    if enters and (draft.recipient, draft.sender) in blocks:
                        yield f"{number}: {draft.id} of {draft.sender} reaches {draft.recipient}, who has blocked it"
            case Heard(frame=wire.Typing(to=to)):
                heard[facts.lines[event.line].user, to] = number
            case Wrote(frame=wire.TypingFrom(sender=sender)):
                user = facts.lines[event.line].user
                since = min(blocks.get((user, sender), number), blocks.get((sender, user), number))
                said = heard.get((sender, user), 0)
                if since < said and event.at > facts.events[said].at + 0.05 > facts.events[since].at + 5.0:
                    yield f"{number}: {user} is told that {sender} is typing, though one has blocked the other"


CHECKS: Final[tuple[Check, ...]] = (
    stored_means_stored, delivered_means_acknowledged, receipts_follow_commits, once, given_once, one_order,
    pipelined_order, complete_or_told, everything_is_settled, everything_arrives, settled_is_true, bounded,
    answered_in_time, nothing_outlives, only_itself, replaced_hears_nothing, own_log_only, blocked_is_blocked,
)  # fmt: skip


def judge(run: Run) -> list[str]:
    """Every violation that there is, with the check that found it."""
    facts = Facts(run.script, run.history)
    return [f"{check.__name__}: {found}" for check in CHECKS for found in check(facts)]
