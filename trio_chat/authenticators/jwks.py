"""A file with the public keys of whoever issues the tokens: a JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import jwt as pyjwt
import trio

from ..errors import ConfigurationError, Refused
from .keys import Key, PublicKey, algorithms_of

__all__ = ["KeyFile"]

_log = logging.getLogger("trio_chat.authenticators")

_LOOK_SECONDS: Final = 1.0
"""How often the file is looked at, at most, while tokens name keys that are known."""
_LOOKS: Final = 10
"""How often in that time, at most, because tokens name keys that are not."""
_BROKEN: Final = (pyjwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

_Stamp = tuple[int, int, int]


class KeyFile:
    """The keys of a JWKS file, by their ``kid``. The file is read again when it has changed.

    That is noticed when somebody connects: at once if the token names an unknown key, else within a second. If the file is
    broken or gone then, the keys from before go on being used, and the log says why.

    Raises:
        ConfigurationError: the file cannot be read, is no JWKS, holds no key that can be used, or holds one that is secret.
    """

    def __init__(self, path: str | os.PathLike[str], algorithms: Collection[str] | None) -> None:
        self._path = Path(path)
        self._algorithms = None if algorithms is None else frozenset(algorithms)
        try:
            self._stamp = self._look()
            self._keys = self._read()
        except OSError as error:
            raise ConfigurationError(f"the key set {self._path} cannot be read: {error.strerror}") from None
        self._looked = -_LOOK_SECONDS
        self._looks = 0

    def key(self, header: Mapping[str, Any]) -> Key:
        """The key that the token with this header is signed with. Looks at the file, which takes microseconds.

        Raises:
            Refused: it names none, although there are several, or one that is not there.
        """
        kid = header.get("kid")
        self._refresh(known=kid is None or kid in self._keys)
        if kid is not None:
            if not isinstance(kid, str) or kid not in self._keys:
                raise Refused("the token names a key that is not in the set")
            return self._keys[kid]
        if len(self._keys) != 1:
            raise Refused("the token names no key, and there are several")
        return next(iter(self._keys.values()))

    def _refresh(self, *, known: bool) -> None:
        now = trio.current_time()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked, self._looks = now, 0
        elif known or self._looks >= _LOOKS:
            return
        self._looks += 1
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._stamp = stamp  # even of a broken one: it is not parsed again until it changes
            self._keys = self._read()
            _log.info("the key set %s was read again: %d keys", self._path, len(self._keys))
        except OSError as error:
            if self._stamp != (0, 0, 0):
                _log.error("the key set %s cannot be read, the keys from before are used: %s", self._path, error.strerror)
            self._stamp = (0, 0, 0)
        except ConfigurationError as error:
            _log.error("the keys from before are used: %s", error)

    def _look(self) -> _Stamp:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> dict[str | None, Key]:
        text = self._path.read_bytes()
        try:
            jwks = pyjwt.PyJWKSet.from_json(text.decode()).keys
        except _BROKEN as error:
            raise ConfigurationError(f"{self._path} is no JSON Web Key Set: {type(error).__name__}") from None
        keys: dict[str | None, Key] = {}
        for jwk in jwks:
            if jwk.public_key_use not in (None, "sig"):
                continue
            material = jwk.key
            if not isinstance(material, PublicKey):
                raise ConfigurationError(f"{self._path} holds a key that is not public: only public ones belong there")
            kid: object = jwk.key_id
            if not (kid is None or isinstance(kid, str)) or kid in keys:
                raise ConfigurationError(f"{self._path} holds two keys of the same kid, or a kid that is no string")
            # The set says which algorithm a key is for, or it is the usual one of its kind.
            suited = set(algorithms_of(material)) & (self._algorithms or {str(jwk.algorithm_name)})
            if suited:
                keys[kid] = Key(material, tuple(sorted(suited)))
        if not keys:
            raise ConfigurationError(f"{self._path} holds no key that a token could be checked with")
        return keys
