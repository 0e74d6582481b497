"""The sans-I/O WebSocket half: what a peer may send, what it is told, and how little of it is kept."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
import wsproto.connection
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from trio_chat.engine import CONTROLS_PER_READ, PINGS_ANSWERED, Engine
from trio_chat.errors import CloseCode

from .transport.peer import BINARY, CLOSE, CONT, MASK, PING, PONG, TEXT, frame

LIMIT = 1000
FRAGMENTS = 8


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """RFC 6455 §5.5.1: the code in two bytes, then the reason."""
    return struct.pack("!H", code) + reason


def server() -> Engine:
    """A server's engine with small limits."""
    return Engine(message_bytes=LIMIT, fragments=FRAGMENTS)


def state(engine: Engine) -> ConnectionState:
    """Where the closing handshake is, in a way that mypy does not take for a constant."""
    return engine.state


def fed(*data: bytes) -> tuple[Engine, list[Event]]:
    """A server's engine that read `data`, and the events of it."""
    engine = server()
    events: list[Event] = []
    for chunk in data:
        engine.receive_data(chunk)
        events += engine.events()
    return engine, events


def closed_with(events: list[Event]) -> int | None:
    """The close code among the events, of which there may be one."""
    codes = [event.code for event in events if isinstance(event, CloseConnection)]
    assert len(codes) <= 1
    return codes[0] if codes else None


# Messages.


def test_all_messages_of_a_read_are_there_at_once() -> None:
    """A wake-up per message instead of per read would cost most of the throughput."""
    engine, events = fed(frame(TEXT, b"one") + frame(TEXT, "zwölf".encode()) + frame(BINARY, b"\x00") + frame(TEXT))
    assert events == []
    assert engine.take() == [b"one", "zwölf".encode(), None, b""]
    assert engine.take() == []
    assert not list(engine.events())


def test_what_is_no_message_yet_does_not_wait_to_be_taken() -> None:
    """It would wake the session for nothing, as often as a peer likes."""
    engine, events = fed(frame(TEXT, b"unfinished", fin=False), frame(PONG), frame(TEXT, b"x")[:3])
    assert events == []
    assert not engine.waiting


def test_every_length_form_is_understood() -> None:
    """RFC 6455 §5.2 has three forms of length; a longer one than needed is bad manners but means the same."""
    engine = Engine(message_bytes=2**17, fragments=2)
    texts = [b"a" * length for length in (0, 1, 125, 126, 65535, 65536)]
    engine.receive_data(b"".join(frame(TEXT, text) for text in texts))
    engine.receive_data(b"\x81\xff" + struct.pack("!Q", 1) + b"\0\0\0\0" + b"z")
    assert engine.take() == [*texts, b"z"]


@pytest.mark.parametrize("client", [False, True])
def test_every_length_form_is_written(client: bool) -> None:
    """A length in the wrong form ends every connection that a message of that length is sent to."""
    ours, peer = (Engine(client=side, message_bytes=2**17, fragments=1) for side in (client, not client))
    texts = [b"a" * length for length in (0, 1, 125, 126, 65535, 65536)]
    for text in texts:
        ours.queue(text)
    data = ours.send(TextMessage(data=""))
    peer.receive_data(data)
    assert peer.take() == texts
    if not client:
        assert data == b"".join(frame(TEXT, text, mask=None) for text in texts)


@pytest.mark.parametrize("client", [False, True])
@given(cuts=st.lists(st.integers(1, 60), max_size=30), kinds=st.lists(st.sampled_from("tpfbo"), max_size=12))
def test_where_a_read_ends_makes_no_difference(client: bool, cuts: list[int], kinds: list[str]) -> None:
    """The usual messages go a shorter way than the rest: what happens to be in one read would decide what arrives."""
    mask = None if client else MASK
    forms = {
        "t": frame(TEXT, "zwölf".encode(), mask=mask),
        "p": frame(PING, b"?", mask=mask),
        "f": frame(TEXT, b"one", fin=False, mask=mask) + frame(CONT, b"two", mask=mask),
        "b": frame(BINARY, b"\xff", mask=mask),
        "o": frame(TEXT, b"x" * 200, mask=mask),
    }
    data = b"".join(forms[kind] for kind in kinds)
    whole, cut = (Engine(client=client, message_bytes=LIMIT, fragments=FRAGMENTS) for _ in range(2))
    whole.receive_data(data)
    for size in cuts:
        cut.receive_data(data[:size])
        data = data[size:]
    cut.receive_data(data)
    assert whole.take() == cut.take()
    assert whole.controls == cut.controls
    assert not whole.under_way
    assert not cut.under_way


