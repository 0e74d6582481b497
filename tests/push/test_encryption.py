"""Encryption for Web Push, against the RFC's example and an implementation that is not ours."""

from __future__ import annotations

import os

import http_ece  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.push.encryption import PLAINTEXT_BYTES, b64, encrypted, public_bytes, unb64


def private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(unb64(text), "big"), ec.SECP256R1())


def test_the_example_of_the_rfc() -> None:
    """RFC 8291, appendix A: else no browser can read what is sent."""
    body = encrypted(
        b"When I grow up, I want to be a watermelon",
        unb64("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
        unb64("BTBZMqHH6r4Tts7J_aSIgg"),
        salt=unb64("DGv6ra1nlYgDCS1FRnbzlw"),
        sender=private("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
    )
    assert b64(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@given(st.binary(max_size=PLAINTEXT_BYTES))
def test_another_implementation_reads_it(plaintext: bytes) -> None:
    """Else it is readable by nobody but ourselves; each time with another key and another salt."""
    browser, secret = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
    body = encrypted(plaintext, public_bytes(browser), secret)
    assert http_ece.decrypt(body, private_key=browser, auth_secret=secret, version="aes128gcm") == plaintext
    assert len(body) <= 4096
    assert body[:16] != encrypted(plaintext, public_bytes(browser), secret)[:16]


@pytest.mark.parametrize("point", [b"", b"\x04" + bytes(64), b"\x02" + bytes(32), bytes(65), b"\x04" + b"\xff" * 64])
def test_what_is_no_point(point: bytes) -> None:
    """Else the key of a subscription makes us reveal something about ours (an invalid curve), or ends the sending task."""
    with pytest.raises(ValueError):  # noqa: PT011  (cryptography's words)
        encrypted(b"", point, bytes(16))


@pytest.mark.parametrize("text", ["a", "ab+/", "ab==c", "é", "a b"])
def test_what_is_no_base64url(text: str) -> None:
    """Else two spellings of one subscription are two targets, or what is none is taken for one."""
    with pytest.raises(ValueError, match="no base64url"):
        unb64(text)
