# ruff: noqa: INP001  (docs are no package)
"""Writes what can be derived from the code into ``docs/protocol.md`` and ``docs/protocol/``.

Run it after a change of ``wire.py``, ``errors.py`` or a limit::

    python docs/generate_protocol.py

It writes ``frames.schema.json`` (JSON Schema 2020-12), ``asyncapi.json`` (AsyncAPI 3.0) and the tables in ``protocol.md``
that stand between ``<!-- generated: NAME -->`` and ``<!-- end -->``. The same code gives the same bytes. What code cannot
say, the meaning of each field, stands here, and a field that is not described is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from trio_chat import wire
from trio_chat.core.batch import Opened, Results
from trio_chat.core.effects import Send
from trio_chat.core.events import Committed, Connected
from trio_chat.core.machine import Core
from trio_chat.errors import CloseCode, ErrorCode, Fate
from trio_chat.model import MAX_SEQ
from trio_chat.settings import Settings

COMMAND: Final = "python docs/generate_protocol.py"
DOCS: Final = Path(__file__).parent
TEXT: Final = DOCS / "protocol.md"
SCHEMA: Final = DOCS / "protocol" / "frames.schema.json"
ASYNCAPI: Final = DOCS / "protocol" / "asyncapi.json"

_GENERATED: Final = f"Generated from trio_chat/wire.py by `{COMMAND}`; do not edit."

CLIENT: Final = ("Send", "Ack", "Typing", "Ping")
SERVER: Final = ("Welcome", "Messages", "Stored", "TypingFrom", "Gap", "Error", "Pong")
ITEMS: Final = ("Message", "StoredItem")

# Name in the schema: what it is, and what each field means.
FRAMES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "Send": (
        "Send a message. Answered by a `stored` item or an `error` with the same id.",
        {
            "id": "The message's id, chosen by the client: a UUID.",
            "to": "The recipient, a user.",
            "text": "The message. At most `limits.text_bytes` bytes of UTF-8; no NUL character.",
        },
    ),
    "Ack": (
        "This device holds every entry up to `seq` safely. Cumulative. Not answered unless it is refused.",
        {"seq": "A position in the user's log."},
    ),
    "Typing": (
        "The user is writing to somebody, or stopped. Ephemeral. Not answered.",
        {"to": "Who is to see it, a user.", "typing": "Whether the user is writing."},
    ),
    "Ping": ("Are you there? Answered by `pong`.", {}),
    "Welcome": (
        "The first frame of a connection: who the server takes the client for, and where the connection starts.",
        {
            "user": "The user this connection belongs to.",
            "device": "The device this connection belongs to.",
            "log": "Names the history that every `seq` counts in. Opaque; compare for equality only.",
            "head": "The last position of the log; 0 if it is empty.",
            "floor": "Entries up to this position are no longer held; 0 if all are.",
            "cursor": "Where this connection starts: the next entry it is sent is `cursor` + 1.",
            "new": "Whether the server sees this device for the first time.",
            "features": "The types of the frames that this server takes from a client.",
            "limits": "The server's limits by name.",
        },
    ),
    "Messages": (
        "Entries of the user's log, in ascending order, each at most once per connection.",
        {"messages": "One or more entries.", "head": "The last position of the log, as far as is known when this is sent."},
    ),
    "Message": (
        "An entry of a user's log: a message to or from that user.",
        {
            "seq": "Its position in the log of the user of this connection.",
            "id": "The id that the sender's client chose.",
            "from": "The user who sent it.",
            "to": "The user it was sent to.",
            "text": "The message; null if the text was removed later.",
            "sent_at": "When the server stored it, in Unix milliseconds. Never decreases within a log.",
            "kind": "What the entry is: `message`, in this version. [L5]",
        },
    ),
    "Stored": (
        "Messages of this connection are committed. Each item answers one `send`.",
        {"messages": "One or more items, one for each answered `send`."},
    ),
    "StoredItem": (
        "The answer to one `send`: the message is stored.",
        {
            "id": "The id of the `send`.",
            "seq": "Its position in the sender's own log.",
            "sent_at": "When the server stored it, in Unix milliseconds.",
        },
    ),
    "TypingFrom": (
        "A peer is writing to this user, or stopped. Ephemeral.",
        {"from": "The user who is writing.", "typing": "Whether that user is writing."},
    ),
    "Gap": (
        "Entries that this connection would have been sent are no longer held.",
        {"from": "The first position that is missing.", "to": "The last position that is missing."},
    ),
    "Error": (
        "Something the client sent is refused. The connection stays.",
        {
            "code": "One of the error codes; a server may have more.",
            "message": "For people; not to be parsed.",
            "id": "The id of the refused `send`, where one was readable.",
            "ref": "The `ref` of the refused request, where one was readable. No frame of this version has one.",
            "retry_after": "Seconds to wait before sending again. Given if and only if sending again makes sense.",
        },
    ),
    "Pong": ("The answer to `ping`.", {}),
}

TOLD: Final = {
    "frame_bytes": ("bytes", "A message from a client, all of the JSON text. A longer one ends the connection with 1009."),
    "text_bytes": ("bytes of UTF-8", "The `text` of a `send`, decoded. A longer one is refused with `too_large`."),
    "window": ("entries", "How many entries may be sent in `messages` frames and not yet acknowledged. [C6]"),
    "window_bytes": ("bytes", "The same in bytes; at least one entry is always sent. [C6]"),
    "ping_interval": ("seconds", "How long the server hears nothing before it sends a WebSocket ping."),
}
"""The limits that ``welcome`` names."""

UNTOLD: Final = {
    "send_rate": ("sends a second", "Per user, over all of the user's connections; then `rate_limited`."),
    "send_burst": ("sends", "How many a user may make at once."),
    "frame_rate": (
        "frames a second",
        "Of any type, per user, over all connections; more are read later. [C9]",
    ),
    "bad_frames": (
        "a minute",
        "Refused frames (`bad_frame`, `too_large`) per user, over all of the user's connections; then 4429. [C9]",
    ),
    "user_connections": ("connections", "Per user, those that only send included; a further one is closed with 1008."),
    "server_frame_bytes": ("bytes", "Where a `messages` or `stored` frame ends; a single entry may exceed it. [C6]"),
    "fragments": ("fragments", "Per WebSocket message; then 1008."),
    "message_seconds": ("seconds", "From the first byte of a WebSocket message to its last; then 1008."),
    "handshake_timeout": ("seconds", "TLS, HTTP request and authentication together; then the connection is dropped."),
    "ping_timeout": ("seconds", "After an unanswered ping; then 4408."),
    "write_timeout": ("seconds", "For the client to take 16 KiB; then the connection is dropped."),
    "retry_spread": ("seconds", "The pause asked for in a 1001 or 1011 is at most about this long."),
    "devices": ("devices", "Remembered per user, and connected at once; then 1008. [C2]"),
    "new_devices": ("an hour", "New device names per user; then 4429. [C2]"),
    "mailbox": ("messages", "Not yet delivered to any device of a user; then its senders get `mailbox_full`."),
    "mailbox_bytes": ("bytes", "The same in bytes."),
}
"""Limits that a client may meet and is not told of."""

ANSWERS: Final = {
    ErrorCode.BAD_FRAME: "any frame",
    ErrorCode.TOO_LARGE: "`send`",
    ErrorCode.ID_CONFLICT: "`send`",
    ErrorCode.NOT_ALLOWED: "`send`",
    ErrorCode.CURSOR_AHEAD: "`ack`",
    ErrorCode.BAD_QUERY: "nothing yet",
    ErrorCode.RATE_LIMITED: "`send`",
    ErrorCode.STORE_FULL: "`send`",
    ErrorCode.MAILBOX_FULL: "`send`",
    ErrorCode.STORE_UNAVAILABLE: "`send`",
    ErrorCode.OVERLOADED: "`send`",
    ErrorCode.INTERNAL: "`send`",
}
FATES: Final = {
    Fate.UNKNOWN: "**unknown**: send the same id again after `retry_after`",
    Fate.LATER: "**not stored** by this attempt: send the same id again after `retry_after`",
    Fate.NEVER: "**not stored**: do not send it again",
}


# The schema


def schema() -> dict[str, Any]:
    """The JSON Schema of all frames."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:trio-chat:wire:v1",
        "$comment": _GENERATED,
        "title": "trio-chat frames, version 1",
        "description": (
            "Each WebSocket text message is one of these. Client frames are closed: what is not described here is refused. "
            "Server frames are open: a client ignores fields and types it does not know. A schema cannot say: that text is "
            "limited in bytes, that no field may be repeated, that there are no lone surrogates, and that integers are "
            "written without fraction and exponent."
        ),
        "anyOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": _definitions("#/$defs/"),
    }


