"""How many connections there may be."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from trio_chat.admission import Admission, TooMany
from trio_chat.settings import Settings

SETTINGS = Settings(connections=2, half_open=2, per_address=2)


def place(admission: Admission, kind: str, address: str = "192.0.2.1") -> AbstractContextManager[None]:
    if kind == "address":
        return admission.address(address)
    return admission.connection() if kind == "connection" else admission.handshake()


@pytest.mark.parametrize("kind", ["connection", "handshake", "address"])
def test_there_are_so_many_places_and_they_are_given_back(kind: str) -> None:
    """Else a flood of connects takes all memory, or a limit that was once reached stays reached (failures 14, 15)."""
    admission = Admission(SETTINGS)
    for _ in range(3):
        with place(admission, kind), place(admission, kind):
            for _ in range(2):
                with pytest.raises(TooMany), place(admission, kind):
                    raise AssertionError("let in")
        with pytest.raises(KeyError), place(admission, kind):  # whatever it ends with
            raise KeyError
    assert admission.connections == admission.half_open == 0


def test_addresses_are_counted_apart() -> None:
    """Else one address takes the places of all, or addresses that left are remembered for ever."""
    admission = Admission(SETTINGS)
    with (
        admission.address("192.0.2.1"),
        admission.address("192.0.2.1"),
        admission.address("192.0.2.2"),
        pytest.raises(TooMany),
        admission.address("192.0.2.1"),
    ):
        raise AssertionError("let in")
    assert not admission._addresses


def test_addresses_are_unlimited_unless_told() -> None:
    """Else the users behind one carrier's address lock each other out."""
    admission = Admission(Settings())
    places = [admission.address("192.0.2.1") for _ in range(1000)]
    for taken in places:
        taken.__enter__()
    for taken in places:
        taken.__exit__(None, None, None)