def test_fragments_are_joined_around_control_frames() -> None:
    """RFC 6455 §5.4: control frames may come between fragments; taken for parts they would corrupt the message."""
    engine, events = fed(
        frame(TEXT, "ä".encode()[:1], fin=False)
        + frame(PING, b"?")
        + frame(CONT, "ä".encode()[1:], fin=False)
        + frame(CONT, b"!")
    )
    assert events == [Ping(payload=b"?")]
    assert engine.take() == ["ä!".encode()]


def test_a_binary_message_in_fragments_is_one_message() -> None:
    """Binary messages are refused one by one by the wire; counted per fragment, one would be refused many times."""
    engine, _ = fed(frame(BINARY, b"\xff", fin=False) + frame(CONT, b"\xfe") + frame(TEXT, b"x"))
    assert engine.take() == [None, b"x"]


# Limits.


def test_a_message_of_exactly_the_limit_passes() -> None:
    """Off by one, the largest frame a client is told it may send would close its connection."""
    engine, events = fed(frame(TEXT, b"a" * LIMIT), frame(TEXT, b"b" * (LIMIT - 1), fin=False) + frame(CONT, b"b"))
    assert closed_with(events) is None
    assert engine.take() == [b"a" * LIMIT, b"b" * LIMIT]


@pytest.mark.parametrize("length", [LIMIT + 1, 2**16, 2**62, 2**64 - 1])
def test_a_message_too_long_is_refused_from_its_header_alone(length: int) -> None:
    """If the payload were awaited, a header would be enough to make the server hold or wait for anything."""
    engine, events = fed(b"\x81\xff" + struct.pack("!Q", length))
    assert closed_with(events) == 1009
    assert state(engine) is ConnectionState.REMOTE_CLOSING


@pytest.mark.parametrize("room", [0, 50, 200])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_limit_is_for_the_joined_message(opcode: int, room: int) -> None:
    """Per fragment, it would be no limit for messages at all; binary messages cost the same memory."""
    _, events = fed(frame(opcode, b"a" * (LIMIT - room), fin=False) + frame(CONT, b"b" * (room + 1)))
    assert closed_with(events) == 1009


def test_a_ping_inside_of_a_full_message_is_no_part_of_it() -> None:
    """The parser underneath applies the limit to every frame, and would refuse it as too big."""
    engine, events = fed(frame(TEXT, b"a" * LIMIT, fin=False) + frame(PING, b"p" * 125) + frame(CONT))
    assert events == [Ping(payload=b"p" * 125)]
    assert engine.take() == [b"a" * LIMIT]


def test_too_many_fragments_are_refused() -> None:
    """300,000 empty fragments cost a server memory and never reach a size limit (ws CVE-2026-48779)."""
    parts = frame(TEXT, fin=False) + frame(CONT, fin=False) * (FRAGMENTS - 2)
    _, events = fed(parts + frame(CONT))
    assert events == []
    _, events = fed(parts + frame(CONT, fin=False) + frame(CONT))
    assert closed_with(events) == 1008


def test_pings_are_answered_in_order() -> None:
    """Clients that measure latency count their pongs; Autobahn's cases 2.10 and 2.11 do."""
    engine, events = fed(frame(PING, b"1") + frame(PONG, b"2") + frame(PING, b"3"))
    assert events == [Ping(payload=b"1"), Ping(payload=b"3")]
    assert engine.send(Pong(payload=b"3")) == frame(PONG, b"3", mask=None)
    assert engine.controls == 3


def test_of_many_pings_only_the_newest_are_answered() -> None:
    """RFC 6455 §5.5.3 allows it; an answer to each would let a peer that does not read fill our memory."""
    count = 2 * PINGS_ANSWERED
    _, events = fed(b"".join(frame(PING, b"%d" % number) for number in range(count)))
    assert events == [Ping(payload=b"%d" % number) for number in range(count - PINGS_ANSWERED, count)]


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_a_flood_of_control_frames_is_refused(opcode: int) -> None:
    """Ten thousand empty pings fit into one read; each costs as much to take apart as a message."""
    engine, events = fed(frame(opcode) * CONTROLS_PER_READ, frame(opcode) * CONTROLS_PER_READ)
    assert closed_with(events) is None
    engine.receive_data(frame(opcode) * (CONTROLS_PER_READ + 1))
    assert closed_with(list(engine.events())) == 1008


