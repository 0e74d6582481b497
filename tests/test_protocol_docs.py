"""The protocol's documentation: that it is current, and that what it says to a client's author is what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from trio_chat import wire
from trio_chat.core.batch import Opened, Results
from trio_chat.core.effects import Close, Send
from trio_chat.core.events import Committed, Connected, Drain
from trio_chat.core.machine import Core
from trio_chat.errors import BadQuery, CloseCode, ErrorCode, InvalidFrame
from trio_chat.model import ID_LENGTH, MAX_SEQ, USER_LENGTH, Message
from trio_chat.retrieval import Conversation, Device, SearchHit, check_combination
from trio_chat.settings import Settings
from trio_chat.wire import ClientFrame, ServerFrame

from .snippets import fenced

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEXT = (DOCS / "protocol.md").read_text(encoding="utf-8")
FRAMES: dict[str, Any] = json.loads((DOCS / "protocol" / "frames.schema.json").read_text(encoding="utf-8"))
ASYNCAPI: dict[str, Any] = json.loads((DOCS / "protocol" / "asyncapi.json").read_text(encoding="utf-8"))
OFFICIAL: dict[str, Any] = json.loads((ROOT / "tests" / "asyncapi" / "3.0.0.json").read_text(encoding="utf-8"))

TEXT_BYTES = Settings().text_bytes


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protocol", DOCS / "generate_protocol.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


def validator(definition: str) -> Draft202012Validator:
    return Draft202012Validator({**FRAMES, "anyOf": [{"$ref": f"#/$defs/{definition}"}]})


CLIENT = validator("ClientFrame")
SERVER = validator("ServerFrame")


def accepted(payload: bytes) -> bool:
    try:
        wire.decode(payload, text_bytes=TEXT_BYTES)
    except InvalidFrame:
        return False
    return True


# What is generated


@pytest.mark.parametrize("path", [GENERATOR.TEXT, GENERATOR.SCHEMA, GENERATOR.ASYNCAPI], ids=lambda path: path.name)
def test_generated_files_are_current(path: Path) -> None:
    """Else the documentation describes frames, codes or limits that the code no longer has."""
    assert path.read_text(encoding="utf-8") == GENERATOR.outputs()[path], f"{path.name} is out of date: {GENERATOR.COMMAND}"


def test_generating_twice_gives_the_same() -> None:
    """Else a file changes with every run, and nobody looks at its differences any more."""
    assert GENERATOR.outputs() == GENERATOR.outputs()
    assert GENERATOR.filled(GENERATOR.filled(TEXT)) == GENERATOR.filled(TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "no markers at all",
        TEXT.replace("<!-- generated: error codes -->", "<!-- generated: other codes -->"),
        TEXT + "<!-- generated: error codes --><!-- end -->",
    ],
    ids=["lost", "unknown", "twice"],
)
def test_a_marker_that_is_lost_is_noticed(text: str) -> None:
    """Else a table is no longer renewed, and the test of its being current passes."""
    with pytest.raises(ValueError, match=r"text|generated"):
        GENERATOR.filled(text)


def test_a_pattern_that_cannot_be_translated_is_noticed() -> None:
    r"""Else a Python pattern gets into the schema, where ``\A`` means the letter A or is an error."""
    with pytest.raises(ValueError, match="no translation"):
        GENERATOR._forbidden(r"\A(?i:x)\Z")


# The JSON Schema


def test_the_schema_is_valid() -> None:
    """Else validators and generators of code in other languages refuse it."""
    Draft202012Validator.check_schema(FRAMES)


def test_every_schema_may_be_taken_for_draft_7() -> None:
    """Else AsyncAPI, whose schemas are of draft 7, reads something else in them."""
    for definition in FRAMES["$defs"].values():
        Draft7Validator.check_schema(definition)
    keywords = {key for schema in SCHEMAS for key in schema}
    assert keywords <= {
        "$ref", "additionalProperties", "const", "default", "description", "enum", "items", "maxItems", "maxLength",
        "maximum", "minItems", "minLength", "minimum", "not", "oneOf", "pattern", "properties", "required", "title", "type",
    }  # fmt: skip


def _schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`schema` and every schema in it."""
    yield schema
    inner = [schema.get(key) for key in ("items", "not", "additionalProperties")]
    for one in (*inner, *schema.get("oneOf", ()), *schema.get("properties", {}).values()):
        if isinstance(one, dict):
            yield from _schemas(one)


