"""The wire: what is a frame, what is refused and how, and how frames are packed."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_chat import wire
from trio_chat.errors import BadQuery, ErrorCode, InvalidFrame
from trio_chat.model import ID_LENGTH, MAX_SEQ, USER_LENGTH, Message
from trio_chat.retrieval import PAGE, Conversation, Device, SearchHit, check_combination
from trio_chat.wire import (
    WATCHED,
    Ack,
    Block,
    Blocked,
    Blocks,
    ClientFrame,
    Conversations,
    ConversationsAnswer,
    Delete,
    Devices,
    DevicesAnswer,
    Edit,
    Error,
    Gap,
    History,
    HistoryAnswer,
    Messages,
    Mute,
    Ping,
    Pong,
    Presence,
    PushAnswer,
    PushProvider,
    PushQuestion,
    PushRegister,
    PushTarget,
    PushUnregister,
    Quiet,
    Read,
    ReadElsewhere,
    Receipt,
    RemoveDevice,
    Search,
    SearchAnswer,
    Send,
    ServerFrame,
    Stored,
    StoredItem,
    Typing,
    TypingFrom,
    Unblock,
    Unmute,
    Watch,
    Welcome,
)

TEXT_BYTES = 16 * 1024
DEEP = b"[" * 100_000 + b"]" * 100_000
HUGE = b"9" * 5_000


def decode(payload: bytes) -> ClientFrame:
    return wire.decode(payload, text_bytes=TEXT_BYTES)


def refusal(payload: bytes) -> InvalidFrame:
    with pytest.raises(InvalidFrame) as caught:
        decode(payload)
    return caught.value


def many(count: int) -> bytes:
    """So many names, as JSON."""
    return b"[" + b",".join(b'"u%d"' % n for n in range(count)) + b"]"


def send(*, id: bytes = b'"i"', to: bytes = b'"bob"', text: bytes = b'"hi"', more: bytes = b"") -> bytes:
    """A `Send` frame by hand, each value as JSON."""
    return b'{"type":"send","id":%s,"to":%s,"text":%s%s}' % (id, to, text, more)


# What is accepted


@pytest.mark.parametrize(
    ("payload", "frame"),
    [
        (send(), Send(id="i", to="bob", text="hi")),
        (b' {"text":"hi" , "to":"bob",\r\n\t"id":"i","type":"send"} ', Send(id="i", to="bob", text="hi")),
        (b'{"type":"ack","seq":0}', Ack(seq=0)),
        (b'{"type":"ack","seq":%d}' % MAX_SEQ, Ack(seq=MAX_SEQ)),
        (b'{"type":"typing","to":"bob","typing":true}', Typing(to="bob", typing=True)),
        (b'{"type":"ping"}', Ping()),
        (b'{"t\\u0079pe":"p\\u0069ng"}', Ping()),
        (send(text=b'"a\\tb\\n\\u0001\x7f"'), Send(id="i", to="bob", text="a\tb\n\x01\x7f")),
        (send(to=b'"\\ud83d\\ude00"'), Send(id="i", to="😀", text="hi")),
        (send(to=b'"0041 \xe2\x80\x8d"'), Send(id="i", to="0041 \u200d", text="hi")),
        (send(id=b'"%s"' % ("é" * ID_LENGTH).encode()), Send(id="é" * ID_LENGTH, to="bob", text="hi")),
        (send(to=b'"%s"' % ("é" * USER_LENGTH).encode()), Send(id="i", to="é" * USER_LENGTH, text="hi")),
        (send(text=b'"\\"id\\":\\"x\\",\\"to\\""'), Send(id="i", to="bob", text='"id":"x","to"')),
        (send(more=b',"reply_to":"j"'), Send(id="i", to="bob", text="hi", reply_to="j")),
        (send(text=b'"\\""', more=b',"reply_to":"\\"\\""'), Send(id="i", to="bob", text='"', reply_to='""')),
        (b'{"type":"edit","id":"i","to":"bob","target":"t","text":"ho"}', Edit(id="i", to="bob", target="t", text="ho")),
        (b'{"type":"delete","id":"i","to":"bob","target":"t"}', Delete(id="i", to="bob", target="t")),
        (b'{"type":"read","peer":"bob","seq":7}', Read(peer="bob", seq=7)),
        (b'{"type":"watch","ref":"r","users":[]}', Watch(ref="r", users=())),
        (b'{"type":"watch","ref":"r","users":["b\\"b","b\\"b"]}', Watch(ref="r", users=('b"b', 'b"b'))),
        (
            b'{"type":"watch","ref":"r","users":%s}' % many(WATCHED),
            Watch(ref="r", users=tuple(f"u{n}" for n in range(WATCHED))),
        ),
        (b'{"type":"history","ref":"r"}', History(ref="r")),
        (
            (
                b'{"type":"history","ref":"r","peer":"bob","before":9,"after":2,"since":1,"until":2,"unread":true,'
                b'"direction":"in","order":"asc","limit":200}'
            ),
            History(
                ref="r", peer="bob", before=9, after=2, since=1, until=2, unread=True, direction="in", order="asc", limit=200
            ),
        ),
        (b'{"type":"history","ref":"r","around":0,"limit":1}', History(ref="r", around=0, limit=1)),
        (b'{"type":"history","ref":"r","ids":["a","b","a"]}', History(ref="r", ids=("a", "b", "a"))),
        (b'{"type":"search","ref":"r","query":"\\"NEAR(*"}', Search(ref="r", query='"NEAR(*')),
        (
            b'{"type":"search","ref":"r","query":"x","peer":"p","before":3,"limit":1}',
            Search(ref="r", query="x", peer="p", before=3, limit=1),
        ),
        (b'{"type":"conversations","ref":"r","before":5,"limit":2}', Conversations(ref="r", before=5, limit=2)),
        (b'{"type":"devices","ref":"r"}', Devices(ref="r")),
        (b'{"type":"remove_device","ref":"r","device":"web"}', RemoveDevice(ref="r", device="web")),
        (b'{"type":"block","ref":"r","user":"eve"}', Block(ref="r", user="eve")),
        (b'{"type":"unblock","ref":"r","user":"eve"}', Unblock(ref="r", user="eve")),
        (b'{"type":"blocks","ref":"r"}', Blocks(ref="r")),
        (
            b'{"type":"push_register","ref":"r","provider":"p","kind":"token","target":"{\\"a\\":1}"}',
            PushRegister(ref="r", provider="p", kind="token", target='{"a":1}'),
        ),
        (
            b'{"type":"push_register","ref":"r","provider":"p","kind":"k","target":"%s"}' % (b"x" * 4096),
            PushRegister(ref="r", provider="p", kind="k", target="x" * 4096),
        ),
        (b'{"type":"push_unregister","ref":"r"}', PushUnregister(ref="r")),
        (b'{"type":"push_unregister","ref":"r","provider":"p"}', PushUnregister(ref="r", provider="p")),
        (b'{"type":"push","ref":"r"}', PushQuestion(ref="r")),
        (b'{"type":"mute","ref":"r","user":"eve"}', Mute(ref="r", user="eve")),
        (b'{"type":"unmute","ref":"r","user":"eve"}', Unmute(ref="r", user="eve")),
        (b'{"type":"quiet","ref":"r","quiet":true}', Quiet(ref="r", quiet=True)),
    ],
)
def test_accepts(payload: bytes, frame: ClientFrame) -> None:
    """Else a frame that the protocol allows is refused: other spacing, order, escapes, or names of full length."""
    assert decode(payload) == frame


def test_text_is_measured_in_bytes() -> None:
    """Else a text of long characters takes four times the room that the limit grants."""
    fits = "€" * (TEXT_BYTES // 3)
    assert decode(send(text=json.dumps(fits).encode())) == Send(id="i", to="bob", text=fits)
    for text in ("€" * (TEXT_BYTES // 3 + 1), "x" * (TEXT_BYTES + 1), "😀" * (TEXT_BYTES // 4 + 1)):
        refused = refusal(send(text=json.dumps(text, ensure_ascii=False).encode()))
        assert (refused.code, refused.id, refused.ref) == (ErrorCode.TOO_LARGE, "i", None)
        with pytest.raises(InvalidFrame) as caught:
            decode(wire.encode(Edit(id="i", to="bob", target="t", text=text)))
        assert (caught.value.code, caught.value.id) == (ErrorCode.TOO_LARGE, "i")
    for text in ("x" * TEXT_BYTES, "😀" * (TEXT_BYTES // 4)):
        assert decode(send(text=json.dumps(text).encode())) == Send(id="i", to="bob", text=text)
        edit = Edit(id="i", to="bob", target="t", text=text)
        assert decode(wire.encode(edit)) == edit


# What is refused, and that the refusal names the message


NOT_A_FRAME = {
    "nothing": b"",
    "only spaces": b" \n",
    "a byte order mark": b'\xef\xbb\xbf{"type":"ping"}',
    "UTF-16": '{"type":"ping"}'.encode("utf-16-le"),
    "an array": b"[]",
    "a string": b'"ping"',
    "a number": b"1",
    "null": b"null",
    "no type": b"{}",
    "a type of another case": b'{"type":"Ping"}',
    "a key of another case": b'{"Type":"ping"}',
    "a type that is a number": b'{"type":1}',
    "a type that is null": b'{"type":null}',
    "a server's frame": b'{"type":"pong"}',
    "a comma at the end": b'{"type":"ping",}',
    "single quotes": b"{'type':'ping'}",
    "a comment": b'{"type":"ping"/**/}',
    "an unquoted key": b'{type:"ping"}',
    "two frames": b'{"type":"ping"}{"type":"ping"}',
    "something after the frame": b'{"type":"ping"} x',
    "a NUL after the frame": b'{"type":"ping"}\x00',
    "a field too many": b'{"type":"ping","seq":1}',
    "an empty field": b'{"type":"ping","":""}',
    "a missing field": b'{"type":"ack"}',
    "NaN": b'{"type":"ack","seq":NaN}',
    "infinity": b'{"type":"ack","seq":Infinity}',
    "a float": b'{"type":"ack","seq":1.0}',
    "an exponent": b'{"type":"ack","seq":1e2}',
    "an overflowing exponent": b'{"type":"ack","seq":1e999}',
    "a leading zero": b'{"type":"ack","seq":01}',
    "a plus sign": b'{"type":"ack","seq":+1}',
    "a negative seq": b'{"type":"ack","seq":-1}',
    "a seq beyond 2**53": b'{"type":"ack","seq":%d}' % (MAX_SEQ + 1),
    "a seq beyond 64 bits": b'{"type":"ack","seq":18446744073709551616}',
    "a seq of 5,000 digits": b'{"type":"ack","seq":' + HUGE + b"}",
    "a seq that is true": b'{"type":"ack","seq":true}',
    "a seq that is text": b'{"type":"ack","seq":"1"}',
    "a seq that is null": b'{"type":"ack","seq":null}',
    "typing that is a number": b'{"type":"typing","to":"bob","typing":1}',
    "typing that is text": b'{"type":"typing","to":"bob","typing":"true"}',
    "a deep array": DEEP,
    "a deep type": b'{"type":' + DEEP + b"}",
    "a deep object": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "a deep second type": b'{"type":"ping","type":' + DEEP + b"}",
    "a huge second type": b'{"type":"ping","type":' + HUGE + b"}",
    "the type twice": b'{"type":"ping","type":"ping"}',
    "two types": b'{"type":"ack","seq":1,"type":"ping"}',
    "a field twice": b'{"type":"ack","seq":1,"seq":1}',
    "a field twice, once escaped": b'{"type":"ack","seq":1,"s\\u0065q":2}',
    "a truncated frame": b'{"type":"send","id":"i","to":"bob","text":"hi"',
    "a truncated string": b'{"type":"send","id":"i","to":"bob","text":"hi',
    "an id that is too long": send(id=b'"%s"' % (b"x" * (ID_LENGTH + 1))),
    "an empty id": send(id=b'""'),
    "an id that is null": send(id=b"null"),
    "an id that is a number": send(id=b"5"),
    "an id that is a list": send(id=b'["i"]'),
    "an id with a line feed": send(id=b'"i\\n"'),
    "an id with a NUL": send(id=b'"\\u0000"'),
    "an id with half a surrogate pair": send(id=b'"\\ud800"'),
    "an id that is not UTF-8": send(id=b'"\xff"'),
    "an id in a deep frame": send(to=b'{"x":' * 100_000 + b"1" + b"}" * 100_000),
}


@pytest.mark.parametrize("payload", NOT_A_FRAME.values(), ids=NOT_A_FRAME)
def test_refuses(payload: bytes) -> None:
    """Else a client's mistake or malice is taken for a frame, ends the connection, or is answered with a made-up id."""
    refused = refusal(payload)
    assert (refused.code, refused.id, refused.ref) == (ErrorCode.BAD_FRAME, None, None)
    assert refused.message.isprintable()
    assert 0 < len(refused.message) <= 200
    assert str(refused) == refused.message