def _definitions(prefix: str) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([wire.ClientFrame, wire.ServerFrame], ref_template=prefix + "{name}")
    if components.keys() != FRAMES.keys():
        raise ValueError(f"described and existing frames differ: {sorted(components.keys() ^ FRAMES.keys())}")
    return {
        "ClientFrame": {
            "title": "ClientFrame",
            "description": "What a client sends.",
            "oneOf": [{"$ref": prefix + name} for name in CLIENT],
        },
        "ServerFrame": {
            "title": "ServerFrame",
            "description": "What a server sends. It may also send types that are not listed here; a client ignores them.",
            "oneOf": [{"$ref": prefix + name} for name in SERVER],
        },
        **{name: _object(name, components[name]) for name in (*CLIENT, *SERVER, *ITEMS)},
    }


def _object(name: str, component: Mapping[str, Any]) -> dict[str, Any]:
    description, fields = FRAMES[name]
    properties = dict(component["properties"])
    result: dict[str, Any] = {"title": name, "description": description, "type": "object", "properties": {}}
    if tag := properties.pop("type", None):
        result["properties"]["type"] = {"const": tag["enum"][0]}
    if properties.keys() != fields.keys():
        raise ValueError(f"described and existing fields of {name} differ: {sorted(properties.keys() ^ fields.keys())}")
    for field, meaning in fields.items():
        result["properties"][field] = {"description": meaning, **_value(properties[field])}
    if name == "Send":  # this one rule is the decoder's, not msgspec's
        result["properties"]["text"]["not"] = {"pattern": r"\x00"}
    result["required"] = component["required"]
    if name == "Message":  # wire.py takes an entry without a kind, and sends none
        del result["properties"]["kind"]["default"]
        result["required"] = [*result["required"], "kind"]
    if name in CLIENT:
        if component["additionalProperties"] is not False:
            raise ValueError(f"{name} would take unknown fields")
        result["additionalProperties"] = False
    return result


