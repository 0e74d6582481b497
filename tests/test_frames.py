"""The frames as types: what a client may leave out, what tells them apart, and that each says what answers it."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from msgspec import Struct

from trio_chat import frames, wire
from trio_chat.frames import WATCHED, ClientFrame, History, Receipt, Search, Send, ServerFrame, Watch
from trio_chat.retrieval import (
    ConversationsPage,
    ConversationsQuery,
    HistoryPage,
    HistoryQuery,
    SearchPage,
    SearchQuery,
)

CLIENT: list[type[Struct]] = list(get_args(ClientFrame))
SERVER: list[type[Struct]] = list(get_args(ServerFrame))


@pytest.mark.parametrize("frame", [*CLIENT, *SERVER], ids=lambda frame: frame.__name__)
def test_every_frame_is_frozen_tagged_and_described(frame: type[Struct]) -> None:
    """Else a frame that waits for one connection is changed by another, or has a name that nobody wrote down."""
    config = frame.__struct_config__
    assert config.frozen
    assert config.tag_field == "type"
    assert isinstance(config.tag, str)
    assert frame.__doc__
    assert frame.__name__ in frames.__all__
    assert getattr(wire, frame.__name__) is frame


@pytest.mark.parametrize("frame", CLIENT, ids=lambda frame: frame.__name__)
def test_what_a_client_sends_has_exactly_these_fields(frame: type[Struct]) -> None:
    """Else a field that is misspelt is passed over, and what its author meant does not happen."""
    assert frame.__struct_config__.forbid_unknown_fields


def test_no_two_frames_of_a_side_have_one_name() -> None:
    """Else the decoder cannot tell them apart, or a client answers to the wrong one."""
    for side in (CLIENT, SERVER):
        tags = [frame.__struct_config__.tag for frame in side]
        assert len(set(tags)) == len(tags)


@pytest.mark.parametrize(
    "frame",
    [frame for frame in CLIENT if "ref" in frame.__struct_fields__],
    ids=lambda frame: frame.__name__,
)
def test_a_request_has_an_answer_of_its_own_kind(frame: type[Struct]) -> None:
    """Else a client cannot tell which of the frames that come is the answer: each has the `ref`, or is a presence."""
    answers = {
        "blocks": "blocked", "block": "blocked", "unblock": "blocked", "remove_device": "devices", "watch": "presence",
        **dict.fromkeys(wire.PUSH_FEATURES, "push"),
    }  # fmt: skip
    tag = str(frame.__struct_config__.tag)
    (answer,) = [kind for kind in SERVER if kind.__struct_config__.tag == answers.get(tag, tag)]
    assert "ref" in answer.__struct_fields__ or answer is frames.Presence
    assert [field.name for field in msgspec.structs.fields(frame) if field.name == "ref" and field.required]


@pytest.mark.parametrize(
    ("frame", "query", "page"),
    [
        (History, HistoryQuery, HistoryPage),
        (Search, SearchQuery, SearchPage),
        (frames.Conversations, ConversationsQuery, ConversationsPage),
    ],
)
def test_a_question_on_the_wire_is_the_query_of_the_library(
    frame: type[Struct], query: type[Struct], page: type[Struct]
) -> None:
    """Else a client may ask for what the application cannot, or is told less."""
    assert issubclass(frame, query)
    assert set(frame.__struct_fields__) == {"ref", *query.__struct_fields__}
    tag = frame.__struct_config__.tag
    (answer,) = [kind for kind in SERVER if kind.__struct_config__.tag == tag]
    assert set(answer.__struct_fields__) == {"ref", *page.__struct_fields__}


def test_a_target_stands_in_no_log() -> None:
    """Else whoever reads a log can send a phone what they like."""
    assert "secret" not in repr(wire.PushRegister(ref="r", provider="fcm", kind="token", target="secret"))


def test_what_is_left_out_means_what_it_says() -> None:
    """Else a client of an earlier version is taken to ask for something it has never heard of."""
    assert Send(id="i", to="bob", text="hi").reply_to is None
    receipt = Receipt(peer="bob")
    assert (receipt.delivered, receipt.read) == (0, 0)
    assert History(ref="r") == History(ref="r", limit=50, unread=False, order=None)
    assert Watch(ref="r", users=()).users == ()
    assert WATCHED == 200