WITH_AN_ID = {
    "a field too many": send(more=b',"x":1'),
    "NaN": send(more=b',"x":NaN'),
    "a huge number": send(more=b',"x":' + HUGE),
    "a field twice": send(more=b',"text":"ho"'),
    "a field twice, once escaped": send(more=b',"t\\u006f":"eve"'),
    "a field twice among escaped quotes": send(text=b'"\\"\\"\\"\\""', more=b',"to":"eve"'),
    "an empty text": send(text=b'""'),
    "a text that is null": send(text=b"null"),
    "a text that is a number": send(text=HUGE),
    "a text with half a surrogate pair": send(text=b'"cut \\ud83d"'),
    "a text with the other half": send(text=b'"\\ude00 cut"'),
    "a text with a raw surrogate": send(text=b'"\xed\xa0\x80"'),
    "a text that is not UTF-8": send(text=b'"\xff"'),
    "a text with an overlong encoding": send(text=b'"\xc0\x80"'),
    "a text with a raw NUL": send(text=b'"\x00"'),
    "a text with an escaped NUL": send(text=b'"a\\u0000b"'),
    "a text with a raw line feed": send(text=b'"a\nb"'),
    "a text with a bad escape": send(text=b'"\\ud83d\\ud83d"'),
    "a missing text": b'{"type":"send","id":"i","to":"bob"}',
    "a recipient that is too long": send(to=b'"%s"' % (b"x" * (USER_LENGTH + 1))),
    "an empty recipient": send(to=b'""'),
    "a recipient that is null": send(to=b"null"),
    "a recipient with a bell": send(to=b'"\\u0007"'),
    "a recipient with DEL": send(to=b'"bob\x7f"'),
    "a recipient with a C1 control": send(to=b'"bob\xc2\x85"'),
    "a recipient with a line feed at its end": send(to=b'"bob\\n"'),
    "a recipient with a NUL": send(to=b'"\\u0000bob"'),
    "another type": b'{"type":"shout","id":"i"}',
    "a type with control characters": b'{"type":"\\u0000\\u001b[31m\\n","id":"i"}',
    "a long type": b'{"type":"' + b"x" * 60_000 + b'","id":"i"}',
    "no type": b'{"id":"i"}',
    "something after the frame": send() + b" x",
    "two frames": send() + send(id=b'"j"'),
    "an id in a frame without one": b'{"type":"ping","id":"i"}',
    "a reply to null": send(more=b',"reply_to":null'),
    "a reply to nothing": send(more=b',"reply_to":""'),
    "a reply to a number": send(more=b',"reply_to":7'),
    "a reply to a list": send(more=b',"reply_to":["j"]'),
    "a reply to an id that is too long": send(more=b',"reply_to":"%s"' % (b"x" * (ID_LENGTH + 1))),
    "a reply to a control character": send(more=b',"reply_to":"\\u0007"'),
    "a reply to half a surrogate pair": send(more=b',"reply_to":"\\ud800"'),
    "two replies": send(more=b',"reply_to":"j","reply_to":"j"'),
    "two replies, one to null": send(more=b',"reply_to":null,"reply_to":"j"'),
    "a reply and a text twice": send(more=b',"reply_to":"j","text":"ho"'),
    "a target where none belongs": send(more=b',"target":"t"'),
    "an edit without a target": b'{"type":"edit","id":"i","to":"bob","text":"ho"}',
    "an edit without a text": b'{"type":"edit","id":"i","to":"bob","target":"t"}',
    "an edit to nothing": b'{"type":"edit","id":"i","to":"bob","target":"t","text":""}',
    "an edit to a NUL": b'{"type":"edit","id":"i","to":"bob","target":"t","text":"\\u0000"}',
    "an edit of null": b'{"type":"edit","id":"i","to":"bob","target":null,"text":"ho"}',
    "an edit with a reply": b'{"type":"edit","id":"i","to":"bob","target":"t","text":"ho","reply_to":"j"}',
    "an edit with a target twice": b'{"type":"edit","id":"i","to":"bob","target":"t","text":"ho","target":"u"}',
    "a deletion with a text": b'{"type":"delete","id":"i","to":"bob","target":"t","text":"ho"}',
    "a deletion without a target": b'{"type":"delete","id":"i","to":"bob"}',
    "a deletion with a target twice": b'{"type":"delete","id":"i","to":"bob","target":"t","target":"t"}',
}


