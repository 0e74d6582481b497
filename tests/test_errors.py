"""The catalogue of errors and close codes: complete, and each in its class."""

from __future__ import annotations

import pytest

from trio_chat import errors
from trio_chat.errors import ChatError, CloseCode, ErrorCode, Fate, InvalidFrame, Refused, StoreError, StoreLocked


@pytest.mark.parametrize(
    ("fate", "codes"),
    [
        (Fate.UNKNOWN, {"store_unavailable", "overloaded", "internal"}),
        (Fate.LATER, {"rate_limited", "store_full", "mailbox_full"}),
        (Fate.NEVER, {"bad_frame", "too_large", "id_conflict", "not_allowed", "cursor_ahead", "bad_query"}),
    ],
)
def test_what_a_code_says_about_the_message(fate: Fate, codes: set[str]) -> None:
    """Else a client gives a message up that may not be stored, or sends one for ever that is always refused (S5)."""
    assert {str(code) for code in ErrorCode if code.fate is fate} == codes
    assert {str(code) for code in ErrorCode if code.retryable and code.fate is fate} == (codes if fate != "never" else set())


@pytest.mark.parametrize(
    ("reconnect", "codes"),
    [
        (True, {1001, 1011, 4408}),
        (False, {1000, 1002, 1007, 1008, 1009, 4401, 4409, 4429}),
    ],
)
def test_whether_to_reconnect(reconnect: bool, codes: set[int]) -> None:
    """Else clients stay away after a restart, or two of them replace one another for ever."""
    assert {int(code) for code in CloseCode if code.reconnect is reconnect} == codes


def test_every_code_is_explained() -> None:
    """Else the catalogue in the documentation has a hole."""
    for code in (*ErrorCode, *CloseCode):
        assert code.meaning.endswith(".")


def test_codes_are_what_travels() -> None:
    """Else a frame carries the name of an enum's member instead of the code, and a client cannot look one up."""
    for code in ErrorCode:
        assert f"{code}" == str(code) == code.value
        assert ErrorCode(code.value) is code
    for close in CloseCode:
        assert CloseCode(int(close)) is close


def test_every_exception_is_one_of_ours() -> None:
    """Else `except ChatError` lets one of them out."""
    raised = [thing for name in errors.__all__ if isinstance(thing := getattr(errors, name), type)]
    ours = [kind for kind in raised if issubclass(kind, Exception)]
    assert len(ours) == len(raised) - 3  # the others are the enums
    assert all(issubclass(kind, ChatError) for kind in ours)
    assert set(errors.__all__) == {
        name for name, thing in vars(errors).items() if getattr(thing, "__module__", "") == errors.__name__
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.StoreError, ErrorCode.INTERNAL),
        (errors.StoreFull, ErrorCode.STORE_FULL),
        (errors.StoreBusy, ErrorCode.OVERLOADED),
        (errors.StoreUnavailable, ErrorCode.STORE_UNAVAILABLE),
        (errors.RowRefused, ErrorCode.BAD_FRAME),
    ],
)
def test_what_the_store_cannot_do_has_a_code(kind: type[StoreError], code: ErrorCode) -> None:
    """Else a sender is told the wrong thing about a message that was not stored."""
    assert kind("no").code is code


def test_exceptions_carry_what_an_answer_needs() -> None:
    """Else a refusal cannot name what it refuses, or a locked file its holder."""
    refused = InvalidFrame(ErrorCode.TOO_LARGE, "too long", id="i")
    assert (str(refused), refused.code, refused.message, refused.id, refused.ref) == (
        "too long",
        ErrorCode.TOO_LARGE,
        "too long",
        "i",
        None,
    )
    assert (StoreLocked("held", 42).holder, StoreLocked("held").holder) == (42, None)
    assert (Refused().status, Refused("no", status=403).status, str(Refused("no"))) == (401, 403, "no")


def test_a_refusal_is_a_refusal() -> None:
    """Else an authenticator's mistake tells a client that all is well."""
    assert Refused("no", status=429).status == 429
    for status in (200, 101, 302, 500):
        with pytest.raises(ValueError, match="4xx"):
            Refused("no", status=status)
