"""Keys for web tokens: what kind of key the bytes are, and which algorithms that kind is for.

The kinds never mix. A public key is known to everybody: taken for the secret of an HMAC, it would let anybody sign.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_der_x509_certificate
from msgspec import Struct

from ..errors import ConfigurationError

__all__ = ["Key", "Keys", "OneKey", "PrivateKey", "PublicKey", "algorithms_of", "restricted", "signing_key", "verifying_key"]

PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey
PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_RSA_BITS: Final = 2048
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
_HMACS: Final = {32: "HS256", 48: "HS384", 64: "HS512"}  # RFC 7518 §3.2: the key is as long as the hash
_SECRET_BYTES: Final = min(_HMACS)
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)


class Key(Struct, frozen=True):
    """A key and the algorithms it is for, the usual one first. Its ``repr`` does not show it."""

    material: bytes | PublicKey | PrivateKey
    algorithms: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Key for {'/'.join(self.algorithms)}>"

    @property
    def secret(self) -> bool:
        """Whether nobody else may know it."""
        return not isinstance(self.material, PublicKey)


class Keys(Protocol):
    """Where a token's key comes from."""

    def key(self, header: Mapping[str, Any]) -> Key:
        """The key that the token with this header is signed with. Raises `Refused` if there is none."""
        ...


class OneKey:
    """A single key, whatever name a token gives it."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def key(self, header: Mapping[str, Any]) -> Key:  # noqa: ARG002
        """The key."""
        return self._key


def verifying_key(data: str | bytes) -> Key:
    """The key to check tokens with: a secret of at least 32 bytes, or a public key in PEM.

    Raises:
        ConfigurationError: it is neither; one sentence says what it is and what to do.
    """
    key = _key(data)
    if isinstance(key.material, PrivateKey):
        raise ConfigurationError(
            "this is a private key, and to check tokens its public half is enough: openssl pkey -in FILE -pubout"
        )
    return key


def signing_key(data: str | bytes) -> Key:
    """The key to make tokens with: a secret of at least 32 bytes, or a private key in PEM without a password.

    Raises:
        ConfigurationError: it is neither; one sentence says what it is.
    """
    key = _key(data)
    if isinstance(key.material, PublicKey):
        raise ConfigurationError("this is a public key: it can check tokens and not make them")
    return key


def restricted(key: Key, algorithms: Collection[str] | None) -> Key:
    """`key`, for these of its algorithms only.

    Raises:
        ConfigurationError: one of them is none for this kind of key, or there are none at all.
    """
    if algorithms is None:
        return key
    if isinstance(algorithms, str) or not algorithms or not set(algorithms) <= set(key.algorithms):
        raise ConfigurationError(f"this key is for {', '.join(key.algorithms)}, and not for what algorithms says")
    return Key(key.material, tuple(algorithms))


def algorithms_of(key: object) -> tuple[str, ...]:
    """The algorithms that a public or private key is for.

    Raises:
        ConfigurationError: none that is safe.
    """
    if isinstance(key, RSAPublicKey | RSAPrivateKey):
        if key.key_size < _RSA_BITS:
            raise ConfigurationError(f"the RSA key has {key.key_size} bits, and fewer than {_RSA_BITS} are not safe")
        return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    if isinstance(key, EllipticCurvePublicKey | EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return (_CURVES[key.curve.name],)
    if isinstance(key, Ed25519PublicKey | Ed25519PrivateKey | Ed448PublicKey | Ed448PrivateKey):
        return ("EdDSA",)
    raise ConfigurationError("the key is of a kind that no web token is signed with: take RSA, P-256 or Ed25519")


def _key(data: str | bytes) -> Key:
    data = data.encode() if isinstance(data, str) else bytes(data)
    if b"-----BEGIN " in data:
        key = _pem(data)
        return Key(key, algorithms_of(key))
    _refuse_what_is_no_secret(data)
    if len(data) < _SECRET_BYTES:
        raise ConfigurationError(f"the secret has {len(data)} bytes, and fewer than {_SECRET_BYTES} can be guessed")
    return Key(data, tuple(name for length, name in _HMACS.items() if len(data) >= length))


def _pem(data: bytes) -> PublicKey | PrivateKey:
    if b"-----BEGIN CERTIFICATE" in data:
        raise ConfigurationError("this is a certificate: take the key out of it with openssl x509 -in FILE -noout -pubkey")
    public = b"PUBLIC KEY-----" in data
    try:
        key = load_pem_public_key(data) if public else load_pem_private_key(data, None)
    except _UNREADABLE:  # their texts are about the library, and may quote
        raise ConfigurationError("the key is in PEM, but cannot be read; one with a password cannot") from None
    if not isinstance(key, PublicKey | PrivateKey):
        raise ConfigurationError("the key is of a kind that no web token is signed with: take RSA, P-256 or Ed25519")
    return key


def _refuse_what_is_no_secret(data: bytes) -> None:
    """A public key in another clothing would be taken for a secret that everybody knows."""
    start = data.lstrip()[:32]
    if start.startswith((b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-", b"----")):
        raise ConfigurationError("this is an SSH key, or no key at all: keys other than secrets are given in PEM")
    if start.startswith((b"{", b"[")):
        raise ConfigurationError("this looks like JSON: a JSON Web Key Set is given as jwks")
    for load in (load_der_public_key, load_der_x509_certificate, lambda der: load_der_private_key(der, None)):
        try:
            load(data)
        except _UNREADABLE:
            continue
        raise ConfigurationError("this is a key in DER: convert it to PEM with openssl pkey -inform DER")