@pytest.mark.parametrize("payload", WITH_AN_ID.values(), ids=WITH_AN_ID)
def test_refuses_by_id(payload: bytes) -> None:
    """Else the client that sent a message waits for its answer for ever (S3)."""
    refused = refusal(payload)
    assert (refused.code, refused.id, refused.ref) == (ErrorCode.BAD_FRAME, "i", None)
    assert refused.message.isprintable()
    assert 0 < len(refused.message) <= 200


BAD_REQUESTS = [
    b'{"type":"history","ref":"r1","peer":null}',
    b'{"type":"history","ref":"r1","peer":""}',
    b'{"type":"history","ref":"r1","peer":"%s"}' % (b"x" * (USER_LENGTH + 1)),
    b'{"type":"history","ref":"r1","peer":["bob"]}',
    b'{"type":"history","ref":"r1","peer":"bob","peer":"eve"}',
    b'{"type":"history","ref":"r1","p\\u0065er":"bob","peer":"eve"}',
    b'{"type":"history","ref":"r1","limit":0}',
    b'{"type":"history","ref":"r1","limit":%d}' % (PAGE + 1),
    b'{"type":"history","ref":"r1","limit":null}',
    b'{"type":"history","ref":"r1","limit":"5"}',
    b'{"type":"history","ref":"r1","before":-1}',
    b'{"type":"history","ref":"r1","before":1.5}',
    b'{"type":"history","ref":"r1","before":%d}' % (MAX_SEQ + 1),
    b'{"type":"history","ref":"r1","since":true}',
    b'{"type":"history","ref":"r1","unread":null}',
    b'{"type":"history","ref":"r1","unread":1}',
    b'{"type":"history","ref":"r1","direction":"both"}',
    b'{"type":"history","ref":"r1","order":"ASC"}',
    b'{"type":"history","ref":"r1","ids":[]}',
    b'{"type":"history","ref":"r1","ids":"a"}',
    b'{"type":"history","ref":"r1","ids":null}',
    b'{"type":"history","ref":"r1","ids":[null]}',
    b'{"type":"history","ref":"r1","ids":[["a"]]}',
    b'{"type":"history","ref":"r1","ids":[{"id":"a"}]}',
    b'{"type":"history","ref":"r1","ids":[""]}',
    b'{"type":"history","ref":"r1","ids":["a"],"ids":["a"]}',
    b'{"type":"history","ref":"r1","ids":%s}' % many(PAGE + 1),
    b'{"type":"history","ref":"r1","ids":["%s"]}' % (b"x" * (ID_LENGTH + 1)),
    b'{"type":"history","ref":"r1","text":"x"}',
    b'{"type":"history","ref":"r1","ref":"r1"}',
    b'{"type":"search","ref":"r1"}',
    b'{"type":"search","ref":"r1","query":""}',
    b'{"type":"search","ref":"r1","query":"%s"}' % (b"x" * 257),
    b'{"type":"search","ref":"r1","query":null}',
    b'{"type":"search","ref":"r1","query":"x","after":1}',
    b'{"type":"search","ref":"r1","query":"x","peer":null}',
    b'{"type":"conversations","ref":"r1","peer":"bob"}',
    b'{"type":"conversations","ref":"r1","before":null}',
    b'{"type":"devices","ref":"r1","user":"eve"}',
    b'{"type":"remove_device","ref":"r1"}',
    b'{"type":"remove_device","ref":"r1","device":""}',
    b'{"type":"remove_device","ref":"r1","device":"w\\n"}',
    b'{"type":"block","ref":"r1"}',
    b'{"type":"block","ref":"r1","user":["eve"]}',
    b'{"type":"block","ref":"r1","user":"eve","user":"eve"}',
    b'{"type":"unblock","ref":"r1","user":"%s"}' % (b"x" * (USER_LENGTH + 1)),
    b'{"type":"blocks","ref":"r1","user":"eve"}',
    b'{"type":"watch","ref":"r1"}',
    b'{"type":"watch","ref":"r1","users":null}',
    b'{"type":"watch","ref":"r1","users":"bob"}',
    b'{"type":"watch","ref":"r1","users":{"bob":1}}',
    b'{"type":"watch","ref":"r1","users":[null]}',
    b'{"type":"watch","ref":"r1","users":[1]}',
    b'{"type":"watch","ref":"r1","users":[["bob"]]}',
    b'{"type":"watch","ref":"r1","users":[""]}',
    b'{"type":"watch","ref":"r1","users":["b\\u0000"]}',
    b'{"type":"watch","ref":"r1","users":["b\\ud800"]}',
    b'{"type":"watch","ref":"r1","users":["bob"],"users":["eve"]}',
    b'{"type":"watch","ref":"r1","users":%s}' % many(WATCHED + 1),
    b'{"type":"watch","ref":"r1","users":["%s"]}' % (b"x" * (USER_LENGTH + 1)),
]