SCHEMAS = [schema for definition in FRAMES["$defs"].values() for schema in _schemas(definition)]


def test_patterns_mean_the_same_in_every_language() -> None:
    r"""Else a validator in another language lets a control character through, or does not know ``\A``."""
    patterns = {schema["pattern"] for schema in SCHEMAS if "pattern" in schema}
    # A class of escapes and ranges: the same in ECMA-262, RE2, PCRE, Rust, Java, .NET and Python.
    assert patterns == {r"[\x00-\x1f\x7f-\x9f]", r"\x00"}


def test_client_frames_are_closed_and_server_frames_open() -> None:
    """Else a client is not told of a misspelt field, or a newer server breaks the clients that validate."""
    assert not CLIENT.is_valid({"type": "ping", "more": 1})
    assert SERVER.is_valid({"type": "pong", "more": 1})


def test_the_schema_names_all_frames() -> None:
    """Else a frame that exists is documented nowhere."""
    for definition, union in (("ClientFrame", ClientFrame), ("ServerFrame", ServerFrame)):
        named = [reference["$ref"].rpartition("/")[2] for reference in FRAMES["$defs"][definition]["oneOf"]]
        assert named == [frame.__name__ for frame in get_args(union)]
        for frame in get_args(union):
            assert FRAMES["$defs"][frame.__name__]["properties"]["type"] == {"const": frame.__struct_config__.tag}


# The schema and the decoder agree

_controls = st.characters(categories=["Cc"])
_names = (
    st.text(max_size=8)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
    | st.builds(lambda text, control: text + control, st.text(max_size=3), _controls)
)
_long = st.builds(
    lambda character, length: character * length,
    st.sampled_from("xé😀"),
    st.sampled_from([ID_LENGTH, ID_LENGTH + 1, USER_LENGTH, USER_LENGTH + 1]),
)
_integers = st.integers(-2, 2) | st.integers(MAX_SEQ - 1, MAX_SEQ + 1) | st.integers()
# An integral number written with a fraction: to a schema an integer, to the decoder none. See below.
_floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
_scalars = st.none() | st.booleans() | _integers | _floats | _names | _long
_values = _scalars | st.lists(_scalars, max_size=2) | st.dictionaries(_names, _scalars, max_size=2)
_types = st.sampled_from([*wire.FEATURES, "pong", "welcome", "Send", ""])
_fields = st.sampled_from(
    [
        *("id", "to", "text", "seq", "typing", "from", "ref", "type", "x", "", "target", "reply_to", "peer", "before"),
        *("since", "ids", "unread", "direction", "order", "limit", "query", "users", "user", "device"),
    ]
)
_limits = st.integers(-1, 2) | st.integers(199, 201)

