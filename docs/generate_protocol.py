# ruff: noqa: INP001  (docs are no package)
"""Writes what can be derived from the code into ``docs/protocol.md`` and ``docs/protocol/``.

Run it after a change of ``frames.py``, ``errors.py`` or a limit::

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
from typing import Any, Final, get_args

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

_GENERATED: Final = f"Generated from trio_chat/frames.py by `{COMMAND}`; do not edit."

CLIENT: Final = tuple(frame.__name__ for frame in get_args(wire.ClientFrame))
PUSH: Final = tuple(frame.__name__ for frame in get_args(wire.PushRequest))
SERVER: Final = tuple(frame.__name__ for frame in get_args(wire.ServerFrame))
ITEMS: Final = ("Message", "StoredItem", "SearchHit", "Conversation", "Device", "PushProvider", "PushTarget")

_ID: Final = "The id of this entry, chosen by the client: a UUID."
_TO: Final = "The other user of the conversation, to whom `target` was sent."
_TARGET: Final = "The id of the message of this user's that is meant."
_REF: Final = "Names this request; its answer has the same."
_ANSWERS_REF: Final = "The `ref` of the request."
_BEFORE: Final = "Only what lies below this position: the `next` of the page before."
_MORE: Final = "Whether there is more in this direction."

# Name in the schema: what it is, and what each field means.
FRAMES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "Send": (
        "Send a message. Answered by a `stored` item or an `error` with the same id.",
        {
            "id": "The message's id, chosen by the client: a UUID.",
            "to": "The recipient, a user.",
            "text": "The message. At most `limits.text_bytes` bytes of UTF-8; no NUL character.",
            "reply_to": (
                "The id of the message of this conversation that this one answers: the recipient's of that id, or "
                "else one's own."
            ),
        },
    ),
    "Edit": (
        "Replace the text of a message of one's own. Answered as `send`.",
        {
            "id": _ID,
            "to": _TO,
            "target": _TARGET,
            "text": "The new text. At most `limits.text_bytes` bytes of UTF-8; no NUL character.",
        },
    ),
    "Delete": (
        "Delete the text of a message of one's own, and of its edits, for everybody. Answered as `send`.",
        {"id": _ID, "to": _TO, "target": _TARGET},
    ),
    "Ack": (
        "This device holds every entry up to `seq` safely. Cumulative. Not answered unless it is refused.",
        {"seq": "A position in the user's log."},
    ),
    "Read": (
        "The user has read a peer's messages up to `seq`. Not answered unless it is refused.",
        {"peer": "Whose messages, a user.", "seq": "A position in the log of the user who reads."},
    ),
    "Typing": (
        "The user is writing to somebody, or stopped. Ephemeral. Not answered.",
        {"to": "Who is to see it, a user.", "typing": "Whether the user is writing."},
    ),
    "Watch": (
        (
            "Whose presence to follow on this connection, in place of whom it followed before. Answered by a "
            "`presence` for each."
        ),
        {
            "ref": "Names this request: an `error` has the same, a `presence` has none.",
            "users": "At most 200; none ends it.",
        },
    ),
    "History": (
        "Retrieve chosen messages of the user's log, as they are now. Answered by `history`.",
        {
            "ref": _REF,
            "peer": "Only the conversation with this user.",
            "before": "Only what lies below this position.",
            "after": "Only what lies above this position.",
            "around": "This position, and up to `limit` messages on each side of it.",
            "since": "Only what was sent at this time or later, in Unix milliseconds.",
            "until": "Only what was sent before this time, in Unix milliseconds.",
            "ids": "Only messages with one of these ids, whoever of the two sent them.",
            "unread": "Only what others have sent beyond the read mark, and has not been deleted. [R4]",
            "direction": "`in`: only what others have sent; `out`: only one's own.",
            "order": (
                "`desc`: the newest first; `asc`: the oldest first. If it is left out: `asc` if `after` is given and "
                "`before` is not, else `desc`."
            ),
            "limit": "At most so many messages.",
        },
    ),
    "Search": (
        "Find messages of the user's log by their words. Answered by `search`.",
        {
            "ref": _REF,
            "query": (
                "Words; the message has all of them, and the last may be the beginning of one. Nothing in it is an operator."
            ),
            "peer": "Only the conversation with this user.",
            "before": _BEFORE,
            "limit": "At most so many messages.",
        },
    ),
    "Conversations": (
        "List the user's conversations, the one with the latest entry first. Answered by `conversations`.",
        {"ref": _REF, "before": _BEFORE, "limit": "At most so many conversations."},
    ),
    "Devices": ("List the devices that the server remembers of the user. Answered by `devices`.", {"ref": _REF}),
    "RemoveDevice": (
        "Forget a device of the user's, and close its connection with 4401. Answered by `devices`: those that are left.",
        {"ref": _REF, "device": "The name of the device."},
    ),
    "Block": (
        "Hear no more of a user, who cannot tell. Answered by `blocked`.",
        {"ref": _REF, "user": "Of whom, a user."},
    ),
    "Unblock": (
        "Hear of a user again, from now on. Answered by `blocked`.",
        {"ref": _REF, "user": "Of whom, a user."},
    ),
    "Blocks": ("List whom the user blocks. Answered by `blocked`.", {"ref": _REF}),
    "PushRegister": (
        "The device of this connection can be reached there while it is away. Answered by `push`.",
        {
            "ref": _REF,
            "provider": "Through whom: the `name` of one of the providers that a `push` lists.",
            "kind": "What the target is to that provider.",
            "target": "Where. A secret of this device's; nobody is told it again.",
        },
    ),
    "PushUnregister": (
        "The device of this connection is not to be reached so any more. Answered by `push`.",
        {"ref": _REF, "provider": "Not through this one; if it is left out, through none."},
    ),
    "PushQuestion": ("How can devices be reached, and what has the user said about it? Answered by `push`.", {"ref": _REF}),
    "Mute": (
        "Do not tell the user's devices of somebody's messages while they are away. Answered by `push`.",
        {"ref": _REF, "user": "Of whose, a user."},
    ),
    "Unmute": ("Tell them again. Answered by `push`.", {"ref": _REF, "user": "Of whose, a user."}),
    "Quiet": (
        "Tell the user's devices of nothing while they are away, or do so again. Answered by `push`.",
        {"ref": _REF, "quiet": "Whether they are to be told of nothing."},
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
        "An entry of a user's log: a message to or from that user, or an edit or a deletion of one.",
        {
            "seq": "Its position in the log of the user of this connection.",
            "id": "The id that the sender's client chose.",
            "from": "The user who sent it.",
            "to": "The user it was sent to.",
            "text": "The text; null if it was deleted, and for a deletion.",
            "sent_at": "When the server stored it, in Unix milliseconds. Never decreases within a log.",
            "kind": (
                "What the entry is: `message`, `edit` or `delete`; a later server may have more. `message` is left out. [L5]"
            ),
            "reply_to": "Of a message: the id of the message of the same conversation that it answers.",
            "target": "Of an edit or a deletion: the id of the sender's message that it is about.",
            "edit_seq": "Only in answers to queries: the position of the edit that the text is from.",
            "edited_at": "Only in answers to queries: when that edit was stored, in Unix milliseconds.",
            "deleted": "Only in answers to queries: whether the text was deleted. `false` is left out.",
        },
    ),
    "Stored": (
        "What this connection sent is committed. Each item answers one `send`, `edit` or `delete`.",
        {"messages": "One or more items, one for each."},
    ),
    "StoredItem": (
        "The answer to one `send`, `edit` or `delete`: it is stored.",
        {
            "id": "The id of what was sent.",
            "seq": "Its position in the sender's own log.",
            "sent_at": "When the server stored it, in Unix milliseconds.",
            "text": "What is stored, if the application has changed what was sent; else left out.",
        },
    ),
    "Receipt": (
        "How far a peer is with this user's messages. Marks only ever rise: who gets a lower one keeps the higher.",
        {
            "peer": "The peer.",
            "delivered": (
                "A device of the peer's has every message of this user's to the peer up to this position of this "
                "user's log. Left out if there is nothing new."
            ),
            "read": "The peer has read them up to this position of this user's log. Left out if there is nothing new.",
        },
    ),
    "ReadElsewhere": (
        "The user has read a peer's messages up to `seq` on another device, or in the application.",
        {"peer": "Whose messages.", "seq": "A position in this user's log."},
    ),
    "TypingFrom": (
        "A peer is writing to this user, or stopped. Ephemeral.",
        {"from": "The user who is writing.", "typing": "Whether that user is writing."},
    ),
    "Presence": (
        "Whether somebody whom this connection watches is there.",
        {
            "user": "Who.",
            "online": "Whether a device of that user's is connected.",
            "last_seen": (
                "When a device of that user's was last seen, in Unix milliseconds; null while the user is online, and"
                " if it is not known or not to be known."
            ),
        },
    ),
    "HistoryAnswer": (
        "The answer to `history`.",
        {
            "ref": _ANSWERS_REF,
            "messages": "The messages, as they are now, in the order that was asked for.",
            "more": _MORE,
            "next": (
                "If there is more: what goes into `before` (`desc`) or `after` (`asc`, and `around`) of the next "
                "request. Else null."
            ),
        },
    ),
    "SearchAnswer": (
        "The answer to `search`.",
        {
            "ref": _ANSWERS_REF,
            "hits": "What was found, the newest first; an edited message counts as of its edit.",
            "more": _MORE,
            "next": "If there is more: what goes into `before` of the next request. Else null.",
        },
    ),
    "SearchHit": (
        "A message that was found.",
        {
            "message": "The message, as it is now.",
            "snippet": (
                "A part of its text, in pieces to be put one behind the other: every second one, from the second, matches."
            ),
        },
    ),
    "ConversationsAnswer": (
        "The answer to `conversations`.",
        {
            "ref": _ANSWERS_REF,
            "conversations": "The conversations, the one with the latest entry first.",
            "more": _MORE,
            "next": "If there is more: what goes into `before` of the next request. Else null.",
        },
    ),
    "Conversation": (
        "The user's conversation with a peer. All positions are of the log of the user who asks; 0 is *not at all*.",
        {
            "peer": "The peer; the user's own name for notes to oneself.",
            "last": "Its newest message, as it is now; null if none is held.",
            "unread": (
                "How many messages of the peer's the user has not read, up to 1,000, which means that many or more. [R4]"
            ),
            "delivered": "Up to where the peer has the user's messages. [R2]",
            "read": "Up to where the peer has read them.",
            "own_delivered": "Up to where the user has the peer's messages.",
            "own_read": "Up to where the user has read them.",
        },
    ),
    "DevicesAnswer": (
        "The answer to `devices` and `remove_device`.",
        {"ref": _ANSWERS_REF, "devices": "The devices that the server remembers of the user, by name."},
    ),
    "Device": (
        "A device that the server remembers.",
        {
            "name": "The device's name.",
            "cursor": "It has every entry up to this position.",
            "seen": "When it last acknowledged or left, in Unix milliseconds.",
            "created": "When it first connected, in Unix milliseconds.",
            "connected": "Whether it is connected now.",
        },
    ),
    "Blocked": (
        "The answer to `block`, `unblock` and `blocks`. One frame, however many there are.",
        {"ref": _ANSWERS_REF, "users": "Whom the user blocks now, by name."},
    ),
    "PushAnswer": (
        "The answer to the requests about push. One frame, however much it is.",
        {
            "ref": _ANSWERS_REF,
            "providers": "Through whom devices can be reached.",
            "targets": "Where the user's devices can be, all of them, in the order of their names.",
            "muted": "Of whose messages they are not told, by name.",
            "quiet": "Whether they are told of nothing.",
        },
    ),
    "PushProvider": (
        "A push provider.",
        {"name": "Its name.", "key": "For Web Push: the `applicationServerKey` that a browser subscribes with."},
    ),
    "PushTarget": (
        "Where a device can be reached, without what is secret of it.",
        {
            "device": "The name of the device.",
            "provider": "Through whom.",
            "kind": "What the target is to that provider.",
            "registered": "When it was last registered, in Unix milliseconds.",
        },
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
            "id": "The id of the refused `send`, `edit` or `delete`, where one was readable.",
            "ref": "The `ref` of the refused request, where one was readable.",
            "retry_after": "Seconds to wait before sending again. Given if and only if sending again makes sense.",
        },
    ),
    "Pong": ("The answer to `ping`.", {}),
}

TOLD: Final = {
    "frame_bytes": ("bytes", "A message from a client, all of the JSON text. A longer one ends the connection with 1009."),
    "text_bytes": (
        "bytes of UTF-8",
        "The `text` of a `send` or an `edit`, decoded. A longer one is refused with `too_large`.",
    ),
    "window": ("entries", "How many entries may be sent in `messages` frames and not yet acknowledged. [C6]"),
    "window_bytes": ("bytes", "The same in bytes; at least one entry is always sent. [C6]"),
    "ping_interval": ("seconds", "How long the server hears nothing before it sends a WebSocket ping."),
}
"""The limits that ``welcome`` names."""

UNTOLD: Final = {
    "send_rate": ("sends a second", "`send`, `edit` and `delete`, per user, over all connections; then `rate_limited`."),
    "send_burst": ("sends", "How many a user may make at once."),
    "byte_rate": ("bytes of text a second", "Of what a user sends; then `rate_limited`."),
    "byte_burst": ("bytes of text", "How many a user may send at once."),
    "request_rate": ("requests a second", "Frames with a `ref`, per user, over all connections; then `rate_limited`."),
    "request_burst": ("requests", "How many a user may make at once."),
    "queries": ("requests", "Of a connection, that may wait while one is answered; then `overloaded`. [Q1]"),
    "blocks": ("users", "Whom one user may block, and may mute; then `not_allowed`."),
    "presence_delay": ("seconds", "From the end of a user's last connection until watchers are told."),
    "refusals": (
        "a minute",
        "Sends and requests refused for want of patience, per user, over all of the user's connections; then 4429. [C9]",
    ),
    "frame_rate": (
        "frames a second",
        "Of any type, per user, over all connections; more are read later. [C9]",
    ),
    "bad_frames": (
        "a minute",
        (
            "Refused frames (`bad_frame`, `too_large`, contradictory queries) per user, over all of the user's "
            "connections; then 4429. [C9]"
        ),
    ),
    "user_connections": ("connections", "Per user, those that only send included; a further one is closed with 1008."),
    "server_frame_bytes": (
        "bytes",
        "Where a `messages`, `stored`, `history`, `search` or `conversations` frame ends; a single item may exceed it. [C6]",
    ),
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

_DRAFTS: Final = "`send`, `edit`, `delete`"
ANSWERS: Final = {
    ErrorCode.BAD_FRAME: "any frame",
    ErrorCode.TOO_LARGE: "`send`, `edit`",
    ErrorCode.ID_CONFLICT: _DRAFTS,
    ErrorCode.NOT_ALLOWED: "`send`, `block`, requests about push",
    ErrorCode.CURSOR_AHEAD: "`ack`, `read`",
    ErrorCode.BAD_QUERY: f"{_DRAFTS}, requests",
    ErrorCode.RATE_LIMITED: f"{_DRAFTS}, requests",
    ErrorCode.STORE_FULL: f"{_DRAFTS}, requests that change something",
    ErrorCode.MAILBOX_FULL: _DRAFTS,
    ErrorCode.STORE_UNAVAILABLE: f"{_DRAFTS}, requests",
    ErrorCode.OVERLOADED: f"{_DRAFTS}, `read`, requests",
    ErrorCode.INTERNAL: f"{_DRAFTS}, requests",
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
            "limited in bytes, that no field may be repeated, that there are no lone surrogates, that integers are "
            "written without fraction and exponent, and which fields of a history exclude one another."
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
    if name in ("Send", "Edit"):  # this one rule is the decoder's, not msgspec's
        result["properties"]["text"]["not"] = {"pattern": r"\x00"}
    result["required"] = component["required"]
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
    if "anyOf" in result:  # a value or null
        (other,) = [_value(one) for one in result.pop("anyOf") if one != {"type": "null"}]
        if "$ref" in other:
            return {**result, "oneOf": [other, {"type": "null"}]}
        result = {**other, **result, "type": [other["type"], "null"]}
    if "$ref" in result and "default" not in result:
        return result
    if "items" in result:
        result["items"] = _value(result["items"])
    if "pattern" in result:
        result["not"] = {"pattern": _forbidden(result.pop("pattern"))}
    if "enum" in result:
        result = {"type": "string", **result}
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

    replies = {
        **dict.fromkeys(("Send", "Edit", "Delete"), ("Stored", "Error")),
        **dict.fromkeys(("Ack", "Read", "Typing"), ("Error",)),
        **{name: (f"{name}Answer", "Error") for name in ("History", "Search", "Conversations", "Devices")},
        **dict.fromkeys(("Block", "Unblock", "Blocks"), ("Blocked", "Error")),
        **dict.fromkeys(PUSH, ("PushAnswer", "Error")),
        "RemoveDevice": ("DevicesAnswer", "Error"),
        "Watch": ("Presence", "Error"),
        "Ping": ("Pong",),
    }
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
        optional = "" if field in definition["required"] else _optional(value)
        rows.append((f"`{field}`", _type(value), value["description"] + optional))
    return _table(("field", "type", "meaning"), rows)


def _optional(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    return f" Optional: {default} if left out." if type(default) is int and default else " Optional."


def _type(value: Mapping[str, Any]) -> str:
    if "$ref" in value or "oneOf" in value:
        return "item" if "$ref" in value else "item or null"
    kind = value["type"]
    if "enum" in value or isinstance(kind, list):
        return " or ".join([f"`{one}`" for one in value["enum"]] if "enum" in value else kind)
    if kind == "integer" and value.get("default"):
        return f"integer, {value['minimum']}–{value['maximum']}"
    if kind == "array":
        most = f", at most {value['maxItems']}" if "maxItems" in value else ""
        return f"list of {value['items'].get('type', 'item')}s{most}"
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
            FATES[code.fate] if "send" in ANSWERS[code] or "any" in ANSWERS[code] else "–",
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