# Faults.

BAD_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
FAULTS = {
    "opcode 3": frame(3),
    "opcode 11": frame(11),
    "RSV1": frame(TEXT, b"x", rsv=4),
    "RSV2": frame(TEXT, b"x", rsv=2),
    "RSV3": frame(PING, b"x", rsv=1),
    "unmasked": frame(TEXT, b"x", mask=None),
    "unmasked ping": frame(PING, mask=None),
    "continuation of nothing": frame(CONT, b"x"),
    "message inside of a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "binary inside of a text": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False),
    "fragmented ping": frame(PING, b"x", fin=False),
    "fragmented close": frame(CLOSE, close_payload(1000), fin=False),
    "long ping": frame(PING, b"x" * 126),
    "long close": frame(CLOSE, close_payload(1000, b"x" * 124)),
    "close with one byte": frame(CLOSE, b"\x03"),
    **{f"close code {code}": frame(CLOSE, close_payload(code)) for code in BAD_CODES},
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS.keys())
def test_a_breach_of_the_protocol_is_told(data: bytes) -> None:
    """A bare TCP close looks like a bad network to the client, which would come back and do it again."""
    engine, events = fed(frame(TEXT, b"before") + data + frame(TEXT, b"after"))
    assert engine.waiting
    assert engine.take() == [b"before"]
    assert closed_with(events) == 1002
    assert state(engine) is ConnectionState.REMOTE_CLOSING
    assert engine.send(CloseConnection(code=1002)).startswith(b"\x88")
    assert state(engine) is ConnectionState.CLOSED


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"\xff"),
        frame(TEXT, b"ok \xc3"),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(TEXT, b"\xc0\x80"),
        frame(TEXT, b"\xf4\x90\x80\x80"),
        frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"x"),
        frame(CLOSE, close_payload(1000, b"\xff")),
    ],
    ids=["byte", "cut", "surrogate", "overlong", "too high", "fragments", "reason"],
)
def test_text_that_is_not_utf8_is_refused(data: bytes) -> None:
    """RFC 6455 §8.1. websockets leaves it to its caller, and a decoder further up would fail on it."""
    engine, events = fed(data)
    assert closed_with(events) == 1007
    assert engine.take() == []


def test_a_refused_peer_is_not_heard_again() -> None:
    """RFC 6455 §7.1.7: else it could go on costing time and memory, or be refused twice."""
    engine, events = fed(frame(3), frame(TEXT, b"x"), frame(PING), frame(CLOSE))
    assert closed_with(events) == 1002
    engine.fail(CloseCode.POLICY, "again")
    assert not list(engine.events())
    assert engine.take() == []
    assert not engine.under_way


def test_a_refused_peer_is_told_why_whoever_closes() -> None:
    """A session that ends at the same moment would send its own 1000, and the client would never learn its mistake."""
    engine = server()
    engine.fail(CloseCode.POLICY, "too slow")
    assert engine.send(CloseConnection(code=1000, reason="bye")) == frame(CLOSE, close_payload(1008, b"too slow"), mask=None)


# Closing.


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1010, 1014, 3000, 4999])
def test_a_close_frame_is_answered_with_its_code(code: int) -> None:
    """RFC 6455 §5.5.1. What came before the close frame still counts, what comes after does not."""
    engine, events = fed(frame(TEXT, b"x") + frame(PING) + frame(CLOSE, close_payload(code, b"why")) + frame(TEXT, b"y"))
    assert events == [CloseConnection(code=code, reason="why")]
    assert engine.take() == [b"x"]
    assert state(engine) is ConnectionState.REMOTE_CLOSING
    assert engine.send(Pong()) == b""
    assert engine.send(CloseConnection(code=1000)) == frame(CLOSE, close_payload(code, b"why"), mask=None)
    assert state(engine) is ConnectionState.CLOSED
    assert engine.send(CloseConnection(code=1000)) == b""


def test_a_close_frame_without_a_code_is_answered_without_one() -> None:
    """1005 says that there was no code; on the wire it would be a breach of the protocol (RFC 6455 §7.4.1)."""
    engine, events = fed(frame(CLOSE))
    assert closed_with(events) == 1005
    assert engine.send(CloseConnection(code=1005)) == frame(CLOSE, mask=None)


