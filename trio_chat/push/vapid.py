"""The key pair by which push services know this server (VAPID, RFC 8292)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import jwt as pyjwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ..errors import ConfigurationError
from .encryption import b64, public_bytes

__all__ = ["Vapid", "make_key_file"]

_VALID_SECONDS: Final = 12 * 3600
"""At most 24 h are allowed (RFC 8292 §2); clocks differ, and some services want less."""
_RENEW_SECONDS: Final = 3600
_ORIGINS: Final = 100
"""Signed tokens that are kept. There are a handful of push services, unless devices may name any."""


class Vapid:
    """Signs for each push service; its ``repr`` does not show the key.

    Args:
        key_file: a private key on P-256 in PEM, as ``trio-chat push vapid-init`` makes one.
        subject: whom a push service may turn to: ``mailto:somebody@…`` or ``https://…``.
        clock: gives Unix seconds; for tests.

    Raises:
        ConfigurationError: the key cannot be read or is another kind, or the subject is none.
    """

    def __init__(self, key_file: str | os.PathLike[str], *, subject: str, clock: Callable[[], float] = time.time) -> None:
        _check_subject(subject)
        self._key = _read(Path(key_file))
        self._subject = subject
        self._clock = clock
        self._signed: dict[str, tuple[float, str]] = {}

    def __repr__(self) -> str:
        return f"<Vapid {self.public_key}>"

    @property
    def public_key(self) -> str:
        """What a page gives to ``pushManager.subscribe`` as its ``applicationServerKey``."""
        return b64(public_bytes(self._key))

    def authorization(self, endpoint: str) -> str:
        """The value of the header for a request to this endpoint. One token serves for hours (RFC 8292 §2)."""
        parts = urlsplit(endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        now = self._clock()
        expires, token = self._signed.get(origin, (0.0, ""))
        if expires - now < _RENEW_SECONDS or expires - now > _VALID_SECONDS:  # or the clock was set back
            expires = now + _VALID_SECONDS
            claims = {"aud": origin, "exp": int(expires), "sub": self._subject}
            token = pyjwt.encode(claims, self._key, algorithm="ES256")
            if len(self._signed) >= _ORIGINS:
                self._signed.clear()
            self._signed[origin] = (expires, token)
        return f"vapid t={token}, k={self.public_key}"


def make_key_file(file: Path) -> str:
    """Write a new key, for the owner's eyes only; gives the public half, as `Vapid.public_key` does.

    Raises:
        ConfigurationError: there is such a file already, or it cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except FileExistsError:
        raise ConfigurationError(f"{file} is there already: every subscription so far is bound to its key") from None
    except OSError as error:
        raise ConfigurationError(f"the key file {file} cannot be made: {error.strerror}") from None
    return b64(public_bytes(key))


def _read(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise ConfigurationError(f"the VAPID key {file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # their texts may quote
        raise ConfigurationError(f"{file} is no private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ConfigurationError(f"{file} is no key on P-256: make one with trio-chat push vapid-init")
    return key


def _check_subject(subject: str) -> None:
    try:
        parts = urlsplit(subject)
        mail = parts.scheme == "mailto" and 0 < parts.path.find("@") < len(parts.path) - 1
        page = parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        mail = page = False
    if not (mail or page) or not subject.isprintable() or " " in subject:  # Apple answers 403 to what is not exactly one
        raise ConfigurationError("the VAPID subject is an address to turn to: mailto:somebody@example.com or https://…")