@pytest.mark.parametrize(
    ("payload", "ref"),
    [
        (b'{"type":"later","ref":"r1"}', "r1"),
        (b'{"type":"later","id":7,"ref":"r1"}', "r1"),
        (b'{"type":"later","id":"\\ud800","ref":"r1"}', "r1"),
        (b'{"type":"later","ref":"%s"}' % (b"r" * (ID_LENGTH + 1)), None),
        (b'{"type":"later","ref":{"ref":"r1"}}', None),
        *[(payload, "r1") for payload in BAD_REQUESTS],
        (b'{"type":"watch","ref":"r1","users":["bob",]}', None),
        (b'{"type":"watch","ref":"r1","users":[' + DEEP + b"]}", None),
        (b'{"type":"devices"}', None),
        (b'{"type":"devices","ref":""}', None),
        (b'{"type":"devices","ref":null}', None),
        (b'{"type":"blocks","ref":5}', None),
        (b'{"type":"block","ref":"r\\n","user":"eve"}', None),
        (b'{"type":"read","peer":"bob"}', None),
        (b'{"type":"read","peer":"bob","seq":-1}', None),
        (b'{"type":"read","peer":"bob","seq":1,"seq":2}', None),
        (b'{"type":"read","peer":null,"seq":1}', None),
    ],
)
def test_refuses_by_ref(payload: bytes, ref: str | None) -> None:
    """Else a request that this server does not know yet stays unanswered at a newer client."""
    refused = refusal(payload)
    assert (refused.code, refused.id, refused.ref) == (ErrorCode.BAD_FRAME, None, ref)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (b'"around":5,"before":9', "around excludes before, after and order"),
        (b'"around":5,"after":9', "around excludes before, after and order"),
        (b'"around":5,"order":"asc"', "around excludes before, after and order"),
        (b'"ids":["a"],"around":5', "ids excludes around and unread"),
        (b'"ids":["a"],"unread":true', "ids excludes around and unread"),
        (b'"unread":true,"direction":"out"', "one's own messages are never unread"),
        (b'"before":5,"after":5', "before is not above after"),
        (b'"since":5,"until":5', "until is not later than since"),
    ],
)
def test_a_query_that_excludes_itself_is_a_bad_query(more: bytes, why: str) -> None:
    """Else it is answered with nothing, or with something else than was asked for, and nobody is told why."""
    refused = refusal(b'{"type":"history","ref":"r1",%s}' % more)
    assert (refused.code, refused.id, refused.ref, refused.message) == (ErrorCode.BAD_QUERY, None, "r1", why)


