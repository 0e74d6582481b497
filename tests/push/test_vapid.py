"""The key pair by which push services know this server."""

from __future__ import annotations

from pathlib import Path

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from trio_chat.errors import ConfigurationError
from trio_chat.push.encryption import unb64
from trio_chat.push.vapid import Vapid, make_key_file

from ..authenticators.tokens import private_pem
from .far import NOW, claims

ENDPOINT = "https://push.example:8443/capability"


def made(folder: Path) -> Path:
    file = folder / "vapid.pem"
    make_key_file(file)
    return file


def test_the_header(tmp_path: Path) -> None:
    """Else push services answer 403: RFC 8292 §2 and §3, checked with the public key that pages subscribe with."""
    vapid = Vapid(made(tmp_path), subject="mailto:ops@example.com", clock=lambda: NOW)
    scheme, _, rest = vapid.authorization(ENDPOINT).partition(" ")
    token, _, key = rest.removeprefix("t=").partition(", k=")
    assert (scheme, key) == ("vapid", vapid.public_key)
    assert claims(token) == (
        {"alg": "ES256", "typ": "JWT"},
        {"aud": "https://push.example:8443", "exp": int(NOW) + 12 * 3600, "sub": "mailto:ops@example.com"},
    )
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(key))
    assert pyjwt.decode(token, point, algorithms=["ES256"], options={"verify_exp": False, "verify_aud": False})


def test_a_token_serves_for_hours_and_one_origin(tmp_path: Path) -> None:
    """Else each of ten thousand notifications is signed, or a token is sent that has expired or is somebody else's."""
    now = NOW
    vapid = Vapid(made(tmp_path), subject="https://example.com/contact", clock=lambda: now)
    first = vapid.authorization(ENDPOINT)
    now += 10 * 3600
    assert vapid.authorization(ENDPOINT + "/other") == first
    assert vapid.authorization("https://other.example/") != first
    now += 3600 + 1
    assert vapid.authorization(ENDPOINT) != first
    renewed = vapid.authorization(ENDPOINT)
    now -= 24 * 3600
    assert vapid.authorization(ENDPOINT) != renewed  # else an exp more than a day ahead
    for number in range(200):
        vapid.authorization(f"https://p{number}.example/")
    assert len(vapid._signed) <= 100


def test_a_key_file_is_its_owners_and_is_never_overwritten(tmp_path: Path) -> None:
    """Else others on the machine read it, or one command makes every subscription worthless."""
    file = made(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="is there already"):
        make_key_file(file)
    assert file.read_bytes() == before
    with pytest.raises(ConfigurationError, match="cannot be made: No such file"):
        make_key_file(tmp_path / "no" / "folder")


def test_keys_and_subjects_that_are_none(tmp_path: Path) -> None:
    """Else it is noticed when the first browser is not notified; and no message may show a key."""
    good = made(tmp_path)
    for subject in (
        "",
        "ops@example.com",
        "mailto:",
        "mailto:ops",
        "mailto:@x",
        "http://example.com",
        "https://",
        "mailto:a@b c",
    ):
        with pytest.raises(ConfigurationError, match="subject"):
            Vapid(good, subject=subject)
    for content, why in (
        (b"s3cret", "no private key"),
        (private_pem("RSA"), "no key on P-256"),
        (private_pem("P-384"), "P-256"),
    ):
        bad = tmp_path / "bad.pem"
        bad.write_bytes(content)
        with pytest.raises(ConfigurationError, match=why) as refusal:
            Vapid(bad, subject="mailto:ops@example.com")
        assert "s3cret" not in str(refusal.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Vapid(tmp_path / "nothing", subject="mailto:ops@example.com")
    vapid = Vapid(good, subject="mailto:ops@example.com")
    assert repr(vapid) == f"<Vapid {vapid.public_key}>"
