"""Keys and tokens: good ones by PyJWT, and bad ones made by hand, which no library would make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt as pyjwt
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from trio_chat.authenticators.keys import PrivateKey

NOW = 1_800_000_000
SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = b"another secret that is long enough"


def clock() -> int:
    """A wall clock that goes with Trio's, which has to be the virtual one."""
    return NOW * 1000 + round(trio.current_time() * 1000)


def still() -> int:
    """A wall clock that stands still."""
    return NOW * 1000


def private(kind: str = "RSA", which: int = 0) -> PrivateKey:
    """A key of this kind; another `which` is another key."""
    return _generated(kind, which)


@cache
def _generated(kind: str, which: int) -> PrivateKey:
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
        case _:
            curves: dict[str, Callable[[], ec.EllipticCurve]]
            curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "K-256": ec.SECP256K1}
            return ec.generate_private_key(curves[kind]())


def private_pem(kind: str = "RSA", which: int = 0) -> bytes:
    return private(kind, which).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(kind: str = "RSA", which: int = 0) -> bytes:
    return private(kind, which).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_der(kind: str = "RSA") -> bytes:
    return private(kind).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


ALGORITHMS = {
    "RSA": "RS256",
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "K-256": "ES256K",
    "Ed25519": "EdDSA",
    "Ed448": "EdDSA",
}


def claims(**changed: Any) -> dict[str, Any]:
    """Good ones, with some changed, or left out (None)."""
    usual = {"sub": "alice", "exp": NOW + 3600}
    return {name: value for name, value in (usual | changed).items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, /, **changed: Any) -> str:
    return pyjwt.encode(claims(**changed), key, algorithm, headers)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forged(header: object, payload: object, *, secret: bytes | None = SECRET) -> str:
    """A token with these parts, as they are, signed with HMAC or not at all."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(encoded(part) for part in parts)
    signature = b"" if secret is None else hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{encoded(signature)}"


def jwk(kind: str = "RSA", which: int = 0, **members: Any) -> dict[str, Any]:
    """A public key as a JSON Web Key."""
    algorithm = pyjwt.get_algorithm_by_name(ALGORITHMS[kind])
    text = algorithm.to_jwk(private(kind, which).public_key())
    return dict(json.loads(text)) | members