def test_null_is_no_value() -> None:
    """Else a request has two spellings for each field that may be left out, and some servers of the next version one."""
    assert refusal(b'{"type":"history","ref":"r","peer":null}').message == "a field is null: leave it out"
    assert refusal(send(more=b',"reply_to":null')).message == "a field is null: leave it out"
    assert b"null" not in wire.encode(History(ref="r")) + wire.encode(send_frame := Send(id="i", to="bob", text="hi"))
    assert decode(wire.encode(send_frame)) == send_frame


def test_says_what_is_wrong_in_words() -> None:
    """Else a client's author is told a regular expression, or how this server's interpreter counts."""
    assert refusal(send(to=b'"\\u0007"')).message == "Expected `str` without control characters - at `$.to`"
    assert refusal(b'{"type":' + DEEP + b"}").message == "nested too deeply"
    assert refusal(send(text=b'"\xff"')).message == "not UTF-8"
    assert refusal(send(more=b',"to":"eve"')).message == "a field is repeated"
    assert "16384 bytes" in refusal(send(text=b'"%s"' % (b"x" * 20_000))).message


def test_refuses_binary() -> None:
    """Else a binary message has another code than its kin."""
    with pytest.raises(InvalidFrame, match="binary") as refused:
        wire.decode(None, text_bytes=100)
    assert refused.value.code is ErrorCode.BAD_FRAME


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_frame_or_refused(payload: bytes) -> None:
    """Else some message ends the connection's task with an exception nobody expects."""
    with contextlib.suppress(InvalidFrame):
        decode(payload)


