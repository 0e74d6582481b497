"""Notifications that are made to fit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from trio_chat.push.base import Notification
from trio_chat.push.documents import fitted, from_json

from .far import HELLO


def document(notification: Notification) -> dict[str, Any]:
    return msgspec.to_builtins(notification)  # type: ignore[no-any-return]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(TEXTS, TEXTS, TEXTS, st.integers(500, 2000))
def test_it_fits_whatever_it_says(title: str, body: str, text: str, limit: int) -> None:
    """Else a long message, or one that JSON makes longer, is refused by the provider and nobody hears of it."""
    notification = msgspec.structs.replace(HELLO, title=title, body=body, text=text)
    encoded = fitted(notification, limit, document)
    assert len(encoded) <= limit
    got = json.loads(encoded)
    assert got["text"] in (text, None)
    for whole, part in ((title, got["title"]), (body, got["body"])):
        assert part == whole or part == "" or (part.endswith("…") and whole.startswith(part[:-1]))
    if len(json.dumps(document(notification), ensure_ascii=False, separators=(",", ":")).encode()) <= limit:
        assert (got["title"], got["body"], got["text"]) == (title, body, text)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 10_000, b"\xff", b'{"a":"s3cret"}', b"null"])
def test_what_is_no_such_document(data: bytes) -> None:
    """Else an answer that is none ends the task that sends, or a log shows what stands in it."""

    class Shape(Struct):
        a: int

    with pytest.raises(ValueError, match=r".") as refusal:
        from_json(data, Shape)
    assert "s3cret" not in str(refusal.value)