def _value(value: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one field: msgspec's, in the words that all drafts and all languages share."""
    result = dict(value)
    if result.get("default", ...) is None:  # left out, never null
        del result["default"]
        (result,) = [dict(one) for one in result["anyOf"] if one != {"type": "null"}]
    if "anyOf" in result:
        result["type"] = [one["type"] for one in result.pop("anyOf")]
    if "pattern" in result:
        result["not"] = {"pattern": _forbidden(result.pop("pattern"))}
    if result.get("type") == "integer":  # sent by this server, too, it is one that every JSON parser reads exactly
        result = {**result, "minimum": result.get("minimum", 0), "maximum": result.get("maximum", MAX_SEQ)}
    return result


def _forbidden(pattern: str) -> str:
    r"""What a Python pattern ``\A[^…]*\Z`` forbids, as a regular expression of ECMA-262.

    Not ``^[^…]*$``: before a line feed at the end of a string, ``$`` matches in Python and Perl, and not in ECMA-262.
    """
    found = re.fullmatch(r"\\A\[\^((?:\\x[0-9a-f]{2}|-)+)\]\*\\Z", pattern)
    if found is None:
        raise ValueError(f"no translation is known for the pattern {pattern}")
    return f"[{found[1]}]"


# AsyncAPI


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document: the server's view, complete in itself."""
    schemas = _definitions("#/components/schemas/")
    names = {name: _message_name(name) for name in (*CLIENT, *SERVER)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "trio-chat",
            "version": "1",
            "description": (
                "One WebSocket per device; each text message is one JSON object. This document lists the frames; what they "
                f"mean and when they are sent is said in docs/protocol.md. {_GENERATED}"
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "demo": {"host": "127.0.0.1:6662", "protocol": "ws", "description": "What `trio-chat serve --demo` runs."},
        },
        "channels": {
            "connection": {
                "address": "/ws",
                "description": "The connection of one device.",
                "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in names.values()},
                "bindings": {"ws": _binding()},
            }
        },
        "operations": _operations(names),
        "components": {
            "messages": {
                message: {
                    "name": schemas[name]["properties"]["type"]["const"],
                    "title": name,
                    "summary": FRAMES[name][0],
                    "payload": {"$ref": f"#/components/schemas/{name}"},
                }
                for name, message in names.items()
            },
            "schemas": schemas,
        },
    }


def _message_name(name: str) -> str:
    return name[0].lower() + name[1:]


def _binding() -> dict[str, Any]:
    return {
        "method": "GET",
        "query": {
            "type": "object",
            "description": "Each at most once. An application may ask for more, for example for who the user is.",
            "properties": {
                "device": {"type": "string", "description": "Names the device; read by the application's authenticator."},
                "log": {"type": "string", "description": "The log in which `after` counts; goes with `after`."},
                "after": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": MAX_SEQ,
                    "description": "The client holds every entry up to this one; goes with `log`.",
                },
                "window": {"const": "0", "description": "Makes the connection send-only."},
            },
            "dependencies": {"log": ["after"], "after": ["log"]},
        },
        "headers": {
            "type": "object",
            "properties": {
                "Sec-WebSocket-Protocol": {
                    "const": wire.SUBPROTOCOL,
                    "description": "Optional. Several may be offered; the server chooses this one.",
                },
            },
        },
        "bindingVersion": "0.1.0",
    }


