"""Encryption for Web Push: one record of aes128gcm (RFC 8188) under the keys of a subscription (RFC 8291)."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["PLAINTEXT_BYTES", "b64", "encrypted", "public_bytes", "public_point", "unb64"]

_CURVE: Final = ec.SECP256R1()
_RECORD_BYTES: Final = 4096
"""What every push service has to take (RFC 8030 §7.2), and the size of the one record."""
_HEADER_BYTES: Final = 16 + 4 + 1 + 65
PLAINTEXT_BYTES: Final = _RECORD_BYTES - _HEADER_BYTES - 1 - 16
"""What fits in, beside the header, the delimiter and the tag."""


def encrypted(
    plaintext: bytes,
    receiver: bytes,
    secret: bytes,
    *,
    salt: bytes | None = None,
    sender: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """The body of a request that only the browser can read.

    Args:
        plaintext: at most `PLAINTEXT_BYTES`.
        receiver: the subscription's ``p256dh``: a point on P-256, uncompressed.
        secret: its ``auth``: 16 bytes.
        salt: 16 bytes, and
        sender: a key of this message's own. Both are made anew; only the RFC's example gives them.

    Raises:
        ValueError: the point is none.
    """
    salt = os.urandom(16) if salt is None else salt
    sender = ec.generate_private_key(_CURVE) if sender is None else sender
    point = public_bytes(sender)
    shared = sender.exchange(ec.ECDH(), public_point(receiver))
    # RFC 8291 §3.4, then RFC 8188 §2.2 and §2.3
    keying = HKDF(SHA256(), 32, secret, b"WebPush: info\0" + receiver + point).derive(shared)
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(keying)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(keying)
    header = salt + _RECORD_BYTES.to_bytes(4, "big") + bytes([len(point)]) + point
    return header + AESGCM(key).encrypt(nonce, plaintext + b"\x02", None)  # 2: the last record


def public_point(data: bytes) -> ec.EllipticCurvePublicKey:
    """The point on P-256 that `data` is, uncompressed.

    Raises:
        ValueError: it is none.
    """
    if len(data) != 65:
        raise ValueError("the key is no uncompressed point on P-256")
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, data)


def public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, as an uncompressed point."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def b64(data: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """What is in base64url, with or without padding: browsers leave it out, libraries do not.

    Raises:
        ValueError: it is no base64url.
    """
    digits = text.rstrip("=")
    if set(digits) & {"+", "/"}:  # Python lets them pass
        raise ValueError("it is no base64url")
    try:
        return base64.b64decode(digits.encode("ascii") + b"=" * (-len(digits) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeError):
        raise ValueError("it is no base64url") from None