_good = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("send"), "id": _names | _long, "to": _names | _long, "text": _names},
        optional={"reply_to": _names | _long},
    ),
    st.fixed_dictionaries({"type": st.just("edit"), "id": _names, "to": _names, "target": _names | _long, "text": _names}),
    st.fixed_dictionaries({"type": st.just("delete"), "id": _names, "to": _names, "target": _names}),
    st.fixed_dictionaries({"type": st.just("read"), "peer": _names, "seq": _integers}),
    st.fixed_dictionaries({"type": st.just("watch"), "ref": _names, "users": st.lists(_names | _long, max_size=3)}),
    # No two that exclude one another: a schema cannot say that, see below.
    st.fixed_dictionaries(
        {"type": st.just("history"), "ref": _names},
        optional={
            "peer": _names,
            "after": _integers,
            "since": _integers,
            "ids": st.lists(_names | _long, max_size=3),
            "direction": st.sampled_from(["in", "out", "both", ""]),
            "order": st.sampled_from(["asc", "desc", "ASC"]),
            "limit": _limits,
        },
    ),
    st.fixed_dictionaries({"type": st.just("history"), "ref": _names, "unread": st.booleans(), "around": _integers}),
    st.fixed_dictionaries(
        {"type": st.just("search"), "ref": _names, "query": _names | st.integers(255, 257).map(lambda n: "x" * n)},
        optional={"peer": _names, "before": _integers, "limit": _limits},
    ),
    st.fixed_dictionaries(
        {"type": st.just("conversations"), "ref": _names}, optional={"before": _integers, "limit": _limits}
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["devices", "blocks"]), "ref": _names | _long}),
    st.fixed_dictionaries({"type": st.just("remove_device"), "ref": _names, "device": _names | _long}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["block", "unblock", "mute", "unmute"]), "ref": _names, "user": _names | _long}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("push_register"),
            "ref": _names,
            "provider": _names | _long,
            "kind": _names,
            "target": _names | st.integers(4096, 4097).map(lambda n: "x" * n),
        }
    ),
    st.fixed_dictionaries({"type": st.just("push_unregister"), "ref": _names}, optional={"provider": _names | _long}),
    st.fixed_dictionaries({"type": st.just("push"), "ref": _names}),
    st.fixed_dictionaries({"type": st.just("quiet"), "ref": _names, "quiet": st.booleans() | _names}),
    st.fixed_dictionaries({"type": st.just("ack"), "seq": _integers}),
    st.fixed_dictionaries({"type": st.just("typing"), "to": _names | _long, "typing": st.booleans()}),
    st.just({"type": "ping"}),
)


@st.composite
def nearly_frames(draw: st.DrawFn) -> object:
    """JSON that is a client's frame, or nearly one, or nothing of the kind."""
    frame: dict[str, object] = dict(draw(_good))
    for _ in range(draw(st.integers(0, 2))):
        change = draw(st.sampled_from(["drop", "set", "type", "none"]))
        if change == "drop" and frame:
            del frame[draw(st.sampled_from(sorted(frame)))]
        elif change == "set":
            frame[draw(_fields)] = draw(_values)
        elif change == "type":
            frame["type"] = draw(_types)
    return draw(st.just(frame) | _values) if draw(st.integers(0, 9)) == 0 else frame


@given(nearly_frames(), st.booleans())
@example({"type": "send", "id": "i\n", "to": "bob", "text": "hi"}, True)
@example({"type": "send", "id": "i", "to": "bob", "text": "hi\n"}, True)
@example({"type": "send", "id": "i", "to": "bob", "text": "\x00\n"}, True)
@example({"type": "ack", "seq": True}, True)
def test_a_client_frame_is_taken_if_and_only_if_the_schema_allows_it(frame: object, ascii: bool) -> None:
    """Else who generates a client from the schema is refused, or does not learn from it what is refused."""
    assert accepted(json.dumps(frame, ensure_ascii=ascii).encode()) == (CLIENT.is_valid(frame) and not contradicts(frame))