def _operations(names: Mapping[str, str]) -> dict[str, Any]:
    channel = {"$ref": "#/channels/connection"}

    def messages(*frames: str) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/connection/messages/{names[frame]}"} for frame in frames]

    replies = {"Send": ("Stored", "Error"), "Ack": ("Error",), "Typing": ("Error",), "Ping": ("Pong",)}
    operations: dict[str, Any] = {}
    for frame in CLIENT:
        operations[f"receive{frame}"] = {
            "action": "receive",
            "channel": channel,
            "summary": FRAMES[frame][0],
            "messages": messages(frame),
            "reply": {"channel": channel, "messages": messages(*replies[frame])},
        }
    for frame in SERVER:
        operations[f"send{frame}"] = {
            "action": "send",
            "channel": channel,
            "summary": FRAMES[frame][0],
            "messages": messages(frame),
        }
    return operations


# The tables in the text


def tables() -> dict[str, str]:
    """What stands between the markers of ``protocol.md``, by name."""
    definitions = _definitions("#/$defs/")
    return {
        **{f"frame {name}": _fields(definitions[name]) for name in FRAMES if FRAMES[name][1]},
        "limits told": _limits(_told()),
        "limits untold": _limits({name: getattr(Settings(), name) for name in UNTOLD}),
        "error codes": _error_codes(),
        "close codes": _close_codes(),
    }


def _fields(definition: Mapping[str, Any]) -> str:
    rows = []
    for field, value in definition["properties"].items():
        if field == "type":
            continue
        optional = "" if field in definition["required"] else " Optional."
        rows.append((f"`{field}`", _type(value), value["description"] + optional))
    return _table(("field", "type", "meaning"), rows)


def _type(value: Mapping[str, Any]) -> str:
    kind = value["type"]
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {value['items'].get('type', 'item')}s"
    if kind == "object":
        return f"object of {value['additionalProperties']['type']}s"
    if kind == "string" and "maxLength" in value:
        controls = ", no control characters" if "not" in value else ""
        return f"string, {value['minLength']}–{value['maxLength']} characters{controls}"
    if kind == "string" and "minLength" in value:
        return "string, not empty"
    return str(kind)


def _told() -> dict[str, float]:
    """The limits of a ``welcome``, asked of a core."""
    core = Core(Settings())
    core.handle(Connected(1, "alice", "web"), 0.0)
    core.next_batch(0.0)
    effects = core.handle(Committed(Results(openings=(Opened("log", 0, 0, 0, new=True),))), 0.0)
    (limits,) = [e.frame.limits for e in effects if isinstance(e, Send) and isinstance(e.frame, wire.Welcome)]
    if limits.keys() != TOLD.keys():
        raise ValueError(f"described limits and those of a welcome differ: {sorted(limits.keys() ^ TOLD.keys())}")
    return limits


def _limits(values: Mapping[str, float]) -> str:
    meanings = {**TOLD, **UNTOLD}
    rows = []
    for name, value in values.items():
        unit, meaning = meanings[name]
        rows.append((f"`{name}`", f"{value:,.12g} {unit}", meaning))
    return _table(("limit", "default", "meaning"), rows)


def _error_codes() -> str:
    rows = [
        (
            f"`{code}`",
            ANSWERS[code],
            FATES[code.fate] if ANSWERS[code] in ("`send`", "any frame") else "–",
            code.meaning,
        )
        for code in ErrorCode
    ]
    return _table(("code", "answers", "what it says about the message", "meaning"), rows)


def _close_codes() -> str:
    rows = [(str(int(code)), "reconnect" if code.reconnect else "do not", code.meaning) for code in CloseCode]
    return _table(("code", "then", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, tuple("---" for _ in head), *rows)]
    return "\n".join(lines)


# Putting it there


def filled(text: str) -> str:
    """`text` with every generated part made anew.

    Raises:
        ValueError: a part is missing, or is none of ours.
    """
    parts = tables()
    seen = []

    def replaced(found: re.Match[str]) -> str:
        seen.append(found[1])
        if found[1] not in parts:
            raise ValueError(f"nothing is generated under the name {found[1]!r}")
        return f"<!-- generated: {found[1]} -->\n\n{parts[found[1]]}\n\n<!-- end -->"

    result = re.sub(r"<!-- generated: (.*?) -->.*?<!-- end -->", replaced, text, flags=re.DOTALL)
    if sorted(seen) != sorted(parts):
        raise ValueError(f"the text lacks or repeats {sorted(parts.keys() ^ set(seen)) or seen}")
    return result


def outputs() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    return {
        TEXT: filled(TEXT.read_text(encoding="utf-8")),
        SCHEMA: _json(schema()),
        ASYNCAPI: _json(asyncapi()),
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    for path, content in outputs().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