def test_a_close_frame_may_come_inside_of_a_message() -> None:
    """RFC 6455 §5.4 lets control frames come between fragments, and a client may change its mind."""
    engine, events = fed(frame(TEXT, b"x", fin=False) + frame(CLOSE, close_payload(1000)))
    assert closed_with(events) == 1000
    assert not engine.under_way


def test_closing_from_this_side() -> None:
    """After our close frame the peer's messages have no reader: they must neither pile up nor ring."""
    engine = server()
    engine.queue(b"last")
    assert engine.send(CloseConnection(code=1001, reason="bye")) == (
        frame(TEXT, b"last", mask=None) + frame(CLOSE, close_payload(1001, b"bye"), mask=None)
    )
    assert state(engine) is ConnectionState.LOCAL_CLOSING
    engine.queue(b"too late")
    engine.receive_data(frame(TEXT, b"x") * 100)
    assert not list(engine.events())
    assert engine.take() == []
    assert engine.send(CloseConnection(code=1000)) == b""
    engine.receive_data(frame(CLOSE, close_payload(1001)))
    assert closed_with(list(engine.events())) == 1001
    assert state(engine) is ConnectionState.CLOSED


def test_a_fault_after_closing_from_this_side_ends_the_handshake() -> None:
    """A second close frame may not be sent (RFC 6455 §5.5.1), and waiting for an answer would be in vain."""
    engine = server()
    engine.send(CloseConnection(code=1000))
    engine.receive_data(frame(3))
    assert closed_with(list(engine.events())) == 1002
    assert state(engine) is ConnectionState.CLOSED


def test_a_dead_stream_closes_without_a_frame() -> None:
    """trio-websocket reports it as 1006, which websockets refuses to write down."""
    engine = server()
    engine.queue(b"x")
    assert engine.send(CloseConnection(code=1006)) == b""
    assert state(engine) is ConnectionState.CLOSED


def test_a_long_reason_is_cut_between_characters() -> None:
    """A control frame carries 125 bytes (RFC 6455 §5.5); half a character would be the peer's 1007."""
    data = server().send(CloseConnection(code=1001, reason="ä" * 100))
    assert data == frame(CLOSE, close_payload(1001, "ä".encode() * 61), mask=None)


# Output.


def test_what_is_queued_leaves_once_and_in_order() -> None:
    """One write for many messages is the other half of the batching."""
    engine = server()
    engine.queue(b"one")
    engine.queue_ping()
    engine.queue("zwölf".encode())
    expected = frame(TEXT, b"one", mask=None) + frame(PING, mask=None) + frame(TEXT, "zwölf".encode(), mask=None)
    assert engine.send(TextMessage(data="")) == expected
    assert engine.send(TextMessage(data="")) == b""
    assert engine.send(TextMessage(data="ä")) == frame(TEXT, "ä".encode(), mask=None)
    assert engine.send(Ping(payload=b"p")) == frame(PING, b"p", mask=None)
    with pytest.raises(LocalProtocolError):
        engine.send(BytesMessage(data=b"x"))


@given(texts=st.lists(st.text(max_size=200), min_size=1))
def test_a_stock_implementation_understands_both_sides(texts: list[str]) -> None:
    """Two sides of ours could agree on a mistake: wsproto reads what either sends, and is read by either."""
    for client in (False, True):
        ours = Engine(client=client, message_bytes=LIMIT, fragments=FRAGMENTS)
        theirs = wsproto.connection.Connection(
            wsproto.connection.ConnectionType.SERVER if client else wsproto.connection.ConnectionType.CLIENT
        )
        for text in texts:
            ours.queue(text.encode())
        theirs.receive_data(ours.send(TextMessage(data="")))
        read = [event for event in theirs.events() if isinstance(event, TextMessage) and event.message_finished]
        assert [event.data for event in read] == texts
        ours.receive_data(b"".join(theirs.send(Message(data=text)) for text in texts))
        assert ours.take() == [text.encode() for text in texts]
        ours.receive_data(theirs.send(CloseConnection(code=1000)))
        theirs.receive_data(ours.send(CloseConnection(code=1000)))
        assert closed_with(list(theirs.events())) == 1000
        assert ours.state is theirs.state is ConnectionState.CLOSED