def contradicts(frame: Any) -> bool:
    """Whether it is a history whose fields exclude one another."""
    if frame.get("type") != "history":
        return False
    try:
        check_combination(msgspec.convert({"ref": "r", **frame, "type": "history"}, wire.History))
    except BadQuery:
        return True
    return False


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps({"type": "send", "id": "i", "to": "bob", "text": "€" * (TEXT_BYTES // 3 + 1)}).encode(),
        b'{"type":"ack","seq":1.0}',
        b'{"type":"ack","seq":1e2}',
        b'{"type":"ack","seq":1,"seq":1}',
        b'{"type":"send","id":"i","to":"bob","text":"\\ud83d"}',
        b'{"type":"history","ref":"r","around":5,"before":7}',
    ],
    ids=["bytes of text", "a fraction", "an exponent", "a field twice", "a lone surrogate", "a contradiction"],
)
def test_what_a_schema_cannot_say(payload: bytes) -> None:
    """Else the list of exceptions in the schema's description is not the list of exceptions."""
    assert CLIENT.is_valid(json.loads(payload))
    assert not accepted(payload)


_positions = st.integers(0, MAX_SEQ)
_words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_entries = st.builds(
    Message,
    seq=_positions,
    id=_words,
    sender=_words,
    recipient=_words,
    text=st.none() | _words,
    sent_at=_positions,
    kind=st.sampled_from(["message", "edit"]),
    reply_to=st.none() | _words,
    target=st.none() | _words,
    edit_seq=st.none() | _positions,
    edited_at=st.none() | _positions,
    deleted=st.booleans(),
)
_next = st.none() | _positions
_server_frames: st.SearchStrategy[ServerFrame] = st.one_of(
    st.builds(
        wire.Welcome,
        user=_words,
        device=_words,
        log=_words,
        head=_positions,
        floor=_positions,
        cursor=_positions,
        new=st.booleans(),
        features=st.lists(_words, max_size=2),
        limits=st.dictionaries(_words, st.floats(0, 1e9), max_size=2),
    ),
    st.builds(wire.Messages, messages=st.lists(_entries, min_size=1, max_size=2), head=_positions),
    st.builds(wire.Stored, messages=st.lists(st.builds(wire.StoredItem, _words, _positions, _positions), max_size=2)),
    st.builds(wire.TypingFrom, sender=_words, typing=st.booleans()),
    st.builds(wire.Gap, first=_positions, last=_positions),
    st.builds(
        wire.Error,
        code=st.sampled_from(ErrorCode),
        message=_words,
        id=st.none() | _words,
        ref=st.none() | _words,
        retry_after=st.none() | st.floats(0, 1e9),
    ),
    st.builds(wire.Pong),
    st.builds(wire.Receipt, peer=_words, delivered=_positions, read=_positions),
    st.builds(wire.ReadElsewhere, peer=_words, seq=_positions),
    st.builds(wire.Presence, user=_words, online=st.booleans(), last_seen=_next),
    st.builds(
        wire.HistoryAnswer, ref=_words, messages=st.lists(_entries, max_size=2).map(tuple), more=st.booleans(), next=_next
    ),
    st.builds(
        wire.SearchAnswer,
        ref=_words,
        hits=st.lists(st.builds(SearchHit, message=_entries, snippet=st.tuples(_words, _words)), max_size=2).map(tuple),
        more=st.booleans(),
        next=_next,
    ),
    st.builds(
        wire.ConversationsAnswer,
        ref=_words,
        conversations=st.tuples(
            st.builds(
                Conversation,
                peer=_words,
                last=st.none() | _entries,
                unread=_positions,
                delivered=_positions,
                read=_positions,
                own_delivered=_positions,
                own_read=_positions,
            )
        ),
        more=st.booleans(),
        next=_next,
    ),
    st.builds(
        wire.DevicesAnswer,
        ref=_words,
        devices=st.tuples(
            st.builds(Device, name=_words, cursor=_positions, seen=_positions, created=_positions, connected=st.booleans())
        ),
    ),
    st.builds(wire.Blocked, ref=_words, users=st.lists(_words, max_size=2).map(tuple)),
    st.builds(
        wire.PushAnswer,
        ref=_words,
        providers=st.tuples(st.builds(wire.PushProvider, name=_words, key=st.none() | _words)),
        targets=st.tuples(st.builds(wire.PushTarget, device=_words, provider=_words, kind=_words, registered=_positions)),
        muted=st.lists(_words, max_size=2).map(tuple),
        quiet=st.booleans(),
    ),
)


@given(_server_frames)
def test_server_frames_are_as_the_schema_says(frame: ServerFrame) -> None:
    """Else a client that validates refuses what the server sends: a null where the schema has a string, say."""
    SERVER.validate(json.loads(wire.encode(frame)))


# AsyncAPI


def test_the_asyncapi_document_is_valid() -> None:
    """Else the tools that are the reason for having it refuse it."""
    errors = [f"{error.json_path}: {error.message}" for error in Draft7Validator(OFFICIAL).iter_errors(ASYNCAPI)]
    assert not errors


def test_the_official_schema_finds_errors() -> None:
    """Else its references lead nowhere, and the test above passes whatever the document says."""
    official = Draft7Validator(OFFICIAL)
    wrong_binding = json.loads(json.dumps(ASYNCAPI))
    wrong_binding["channels"]["connection"]["bindings"]["ws"]["method"] = "PUT"
    wrong_action = json.loads(json.dumps(ASYNCAPI))
    wrong_action["operations"]["receiveSend"]["action"] = "take"
    assert not official.is_valid(wrong_binding)
    assert not official.is_valid(wrong_action)


def test_the_asyncapi_document_is_complete() -> None:
    """Else a reference in it leads nowhere, or a frame has no operation; a schema does not see either."""
    for reference in _references(ASYNCAPI):
        target: Any = ASYNCAPI
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    messages = ASYNCAPI["channels"]["connection"]["messages"]
    for action, union in (("receive", ClientFrame), ("send", ServerFrame)):
        operated = {
            reference.rpartition("/")[2]
            for operation in ASYNCAPI["operations"].values()
            if operation["action"] == action
            for reference in _references(operation["messages"])
        }
        assert operated <= messages.keys()
        titles = {ASYNCAPI["components"]["messages"][name]["title"] for name in operated}
        assert titles == {frame.__name__ for frame in get_args(union)}


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


# The text


def _blocks(info: str) -> Iterator[str]:
    yield from re.findall(rf"^```{info}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def _examples(side: str) -> Iterator[str]:
    """Every frame in the text's blocks of this kind, as it stands there."""
    decoder = json.JSONDecoder()
    for block in _blocks(f"json {side}"):
        rest = block.strip()
        while rest:
            _, end = decoder.raw_decode(rest)
            yield rest[:end]
            rest = rest[end:].strip()


def test_there_are_no_examples_that_nobody_checks() -> None:
    """Else an example of no side, or with its side misspelt, is not checked by the tests below."""
    assert set(re.findall(r"^```(json.*)$", TEXT, flags=re.MULTILINE)) == {"json client", "json server"}


def _conversations() -> Iterator[tuple[str, bool, str]]:
    """Where a frame of a conversation stands, whether it is the client's, and the frame: it may go on in the next line."""
    for block in fenced():
        if block.language == "text" and '{"type"' in block.text:
            whole = re.sub(r"\n {2,}(?=\S)", "", block.text)
            for line in whole.splitlines():
                if '{"type"' in line:
                    yield str(block), line[0] in "→>", line[2:]


CONVERSATIONS = list(_conversations())
REFUSED = ['{"type":"shout"}']
"""What a client says to see it refused."""


def test_there_are_conversations() -> None:
    """Else the next test looks at nothing, or at one page only."""
    assert {place.partition(":")[0] for place, _, _ in CONVERSATIONS} == {"protocol.md", "write-a-client.md"}
    assert {True, False} == {client for _, client, _ in CONVERSATIONS}


@pytest.mark.parametrize(("place", "client", "frame"), CONVERSATIONS)
def test_what_is_said_in_a_conversation_is_a_frame(place: str, client: bool, frame: str) -> None:
    """Else who builds a client by what two sides say to each other on a page sends, or waits for, what there is not."""
    assert accepted(frame.encode()) is (client and frame not in REFUSED)
    shown = json.loads(frame)
    assert (CLIENT if client else SERVER).is_valid(shown) is (frame not in REFUSED), place
    if not client:
        known = json.loads(msgspec.json.encode(wire.decode_server(frame.encode())))
        assert shown.keys() <= known.keys(), f"{place}: it says what no server does"


@pytest.mark.parametrize("frame", [*_examples("client")])
def test_client_examples_are_frames(frame: str) -> None:
    """Else who copies an example from the page is refused."""
    wire.decode(frame.encode(), text_bytes=TEXT_BYTES)
    CLIENT.validate(json.loads(frame))


@pytest.mark.parametrize("frame", [*_examples("server")])
def test_server_examples_are_frames(frame: str) -> None:
    """Else a client is built for frames that never come."""
    decoded = wire.decode_server(frame.encode())
    SERVER.validate(json.loads(frame))
    assert json.loads(wire.encode(decoded)) == json.loads(frame)
    if isinstance(decoded, wire.Error):
        code = ErrorCode(decoded.code)
        assert decoded.message == code.meaning
        assert (decoded.retry_after is not None) == code.retryable


def test_every_frame_has_an_example() -> None:
    """Else the author of a client must guess how a frame looks."""
    for side, union in (("client", ClientFrame), ("server", ServerFrame)):
        shown = {json.loads(frame)["type"] for frame in _examples(side)}
        assert shown == {frame.__struct_config__.tag for frame in get_args(union)}


def test_the_example_of_a_welcome_is_what_a_server_says() -> None:
    """Else the page shows features or limits that a server has not."""
    core = Core(Settings())
    core.handle(Connected(1, "bob", "phone"), 0.0)
    core.next_batch(0.0)
    effects = core.handle(Committed(Results(openings=(Opened("5fd90236b2f3e7a9-0", 41, 0, 38, new=False),))), 0.0)
    (welcome,) = [e.frame for e in effects if isinstance(e, Send) and isinstance(e.frame, wire.Welcome)]
    assert welcome in [wire.decode_server(frame.encode()) for frame in _examples("server")]


def test_the_session_by_hand_is_made_of_frames() -> None:
    """Else the session on the page is one with an older server, and who follows it sees something else."""
    lines = [line for block in _blocks("text") if block.startswith("$ python -m websockets") for line in block.splitlines()]
    received = [line.removeprefix("< ") for line in lines if line.startswith("< ")]
    sent = [line.removeprefix("> ") for line in lines if line.startswith("> ") and line != "> ^D"]
    for line in received:
        frame = wire.decode_server(line.encode())
        SERVER.validate(json.loads(line))
        assert json.loads(wire.encode(frame)) == json.loads(line)
        if isinstance(frame, wire.Welcome):
            assert frame.features == [name for name in wire.FEATURES if name not in wire.PUSH_FEATURES]
    assert [line for line in sent if not accepted(line.encode())] == ['{"type":"shout"}']
    closed = {int(code) for line in lines for code in re.findall(r"^Connection closed: (\d+)", line)}
    assert closed == {CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.REPLACED}


def test_every_code_is_in_the_catalogue() -> None:
    """Else a client meets a code that the page does not explain."""
    rows = {line.split(" | ")[0].removeprefix("| ").strip("`") for line in TEXT.splitlines() if line.startswith("| ")}
    assert {str(code) for code in ErrorCode} <= rows
    assert {str(int(code)) for code in CloseCode} <= rows


def test_what_each_error_says_of_a_message_is_said_twice_alike() -> None:
    """Else the rule [S5] and the catalogue contradict each other, and a message is lost or sent for ever."""
    (unknown,) = re.findall(r"^\| `error` (.*?) \| unknown \|", TEXT, flags=re.MULTILINE)
    (later,) = re.findall(r"^\| `error` (.*?) \| not stored by this attempt \|", TEXT, flags=re.MULTILINE)
    for fate, codes in (("unknown", unknown), ("later", later)):
        assert set(re.findall(r"`(\w+)`", codes)) == {str(code) for code in ErrorCode if code.fate.value == fate}


def test_every_rule_is_there() -> None:
    """Else a test or an issue refers to a rule that cannot be found."""
    defined = re.findall(r"^\*\*\[([A-Z]\d)\]\*\*", TEXT, flags=re.MULTILINE)
    assert len(defined) == len(set(defined))
    rules = "L1 L2 L3 L4 L5 L6 S1 S2 S3 S4 S5 S6 C1 C2 C3 C4 C5 C6 C7 C8 C9 A1 A2 A3 R1 R2 R3 R4 Q1 Q2 Q3 Q4 Q5 P1 P2 B1"
    assert set(defined) == {*rules.split(), "N1", "N2", "D1"}
    assert set(re.findall(r"\[([A-Z]\d)\]", TEXT)) == set(defined)


def test_the_retry_hint_has_the_form_that_the_page_gives() -> None:
    """Else clients find no pause in the reason of a 1001, and come back as a herd."""
    (form,) = re.findall(r"matches `(\^retry_after=.*?\$)`", TEXT)
    core = Core(Settings())
    core.handle(Drain(), 0.0)
    for connection in range(1, 1000):
        (close,) = core.handle(Connected(connection, "bob", "phone"), 0.0)
        assert isinstance(close, Close)
        found = re.fullmatch(form, close.reason)
        assert found is not None
        assert 0 < float(found[1]) <= Settings().retry_spread + 0.1
