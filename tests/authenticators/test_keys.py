"""What is a key, for what, and what only looks like one."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from trio_chat.authenticators.keys import OneKey, restricted, signing_key, verifying_key
from trio_chat.errors import ConfigurationError

from .tokens import ALGORITHMS, SECRET, private, private_pem, public_der, public_pem


@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS.items())
def test_each_kind_of_key_has_its_own_algorithms(kind: str, algorithm: str) -> None:
    """Else a token chooses how it wants to be checked: with a public key as the secret of an HMAC, above all."""
    public, whole = verifying_key(public_pem(kind)), signing_key(private_pem(kind).decode())
    assert public.algorithms == whole.algorithms
    assert public.algorithms[0] == algorithm
    assert not any(name.startswith("HS") or name == "none" for name in public.algorithms)
    assert (public.secret, whole.secret) == (False, True)


@pytest.mark.parametrize(
    ("secret", "algorithms"),
    [
        (b"s" * 32, ("HS256",)),
        ("ü" * 24, ("HS256", "HS384")),
        (b"\x00" * 64, ("HS256", "HS384", "HS512")),
    ],
)
def test_a_secret_is_for_hashes_no_longer_than_itself(secret: str | bytes, algorithms: tuple[str, ...]) -> None:
    """RFC 7518 §3.2: else a short secret passes for a long one."""
    assert verifying_key(secret).algorithms == algorithms
    assert signing_key(secret).secret


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "chat.example")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, private().public_key(), 7, day, day.replace(year=2036))
    made = builder.sign(private(), hashes.SHA256())
    return made.public_bytes(Encoding.PEM)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


BAD = {
    "nothing": (b"", "0 bytes"),
    "a short secret": (b"s" * 31, "31 bytes"),
    "a public key in DER": (public_der(), "DER"),
    "a curve's in DER": (public_der("P-256"), "DER"),
    "a private key in DER": (
        private().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "DER",
    ),
    "a public key for ssh": (private().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "SSH"),
    "a curve's for ssh": (private("P-256").public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "SSH"),
    "a key set": (b'{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}', "jwks"),
    "a certificate": (certificate(), "certificate"),
    "a certificate in DER": (x509.load_pem_x509_certificate(certificate()).public_bytes(Encoding.DER), "DER"),
    "a broken public key": (public_pem()[:100] + b"\n-----END PUBLIC KEY-----", "cannot be read"),
    "a broken private key": (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "cannot be read"),
    "a key with a password": (pem(rsa.generate_private_key(65537, 2048), b"password"), "password"),
    "a short RSA key": (pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),
    "a curve of no algorithm": (pem(ec.generate_private_key(ec.SECP224R1())), "kind"),
    "a DSA key": (pem(dsa.generate_private_key(2048)), "kind"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("load", [verifying_key, signing_key])
def test_what_is_no_key_is_told_in_one_sentence(load: object, data: bytes, says: str) -> None:
    """Else a public key in another form is taken for a secret that everybody knows, or a weak key passes."""
    assert callable(load)
    with pytest.raises(ConfigurationError, match=says) as refused:
        load(data)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None  # no text of a library, which might quote the key


def test_a_key_is_for_one_thing() -> None:
    """Else a server holds a key with which whoever breaks in can sign, or a public key is to make tokens."""
    with pytest.raises(ConfigurationError, match="private"):
        verifying_key(private_pem())
    with pytest.raises(ConfigurationError, match="public"):
        signing_key(public_pem())


@pytest.mark.parametrize("algorithms", [[], ["HS256"], ["none"], ["RS256", "HS256"], ["ES256"], "RS256"])
def test_algorithms_are_those_of_the_key(algorithms: list[str]) -> None:
    """Else the kinds can be mixed by hand, or a string counts as a list of letters."""
    with pytest.raises(ConfigurationError, match="RS256"):
        restricted(verifying_key(public_pem()), algorithms)


def test_algorithms_can_be_fewer() -> None:
    """Else an application cannot pin the one that its issuer uses."""
    key = verifying_key(public_pem())
    assert restricted(key, ["PS256"]).algorithms == ("PS256",)
    assert restricted(key, None) == key


def test_a_key_is_not_shown() -> None:
    """Else a secret stands in the first log that shows an object that holds one."""
    key = verifying_key(SECRET)
    assert SECRET.decode() not in f"{key!r} {key} {OneKey(key)!r}"
