"""Targets, preferences and the outbox, as they change in a transaction. Runs in the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from ..core.batch import ReadMark, Refused
from ..core.outbox import USER_TARGETS, Mute, Note, PushChange, Quiet, Register, TargetGone, Unregister
from ..errors import ErrorCode
from ..settings import Settings
from .rows import write
from .users import Users

__all__ = ["announce", "change", "clear", "forget_devices", "named"]

FRESH = "lower(hex(randomblob(16)))"

# One job for each of the recipient's targets. One that waits already waits no longer for it, and keeps its id.
ANNOUNCE = f"""
    INSERT INTO push_jobs (target, peer, provider, id, seq, since, due)
    SELECT t.id, v.column2, t.provider, {FRESH}, v.column3, v.column4, v.column5
    FROM (VALUES {{rows}}) AS v CROSS JOIN push_targets AS t ON t.user = v.column1
    WHERE true
    ON CONFLICT (target, peer) DO UPDATE SET seq = excluded.seq, clear = 0,
        id = CASE WHEN due IS NULL OR clear THEN excluded.id ELSE id END,
        since = CASE WHEN due IS NULL OR clear THEN excluded.since ELSE since END,
        attempts = CASE WHEN due IS NULL OR clear THEN 0 ELSE attempts END,
        due = CASE WHEN due IS NULL OR clear THEN excluded.due ELSE due END"""
# Where it was read, nothing of it is shown any more: that device has seen to it.
SEEN = """
    UPDATE push_jobs SET notified = 0 WHERE (target, peer) IN (
        SELECT j.target, j.peer
        FROM (VALUES {rows}) AS v
            CROSS JOIN push_targets AS t ON t.user = v.column1 AND t.device = v.column3
            CROSS JOIN push_jobs AS j ON j.target = t.id AND j.peer = v.column2
            CROSS JOIN conversations AS c ON c.a = min(v.column1, v.column2) AND c.b = max(v.column1, v.column2)
        WHERE j.notified > 0 AND j.notified <= CASE v.column1 WHEN c.a THEN c.read_a ELSE c.read_b END)"""
# Of what is shown everything was read. What waits already finds that out by itself.
CLEAR = f"""
    INSERT INTO push_jobs (target, peer, provider, id, seq, since, due, clear)
    SELECT j.target, j.peer, j.provider, {FRESH}, j.seq, v.column3, v.column3, 1
    FROM (VALUES {{rows}}) AS v
        CROSS JOIN push_targets AS t ON t.user = v.column1
        CROSS JOIN push_jobs AS j ON j.target = t.id AND j.peer = v.column2
        CROSS JOIN conversations AS c ON c.a = min(v.column1, v.column2) AND c.b = max(v.column1, v.column2)
    WHERE j.due IS NULL AND j.notified > 0 AND j.notified <= CASE v.column1 WHEN c.a THEN c.read_a ELSE c.read_b END
    ON CONFLICT (target, peer) DO UPDATE SET
        clear = 1, id = excluded.id, since = excluded.since, due = excluded.due, attempts = 0"""
NOTE = f"""
    UPDATE push_jobs SET
        notified = CASE :outcome WHEN 'sent' THEN :seq WHEN 'cleared' THEN 0 ELSE notified END,
        clear = CASE WHEN :outcome IN ('later', 'put off') THEN clear ELSE 0 END,
        id = CASE WHEN :outcome IN ('later', 'put off') THEN id ELSE {FRESH} END,
        since = CASE WHEN :outcome IN ('later', 'put off') THEN since ELSE :now END,
        due = CASE WHEN :outcome IN ('later', 'put off') OR seq > :seq THEN :due END,
        attempts = CASE :outcome WHEN 'later' THEN attempts + 1 WHEN 'put off' THEN attempts ELSE 0 END,
        answered = :now, answer = :answer
    WHERE target = :target AND peer = :peer AND id = :id"""
OWNER = "SELECT user FROM push_targets WHERE id = ?"
# What waits for another's device is nobody's news any more once the target has moved.
MOVED = """
    DELETE FROM push_jobs WHERE target IN (
        SELECT id FROM push_targets WHERE provider = ? AND kind = ? AND target = ? AND (user <> ? OR device <> ?))"""
REGISTER = """
    INSERT INTO push_targets (user, device, provider, kind, target, registered) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (provider, kind, target) DO UPDATE SET user = excluded.user, device = excluded.device,
        registered = max(registered + 1, excluded.registered)"""
CHOSEN = """
    SELECT id FROM push_targets WHERE user = :user AND (:device IS NULL OR device = :device)
        AND (:provider IS NULL OR provider = :provider) AND (:target IS NULL OR target = :target)"""
BEYOND = "SELECT id FROM push_targets WHERE user = ? ORDER BY registered DESC, id DESC LIMIT -1 OFFSET ?"
MUTED = "SELECT count(*), max(peer = ?) FROM push_mutes WHERE user = ?"
OLDEST = "SELECT id FROM push_targets WHERE registered < ? ORDER BY registered LIMIT ?"
SAME = "SELECT id FROM push_targets WHERE id = ? AND registered = ?"
FORGET_JOBS = "DELETE FROM push_jobs WHERE target IN (%s)"
FORGET = "DELETE FROM push_targets WHERE id IN (%s)"
OF_DEVICES = """
    SELECT t.id FROM (VALUES {rows}) AS v CROSS JOIN push_targets AS t ON t.user = v.column1 AND t.device = v.column2"""


def named(changes: Iterable[PushChange]) -> set[str]:
    """All users these changes are about."""
    names: set[str] = set()
    for one in changes:
        match one:
            case Mute():
                names |= {one.user, one.peer}
            case Note():
                names.add(one.peer)
            case Register() | Unregister() | Quiet():
                names.add(one.user)
    return names


def announce(connection: sqlite3.Connection, newest: Mapping[tuple[int, int], int], now: int, delay: int) -> None:
    """Messages are stored: of each (recipient, sender), the recipient's newest seq."""
    write(connection, ANNOUNCE, [(*pair, seq, now, now + delay) for pair, seq in newest.items()])