def mutated(frames: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Frames with something put in place of a slice of them: nearly right is where decoders err."""
    tokens = st.binary(max_size=6) | st.sampled_from(
        [
            b'"',
            b"\\",
            b"{",
            b"}",
            b"[",
            b":",
            b",",
            b"\\u0000",
            b"\\ud800",
            b"\xed\xa0\x80",
            b"NaN",
            b"1e9",
            b'"id":',
            b"null",
        ]
    )
    return st.builds(
        lambda frame, at, length, token: frame[: at % (len(frame) + 1)] + token + frame[at % (len(frame) + 1) + length :],
        frames,
        st.integers(0, 400),
        st.integers(0, 12),
        tokens,
    )


# Round trips

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=80)
seqs = st.integers(0, MAX_SEQ)
seconds = st.floats(0, 1e9, allow_nan=False)

optional_seqs = st.none() | seqs


def may_be_asked(frame: History) -> bool:
    try:
        check_combination(frame)
    except BadQuery:
        return False
    return True


client_frames: st.SearchStrategy[ClientFrame] = st.one_of(
    st.builds(Send, id=ids, to=names, text=texts, reply_to=st.none() | ids),
    st.builds(Edit, id=ids, to=names, target=ids, text=texts),
    st.builds(Delete, id=ids, to=names, target=ids),
    st.builds(Ack, seq=seqs),
    st.builds(Read, peer=names, seq=seqs),
    st.builds(Typing, to=names, typing=st.booleans()),
    st.builds(Watch, ref=ids, users=st.lists(names, max_size=3).map(tuple)),
    st.builds(
        History,
        ref=ids,
        peer=st.none() | names,
        before=optional_seqs,
        after=optional_seqs,
        around=optional_seqs,
        since=optional_seqs,
        until=optional_seqs,
        ids=st.none() | st.lists(ids, min_size=1, max_size=3).map(tuple),
        unread=st.booleans(),
        direction=st.sampled_from([None, "in", "out"]),
        order=st.sampled_from([None, "asc", "desc"]),
        limit=st.integers(1, PAGE),
    ).filter(may_be_asked)
    | st.builds(History, ref=ids, peer=names, after=seqs),
    st.builds(Search, ref=ids, query=texts, peer=st.none() | names, before=optional_seqs, limit=st.integers(1, PAGE)),
    st.builds(Conversations, ref=ids, before=optional_seqs, limit=st.integers(1, PAGE)),
    st.builds(Devices, ref=ids),
    st.builds(RemoveDevice, ref=ids, device=names),
    st.builds(Block, ref=ids, user=names),
    st.builds(Unblock, ref=ids, user=names),
    st.builds(Blocks, ref=ids),
    st.builds(PushRegister, ref=ids, provider=ids, kind=ids, target=names),
    st.builds(PushUnregister, ref=ids, provider=st.none() | ids),
    st.builds(PushQuestion, ref=ids),
    st.builds(Mute, ref=ids, user=names),
    st.builds(Unmute, ref=ids, user=names),
    st.builds(Quiet, ref=ids, quiet=st.booleans()),
    st.builds(Ping),
)

entries = st.builds(
    Message,
    seq=seqs,
    id=ids,
    sender=names,
    recipient=names,
    text=st.none() | texts,
    sent_at=seqs,
    kind=st.sampled_from(["message", "edit", "delete"]),
    reply_to=st.none() | ids,
    target=st.none() | ids,
    edit_seq=optional_seqs,
    edited_at=optional_seqs,
    deleted=st.booleans(),
)
listings: st.SearchStrategy[ServerFrame] = st.one_of(
    st.builds(Messages, messages=st.lists(entries, min_size=1, max_size=6), head=seqs),
    st.builds(Stored, messages=st.lists(st.builds(StoredItem, ids, seqs, seqs), min_size=1, max_size=6)),
)
other_frames: st.SearchStrategy[ServerFrame] = st.one_of(
    st.builds(
        Welcome,
        user=names,
        device=names,
        log=names,
        head=seqs,
        floor=seqs,
        cursor=seqs,
        new=st.booleans(),
        features=st.lists(names, max_size=3),
        limits=st.dictionaries(names, seconds, max_size=3),
    ),
    st.builds(TypingFrom, sender=names, typing=st.booleans()),
    st.builds(Gap, first=seqs, last=seqs),
    st.builds(
        Error,
        code=st.sampled_from(ErrorCode).map(str),
        message=texts,
        id=st.none() | ids,
        ref=st.none() | ids,
        retry_after=st.none() | seconds,
    ),
    st.builds(Pong),
    st.builds(Receipt, peer=names, delivered=seqs, read=seqs),
    st.builds(ReadElsewhere, peer=names, seq=seqs),
    st.builds(Presence, user=names, online=st.booleans(), last_seen=optional_seqs),
    st.builds(
        HistoryAnswer, ref=ids, messages=st.lists(entries, max_size=4).map(tuple), more=st.booleans(), next=optional_seqs
    ),
    st.builds(
        SearchAnswer,
        ref=ids,
        hits=st.lists(st.builds(SearchHit, message=entries, snippet=st.lists(texts, max_size=4).map(tuple)), max_size=3).map(
            tuple
        ),
        more=st.booleans(),
        next=optional_seqs,
    ),
    st.builds(
        ConversationsAnswer,
        ref=ids,
        conversations=st.lists(
            st.builds(
                Conversation,
                peer=names,
                last=st.none() | entries,
                unread=seqs,
                delivered=seqs,
                read=seqs,
                own_delivered=seqs,
                own_read=seqs,
            ),
            max_size=3,
        ).map(tuple),
        more=st.booleans(),
        next=optional_seqs,
    ),
    st.builds(
        DevicesAnswer,
        ref=ids,
        devices=st.lists(
            st.builds(Device, name=names, cursor=seqs, seen=seqs, created=seqs, connected=st.booleans()), max_size=3
        ).map(tuple),
    ),
    st.builds(Blocked, ref=ids, users=st.lists(names, max_size=3).map(tuple)),
    st.builds(
        PushAnswer,
        ref=ids,
        providers=st.lists(st.builds(PushProvider, name=names, key=st.none() | names), max_size=2).map(tuple),
        targets=st.lists(st.builds(PushTarget, device=names, provider=names, kind=names, registered=seqs), max_size=2).map(
            tuple
        ),
        muted=st.lists(names, max_size=3).map(tuple),
        quiet=st.booleans(),
    ),
)
server_frames = listings | other_frames


@given(mutated(client_frames.map(wire.encode)))
@example(b'{"type":"send","id":"i","to":"bob","text":"hi","text":"hi"}')
def test_a_frame_with_a_flaw_is_a_frame_or_refused(payload: bytes) -> None:
    """Else a nearly valid frame ends the connection, or a frame with a repeated field gets through."""
    try:
        frame = decode(payload)
    except InvalidFrame:
        pass
    else:
        pairs = json.loads(payload, object_pairs_hook=list)
        assert len(pairs) == len({key for key, _ in pairs})
        assert not [key for key, value in pairs if value is None]
        assert wire.encode(frame) == wire.encode(decode(wire.encode(frame)))


@given(client_frames)
def test_client_frames_round_trip(frame: ClientFrame) -> None:
    """Else what a client of ours sends is not what the server takes it for."""
    assert decode(wire.encode(frame)) == frame
    assert decode(json.dumps(json.loads(wire.encode(frame)), indent=1).encode()) == frame  # as others spell it


@given(server_frames)
def test_server_frames_round_trip(frame: ServerFrame) -> None:
    """Else what the server sends is not what a client takes it for."""
    assert wire.decode_server(wire.encode(frame)) == frame


@given(client_frames, st.data())
def test_no_field_may_be_repeated(frame: ClientFrame, data: st.DataObject) -> None:
    """Else the server and a proxy that reads along may disagree about what was sent."""
    encoded = wire.encode(frame)
    key = data.draw(st.sampled_from(sorted(json.loads(encoded))))
    again = encoded[:-1] + b"," + json.dumps(key).encode() + b":" + json.dumps(json.loads(encoded)[key]).encode() + b"}"
    assert refusal(again).code is ErrorCode.BAD_FRAME


def test_the_fields_of_client_frames_that_may_be_left_out() -> None:
    """Else the count of quotation marks no longer tells a frame that repeats a field from one that leaves one out.

    `Send` is the only one with such fields that is not always looked at in full; `decode` knows its one by name.
    """
    for frame in get_args(ClientFrame):
        fields = msgspec.structs.fields(frame)
        optional = [field.name for field in fields if not field.required]
        counted = wire._RULES[frame][0] >= 0
        assert optional == (["reply_to"] if frame is Send else []) or not counted, frame
        assert not counted or not [field for field in fields if "tuple" in str(field.type)], frame


def test_features_are_the_client_frames() -> None:
    """Else `welcome` promises a frame that is refused, or keeps one secret."""
    assert set(wire.FEATURES) == {frame.__struct_config__.tag for frame in get_args(ClientFrame)}


@pytest.mark.parametrize(
    ("frame", "encoded"),
    [
        (
            Messages(messages=[Message(seq=1, id="i", sender="a", recipient="b", text="hi", sent_at=7)], head=1),
            {
                "type": "messages",
                "messages": [{"seq": 1, "id": "i", "from": "a", "to": "b", "text": "hi", "sent_at": 7}],
                "head": 1,
            },
        ),
        (
            Messages(
                messages=[Message(seq=1, id="i", sender="a", recipient="b", text=None, sent_at=7, kind="edit")], head=1
            ),
            {
                "type": "messages",
                "messages": [{"seq": 1, "id": "i", "from": "a", "to": "b", "text": None, "sent_at": 7, "kind": "edit"}],
                "head": 1,
            },
        ),
        (
            Stored(messages=[StoredItem("i", 1, 7)]),
            {"type": "stored", "messages": [{"id": "i", "seq": 1, "sent_at": 7}]},
        ),
        (TypingFrom(sender="a", typing=False), {"type": "typing", "from": "a", "typing": False}),
        (Gap(first=1, last=37), {"type": "gap", "from": 1, "to": 37}),
        (Error(code=ErrorCode.INTERNAL, message="no"), {"type": "error", "code": "internal", "message": "no"}),
        (
            Error(code=ErrorCode.RATE_LIMITED, message="no", id="i", retry_after=1.5),
            {"type": "error", "code": "rate_limited", "message": "no", "id": "i", "retry_after": 1.5},
        ),
        (
            HistoryAnswer(
                ref="r",
                messages=(
                    Message(
                        seq=1, id="i", sender="a", recipient="b", text="ho", sent_at=7, reply_to="j", edit_seq=3, edited_at=9
                    ),
                    Message(seq=2, id="k", sender="a", recipient="b", text=None, sent_at=8, deleted=True),
                ),
                more=False,
                next=None,
            ),
            {
                "type": "history",
                "ref": "r",
                "messages": [
                    {
                        "seq": 1,
                        "id": "i",
                        "from": "a",
                        "to": "b",
                        "text": "ho",
                        "sent_at": 7,
                        "reply_to": "j",
                        "edit_seq": 3,
                        "edited_at": 9,
                    },
                    {"seq": 2, "id": "k", "from": "a", "to": "b", "text": None, "sent_at": 8, "deleted": True},
                ],
                "more": False,
                "next": None,
            },
        ),
        (
            SearchAnswer(
                ref="r",
                hits=(
                    SearchHit(
                        message=Message(seq=1, id="i", sender="a", recipient="b", text="hi", sent_at=7), snippet=("", "hi")
                    ),
                ),
                more=True,
                next=1,
            ),
            {
                "type": "search",
                "ref": "r",
                "hits": [
                    {
                        "message": {"seq": 1, "id": "i", "from": "a", "to": "b", "text": "hi", "sent_at": 7},
                        "snippet": ["", "hi"],
                    }
                ],
                "more": True,
                "next": 1,
            },
        ),
        (
            ConversationsAnswer(
                ref="r",
                conversations=(
                    Conversation(peer="b", last=None, unread=0, delivered=1, read=2, own_delivered=3, own_read=4),
                ),
                more=False,
                next=None,
            ),
            {
                "type": "conversations",
                "ref": "r",
                "conversations": [
                    {"peer": "b", "last": None, "unread": 0, "delivered": 1, "read": 2, "own_delivered": 3, "own_read": 4}
                ],
                "more": False,
                "next": None,
            },
        ),
        (
            DevicesAnswer(ref="r", devices=(Device(name="web", cursor=1, seen=2, created=3, connected=True),)),
            {
                "type": "devices",
                "ref": "r",
                "devices": [{"name": "web", "cursor": 1, "seen": 2, "created": 3, "connected": True}],
            },
        ),
        (Blocked(ref="r", users=("eve",)), {"type": "blocked", "ref": "r", "users": ["eve"]}),
        (
            PushAnswer(
                ref="r",
                providers=(PushProvider(name="fcm"), PushProvider(name="web_push", key="B")),
                targets=(PushTarget(device="d", provider="fcm", kind="token", registered=1),),
                muted=("eve",),
                quiet=False,
            ),
            {
                "type": "push",
                "ref": "r",
                "providers": [{"name": "fcm"}, {"name": "web_push", "key": "B"}],
                "targets": [{"device": "d", "provider": "fcm", "kind": "token", "registered": 1}],
                "muted": ["eve"],
                "quiet": False,
            },
        ),
        (PushUnregister(ref="r"), {"type": "push_unregister", "ref": "r"}),
        (Receipt(peer="b", delivered=4), {"type": "receipt", "peer": "b", "delivered": 4}),
        (Receipt(peer="b", read=4), {"type": "receipt", "peer": "b", "read": 4}),
        (ReadElsewhere(peer="b", seq=4), {"type": "read", "peer": "b", "seq": 4}),
        (
            Presence(user="b", online=False, last_seen=None),
            {"type": "presence", "user": "b", "online": False, "last_seen": None},
        ),
        (Watch(ref="r", users=("b",)), {"type": "watch", "ref": "r", "users": ["b"]}),
        (RemoveDevice(ref="r", device="web"), {"type": "remove_device", "ref": "r", "device": "web"}),
        (History(ref="r", around=4), {"type": "history", "ref": "r", "around": 4}),
        (Pong(), {"type": "pong"}),
        (Send(id="i", to="b", text="hi"), {"type": "send", "id": "i", "to": "b", "text": "hi"}),
    ],
)
def test_the_names_on_the_wire(frame: ServerFrame | ClientFrame, encoded: object) -> None:
    """Else clients in other languages read fields that are not there: both halves of ours could still agree."""
    assert json.loads(wire.encode(frame)) == encoded


def test_clients_ignore_fields_they_do_not_know() -> None:
    """Else a server cannot add a field without breaking every client that is out there."""
    assert wire.decode_server(b'{"type":"pong","since":1}') == Pong()
    with pytest.raises(msgspec.DecodeError):
        wire.decode_server(b'{"type":"later"}')


@given(entries)
def test_an_entrys_size_is_what_it_takes(entry: Message) -> None:
    """Else windows and pages are measured with another measure than the frames they end up in."""
    one = wire.encode(Messages(messages=[entry], head=0))
    two = wire.encode(Messages(messages=[entry, entry], head=0))
    assert wire.encoded_size(entry) == len(two) - len(one)


@given(server_frames)
@example(
    ConversationsAnswer(
        ref="r",
        conversations=(Conversation(peer="b", last=None, unread=0, delivered=1, read=2, own_delivered=3, own_read=4),),
        more=False,
        next=None,
    )
)
def test_the_weight_of_a_frame_is_about_its_size(frame: ServerFrame) -> None:
    """Else the bound of what waits to be sent bounds nothing: a frame must not weigh far less than it takes."""
    assert len(wire.encode(frame)) <= 6 * wire.weight(frame) + 500


# Packing


def unpacked(frames: list[ServerFrame]) -> list[object]:
    """What the frames say, in order, as if each entry and each item travelled alone."""
    return [
        (type(frame), item) if isinstance(frame, Messages | Stored) else frame
        for frame in frames
        for item in (frame.messages if isinstance(frame, Messages | Stored) else [None])
    ]


@given(st.lists(server_frames, max_size=12), st.integers(200, 2_000))
def test_packing_keeps_everything_in_order(frames: list[ServerFrame], limit: int) -> None:
    """Else an entry or an answer is lost, doubled or overtaken on its way out, or a device's buffer bursts (C4, C6)."""
    packed = wire.pack(frames, limit)
    sent = [wire.decode_server(text) for text in packed]
    assert unpacked(sent) == unpacked(frames)
    assert [frame for frame in sent if not isinstance(frame, Messages | Stored)] == [
        frame for frame in frames if not isinstance(frame, Messages | Stored)
    ]
    for text, frame in zip(packed, sent, strict=True):
        if isinstance(frame, Messages | Stored):
            assert len(text) <= limit or len(frame.messages) == 1
    for before, after in pairwise(sent):  # no more frames than the limit makes necessary
        if isinstance(before, Messages | Stored) and type(before) is type(after):
            assert len(wire.encode(before)) + len(wire.encode(first_of(after))) + 64 > limit


def first_of(frame: ServerFrame) -> Messages | Stored:
    if isinstance(frame, Messages):
        return Messages(messages=frame.messages[:1], head=frame.head)
    assert isinstance(frame, Stored)
    return Stored(messages=frame.messages[:1])


def test_packing_joins_neighbours() -> None:
    """Else a burst of single messages costs a frame each, which is what decides the speed."""
    entry = Message(seq=1, id="i", sender="a", recipient="b", text="hi", sent_at=7)
    item = StoredItem("i", 1, 7)
    frames: list[ServerFrame] = [
        Messages(messages=[entry], head=1),
        Messages(messages=[entry, entry], head=3),
        Stored(messages=[item]),
        Stored(messages=[item]),
        Messages(messages=[entry], head=4),
        Pong(),
        Messages(messages=[entry], head=5),
        HistoryAnswer(ref="r", messages=(entry,), more=False, next=None),
        HistoryAnswer(ref="s", messages=(entry,), more=False, next=None),
        Messages(messages=[entry], head=6),
        Receipt(peer="b", read=1),
        Receipt(peer="b", read=2),
    ]
    assert [wire.decode_server(text) for text in wire.pack(frames, 64 * 1024)] == [
        Messages(messages=[entry] * 3, head=3),
        Stored(messages=[item] * 2),
        Messages(messages=[entry], head=4),
        Pong(),
        Messages(messages=[entry], head=5),
        HistoryAnswer(ref="r", messages=(entry,), more=False, next=None),
        HistoryAnswer(ref="s", messages=(entry,), more=False, next=None),
        Messages(messages=[entry], head=6),
        Receipt(peer="b", read=1),
        Receipt(peer="b", read=2),
    ]


def test_an_entry_over_the_limit_travels_alone() -> None:
    """Else it is never sent, and everything after it waits for ever."""
    small = Message(seq=1, id="i", sender="a", recipient="b", text="hi", sent_at=7)
    large = msgspec.structs.replace(small, seq=2, text="x" * 2_000)
    frames: list[ServerFrame] = [Messages(messages=[small, large, small], head=3)]
    assert [len(text) > 1_024 for text in wire.pack(frames, 1_024)] == [False, True, False]


def test_packing_nothing() -> None:
    """Else an empty outbox puts an empty frame on the wire."""
    assert wire.pack([], 1_024) == []
    assert wire.pack([Stored(messages=[])], 1_024) == []


def test_a_newer_servers_frame_is_unknown_and_a_broken_one_is_broken() -> None:
    """Else a client breaks with the first newer server, or passes over an entry that it could not read (C1, A2)."""
    with pytest.raises(wire.UnknownFrame):
        wire.decode_server(b'{"type":"later","user":"bob"}')
    for payload in (b'{"type":"messages","messages":[{"seq":1}],"head":1}', b'{"seq":1}', b"[]", b"{"):
        with pytest.raises(msgspec.DecodeError) as broken:
            wire.decode_server(payload)
        assert not isinstance(broken.value, wire.UnknownFrame)