def test_a_client_refuses_masked_frames() -> None:
    """RFC 6455 §5.1: a server that masks is not speaking the protocol."""
    engine = Engine(client=True, message_bytes=LIMIT, fragments=FRAGMENTS)
    engine.receive_data(frame(TEXT, b"x"))
    assert closed_with(list(engine.events())) == 1002


# Time.


def test_under_way_names_the_message_that_is_not_whole() -> None:
    """Who has a clock measures a message by it: the number stays for one message, and is 0 between messages."""
    engine = server()
    assert not engine.under_way
    data = frame(TEXT, b"x" * 200, fin=False) + frame(PING) + frame(CONT, b"y")
    numbers = set()
    for byte in data[:-1]:
        engine.receive_data(bytes([byte]))
        numbers.add(engine.under_way)
    assert len(numbers) == 1
    assert 0 not in numbers
    engine.receive_data(data[-1:])
    assert engine.under_way == 0
    engine.receive_data(frame(PING, b"long")[:-1])
    ping = engine.under_way
    assert ping not in {0, *numbers}
    engine.receive_data(frame(PING, b"long")[-1:] + data[:1])
    assert engine.under_way not in {0, ping, *numbers}


# Whatever comes.

honest = st.one_of(
    st.builds(frame, st.just(TEXT), st.text(max_size=100).map(str.encode)),
    st.builds(frame, st.just(BINARY), st.binary(max_size=300)),
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    st.lists(st.binary(max_size=50), min_size=2, max_size=FRAGMENTS).map(
        lambda parts: b"".join(
            frame(BINARY if i == 0 else CONT, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)
        )
    ),
)
any_frame = st.builds(
    frame,
    st.integers(0, 15),
    st.one_of(st.binary(max_size=130), st.integers(0, LIMIT + 10).map(bytes)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    mask=st.sampled_from([MASK, MASK, MASK, b"\0\0\0\0", None]),
)


def kept(engine: Engine) -> int:
    """The bytes of messages and frames that are not whole."""
    return len(engine._buffer) + len(engine._joined)


@given(stream=st.lists(st.one_of(honest, any_frame), max_size=20).map(b"".join), cuts=st.lists(st.integers(0, 3000)))
def test_how_the_bytes_are_cut_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    """Packets are cut anywhere; a frame header over two reads is where parsers break."""
    whole = server()
    whole.receive_data(stream)
    cut = server()
    places = [0, *sorted(place for place in cuts if place < len(stream)), len(stream)]
    for start, end in pairwise(places):
        cut.receive_data(stream[start:end])
        assert kept(cut) <= LIMIT + 14 + 125
    assert cut.take() == whole.take()
    assert cut.state is whole.state
    assert cut.under_way == whole.under_way
    assert closed_with(list(cut.events())) == closed_with(list(whole.events()))


@given(
    stream=st.lists(st.one_of(honest, any_frame), min_size=1, max_size=20).map(b"".join),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5),
    size=st.integers(1, 500),
    client=st.booleans(),
)
def test_nothing_a_peer_sends_raises_or_piles_up(
    stream: bytes, changes: list[tuple[int, int]], size: int, client: bool
) -> None:
    """An exception that escapes from here has ended whole servers (engine.io CVE-2022-21676, ws CVE-2024-37890)."""
    data = bytearray(stream)
    for place, byte in changes:
        data[place % len(data)] = byte
    engine = Engine(client=client, message_bytes=LIMIT, fragments=FRAGMENTS)
    taken = 0
    for start in range(0, len(data), size):
        engine.receive_data(data[start : start + size])
        assert kept(engine) <= LIMIT + 14 + 125
        events = list(engine.events())
        waiting, messages = engine.waiting, engine.take()
        taken += sum(len(message or b"") for message in messages)
        assert waiting is bool(messages)
        for event in events:
            if isinstance(event, Ping):
                assert engine.send(event.response())
            elif isinstance(event, CloseConnection):
                assert engine.send(event.response())
                assert state(engine) is ConnectionState.CLOSED
    assert taken <= len(data)


@given(data=st.binary(max_size=500))
def test_noise_is_refused_or_waited_for(data: bytes) -> None:
    """The same for bytes that were never frames."""
    engine, _ = fed(data)
    assert kept(engine) <= LIMIT + 14 + 125