def clear(connection: sqlite3.Connection, users: Users, reads: Sequence[ReadMark], now: int) -> None:
    """Read marks moved: what the user's other devices still show is to go. Costs nothing for who has no target."""
    where = {
        (user.id, peer.id, one.device)
        for one in reads
        if (user := users.get(one.user)) is not None and user.targets and (peer := users.get(one.peer)) is not None
    }
    write(connection, SEEN, [one for one in where if one[2] is not None])
    write(connection, CLEAR, [(*pair, now) for pair in {(user, peer) for user, peer, _ in where}])


def forget_devices(connection: sqlite3.Connection, devices: Sequence[tuple[int, str]]) -> None:
    """Devices were removed, and their targets with them."""
    write(connection, FORGET_JOBS % OF_DEVICES, devices)
    write(connection, FORGET % OF_DEVICES, devices)


def change(
    connection: sqlite3.Connection, users: Users, settings: Settings, changes: Sequence[PushChange], now: int
) -> tuple[Refused | None, ...]:
    """Carry out the changes, one after the other: they are rare, or ride along with as many messages."""
    return tuple([_change(connection, users, settings, one, now) for one in changes])


def _change(connection: sqlite3.Connection, users: Users, settings: Settings, one: PushChange, now: int) -> Refused | None:
    match one:
        case Register():
            user = users.get_or_create(connection, one.user)
            users.flush(connection)
            where = one.provider, one.kind, one.target
            connection.execute(MOVED, (*where, user.id, one.device))
            connection.execute(REGISTER, (user.id, one.device, *where, now))
            _forget(connection, BEYOND, (user.id, USER_TARGETS))
            user.targets = True
        case Unregister():
            if (known := users.get(one.user)) is not None:
                chosen = {"user": known.id, "device": one.device, "provider": one.provider, "target": one.target}
                _forget(connection, CHOSEN, chosen)
        case Mute(muted=True):
            return _mute(connection, users, settings, one)
        case Mute():
            _unmute(connection, users, one)
        case Quiet():
            user = users.get_or_create(connection, one.user)
            users.flush(connection)
            connection.execute("DELETE FROM push_quiet WHERE user = ?", (user.id,))
            if one.quiet:
                connection.execute("INSERT INTO push_quiet (user) VALUES (?)", (user.id,))
        case Note():
            _note(connection, users, one, now)
        case TargetGone():
            _forget(connection, SAME, (one.target, one.registered))
        case _:
            _forget(connection, OLDEST, (one.before, one.limit))
    return None


def _mute(connection: sqlite3.Connection, users: Users, settings: Settings, one: Mute) -> Refused | None:
    user, peer = users.get_or_create(connection, one.user), users.get_or_create(connection, one.peer)
    users.flush(connection)
    count, already = connection.execute(MUTED, (peer.id, user.id)).fetchone()
    if already:
        return None
    if count >= settings.blocks:
        return Refused(ErrorCode.NOT_ALLOWED)
    connection.execute("INSERT INTO push_mutes (user, peer) VALUES (?, ?)", (user.id, peer.id))
    return None


def _unmute(connection: sqlite3.Connection, users: Users, one: Mute) -> None:
    user, peer = users.get(one.user), users.get(one.peer)
    if user is not None and peer is not None:
        connection.execute("DELETE FROM push_mutes WHERE user = ? AND peer = ?", (user.id, peer.id))


def _forget(connection: sqlite3.Connection, which: str, values: tuple[object, ...] | Mapping[str, object]) -> None:
    connection.execute(FORGET_JOBS % which, values)
    connection.execute(FORGET % which, values)


def _note(connection: sqlite3.Connection, users: Users, note: Note, now: int) -> None:
    owner = connection.execute(OWNER, (note.target,)).fetchone()
    peer = users.get(note.peer)
    if owner is None or peer is None:
        return  # the target has gone, and its jobs with it
    values = {
        "outcome": note.outcome, "seq": note.seq, "due": note.due, "answer": note.answer, "now": now,
        "target": note.target, "peer": peer.id, "id": note.id,
    }  # fmt: skip
    connection.execute(NOTE, values)
    if note.outcome == "sent":
        # It may have been read while it was on its way; the mark found nothing to clear then.
        write(connection, CLEAR, [(owner[0], peer.id, now)])
